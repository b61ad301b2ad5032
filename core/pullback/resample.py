"""Large pictures of smooth fields, interpolated between a small number of exact values.

A field that was sampled through pictures of 64 pixels is smooth at the scale of a 4096-pixel picture. The picture is cut into
blocks at fixed places, whichever part of it is drawn. Each block is interpolated from the exact pixels of a picture that is 2,
4, 8, ... times smaller, by Lagrange polynomials through six values along rows and columns.

The spacing of the exact values is the widest one that passes two checks. First, the interpolation error must be small; it is
estimated as 5/1024 of the sixth differences of the values, which is the error in the middle of an interval. Second, the block
must agree with exact values along part of its middle row and column, which also finds detail that is too fine for the spacing.
If no spacing passes, every pixel is computed.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Tensor

Crop = tuple[int, int, int, int]
"""A part of a picture in pixels: top, left, height, width."""
Draw = Callable[[int, int, Crop], Tensor]
"""Maps (height, width, crop) to a part (1, C, h, w) of a picture of any size. Crops may extend beyond its edges."""

BLOCK = 256
"""Side of a block, in pixels."""
CHECKED = 64
"""Length of the part of the middle row and column that is compared with exact values, in pixels."""
WIDEST = 64
"""The widest spacing between exact values, in pixels."""
REACH = 2
"""The number of exact values that a polynomial uses beyond each end of its interval."""


def interpolated(draw: Draw, tolerance: float) -> Draw:
    """Return a fast approximation of `draw`. Its pixels do not depend on the crop that they are drawn in.

    Args:
        draw: Draws exact pictures.
        tolerance: The largest error of a value, in the units of `draw`.
    """

    def drawn(height: int, width: int, crop: Crop) -> Tensor:
        top, left, h, w = crop
        rows = []
        for y in range(top // BLOCK, -(-(top + h) // BLOCK)):
            blocks = [
                _part(_block(draw, tolerance, height, width, y, x), crop, y, x)
                for x in range(left // BLOCK, -(-(left + w) // BLOCK))
            ]
            rows.append(torch.cat(blocks, -1))
        return torch.cat(rows, -2)

    return drawn


def _part(block: Tensor, crop: Crop, y: int, x: int) -> Tensor:
    """Return the part of block (y, x) that lies within a crop."""
    top, left, h, w = crop
    a, b = max(0, top - y * BLOCK), min(BLOCK, top + h - y * BLOCK)
    c, d = max(0, left - x * BLOCK), min(BLOCK, left + w - x * BLOCK)
    return block[..., a:b, c:d]


def _block(draw: Draw, tolerance: float, height: int, width: int, y: int, x: int) -> Tensor:
    """Return block (y, x) of the picture, (1, C, BLOCK, BLOCK).

    A block that is not interpolated ends at the lower and right edges of the picture, and may therefore be smaller.
    """
    top, left = y * BLOCK, x * BLOCK
    spacing = math.gcd(height, width, WIDEST)
    while spacing > 1:
        values = draw(height // spacing, width // spacing, _nodes(top, left, spacing))
        if _differences(values) <= tolerance:
            block = _between(values, spacing)
            if _error(draw, block, height, width, top, left) <= tolerance / 2:
                return block
        spacing //= 2
    return draw(height, width, (top, left, min(BLOCK, height - top), min(BLOCK, width - left)))


def _error(draw: Draw, block: Tensor, height: int, width: int, top: int, left: int) -> float:
    """Return the largest error of a block along the checked part of its middle row and column."""
    middle, part = BLOCK // 2, slice((BLOCK - CHECKED) // 2, (BLOCK + CHECKED) // 2)
    row = draw(height, width, (top + middle, left + part.start, 1, CHECKED))
    column = draw(height, width, (top + part.start, left + middle, CHECKED, 1))
    errors = block[..., middle : middle + 1, part] - row, block[..., part, middle : middle + 1] - column
    return max(float(error.abs().max()) for error in errors)


def _nodes(top: int, left: int, spacing: int) -> Crop:
    """Return the part of the smaller picture that a block is interpolated from."""
    side = BLOCK // spacing + 2 * REACH + 2
    return top // spacing - REACH - 1, left // spacing - REACH - 1, side, side


def _differences(values: Tensor) -> float:
    """Return the interpolation error, estimated from sixth differences of the values along rows and columns.

    Interpolating along the columns multiplies the error along the rows by at most 1.5.
    """
    along = [values.diff(n=6, dim=axis).abs().max().item() for axis in (-1, -2)]
    return 1.5 * 5 / 1024 * sum(along)


def _between(values: Tensor, spacing: int) -> Tensor:
    """Return a block (1, C, BLOCK, BLOCK) that is interpolated between exact values."""
    weights = _weights(spacing).to(values)
    return weights @ values @ weights.T


@functools.lru_cache(maxsize=8)
def _weights(spacing: int) -> Tensor:
    """Return the Lagrange weights of the six values around each pixel centre of a block, (BLOCK, values)."""
    side = BLOCK // spacing + 2 * REACH + 2
    # The position of each pixel centre, as a fractional index of the exact values
    place = (torch.arange(BLOCK, dtype=torch.float64) + 0.5) / spacing - 0.5 + REACH + 1
    first = place.floor().long() - REACH
    weights = torch.zeros(BLOCK, side, dtype=torch.float64)
    for i in range(6):
        others = [k for k in range(6) if k != i]
        weight = torch.stack([(place - first - k) / (i - k) for k in others]).prod(0)
        weights[torch.arange(BLOCK), first + i] = weight
    return weights.float()
