"""Resample: large pictures of smooth fields, from few exact values and the interpolation between them.

A field that was sampled through pictures of 64 pixels is smooth on the scale of a 4096-pixel picture. A picture is cut
into blocks whose places do not depend on what part of it is wanted. Each is drawn from the pixel centres of a picture
that is 2, 4, 8, ... times smaller, by polynomials through six values along rows and columns (Lagrange). The spacing is the
widest whose error is shown to be small enough, in two ways: by the sixth differences of the values, of which the error of
such a polynomial in the middle of its interval is 5/1024, and by comparison with exact values along a part of the block's
middle row and column, which also finds what is too fine for the spacing to see. Where no spacing is good enough, every
pixel is computed.
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
"""(height, width, crop) -> (1, C, h, w): part of a picture of any size. Crops may reach over its edges."""

BLOCK = 256
"""Side of a block in pixels."""
CHECKED = 64
"""Pixels of its middle row and column at which a block is compared with exact values."""
WIDEST = 64
"""Pixels between two values, at most."""
REACH = 2
"""Values beyond the interval on either side that a polynomial needs."""


def interpolated(draw: Draw, tolerance: float) -> Draw:
    """`draw` within `tolerance`, at a small part of its cost where what it draws is smooth.

    A part of a picture equals the same part of the whole, as it does for `draw`.

    Args:
        draw: the exact picture.
        tolerance: the greatest error of a value, in the units of `draw`.
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
    """What a crop wants of the block (y, x)."""
    top, left, h, w = crop
    a, b = max(0, top - y * BLOCK), min(BLOCK, top + h - y * BLOCK)
    c, d = max(0, left - x * BLOCK), min(BLOCK, left + w - x * BLOCK)
    return block[..., a:b, c:d]


def _block(draw: Draw, tolerance: float, height: int, width: int, y: int, x: int) -> Tensor:
    """(1, C, BLOCK, BLOCK) of the picture, from pixel (y, x) BLOCK on."""
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
    """The greatest error of a block in the middle of its middle row and column."""
    middle, part = BLOCK // 2, slice((BLOCK - CHECKED) // 2, (BLOCK + CHECKED) // 2)
    row = draw(height, width, (top + middle, left + part.start, 1, CHECKED))
    column = draw(height, width, (top + part.start, left + middle, CHECKED, 1))
    errors = block[..., middle : middle + 1, part] - row, block[..., part, middle : middle + 1] - column
    return max(float(error.abs().max()) for error in errors)


def _nodes(top: int, left: int, spacing: int) -> Crop:
    """The part of the smaller picture that a block is drawn from."""
    side = BLOCK // spacing + 2 * REACH + 2
    return top // spacing - REACH - 1, left // spacing - REACH - 1, side, side


def _differences(values: Tensor) -> float:
    """The error of polynomials through six values, estimated by their sixth differences, rows and columns together.

    Interpolating a second time along the columns enlarges what was missed along the rows by 1.5 at most.
    """
    along = [values.diff(n=6, dim=axis).abs().max().item() for axis in (-1, -2)]
    return 1.5 * 5 / 1024 * sum(along)


def _between(values: Tensor, spacing: int) -> Tensor:
    weights = _weights(spacing).to(values)
    return weights @ values @ weights.T


@functools.lru_cache(maxsize=8)
def _weights(spacing: int) -> Tensor:
    """(BLOCK, nodes) Lagrange weights of the six values around each pixel centre of a block."""
    side = BLOCK // spacing + 2 * REACH + 2
    place = (torch.arange(BLOCK, dtype=torch.float64) + 0.5) / spacing - 0.5 + REACH + 1  # in values from the first
    first = place.floor().long() - REACH
    weights = torch.zeros(BLOCK, side, dtype=torch.float64)
    for i in range(6):
        others = [k for k in range(6) if k != i]
        weight = torch.stack([(place - first - k) / (i - k) for k in others]).prod(0)
        weights[torch.arange(BLOCK), first + i] = weight
    return weights.float()
