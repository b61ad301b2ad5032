"""Functions: the nodes of the models of functions. ∞-Diff draws, enlarges and fills pictures of any size; DPF draws shapes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import comfy.utils
import numpy as np
import torch
from comfy.model_management import throw_exception_if_processing_interrupted as tick
from comfy_api.latest import io
from torch import Tensor

from . import schema, weights
from .meshes import to_mesh
from .signals import FUNCTIONS
from .sockets import one_for_each, to_image, to_pixels

SHAPES = "dpf-shapes"
"""The core's own model of shapes, named here because importing the core takes time at every start of ComfyUI."""
SCALES = ("2", "4", "8")
WORDS = "The help page of Toybox Loader lists the 48 words that are known."


class LoadFunctionModel(io.ComfyNode):
    """Loads ∞-Diff as MODEL, CLIP and VAE."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackLoadFunctionModel",
            display_name="Load Function Model",
            category=schema.CATEGORY,
            description="∞-Diff, a model of functions: it draws pictures of any size, from 48 words or from none.",
            inputs=[_model(FUNCTIONS, weights.INFTY_DIFF, "pullback train infty-diff")],
            outputs=[
                io.Model.Output(display_name="MODEL", tooltip="For KSampler and Field Sampler, at any size."),
                io.Clip.Output(display_name="CLIP", tooltip="Knows 48 words: objects, colours, sizes, landscapes, times of day."),
                io.Vae.Output(display_name="VAE", tooltip="∞-Diff draws pixels, so this only lays them on white."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model: str) -> io.NodeOutput:
        from .builtin_infty_diff import load

        return io.NodeOutput(*load(_infty_diff(model)))

    @classmethod
    def fingerprint_inputs(cls, model: str) -> str:
        """Changes with the model's file."""
        return weights.changed(weights.INFTY_DIFF, model)


class EmptyFunctionLatent(io.ComfyNode):
    """Makes an empty latent for ∞-Diff."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        def side(name: str) -> io.Int.Input:
            tooltip = f"{name.capitalize()} of the picture in pixels. ∞-Diff learnt 64 to 256; larger pictures cost more time."
            return io.Int.Input(name, default=128, min=32, max=2048, tooltip=tooltip)

        return io.Schema(
            node_id="PullbackEmptyFunctionLatent",
            display_name="Empty Function Latent",
            category=schema.CATEGORY,
            description="An empty latent of any width and height for Load Function Model: its latents are pixels.",
            inputs=[
                side("width"),
                side("height"),
                io.Int.Input("batch_size", default=1, min=1, max=4096, tooltip="How many pictures."),
            ],
            outputs=[io.Latent.Output(display_name="latent", tooltip="Zeros.")],
        )

    @classmethod
    def execute(cls, width: int, height: int, batch_size: int) -> io.NodeOutput:
        return io.NodeOutput({"samples": torch.zeros(batch_size, 4, height, width), "downscale_ratio_spacial": 1})


class UpscaleInftyDiff(io.ComfyNode):
    """Larger pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackUpscaleInftyDiff",
            display_name="Upscale (∞-Diff)",
            category=schema.CATEGORY,
            description="Enlarges pictures. The means over squares of the result are the given pixels; the detail is sampled.",
            inputs=[
                io.Image.Input("image", tooltip="Pictures. The results may have at most 4194304 pixels."),
                _model(FUNCTIONS, weights.INFTY_DIFF, "pullback train infty-diff"),
                io.Combo.Input("scale", options=list(SCALES), default="4", tooltip="How many times as wide and as high."),
                io.String.Input("prompt", default="", tooltip=f"What the pictures show, or nothing. {WORDS}"),
                schema.seed("Another seed draws other details."),
                schema.steps(2, "Noise levels to go through. More make the details bolder, but less true."),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The larger pictures.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, image: Tensor, model: str, scale: str, prompt: str, seed: int, steps: int) -> io.NodeOutput:
        from ..core.pullback.generative.infty_diff.uses import upscaled
        from .builtin import known_words

        said, pixels = known_words(prompt), to_pixels(image)
        with _running(_infty_diff(model), "functions") as loaded:
            made: list[Tensor] = []
            advance = _advancing(made, len(pixels))
            for n, picture in enumerate(pixels):
                given = picture if loaded.channels == 3 else _opaque(picture)
                drawn = upscaled(loaded, given, int(scale), said, seed=(seed + n) % 2**64, steps=steps, tick=advance)
                made.append(to_image(drawn[None]))
        return io.NodeOutput(torch.cat(made))

    @classmethod
    def fingerprint_inputs(cls, model: str, **inputs: Any) -> str:
        """Changes with the model's file."""
        return weights.changed(weights.INFTY_DIFF, model)


