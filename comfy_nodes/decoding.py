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
"""The centre and the radius of the ball that contains a field."""
LEAST_TILE = 64
"""The smallest side of a tile, in pixels."""


class ResolutionFreeDecode(io.ComfyNode):
    """Draws a field or a latent as a picture."""

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
                    "a field needs no field decoder: disconnect the decoder and connect the field's VAE, or connect a "
                    "latent instead of the field"
                )
            return io.NodeOutput(*enlarged(field, decoder, width, height, crop, tile))
        if not isinstance(field, FieldValue):
            image = latent(field, vae, crop, tile)
            return io.NodeOutput(image, torch.ones(image.shape[:3]))
        signal = signal_of_field(field.sampled(), vae)
        return io.NodeOutput(*drawn(field, signal, width, height, crop, tile))


class RenderFieldViews(io.ComfyNode):
    """Renders a 3D field through cameras."""

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
        chosen = cameras(path, count, elevation, distance, fov, views, camera)
        return io.NodeOutput(*rendered(field, vae, chosen, size), described(chosen, size, size))


def drawn(
    field: FieldValue,
    signal: Signal,
    width: int,
    height: int,
    crop: tuple[int, int, int, int] = (0, 0, 0, 0),
    tile: int = 512,
) -> tuple[Tensor, Tensor]:
    """Draw a flat field. If memory runs out, use smaller tiles.

    Args:
        field: The field.
        signal: Decodes the field's signal.
        width: The width of the whole picture in pixels.
        height: Its height; 0 keeps the field's proportions.
        crop: The part to draw: left, top, width and height in pixels. A width or height of 0 goes to the edge.
        tile: The side of a tile in pixels.

    Returns:
        IMAGE and MASK of the part.
    """
    sampled = _flat(field)
    height = height or max(1, round(width / sampled.diffrep.aspect))
    part = latents.within(crop, height, width)
    return _in_tiles(lambda side: _draw_bands(sampled, signal, width, height, part, side), tile)


def latent(
    samples: dict[str, Any], vae: Any, part: tuple[int, int, int, int] = (0, 0, 0, 0), tile: int = 512
) -> Tensor:
    """Decode a LATENT, or its part (left, top, width, height) in pixels, as an IMAGE. If memory runs out, use smaller tiles."""
    bar = comfy.utils.ProgressBar(1)

    def advance(done: int, total: int) -> None:
        tick()
        bar.update_absolute(done, total)

    return _in_tiles(lambda side: latents.decoded(vae, samples, side, part, advance), tile)


def enlarged(
    samples: dict[str, Any], decoder: Any, width: int, height: int, crop: tuple[int, int, int, int] = (0, 0, 0, 0),
    tile: int = 512,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Draw a LATENT by a field decoder, and return IMAGE and MASK. The other arguments are those of `drawn`."""
    z = latents.flat(samples)
    height = height or max(1, round(width * z.shape[2] / z.shape[3]))
    part = latents.within(crop, height, width)
    bar = comfy.utils.ProgressBar(len(z) * part[2])

    def advance(done: int) -> None:
        tick()
        bar.update(done)

    return _in_tiles(lambda side: latents.drawn(decoder, z, height, width, part, side, advance), tile)


def _in_tiles(draw: Callable[[int], T], tile: int) -> T:
    """Call `draw` with the side of a tile, and halve the side while memory runs out."""
    while True:
        try:
            return draw(tile)
        except (RuntimeError, MemoryError) as error:
            if tile <= LEAST_TILE or not exhausted(error):
                raise
        tile = max(LEAST_TILE, tile // 2)
        comfy.model_management.soft_empty_cache()


def _draw_bands(
    sampled: Any, signal: Signal, width: int, height: int, part: tuple[int, int, int, int], tile: int
) -> tuple[Tensor, Tensor]:
    """Draw the part (top, left, height, width) of a picture as IMAGE and MASK, band by band."""
    from ..core.pullback import tasks

    h, w = part[2:]
    bar = comfy.utils.ProgressBar(h)
    image, mask, row = torch.empty(1, h, w, 3), torch.ones(1, h, w), 0
    for band in tasks.bands(sampled, height, width, signal, part, tile):
        tick()
        rows = slice(row, row + band.shape[1])
        image[:, rows], mask[:, rows] = to_image(band[None]), to_mask(band[None])
        row = rows.stop
        bar.update_absolute(row, h)
    return image, mask


def _flat(field: FieldValue) -> Any:
    """Return the sampled field. Raise ValueError if it cannot be drawn at any size."""
    from ..core.pullback.representation import Flat, Solid

    sampled = field.sampled()
    if isinstance(sampled.diffrep, Solid):
        raise ValueError("a 3D field is seen through cameras: use Render Field Views instead")
    if not isinstance(sampled.diffrep, Flat):
        raise ValueError("a pixel grid has only one size: use the sampler's image, or sample a SIREN Image instead")
    return sampled


def described(cameras: Any, height: int, width: int) -> str:
    """Return the text of a transforms.json with the core's cameras. The field is in the unit ball."""
    from ..core.pullback.photographs import listed

    return json.dumps({"ball": UNIT} | listed(cameras, height, width))


def cameras(path: str, count: int, elevation: float, distance: float, fov: float, views: str, camera: Any) -> Any:
    """Return the core's cameras for the inputs of Render Field Views, with angles in degrees.

    Raises:
        ValueError: If the path is "camera" and no camera is connected, or it is "list" and the list is wrong.
    """
    from ..core.pullback.geometry.cameras import look_at, orbit, turntable

    angle = math.radians(fov)
    if path == "turntable":
        return turntable(count, math.radians(elevation), distance, angle)
    if path == "list":
        azimuth, elevations = torch.deg2rad(torch.tensor(angles(views))).unbind(-1)
        return orbit(azimuth, elevations, distance, angle)
    if camera is None:
        raise ValueError("no camera is connected: connect one from a Load 3D node, or choose turntable")
    eye, angle = camera_of(camera, angle)
    return look_at(eye, torch.zeros(1, 3), angle)


def rendered(field: FieldValue, vae: Any, cameras: Any, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Render a 3D field through the core's cameras, and return IMAGE, MASK and nearness IMAGE of size x size pixels."""
    from ..core.pullback import tasks

    sampled, signal = field.sampled(), signal_of_field(field.sampled(), vae)
    bar = comfy.utils.ProgressBar(len(cameras))
    images, masks, depths = [], [], []
    for i in range(len(cameras)):
        one = cameras[i : i + 1]
        pictures = tasks.views_of(sampled, one, size, signal, tick)
        opacity = sampled.diffrep.opacity(sampled.params, one, size, size, tick)
        images.append(to_image(pictures))
        masks.append(opacity[:, 0])
        depths.append(sampled.diffrep.depth(sampled.params, one, size, size, tick))
        bar.update_absolute(i + 1, len(cameras))
    return torch.cat(images), torch.cat(masks), nearness(torch.cat(depths))


NODES: list[type[io.ComfyNode]] = [ResolutionFreeDecode, RenderFieldViews]
