"""Decoders: the node that loads a field decoder."""

from __future__ import annotations

from pathlib import Path

import torch
from comfy_api.latest import io

from . import schema, weights
from .guides import DecoderValue

SHIPPED = Path(__file__).parents[1] / "core/pullback/generative/infd/infd.decoder.safetensors"
"""The file of the core's own decoder. Its path is repeated here because importing the core would slow ComfyUI's start."""


class LoadFieldDecoder(io.ComfyNode):
    """Loads a field decoder from a file."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackLoadFieldDecoder",
            display_name="Load Field Decoder",
            category=schema.CATEGORY,
            description="Reads a field decoder, with which latents become pictures of any size.",
            inputs=[
                io.Combo.Input("file", options=weights.choices(weights.DECODERS, built_in()),
                               tooltip="A .safetensors field decoder in models/pullback_decoders, or the built-in one."),
            ],
            outputs=[
                schema.DECODER.Output(display_name="decoder", tooltip="For Resolution-Free Decode and Multi-Scale CLIP Guide."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, file: str) -> io.NodeOutput:
        from ..core.pullback.generative.infd.decoder import load_decoder

        if file == weights.BUILT_IN and not built_in():
            raise ValueError("this version has no built-in field decoder: put one into models/pullback_decoders")
        path = SHIPPED if file == weights.BUILT_IN else weights.located(weights.DECODERS, file)
        with torch.inference_mode(False):
            decoder = load_decoder(path)
        return io.NodeOutput(DecoderValue(decoder, weights.managed(decoder.autoencoder)))

    @classmethod
    def fingerprint_inputs(cls, file: str) -> str:
        """Return a value that changes with the file."""
        return weights.changed(weights.DECODERS, file)


def built_in() -> bool:
    """Return whether the package contains a field decoder."""
    return SHIPPED.is_file()


NODES: list[type[io.ComfyNode]] = [LoadFieldDecoder]