class FillInftyDiff(io.ComfyNode):
    """The missing part of pictures of any size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackFillInftyDiff",
            display_name="Fill (∞-Diff)",
            category=schema.CATEGORY,
            description="Fills the missing part of pictures of any size. Known pixels stay as they are, bit for bit.",
            inputs=[
                io.Image.Input("image", tooltip="Pictures of at least 32 pixels along each side, and of at most 4194304 pixels."),
                io.Mask.Input("mask", tooltip="White where the picture is missing: one for all pictures, or one for each, of the "
                              "pictures' size."),
                _model(FUNCTIONS, weights.INFTY_DIFF, "pullback train infty-diff"),
                io.String.Input("prompt", default="", tooltip=f"What the whole pictures show, or nothing. {WORDS}"),
                schema.seed("Another seed fills it in another way."),
                schema.steps(30),
            ],
            outputs=[io.Image.Output(display_name="image", tooltip="The whole pictures.")],
        )  # fmt: skip

    @classmethod
    def execute(cls, image: Tensor, mask: Tensor, model: str, prompt: str, seed: int, steps: int) -> io.NodeOutput:
        from ..core.pullback.generative.infty_diff.uses import filled
        from .builtin import known_words

        said, pixels = known_words(prompt), to_pixels(image)
        masks = to_pixels(one_for_each(mask, len(image))[..., None].expand(-1, -1, -1, 3))
        with _running(_infty_diff(model), "functions") as loaded:
            made: list[Tensor] = []
            advance = _advancing(made, len(pixels))
            for n, (picture, hole) in enumerate(zip(pixels, masks, strict=True)):
                random = (seed + n) % 2**64
                drawn = filled(loaded, _opaque(picture), hole, said, seed=random, steps=steps, tick=advance)
                missing = torch.from_numpy(hole[..., :1] >= 128)
                rgb = torch.from_numpy(drawn[..., :3].copy()).float() / 255
                made.append(torch.where(missing, rgb, image[n, ..., :3].float().cpu()))
        return io.NodeOutput(torch.stack(made))

    @classmethod
    def fingerprint_inputs(cls, model: str, **inputs: Any) -> str:
        """Changes with the model's file."""
        return weights.changed(weights.INFTY_DIFF, model)


