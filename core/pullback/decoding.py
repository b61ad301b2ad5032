"""Decoding: display pictures of fields, of any size and from any side, in the memory of a tile."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

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
MARGIN, FADE = 8, 6
"""Latents around a tile that are decoded with it, and those of them in which it fades into its neighbours."""


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


def _at(model: Model, field: Field) -> Field:
    """The field on the model's device."""
    return field.to(getattr(model, "device", "cpu"))


def views_of(
    field: Field, cameras: Cameras, size: int, model: Model, tick: Callable[[], None] = lambda: None
) -> Tensor:
    """Display pictures (B, 3 or 4, size, size) in [0, 1] of an object through cameras; RGBA is premultiplied."""
    field = _at(model, field)
    diffrep = solid(field)
    # A decoder draws well only at the size that it was trained at.
    rendered = size if model.scale == 1 else max(model.size, -(-size // model.scale))
    draw = functools.partial(diffrep.through, field.params, height=rendered, width=rendered, tick=tick)
    with torch.no_grad():
        pictures = [model.decode(draw(cameras[i : i + 1])).cpu() for i in range(len(cameras))]
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
    field = _at(model, field)
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
        yield model.decode(near(height, width, (y, left, end - y, w)))[0].cpu()


def view_bands(
    field: Field, camera: Cameras, height: int, width: int, model: Model, crop: Crop | None = None
) -> Iterator[Tensor]:
    """The same for a radiance field through one camera. ValueError where the field has no cameras."""
    field = _at(model, field)
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

    Decoders look around and take means of what they see: tiles of latents overlap by MARGIN on every side, across the seams
    too where a picture is `closed`, and fade into each other there. They lie where they lie in the whole picture,
    so a part of it equals the same part of the whole.
    """
    top, left, h, w = crop or (0, 0, height, width)
    s = model.scale
    if s == 1:
        tall = max(1, (TILE if side is None else side**2) // w)
        for y in range(top, top + h, tall):
            yield model.decode(draw(height, width, (y, left, min(tall, top + h - y), w)))[0].cpu()
        return
    if closed[0]:  # what lies beyond the upper and the lower edge is drawn with the picture, and cut off
        draw, height, top = _beyond(draw), height + 2 * MARGIN * s, top + MARGIN * s
    rows, columns = -(-height // s), -(-width // s)
    edge = model.size if side is None else max(1, side // s)
    down, across = _Tiles(rows, edge, False, s), _Tiles(columns, edge, closed[1], s)

    def strip(row: int) -> Tensor:
        """A row of tiles as (C, rows with their margins, w), faded to the sides and not yet up and down."""
        a, b = down.span(row)
        faded = []
        for column in across.seen(left, left + w):
            c, d = across.span(column)
            tile = model.decode(draw(rows, columns, (a, c, b - a, d - c)))[0].cpu()
            faded.append((c * s - left, tile * across.weights(column).to(tile)))
        whole = faded[0][1].new_zeros(*faded[0][1].shape[:2], w)
        for place, tile in faded:
            for start in (place - columns * s, place, place + columns * s) if closed[1] else (place,):
                first, last = max(0, start), min(w, start + tile.shape[2])
                if first < last:
                    whole[:, :, first:last] += tile[:, :, first - start : last - start]
        return whole * down.weights(row)[:, None].to(whole)

    bottom, y = None, top  # what the tiles above leave to the ones below, and the first row that is not yet given
    for row in down.seen(top, top + h):
        band, start = strip(row), down.span(row)[0] * s
        if bottom is not None:
            band[:, : bottom.shape[1]] += bottom
        done = down.span(row + 1)[0] * s if row + 1 < down.count else start + band.shape[1]
        bottom = band[:, done - start :]
        end = min(done, top + h)
        if y < end:
            yield band[:, y - start : end - start]
            y = end


def _beyond(draw: Callable[[int, int, Crop], Tensor]) -> Callable[[int, int, Crop], Tensor]:
    """`draw` of a picture with MARGIN more rows of it above and below."""
    return lambda rows, columns, part: draw(rows - 2 * MARGIN, columns, (part[0] - MARGIN, *part[1:]))


@dataclass(frozen=True)
class _Tiles:
    """One side of a picture of `length` latents, cut evenly into tiles of `edge` at most; `closed`: its ends meet."""

    length: int
    edge: int
    closed: bool
    scale: int

    @property
    def count(self) -> int:
        return -(-self.length // self.edge)

    @property
    def reach(self) -> int:
        """Latents beyond its own that a tile fades over, as many within: no three tiles meet."""
        return min(FADE, self.length // self.count // 2)

    def span(self, i: int) -> tuple[int, int]:
        """The latents that a tile is decoded from, its margins with them."""
        low, high = (j * self.length // self.count for j in (i, i + 1))
        if self.closed:
            return low - MARGIN, high + MARGIN
        return max(0, low - MARGIN), min(self.length, high + MARGIN)

    def seen(self, first: int, last: int) -> list[int]:
        """The tiles that have a part in pixels `first` to `last`."""
        turns = (-self.length, 0, self.length) if self.closed else (0,)
        spans = [(i, *self.span(i)) for i in range(self.count)]
        return [
            i
            for i, a, b in spans
            if any((a + turn) * self.scale < last and (b + turn) * self.scale > first for turn in turns)
        ]

    def weights(self, i: int) -> Tensor:
        """How much each pixel of a tile counts: those of all tiles add up to 1 everywhere."""
        a, b = self.span(i)
        low, high = (j * self.length // self.count for j in (i, i + 1))
        place = torch.arange(a * self.scale, b * self.scale) + 0.5
        weights = torch.ones(len(place))
        if self.closed or i > 0:
            weights *= self._faded(place - low * self.scale)
        if self.closed or i + 1 < self.count:
            weights *= self._faded(high * self.scale - place)
        return weights

    def _faded(self, beyond: Tensor) -> Tensor:
        """From 0 to 1 along a quarter of a sine squared, pixels from `reach` before an edge to `reach` behind it."""
        part = (beyond / max(1, self.reach * self.scale)).clamp(-1, 1)
        return torch.sin(math.pi / 4 * (1 + part)) ** 2


def height_of(field: Field, width: int) -> int:
    """The height of a field's whole picture at a width, in proportion."""
    return max(1, round(width / flat(field).aspect))


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
