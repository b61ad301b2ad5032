"""Reconstruction: the node that makes a 3D field of pictures whose cameras are known."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.model_management
import torch
from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from . import decoding, schema
from .plans import Again
from .progress import Progress
from .sockets import FieldValue, from_image

SIDE = 96
"""Pixels of a preview's side."""


class ReconstructField(io.ComfyNode):
    """An object from pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackReconstructField",
            display_name="Reconstruct Field",
            category=schema.CATEGORY,
            description="A 3D field of an object from two or more pictures of it whose cameras are known.",
            inputs=[
                io.Image.Input("images", tooltip="Pictures of one object from different places, all of one size."),
                io.String.Input("cameras", default="0,20\n45,20\n90,20\n135,20\n180,20\n225,20\n270,20\n315,20", multiline=True,
                                tooltip="Where each picture was taken from: azimuth,elevation in degrees, one pair per line; "
                                "0,0 is the front. Or the text of a transforms.json, as Render Field Views gives it."),
                io.Float.Input("distance", default=3.2, min=1.1, max=20.0, step=0.1,
                               tooltip="Distance of the cameras from the middle, for azimuth,elevation."),
                io.Float.Input("fov", default=40.0, min=5.0, max=120.0, step=1.0,
                               tooltip="Vertical angle of view in degrees, for azimuth,elevation."),
                io.Combo.Input("method", options=["nerf", "diet", "pullback"], default="nerf",
                               tooltip="nerf: the pictures alone. diet: what they mean, too. pullback: toybox draws what no "
                               "picture shows, for the prompt; it needs a mask."),
                io.String.Input("prompt", default="", tooltip="What the pictures show, for pullback."),
                schema.seed(),
                io.Int.Input("steps", default=0, min=0, max=10000,
                             tooltip="Steps of ten passes; 0 is 150. For pullback, noise levels; 0 is 30."),
                io.Int.Input("grid", default=64, min=16, max=160, step=8, tooltip="Voxels along each side of the field."),
                io.Int.Input("size", default=128, min=16, max=2048, step=8,
                             tooltip="Side of the pictures in pixels; larger ones are reduced."),
                io.Mask.Input("mask", optional=True,
                              tooltip="1 where the object is, as Render Field Views has it; invert that of Load Image. Without "
                              "one, the background becomes part of the field."),
            ],
            outputs=[schema.FIELD.Output(display_name="field", tooltip="The object: for Render Field Views and Field to Mesh.")],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, images: Tensor, cameras: str, distance: float, fov: float, method: str, prompt: str, seed: int, steps: int,
        grid: int, size: int, mask: Tensor | None = None,
    ) -> io.NodeOutput:  # fmt: skip
        from ..core.pullback.reconstruct import Plan

        plan = Plan(method, prompt, seed=seed % (1 << 63), steps=steps, grid=grid, size=size)
        with torch.inference_mode(False), torch.enable_grad():
            pictures = premultiplied(images, mask)
            text = listing(cameras, distance, fov, *pictures.shape[2:])
            core = reconstructed(pictures, text, plan, str(comfy.model_management.get_torch_device()))
        return io.NodeOutput(FieldValue(Again(core), core))


def premultiplied(images: Tensor, mask: Tensor | None) -> Tensor:
    """An IMAGE and a MASK as premultiplied RGBA (B, 4, H, W). ValueError where they do not suit each other.

    Pictures on white, as Render Field Views makes them, lose the white at their edges.
    """
    pictures = from_image(images.clone()).float().cpu()
    if mask is None and pictures.shape[1] == 4:
        return torch.cat([pictures[:, :3] * pictures[:, 3:], pictures[:, 3:]], 1)
    if mask is None:
        return torch.cat([pictures[:, :3], torch.ones_like(pictures[:, :1])], 1)
    alpha = mask.clone().float().cpu().reshape(-1, 1, *mask.shape[-2:])
    if alpha.shape[2:] != pictures.shape[2:] or len(alpha) != len(pictures):
        raise ValueError(
            f"mask has {len(alpha)} x {alpha.shape[3]} x {alpha.shape[2]} pixels and images "
            f"{len(pictures)} x {pictures.shape[3]} x {pictures.shape[2]}: make them alike"
        )
    rgb = pictures[:, :3]
    # The colour of a pixel is at most its opacity; what is above it came from the white behind.
    return torch.cat([torch.minimum((rgb - (1 - alpha)).clamp(min=0), alpha), alpha], 1)


def listing(cameras: str, distance: float, fov: float, height: int, width: int) -> str:
    """The text of a transforms.json, from itself or from azimuth,elevation pairs."""
    if cameras.lstrip().startswith(("{", "[")):
        return cameras
    return decoding.described(decoding.cameras("list", 1, 0.0, distance, fov, cameras, None), height, width)


def reconstructed(pictures: Tensor, cameras: str, plan: Any, device: str) -> Any:
    """The core's field of pictures (B, 4, H, W), on the processor."""
    from ..core.pullback import tasks
    from ..core.pullback.generative.clip.model import load_clip
    from ..core.pullback.photographs import posed
    from ..core.pullback.reconstruct import prepare

    photographs = posed(cameras, pictures, plan.size)
    model = tasks.load_model("toybox" if plan.way == "pullback" else "pixels", device)
    clip = load_clip(device=device) if plan.way == "diet" else None

    def picture(params: dict[str, Tensor]) -> Image.Image:
        shown = model.decode(recipe.diffrep.through(params, photographs.cameras[:1], SIDE, SIDE))[0].cpu()
        shown = shown if len(shown) == 3 else shown[:3] + 1 - shown[3:]
        return Image.fromarray((255 * shown.clamp(0, 1)).byte().movedim(0, -1).numpy())

    progress = Progress(picture)
    recipe, sampler = prepare(photographs, plan, model, clip, progress.tick)
    progress.begin([10] * len(plan.walk))
    state = tasks.sample(sampler, plan.seed, None, lambda _, __, now: progress.ended(now.params), None, device)
    core = tasks.field_of(recipe, plan, model, state)
    return replace(core, params={name: p.detach().cpu() for name, p in core.params.items()})


NODES: list[type[io.ComfyNode]] = [ReconstructField]
