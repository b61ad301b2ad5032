"""Infd: the nodes of the built-in latent model, whose pictures can be drawn at any size."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from . import schema
from .decoders import SHIPPED
from .guides import DecoderValue
from .weights import managed

SCALE = 4
"""Pixels per latent, along each side, of the pictures that the model was trained on."""


class InfdLoader(io.ComfyNode):
    """Loads the built-in latent model as MODEL, CLIP, VAE and field decoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackInfdLoader",
            display_name="Infd Loader",
            category=schema.CATEGORY,
            description="The built-in latent model: it knows toybox's 48 words and what stands where, and its field decoder "
                        "draws pictures of any size. Nothing is downloaded.",
            inputs=[],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="For KSampler, Field Sampler and Multi-Scale CLIP Guide."),
                io.Clip.Output(display_name="CLIP", tooltip="Knows 48 words: objects, colours, sizes, landscapes, times of day."),
                io.Vae.Output(display_name="VAE", tooltip="Draws 64 x 64 pixels of a latent of 16 x 16, on white."),
                schema.DECODER.Output(display_name="decoder", tooltip="For Resolution-Free Decode: pictures of any size."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from ..core.pullback.generative.infd.decoder import load_decoder
        from .builtin_infd import load

        with torch.inference_mode(False):
            decoder = load_decoder(SHIPPED)
        return io.NodeOutput(*load(), DecoderValue(decoder, managed(decoder.autoencoder)))


class EmptyInfdLatent(io.ComfyNode):
    """Makes an empty latent for infd."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def side(name: str, tooltip: str) -> io.Int.Input:
            return io.Int.Input(name, default=64, min=32, max=256, step=8, tooltip=tooltip)

        return io.Schema(
            node_id="PullbackEmptyInfdLatent",
            display_name="Empty Infd Latent",
            category=schema.CATEGORY,
            description="An empty latent for infd in KSampler. It learnt pictures of 64 x 64 pixels; Resolution-Free Decode "
                        "draws them at any size.",
            inputs=[
                side("width", "Width as the model sees it. It learnt 64; wider pictures show more objects."),
                side("height", "Height as the model sees it. It learnt 64."),
                io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="How many pictures."),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="Zeros.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, width: int, height: int, batch_size: int) -> io.NodeOutput:
        zeros = torch.zeros(batch_size, 4, height // SCALE, width // SCALE)
        return io.NodeOutput({"samples": zeros, "downscale_ratio_spacial": SCALE})


NODES: list[type[io.ComfyNode]] = [InfdLoader, EmptyInfdLatent]
