"""Display pictures of fields, at any size and from any side, drawn with memory for one tile at a time."""

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
from .types import AnySize, Model

TILE_PIXELS = 1 << 14
"""The number of pixels that are rendered at a time, which bounds the memory. Larger numbers are no faster on a CPU."""
INTERPOLATED_PIXELS = 1 << 20
"""Pictures of at least this number of pixels are interpolated."""
TOLERANCE = 2 / 512
"""The largest error of an interpolated signal, whose range is 2."""
MARGIN = 8
"""Width of the margin around a tile that is decoded with it, in latents."""
FADE = 6
"""Distance on either side of a tile's edge over which it fades into its neighbour, in latents."""


def flat(field: Field) -> Flat:
    """Return the representation of a flat field. Raise ValueError if the field is not flat."""
    if not isinstance(field.diffrep, Flat):
        raise ValueError("a 3D field is seen through cameras: give a view")
    return field.diffrep


def solid(field: Field, what: str = "sides", use: str = "is seen through cameras") -> Solid:
    """Return the representation of a field that is seen through cameras.

    Args:
        field: The field.
        what: For the error message: what other fields do not have.
        use: For the error message: what only 3D fields can do.

    Raises:
        ValueError: If the field has no cameras.
    """
    if not isinstance(field.diffrep, Solid):
        raise ValueError(f"this field has no {what}: only a 3D field {use}")
    return field.diffrep


def _on_device_of(model: Model, field: Field) -> Field:
    return field.to(getattr(model, "device", "cpu"))


def views_of(
    field: Field, cameras: Cameras, size: int, model: Model, tick: Callable[[], None] = lambda: None
) -> Tensor:
    """Render display pictures of an object.

    Args:
        field: The object.
        cameras: B cameras.
        size: Side of a picture in pixels.
        model: Decodes the signals.
        tick: Called often; it may raise to stop.

    Returns:
        RGB or premultiplied RGBA in [0, 1], (B, 3 or 4, size, size), on the CPU.
    """
    field = _on_device_of(model, field)
    diffrep = solid(field)
    # Decoders work well only at sizes that they were trained at, so small pictures are decoded large and then reduced.
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
    """Render a flat field from top to bottom, with memory for one band at a time.

    Args:
        field: The field.
        height: Height of the whole picture in pixels.
        width: Width of the whole picture.
        model: Decodes the signals.
        crop: The part (top, left, h, w) that is wanted, or None for all of it.
        tile: Side of a tile in pixels; by default what suits the model.
        exact: Compute every pixel. Otherwise large pictures are interpolated if the model works on pixels
            (`resample.py`), with an error of at most a 512th of the display range.

    Returns:
        Bands (3 or 4, rows, w) in [0, 1], RGBA premultiplied, on the CPU.

    Raises:
        ValueError: If the field is not flat.
    """
    field = _on_device_of(model, field)
    diffrep = flat(field)
    draw = functools.partial(diffrep.picture, field.params)
    if isinstance(model, AnySize) and not any(
        diffrep.closed
    ):  # the decoder draws any size from the signal at the size that was sampled
        with torch.no_grad():
            signal = field.diffrep(field.params)
        return model.any_size(signal, height, width, crop)
    if not exact and tile is None and model.scale == 1 and height * width >= INTERPOLATED_PIXELS:
        return _interpolated(draw, height, width, model, crop)
    return _decoded(draw, height, width, model, crop, diffrep.closed, tile)


