"""Random subsets of a fitting problem, so that a pass costs the same for pictures of any size."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from ..render.splats import Tiles
from ..solvers import Residual
from ..types import Params

TILE = 4
"""The largest side of a tile, in pixels."""


def chosen(total: int, count: int, chances: Tensor | None, generator: Generator) -> Tensor:
    """Draw random indices with replacement.

    Args:
        total: The number of indices to draw from.
        count: How many to draw.
        chances: The relative probability of each index, (total,). None makes all equally likely.
        generator: Draws the indices, on the CPU.
    """
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
    """Compare a field with targets at new random pixels in every pass.

    Args:
        at: Maps (theta, coordinates (..., D)) to values (..., C).
        coordinates: The coordinates of the targets' pixels, (B, H, W, D).
        target: The targets, (B, C, H, W).
        count: Pixels per pass; if there are fewer, all of them are used.
        generator: Draws the pixels.
        weights: The weight of each view, (B,) with mean 1. The probability of a pixel is proportional to its view's weight.

    Returns:
        The function theta -> at(theta, pixels) - target, (count, C).
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
    """Compare a field with targets on new random tiles, of at most TILE x TILE pixels, in every pass.

    Args:
        draw: Maps (theta, T tiles) to their signals (T, side^2, C).
        target: The targets, (B, C, H, W).
        count: Pixels per pass.
        generator: Draws the tiles.
        weights: The weight of each view, (B,) with mean 1. The probability of a tile is proportional to its view's weight.

    Returns:
        The function theta -> draw(theta, tiles) - target, (T, side^2, C).
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
