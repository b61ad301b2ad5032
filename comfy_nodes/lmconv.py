"""LMConv: the nodes that fill pictures in pixel by pixel, and that say how probable they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.utils
import torch
from comfy.model_management import throw_exception_if_processing_interrupted as tick
from comfy_api.latest import io
from torch import Tensor

from . import notes, schema, weights
from .sockets import heat, one_for_each, to_image, to_pixels

SHIPPED = ("lmconv", "lmconv-binary")
"""The core's own, named here because importing the core takes time at every start of ComfyUI."""
ORDERS = ("max-context", "raster", "hilbert", *(f"s-curve-{n}" for n in range(8)))
PICTURES = 16
"""Pictures that are measured at a time."""


class FillLMConv(io.ComfyNode):
    """The missing part of small pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackFillLMConv",
            display_name="Fill (LMConv)",
            category=schema.CATEGORY,
            description="Fills the missing part of a small picture pixel by pixel, each after having seen all that is known.",
            inputs=[
                io.Image.Input("image", tooltip="Pictures of at most 256 x 256 pixels; best of the size that the model was "
                               "trained on, 28 x 28 for the built-in ones."),
                io.Mask.Input("mask", tooltip="White where the picture is missing: one for all pictures, or one for each."),
                _model(),
                schema.seed("Another seed fills it in another way."),
                io.Combo.Input("order", options=list(ORDERS), default=ORDERS[0],
                               tooltip="Of the missing pixels. max-context: those near known ones first. The others: along a "
                               "curve, whatever is known."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The whole picture, in the colours that the model knows.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, image: Tensor, mask: Tensor, model: str, seed: int, order: str) -> io.NodeOutput:
        holes = _fitted(mask, image)
        with _loaded(model, image) as loaded:
            batches = [image] if len(holes) == 1 else list(image.split(1))
            bar, filled = comfy.utils.ProgressBar(1), []

            def advance(done: int, total: int) -> None:
                tick()
                bar.update_absolute(len(filled) * total + done, len(batches) * total)

            for n, (pictures, hole) in enumerate(zip(batches, holes, strict=True)):
                drawn = loaded.fill(to_pixels(pictures), to_pixels(hole), (seed + n) % 2**64, order, advance)
                filled.append(to_image(drawn))
        return io.NodeOutput(torch.cat(filled))

    @classmethod
    def fingerprint_inputs(cls, model: str, **inputs: Any) -> str:
        """Changes with the model's file."""
        return weights.changed(weights.LMCONV, model)


class LikelihoodLMConv(io.ComfyNode):
    """How probable pictures are."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackLikelihoodLMConv",
            display_name="Likelihood (LMConv)",
            category=schema.CATEGORY,
            description="Measures how probable pictures are: exact bits per value, and where in the picture they are spent.",
            inputs=[
                io.Image.Input("image", tooltip="Pictures. The squares in their middle are scaled to the size that the model was "
                               "trained on, 28 x 28 for the built-in ones."),
                _model(),
                io.Int.Input("orders", default=0, min=0, max=64,
                             tooltip="Orders whose probabilities are averaged; 0 takes all that the model was trained on. "
                             "More are more accurate and slower."),
            ],
            outputs=[
                io.Image.Output(display_name="heat_map", tooltip="Bits of every pixel, at the model's size: black is what was "
                                "expected, white as improbable as noise."),
                io.Float.Output(display_name="bits_per_dim", tooltip="Bits per value, on average over the pictures. Low is what "
                                "the model has seen often."),
                io.String.Output(display_name="text", tooltip="Bits per value of each picture, one per line, as CSV."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, image: Tensor, model: str, orders: int) -> io.NodeOutput:
        with _loaded(model, image) as loaded:
            from ..core.pullback.generative.lmconv.levels import levels_of

            config = loaded.config
            values = [levels_of(pixels, config, config.size) for pixels in to_pixels(image)]
            parts = [values[start : start + PICTURES] for start in range(0, len(values), PICTURES)]
            bar, bits, maps = comfy.utils.ProgressBar(1), [], []

            def advance(done: int, total: int) -> None:
                tick()
                bar.update_absolute(len(bits) * total + done, len(parts) * total)

            for part in parts:
                each, map_ = loaded.likelihood(part, orders, advance)
                bits.append(each)
                maps.append(map_)
        told, head = torch.cat(bits).tolist(), loaded.network.head
        text = "\n".join(["picture,bits_per_dim", *(f"{n},{each:.6f}" for n, each in enumerate(told))])
        noise = head.channels * math.log2(head.levels)
        return io.NodeOutput(heat(torch.cat(maps).float() / noise), sum(told) / len(told), text)

    @classmethod
    def fingerprint_inputs(cls, model: str, **inputs: Any) -> str:
        """Changes with the model's file."""
        return weights.changed(weights.LMCONV, model)


def _model() -> io.Input:
    return io.Combo.Input(
        "model",
        options=[*SHIPPED, *weights.choices(weights.LMCONV, False)],
        default=SHIPPED[0],
        tooltip="lmconv: grey pictures of clothes, built in. lmconv-binary: the same in black and white. Or a file in "
        "models/pullback_lmconv that pullback train lmconv wrote.",
    )


@contextmanager
def _loaded(name: str, image: Tensor) -> Iterator[Any]:
    """The core's model on ComfyUI's device. Cancel stops it within a layer."""
    from ..core.pullback.generative.lmconv.conv import LocallyMaskedConv
    from ..core.pullback.generative.lmconv.model import load_model

    with torch.inference_mode(False):
        model = load_model(name if name in SHIPPED else weights.located(weights.LMCONV, name))
    patcher = weights.managed(model.network)
    weights.load(patcher)
    if says := model.seen(to_pixels(image)):
        notes.say(f"{says}.")
    layers = [layer for layer in model.network.modules() if isinstance(layer, LocallyMaskedConv)]
    hooks = [layer.register_forward_pre_hook(lambda *_: tick()) for layer in layers]
    try:
        yield model
    finally:
        for hook in hooks:
            hook.remove()


def _fitted(mask: Tensor, image: Tensor) -> Tensor:
    """A MASK (B, H, W) as an IMAGE (B, h, w, 3) of the size of another. ValueError if there is neither one nor one for each."""
    one_for_each(mask, len(image))
    height, width = image.shape[1:3]
    sized = comfy.utils.common_upscale(mask[:, None].float(), width, height, "nearest-exact", "disabled")
    return sized.movedim(1, -1).expand(-1, -1, -1, 3)


NODES: list[type[io.ComfyNode]] = [FillLMConv, LikelihoodLMConv]
