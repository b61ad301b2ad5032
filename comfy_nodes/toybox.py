"""Toybox: the nodes of the built-in pixel model."""

from __future__ import annotations

import torch
from comfy_api.latest import io

from . import schema


class ToyboxLoader(io.ComfyNode):
    """Loads the built-in model as MODEL, CLIP and VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackToyboxLoader",
            display_name="Toybox Loader",
            category=schema.CATEGORY,
            description="The built-in model: 64-pixel objects and landscapes from 48 words. Nothing is downloaded.",
            inputs=[],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="For KSampler, Field Sampler and LoRA loaders."),
                io.Clip.Output(display_name="CLIP", tooltip="Knows 48 words: objects, colours, sizes, landscapes, times of day."),
                io.Vae.Output(display_name="VAE", tooltip="Toybox draws pixels, so this only lays them on white."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls) -> io.NodeOutput:
        from .builtin import load

        return io.NodeOutput(*load())


class EmptyToyboxLatent(io.ComfyNode):
    """Makes an empty latent for toybox."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackEmptyToyboxLatent",
            display_name="Empty Toybox Latent",
            category=schema.CATEGORY,
            description="An empty latent for toybox in KSampler: its latents are pixels, so Empty Latent Image does not fit.",
            inputs=[
                io.Int.Input("size", default=64, min=64, max=64, tooltip="Toybox draws 64 x 64 pixels and nothing else."),
                io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="How many pictures."),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="Zeros.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, size: int, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput({"samples": torch.zeros(batch_size, 4, size, size)})


NODES: list[type[io.ComfyNode]] = [ToyboxLoader, EmptyToyboxLatent]
