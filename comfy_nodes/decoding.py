"""Decoding: the nodes that turn fields into pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import comfy.model_management
import comfy.utils
import torch
from comfy.model_management import throw_exception_if_processing_interrupted as tick
from comfy_api.latest import io
from torch import Tensor

from . import latents, schema
from .memory import exhausted
from .signals import Signal
from .signals import decoder as signal_of_field
from .sockets import FieldValue, angles, camera_of, nearness, to_image, to_mask

T = TypeVar("T")

UNIT = [0.0, 0.0, 0.0, 1.0]
"""Middle and radius of the ball that a field lies in."""
LEAST_TILE = 64
"""Pixels of a tile's side."""


class ResolutionFreeDecode(io.ComfyNode):
    """A picture of any size."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackResolutionFreeDecode",
            display_name="Resolution-Free Decode",
            category=schema.CATEGORY,
            description="A SIREN image or panorama at any size, or any part of it; memory stays that of a tile. "
                        "A latent becomes what VAE Decode makes of it, without seams.",
            inputs=[
                schema.field_or_latent("A sampled SIREN image or panorama. Or a latent, with its VAE: it becomes what VAE Decode "
                                       "makes of it, of its own size, in tiles that leave no seam."),
                io.Int.Input("width", default=2048, min=1, max=65536, tooltip="Width of the whole picture in pixels."),
                io.Int.Input("height", default=0, min=0, max=65536,
                             tooltip="Height of the whole picture in pixels; 0 keeps the field's proportions."),
                io.Int.Input("left", default=0, min=0, max=65535, tooltip="First column of the part that is wanted."),
                io.Int.Input("top", default=0, min=0, max=65535, tooltip="First row of the part that is wanted."),
                io.Int.Input("crop_width", default=0, min=0, max=65536, tooltip="Columns of the part; 0 goes to the right edge."),
                io.Int.Input("crop_height", default=0, min=0, max=65536, tooltip="Rows of the part; 0 goes to the lower edge."),
                io.Int.Input("tile", default=512, min=LEAST_TILE, max=4096, step=64,
                             tooltip="Side of a tile in pixels: less takes less memory, more is quicker."),
                schema.vae(),
                schema.decoder("Draws a latent at any size, from Load Field Decoder; no VAE is needed then."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The picture, on white where the field is transparent."),
                io.Mask.Output(display_name="mask", tooltip="1 where something is."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, field: FieldValue | dict[str, Any], width: int, height: int, left: int, top: int, crop_width: int,
        crop_height: int, tile: int, vae: Any = None, decoder: Any = None,
    ) -> io.NodeOutput:  # fmt: skip
        crop = (left, top, crop_width, crop_height)
        if decoder is not None:
            if isinstance(field, FieldValue):
                raise ValueError(
                    "a field has any size without a field decoder: connect its VAE, or a latent instead of the field"
                )
            return io.NodeOutput(*enlarged(field, decoder, width, height, crop, tile))
        if not isinstance(field, FieldValue):
            image = latent(field, vae, crop, tile)
            return io.NodeOutput(image, torch.ones(image.shape[:3]))
        signal = signal_of_field(field.sampled(), vae)
        return io.NodeOutput(*whole(field, signal, width, height, crop, tile))


class RenderFieldViews(io.ComfyNode):
    """An object through cameras."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PullbackRenderFieldViews",
            display_name="Render Field Views",
            category=schema.CATEGORY,
            description="A 3D field seen from a turntable, from the 3D viewer's camera or from a list of sides.",
            inputs=[
                schema.field("A sampled Voxel NeRF."),
                io.Combo.Input("path", options=["turntable", "camera", "list"], default="turntable",
                               tooltip="turntable: evenly all around. camera: the one from a 3D viewer. list: the views below."),
                io.Int.Input("count", default=16, min=1, max=360, tooltip="Pictures of the turntable."),
                io.Float.Input("elevation", default=20.0, min=-89.0, max=89.0, step=1.0,
                               tooltip="Elevation of the turntable in degrees."),
                io.Float.Input("distance", default=3.2, min=1.1, max=20.0, step=0.1,
                               tooltip="Distance of turntable and list from the middle."),
                io.Float.Input("fov", default=40.0, min=5.0, max=120.0, step=1.0, tooltip="Vertical angle of view in degrees."),
                io.Int.Input("size", default=256, min=16, max=2048, step=8, tooltip="Side of each picture in pixels."),
                io.String.Input("views", default="0,20\n90,20\n180,20\n270,20", multiline=True,
                                tooltip="For list: azimuth,elevation in degrees, one pair per line; 0,0 is the front."),
                schema.vae(),
                io.Load3DCamera.Input("camera", optional=True, tooltip="For camera: the camera of a Load 3D node."),
            ],
            outputs=[
                io.Image.Output(display_name="image", tooltip="The views, on white where the field is transparent."),
                io.Mask.Output(display_name="mask", tooltip="How much the field hides of what lies behind it."),
                io.Image.Output(display_name="depth", tooltip="Nearness: white is the nearest point, black is nothing there."),
                io.String.Output(display_name="cameras", tooltip="Where the views are seen from, for Reconstruct Field."),
            ],
        )  # fmt: skip

    @classmethod
    def execute(
        cls, field: FieldValue, path: str, count: int, elevation: float, distance: float, fov: float, size: int,
        views: str, vae: Any = None, camera: Any = None,
    ) -> io.NodeOutput:  # fmt: skip
        around = cameras(path, count, elevation, distance, fov, views, camera)
        return io.NodeOutput(*seen(field, vae, around, size), described(around, size, size))