@torch.no_grad()
def _interpolated(
    draw: Callable[[int, int, Crop], Tensor], height: int, width: int, model: Model, crop: Crop | None
) -> Iterator[Tensor]:
    """Yield the bands of a large picture, each a row of blocks."""
    top, left, h, w = crop or (0, 0, height, width)
    draw_fast = interpolated(draw, TOLERANCE)
    for block in range(top // BLOCK, -(-(top + h) // BLOCK)):
        y, end = max(top, block * BLOCK), min(top + h, (block + 1) * BLOCK)
        yield model.decode(draw_fast(height, width, (y, left, end - y, w)))[0].cpu()


def view_bands(
    field: Field, camera: Cameras, height: int, width: int, model: Model, crop: Crop | None = None
) -> Iterator[Tensor]:
    """Render an object through one camera from top to bottom. The other arguments and the result are as in `bands`."""
    field = _on_device_of(model, field)
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
    """Yield the bands of a picture whose signals are rendered by `draw`(height, width, crop) and decoded tile by tile.

    A decoded pixel depends on its surroundings, so tiles of latents overlap by MARGIN on every side, also across edges that
    are `closed`, and fade into each other. Tiles lie at fixed places of the whole picture, so that pixels do not depend on the
    crop that they are drawn in.
    """
    top, left, h, w = crop or (0, 0, height, width)
    s = model.scale
    if s == 1:
        rows_at_once = max(1, (TILE_PIXELS if side is None else side**2) // w)
        for y in range(top, top + h, rows_at_once):
            yield model.decode(draw(height, width, (y, left, min(rows_at_once, top + h - y), w)))[0].cpu()
        return
    if closed[0]:  # rows beyond the upper and the lower edge are drawn with the picture, and cut off afterwards
        draw, height, top = _with_margins(draw), height + 2 * MARGIN * s, top + MARGIN * s
    rows, columns = -(-height // s), -(-width // s)
    edge = model.size if side is None else max(1, side // s)
    down, across = _Tiles(rows, edge, False, s), _Tiles(columns, edge, closed[1], s)

    def strip(row: int) -> Tensor:
        """Return a row of tiles, (C, rows with margins, w), weighted for the fades on all sides."""
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

    bottom, y = None, top  # the lower margin of the row of tiles above, and the first row of pixels not yet yielded
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


def _with_margins(draw: Callable[[int, int, Crop], Tensor]) -> Callable[[int, int, Crop], Tensor]:
    """Return `draw` for a picture that is extended by MARGIN rows of latents above and below."""
    return lambda rows, columns, part: draw(rows - 2 * MARGIN, columns, (part[0] - MARGIN, *part[1:]))


@dataclass(frozen=True)
class _Tiles:
    """One side of a picture, cut evenly into tiles.

    Args:
        length: Length of the side in latents.
        edge: The largest length of a tile in latents.
        closed: Whether the two ends of the side join.
        scale: Pixels per latent.
    """

    length: int
    edge: int
    closed: bool
    scale: int

    @property
    def count(self) -> int:
        return -(-self.length // self.edge)

    @property
    def reach(self) -> int:
        """Distance on either side of an edge over which a tile fades, in latents, so small that no three tiles overlap."""
        return min(FADE, self.length // self.count // 2)

    def span(self, i: int) -> tuple[int, int]:
        """Return the first latent that a tile is decoded from, margins included, and the one after the last."""
        low, high = (j * self.length // self.count for j in (i, i + 1))
        if self.closed:
            return low - MARGIN, high + MARGIN
        return max(0, low - MARGIN), min(self.length, high + MARGIN)

    def seen(self, first: int, last: int) -> list[int]:
        """Return the tiles that contribute to the pixels from `first` up to `last`."""
        turns = (-self.length, 0, self.length) if self.closed else (0,)
        spans = [(i, *self.span(i)) for i in range(self.count)]
        return [
            i
            for i, a, b in spans
            if any((a + turn) * self.scale < last and (b + turn) * self.scale > first for turn in turns)
        ]

    def weights(self, i: int) -> Tensor:
        """Return the weight of each pixel of a tile. The weights of all tiles sum to 1 everywhere."""
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
        """Return a fade from 0 to 1 (sine squared) around an edge, at the distances `beyond` the edge in pixels."""
        part = (beyond / max(1, self.reach * self.scale)).clamp(-1, 1)
        return torch.sin(math.pi / 4 * (1 + part)) ** 2


def height_of(field: Field, width: int) -> int:
    """Return the height in pixels of a flat field's whole picture at a given width."""
    return max(1, round(width / flat(field).aspect))


def preview(field: Field, model: Model, size: int = 256) -> Tensor:
    """Render a small picture of a field quickly: display RGB (3, H, W), `size` pixels high (objects: size / 2)."""
    if isinstance(field.diffrep, Solid):
        return torch.cat(list(on_white(views_of(field, turntable(4), size // 2, model))), -1)
    return on_white(torch.cat(list(bands(field, size, round(size * flat(field).aspect), model)), -2))


def turntable_picture(field: Field, model: Model, size: int = 256, count: int = 8) -> Tensor:
    """Render an object from `count` sides, in two rows on white: display RGB (3, 2 size, count / 2 size)."""
    pictures = on_white(views_of(field, turntable(count), size, model))
    half = count // 2
    return torch.cat([torch.cat(list(pictures[:half]), -1), torch.cat(list(pictures[half:]), -1)], -2)


def on_white(pictures: Tensor) -> Tensor:
    """Composite premultiplied RGBA (..., 4, H, W) over white. RGB passes unchanged."""
    if pictures.shape[-3] == 3:
        return pictures
    return (pictures[..., :3, :, :] + 1 - pictures[..., 3:, :, :]).clamp(0, 1)
