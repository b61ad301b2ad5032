"""Orders in which the pixels of a picture are generated.

An order is a permutation (H W,) of the pixels, as int64; pixel number `row * W + column`. The first is generated first.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_cdt
from torch import Generator, Tensor

ORIENTATIONS = 8
"""S-curves of a picture: flipped or not in two directions, and along rows or columns."""
S_CURVES = tuple(f"s-curve-{n}" for n in range(ORIENTATIONS))
NAMES = ("raster", "hilbert", *S_CURVES)
"""The orders that `named` knows."""
MAX_CONTEXT = "max-context"
"""The order that `max_context` makes for a picture."""


def raster(height: int, width: int) -> Tensor:
    """Return the order of reading: rows from the top, each from the left."""
    return torch.arange(height * width)


def s_curve(height: int, width: int, orientation: int = 0) -> Tensor:
    """Return an order in which every pixel is a neighbour of the one before: rows in turn from the left and from the right.

    Args:
        height: Height of the picture in pixels.
        width: Width of the picture.
        orientation: 0 to 7, a sum of: 1 to start at the right, 2 to start at the bottom, 4 to go along columns.
    """
    grid = raster(height, width).reshape(height, width)
    if orientation & 1:
        grid = grid.flip(1)
    if orientation & 2:
        grid = grid.flip(0)
    if orientation & 4:
        grid = grid.T
    grid = grid.clone()
    grid[1::2] = grid[1::2].flip(1)
    return grid.flatten()


def hilbert(height: int, width: int) -> Tensor:
    """Return the order of a Hilbert curve, generalised to rectangles by splitting them into unequal halves.

    Every pixel is a neighbour of the one before. For some sizes with an odd side, one of the steps is diagonal.
    """
    path: list[tuple[int, int]] = []
    along, across = ((0, width), (height, 0)) if width >= height else ((height, 0), (0, width))
    _hilbert((0, 0), along, across, path)
    return torch.tensor([row * width + column for row, column in path])


def random(height: int, width: int, generator: Generator) -> Tensor:
    """Return a uniformly random order."""
    return torch.randperm(height * width, generator=generator)


def max_context(known: Tensor) -> Tensor:
    """Return the order that completes a picture: known pixels first, then the others by their distance from those.

    So every pixel has one next to it, across an edge or a corner, that was there before it. Among pixels of the same distance,
    and among the known ones, it follows the S-curve that leads away from the known pixels most directly. Where a half of the
    picture is missing, the order is that S-curve, as in the paper.

    Args:
        known: True where the picture is known, (H, W).

    Raises:
        ValueError: If no pixel is known.
    """
    if not known.any():
        raise ValueError("no pixel is known: an order cannot begin near known ones")
    height, width = known.shape
    distance = torch.from_numpy(distance_transform_cdt(~known.cpu().numpy(), "chessboard").astype(np.int64)).flatten()
    curves = [s_curve(height, width, n) for n in range(ORIENTATIONS)]
    best = max(curves, key=lambda curve: int((ranks(curve) * distance).sum()))
    return best[distance[best].argsort(stable=True)]


def completing(known: Tensor, name: str = MAX_CONTEXT) -> Tensor:
    """Return an order that completes a picture: known pixels first, then the others as a named order has them.

    Args:
        known: True where the picture is known, (H, W).
        name: "max-context" (`max_context`), or one of `NAMES`.

    Raises:
        ValueError: If there is no such order, or no pixel is known.
    """
    if name == MAX_CONTEXT:
        return max_context(known)
    if name not in NAMES:
        raise ValueError(f"there is no order {name!r}: choose one of {MAX_CONTEXT}, {', '.join(NAMES)}")
    curve = named(name, *known.shape)
    return curve[(~known.flatten())[curve].long().argsort(stable=True)]


def named(name: str, height: int, width: int) -> Tensor:
    """Return an order by its name.

    Raises:
        ValueError: If the name is not one of `NAMES`.
    """
    if name in S_CURVES:
        return s_curve(height, width, S_CURVES.index(name))
    if name not in NAMES:
        raise ValueError(f"there is no order {name!r}: choose one of {', '.join(NAMES)}")
    return raster(height, width) if name == "raster" else hilbert(height, width)


def ranks(order: Tensor) -> Tensor:
    """Return the inverse of an order: which place (H W,) every pixel has in it."""
    places = torch.empty_like(order)
    places[order] = torch.arange(len(order), device=order.device)
    return places


Vector = tuple[int, int]


def _hilbert(corner: Vector, along: Vector, across: Vector, path: list[Vector]) -> None:
    """Append the curve of a rectangle, which runs from `corner` to the end of its side `along`."""
    length, breadth = abs(sum(along)), abs(sum(across))
    if min(length, breadth) == 1:
        side = along if breadth == 1 else across
        step = (_sign(side[0]), _sign(side[1]))
        path.extend(_moved(corner, step, n) for n in range(max(length, breadth)))
        return
    half = _half(along, even=2 * length > 3 * breadth or length > 2)
    rest = _moved(along, half, -1)
    if 2 * length > 3 * breadth:
        _hilbert(corner, half, across, path)
        _hilbert(_moved(corner, half), rest, across, path)
        return
    near = _half(across, even=breadth > 2)
    _hilbert(corner, near, half, path)
    _hilbert(_moved(corner, near), along, _moved(across, near, -1), path)
    last = _moved(_moved(corner, along), (_sign(along[0]), _sign(along[1])), -1)
    last = _moved(_moved(last, near), (_sign(across[0]), _sign(across[1])), -1)
    _hilbert(last, (-near[0], -near[1]), (-rest[0], -rest[1]), path)


def _half(side: Vector, even: bool) -> Vector:
    """Half of a side; rounded up to an even length if asked, so that a curve can return at its end."""
    length = abs(sum(side)) // 2
    length += even and length % 2
    return _sign(side[0]) * length, _sign(side[1]) * length


def _moved(place: Vector, by: Vector, times: int = 1) -> Vector:
    return place[0] + times * by[0], place[1] + times * by[1]


def _sign(value: int) -> int:
    return (value > 0) - (value < 0)
