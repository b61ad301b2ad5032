"""Subsets: the random part of a fitting problem that one field pass looks at, so that a pass costs the same at any size."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from ..render.splats import Tiles
from ..solvers import Residual
from ..types import Params

TILE = 4
"""Pixels of the side of a tile."""


def chosen(total: int, count: int, chances: Tensor | None, generator: Generator) -> Tensor:
    """`count` random indices below `total`, with replacement; `chances` (total,) are how likely each is, None: equally."""
    if chances is None:
        return torch.randint(total, (count,), generator=generator)
    return torch.multinomial(chances, count, replacement=True, generator=generator)


def random_pixels(
    at: Callable[[Params, Tensor], Tensor],
    coordinates: Tensor,
    target: Tensor,
    count: int,
    generator: Generator,
    weights: Tensor | None = None,
) -> Residual:
    """Compare a field with targets in new random pixels at every pass.

    Args:
        at: (theta, coordinates (..., D)) to values (..., C).
        coordinates: (B, H, W, D) of the targets' pixels.
        target: (B, C, H, W).
        count: pixels per pass, at most as many as there are.
        generator: draws the pixels.
        weights: (B,) of mean 1, how much a view counts: so much oftener its pixels are drawn.
    """
    chances = None if weights is None else weights.repeat_interleave(coordinates[0, ..., 0].numel())
    places, wanted = coordinates.flatten(0, 2).to(target.device), target.permute(0, 2, 3, 1).flatten(0, 2)

    def residual(theta: Params) -> Tensor:
        pick = chosen(len(places), min(count, len(places)), chances, generator).to(target.device)
        return at(theta, places[pick]) - wanted[pick]

    return residual


def random_tiles(
    draw: Callable[[Params, Tiles], Tensor],
    target: Tensor,
    count: int,
    generator: Generator,
    weights: Tensor | None = None,
) -> Residual:
    """Compare with targets in new random tiles at every pass, of at most TILE x TILE pixels.

    draw: (theta, tiles) to their signals (T, side^2, C). count: pixels per pass. The rest as in `random_pixels`.
    """
    height, width = target.shape[-2:]
    side = math.gcd(TILE, height, width)
    rows, columns, wanted = height // side, width // side, target.permute(0, 2, 3, 1)
    chances = None if weights is None else weights.repeat_interleave(rows * columns)

    def residual(theta: Params) -> Tensor:
        number = max(1, count // side**2)
        pick = chosen(len(target) * rows * columns, number, chances, generator).to(target.device)
        places = pick // columns % rows * side, pick % columns * side
        tiles = Tiles(pick // (rows * columns), *places, side)
        return draw(theta, tiles) - tiles.of(wanted)

    return residual