def whole(
    field: FieldValue,
    signal: Signal,
    width: int,
    height: int,
    crop: tuple[int, int, int, int] = (0, 0, 0, 0),
    tile: int = 512,
) -> tuple[Tensor, Tensor]:
    """IMAGE and MASK of a field at width x height (0: in proportion), or of its part (left, top, width, height).

    Where memory runs out, in smaller tiles.
    """
    core = _flat(field)
    height = height or max(1, round(width / core.diffrep.aspect))
    part = latents.within(crop, height, width)
    return _smaller(lambda side: _drawn(core, signal, width, height, part, side), tile)


def latent(
    samples: dict[str, Any], vae: Any, part: tuple[int, int, int, int] = (0, 0, 0, 0), tile: int = 512
) -> Tensor:
    """IMAGE of a LATENT, or of its part (left, top, width, height) in pixels. Where memory runs out, in smaller tiles."""
    bar = comfy.utils.ProgressBar(1)

    def advance(done: int, total: int) -> None:
        tick()
        bar.update_absolute(done, total)

    return _smaller(lambda side: latents.decoded(vae, samples, side, part, advance), tile)


def enlarged(
    samples: dict[str, Any], decoder: Any, width: int, height: int, crop: tuple[int, int, int, int] = (0, 0, 0, 0),
    tile: int = 512,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """IMAGE and MASK of a LATENT at width x height (0: in proportion), or of its part, by a field decoder.

    Where memory runs out, in smaller tiles.
    """
    z = latents.flat(samples)
    height = height or max(1, round(width * z.shape[2] / z.shape[3]))
    part = latents.within(crop, height, width)
    bar = comfy.utils.ProgressBar(len(z) * part[2])

    def advance(done: int) -> None:
        tick()
        bar.update(done)

    return _smaller(lambda side: latents.drawn(decoder, z, height, width, part, side, advance), tile)


def _smaller(draw: Callable[[int], T], tile: int) -> T:
    """What `draw` makes in tiles of a side, or where memory runs out, in smaller ones."""
    while True:
        try:
            return draw(tile)
        except (RuntimeError, MemoryError) as error:
            if tile <= LEAST_TILE or not exhausted(error):
                raise
        tile = max(LEAST_TILE, tile // 2)
        comfy.model_management.soft_empty_cache()


def _drawn(
    core: Any, signal: Signal, width: int, height: int, part: tuple[int, int, int, int], tile: int
) -> tuple[Tensor, Tensor]:
    """IMAGE and MASK of the part (top, left, height, width), band by band."""
    from ..core.pullback import tasks

    h, w = part[2:]
    bar = comfy.utils.ProgressBar(h)
    image, mask, row = torch.empty(1, h, w, 3), torch.ones(1, h, w), 0
    for band in tasks.bands(core, height, width, signal, part, tile):
        tick()
        rows = slice(row, row + band.shape[1])
        image[:, rows], mask[:, rows] = to_image(band[None]), to_mask(band[None])
        row = rows.stop
        bar.update_absolute(row, h)
    return image, mask


def _flat(field: FieldValue) -> Any:
    """The sampled field, if it has a picture at every size."""
    from ..core.pullback.representation import Flat, Solid

    core = field.sampled()
    if isinstance(core.diffrep, Solid):
        raise ValueError("a 3D field is seen through cameras: use Render Field Views instead")
    if not isinstance(core.diffrep, Flat):
        raise ValueError("a pixel grid has one size only: use the sampler's image, or sample a SIREN Image instead")
    return core


def described(cameras: Any, height: int, width: int) -> str:
    """The core's cameras as the text of a transforms.json; the field lies in the unit ball."""
    from ..core.pullback.photographs import listed

    return json.dumps({"ball": UNIT} | listed(cameras, height, width))


def cameras(path: str, count: int, elevation: float, distance: float, fov: float, views: str, camera: Any) -> Any:
    """The core's cameras of a path; angles in degrees. ValueError where the path lacks its camera or its list."""
    from ..core.pullback.geometry.cameras import look_at, orbit, turntable

    angle = math.radians(fov)
    if path == "turntable":
        return turntable(count, math.radians(elevation), distance, angle)
    if path == "list":
        azimuth, height = torch.deg2rad(torch.tensor(angles(views))).unbind(-1)
        return orbit(azimuth, height, distance, angle)
    if camera is None:
        raise ValueError("no camera is connected: connect one from a Load 3D node, or choose turntable")
    eye, angle = camera_of(camera, angle)
    return look_at(eye, torch.zeros(1, 3), angle)


def seen(field: FieldValue, vae: Any, cameras: Any, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """IMAGE, MASK and nearness IMAGE of an object through the core's cameras, size x size."""
    from ..core.pullback import tasks

    core, model = field.sampled(), signal_of_field(field.sampled(), vae)
    bar = comfy.utils.ProgressBar(len(cameras))
    images, masks, depths = [], [], []
    for i in range(len(cameras)):
        one = cameras[i : i + 1]
        pictures = tasks.views_of(core, one, size, model, tick)
        opacity = core.diffrep.opacity(core.params, one, size, size, tick)
        images.append(to_image(pictures))
        masks.append(opacity[:, 0])
        depths.append(core.diffrep.depth(core.params, one, size, size, tick))
        bar.update_absolute(i + 1, len(cameras))
    return torch.cat(images), torch.cat(masks), nearness(torch.cat(depths))


NODES: list[type[io.ComfyNode]] = [ResolutionFreeDecode, RenderFieldViews]
