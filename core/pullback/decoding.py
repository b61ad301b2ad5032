"""Decoding: display pictures of fields, of any size and from any side, in the memory of a tile."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from .geometry.cameras import Cameras, turntable
from .representation import Crop, Flat, Solid
from .resample import BLOCK, interpolated
from .storage import Field
from .types import Model

TILE = 1 << 14
"""Pixels that are rendered at a time: bounds the memory of pictures of any size; larger is no faster on a processor."""
SMOOTH = 1 << 20
"""Pixels from which on a picture is interpolated."""
TOLERANCE = 2 / 512
"""Greatest error of an interpolated signal, whose range is 2."""
MARGIN = 8
"""Latents around a tile that are decoded with it and cut off."""


def flat(field: Field) -> Flat:
    """The field's diffrep, if it has a picture at every size; ValueError where it has none."""
    if not isinstance(field.diffrep, Flat):
        raise ValueError("a NeRF field is seen through cameras: give a view")
    return field.diffrep


def solid(field: Field, what: str = "sides", use: str = "is seen through cameras") -> Solid:
    """The field's diffrep, if it is seen through cameras; ValueError where it is not."""
    if not isinstance(field.diffrep, Solid):
        raise ValueError(f"this field has no {what}: only a NeRF field {use}")
    return field.diffrep


def views_of(
    field: Field, cameras: Cameras, size: int, model: Model, tick: Callable[[], None] = lambda: None
) -> Tensor:
    """Display pictures (B, 3 or 4, size, size) in [0, 1] of an object through cameras; RGBA is premultiplied."""
    diffrep = solid(field)
    # A decoder draws well only at the size that it was trained at.
    rendered = size if model.scale == 1 else max(model.size, -(-size // model.scale))
    draw = functools.partial(diffrep.through, field.params, height=rendered, width=rendered, tick=tick)
    with torch.no_grad():
        pictures = [model.decode(draw(cameras[i : i + 1])) for i in range(len(cameras))]
    if pictures[0].shape[-1] != size:
        pictures = [interpolate(picture, (size, size), mode="area") for picture in pictures]
    return torch.cat(pictures)


def bands(
    field: Field,
    height: int,
    width: int,
    model: Model,
    crop: Crop | None = None,
    tile: int | None = None,
    exact: bool = False,
) -> Iterator[Tensor]:
    """A SIREN field's picture, or a part of it, from top to bottom as display bands (C, rows, w); memory is a band's.

    Args:
        field: what is drawn.
        height: of the whole picture in pixels.
        width: of the whole picture.
        model: decodes.
        crop: the part that is wanted, or all of it.
        tile: side of a tile in pixels; by default what suits the model.
        exact: compute every pixel. Else large pictures of a model of pixels are interpolated (`resample.py`) with an
            error of a 512th of the display range at most.
    """
    diffrep = flat(field)
    draw = functools.partial(diffrep.picture, field.params)
    if not exact and tile is None and model.scale == 1 and height * width >= SMOOTH:
        return _interpolated(draw, height, width, model, crop)
    return _decoded(draw, height, width, model, crop, diffrep.closed, tile)


@torch.no_grad()
def _interpolated(
    draw: Callable[[int, int, Crop], Tensor], height: int, width: int, model: Model, crop: Crop | None
) -> Iterator[Tensor]:
    """Bands of a large picture, a row of blocks each."""
    top, left, h, w = crop or (0, 0, height, width)
    near = interpolated(draw, TOLERANCE)
    for block in range(top // BLOCK, -(-(top + h) // BLOCK)):
        y, end = max(top, block * BLOCK), min(top + h, (block + 1) * BLOCK)
        yield model.decode(near(height, width, (y, left, end - y, w)))[0]


def view_bands(
    field: Field, camera: Cameras, height: int, width: int, model: Model, crop: Crop | None = None
) -> Iterator[Tensor]:
    """The same for a radiance field through one camera. ValueError where the field has no cameras."""
    draw = functools.partial(solid(field).through, field.params, camera)
    return _decoded(draw, height, width, model, crop, (False, False))


@torch.no_grad()
def _decoded(
    draw: Callable[[int, int, Crop], Tensor],
    height: int,
    width: int,
    model: Model,
    crop: Crop | None,
    closed: tuple[bool, bool],
    side: int | None = None,
) -> Iterator[Tensor]:
    """Bands of a picture that `draw` (height, width, tile) renders as signals, decoded tile by tile.

    Decoders look around: latent tiles overlap by MARGIN, across the seams too where a picture is `closed`.
    """
    top, left, h, w = crop or (0, 0, height, width)
    s = model.scale
    rows, columns = -(-height // s), -(-width // s)
    area = TILE if side is None else side**2
    edge = model.size if side is None else max(1, side // s)
    margin, tall, wide = (0, max(1, area // w), area) if s == 1 else (MARGIN, edge, edge)

    def tile(y0: int, y1: int, x0: int, x1: int) -> Tensor:
        a, b = (y0 - margin, y1 + margin) if closed[0] else (max(0, y0 - margin), min(rows, y1 + margin))
        c, d = (x0 - margin, x1 + margin) if closed[1] else (max(0, x0 - margin), min(columns, x1 + margin))
        decoded = model.decode(draw(rows, columns, (a, c, b - a, d - c)))[0]
        return decoded[:, (y0 - a) * s : (y1 - a) * s, (x0 - c) * s : (x1 - c) * s]

    first, last = left // s, -(-(left + w) // s)
    for y in range(top // s, -(-(top + h) // s), tall):
        end = min(y + tall, -(-(top + h) // s))
        band = torch.cat([tile(y, end, x, min(x + wide, last)) for x in range(first, last, wide)], -1)
        yield band[:, max(0, top - y * s) : top + h - y * s, left - first * s : left - first * s + w]


def height_of(field: Field, width: int) -> int:
    """The height of a field's whole picture at a width, in proportion."""
    return max(1, int(width / flat(field).aspect))


def preview(field: Field, model: Model, size: int = 256) -> Tensor:
    """(3, H, W) display RGB: what the field looks like now, small and quick."""
    if isinstance(field.diffrep, Solid):
        return torch.cat(list(on_white(views_of(field, turntable(4), size // 2, model))), -1)
    return on_white(torch.cat(list(bands(field, size, round(size * flat(field).aspect), model)), -2))


def turntable_picture(field: Field, model: Model, size: int = 256, count: int = 8) -> Tensor:
    """(3, 2 size, count / 2 size) display RGB: an object from `count` sides, on white."""
    pictures = on_white(views_of(field, turntable(count), size, model))
    half = count // 2
    return torch.cat([torch.cat(list(pictures[:half]), -1), torch.cat(list(pictures[half:]), -1)], -2)


def on_white(pictures: Tensor) -> Tensor:
    """Premultiplied RGBA (..., 4, H, W) over white; RGB passes through."""
    if pictures.shape[-3] == 3:
        return pictures
    return (pictures[..., :3, :, :] + 1 - pictures[..., 3:, :, :]).clamp(0, 1)