class SampleShapeDPF(io.ComfyNode):
    """A shape as a mesh, without views and without a fit."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackSampleShapeDPF",
            display_name="Sample Shape (DPF)",
            category=schema.CATEGORY,
            description="Draws an object from a few words as a closed, textured mesh, in seconds, without views or a field.",
            inputs=[
                io.String.Input("prompt", default="a red chair", tooltip="An object in toybox's words, such as a small red car. "
                                "The help page of Toybox Loader lists them."),
                _model(SHAPES, weights.DPF, "pullback train dpf-shapes"),
                schema.seed("Another seed draws another shape."),
                io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Steps from noise to shape."),
                io.Float.Input("cfg", default=1.0, min=0.0, max=20.0, step=0.1,
                               tooltip="How strictly to follow the prompt: 1 as trained, 0 not at all. Other values than 0 and 1 "
                               "take twice as long."),
                io.Int.Input("resolution", default=64, min=8, max=128, step=8,
                             tooltip="Cells along each side in which the surface is looked for. The built-in model learnt 32."),
                io.Int.Input("faces", default=20000, min=100, max=1000000, step=100, tooltip="Triangles, at most."),
                io.Int.Input("texture", default=1024, min=0, max=8192, step=64,
                             tooltip="Width and height of the texture in pixels; 0 makes no texture."),
            ],
            outputs=[io.Mesh.Output(display_name="mesh", tooltip="The shape, Y up as in glTF, with uv and texture.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, prompt: str, model: str, seed: int, steps: int, cfg: float, resolution: int, faces: int, texture: int
    ) -> io.NodeOutput:
        from ..core.pullback.functions import shape
        from ..core.pullback.generative.dpf.model import load_model

        path = model if model == SHAPES else weights.located(weights.DPF, model)
        with torch.inference_mode(False):
            loaded = load_model(path, domain="cube")
        with _running(loaded, "network") as running:
            rounds = 2 if resolution > running.design.side else 1  # all coarse cells, then fine ones near the surface
            bar, done = comfy.utils.ProgressBar(rounds * steps), []

            def advance(*_: Any) -> None:
                tick()
                done.append(None)
                bar.update_absolute(len(done), rounds * steps)

            options = (steps, cfg, resolution, faces, texture or 1024)
            mesh, picture = shape(running, prompt, seed % 2**63, *options, advance, tick)
        return io.NodeOutput(to_mesh(mesh, picture if texture else None))

    @classmethod
    def fingerprint_inputs(cls, model: str, **inputs: Any) -> str:
        """Changes with the model's file."""
        return weights.changed(weights.DPF, model)


def _model(built_in: str, kind: str, command: str) -> io.Input:
    return io.Combo.Input(
        "model",
        options=[built_in, *weights.choices(kind, False)],
        default=built_in,
        tooltip=f"{built_in} is built in. Or a file in models/{kind} that {command} wrote.",
    )


def _infty_diff(name: str) -> Any:
    """Return the core's ∞-Diff with a name of the list, on the CPU."""
    from ..core.pullback.generative.infty_diff.model import load_model, named

    with torch.inference_mode(False):  # autograd cannot use weights that were loaded in inference mode
        return named(name) if name == FUNCTIONS else load_model(weights.located(weights.INFTY_DIFF, name))


@contextmanager
def _running(model: Any, part: str) -> Iterator[Any]:
    """Run a model of the core on ComfyUI's device, outside of inference mode. Cancel stops it within a layer.

    Args:
        model: The model, on the CPU.
        part: The name of its attribute with the networks.
    """
    networks = getattr(model, part)
    patcher = weights.managed(networks)
    weights.load(patcher)
    layers = [layer for layer in networks.modules() if not list(layer.children())]
    hooks = [layer.register_forward_pre_hook(lambda *_: tick()) for layer in layers]
    try:
        with torch.inference_mode(False):
            yield replace(model, device=weights.device())
    finally:
        for hook in hooks:
            hook.remove()


def _advancing(made: list[Tensor], count: int) -> Callable[[int, int], None]:
    """Return what is called after the steps of one of `count` pictures, where `made` are those that are finished."""
    bar = comfy.utils.ProgressBar(1)

    def advance(done: int, total: int) -> None:
        tick()
        bar.update_absolute(len(made) * total + done, count * total)

    return advance


def _opaque(pixels: np.ndarray) -> np.ndarray:
    """RGB (H, W, 3) as opaque RGBA, uint8."""
    return np.concatenate([pixels, np.full_like(pixels[..., :1], 255)], -1)


NODES: list[type[io.ComfyNode]] = [
    LoadFunctionModel, EmptyFunctionLatent, UpscaleInftyDiff, FillInftyDiff, SampleShapeDPF,
]  # fmt: skip
