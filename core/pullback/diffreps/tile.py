"""Tiles: a SIREN on the torus, whose picture repeats seamlessly in both directions.

The frequencies of the embedding are whole numbers of waves per tile, so that values and all derivatives agree at opposite
edges. Every step views the tile at a new random offset, and the noise shifts with it. Since the edges of the view move from
step to step, the model draws no seam.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from ..noise import Shift, TorusViews
from ..representation import Crop, Recipe, Setting, noise_range
from ..schema import Count, Depth, Positive, Seed, Size
from ..solvers import Muon, Residual
from ..types import Model, Params
from .siren import VIEW_SIZE, SirenRepresentation, network, signal_size
from .subsets import random_pixels


@dataclass(frozen=True)
class SirenTile(SirenRepresentation):
    """A square picture whose opposite edges join. Its views are `Shift`s.

    Args:
        channels, width, depth, embedding, bandwidth, seed: As in `SirenRepresentation`.
        size: Side of the view that is sampled, in pixels.
        pixels: Random pixels per pass of a fit.
    """

    channels: Count = 4
    size: Size = 64
    width: Count = 256
    depth: Depth = 3
    embedding: Count = 128
    bandwidth: Positive = 10.0
    pixels: Count = 4096
    seed: Seed = 0

    name = "siren-tile"
    title = "SIREN Tile"
    sentence = "A material that repeats without a seam, at any size: its opposite edges match."
    command = "tile"
    example = "clouds at noon"
    side = "size"
    least_wide = 1
    aspect = 1.0
    closed = True, True
    opaque = True

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        return VIEW_SIZE, *cls.network_settings()

    @classmethod
    def suited(cls, model: Model, **settings: Any) -> SirenTile:
        return cls(model.channels, signal_size(model, settings.get("view_size", 0)), **network(settings))

    def recipe(self, model: Model, views: int, seed: int, **settings: Any) -> Recipe:
        torus = TorusViews(self.channels, self.size)
        solver = Muon(hidden=self.hidden)
        return Recipe(self, torus, solver, noise_range(model, 0.03), 0.5, self.fit)

    def frequencies(self) -> Tensor:
        """Return whole numbers of waves per tile, times 2 pi, (embedding / 2, 2)."""
        return 2 * math.pi * torch.round(super().frequencies() / math.pi)

    def at(self, params: Params, places: Tensor) -> Tensor:
        """Return values (..., C) at places (..., 2): x to the right and y down, in units of the tile's side."""
        return self.embedded(params, torch.remainder(places, 1.0))

    def __call__(self, params: Params, view: Shift) -> Tensor:
        """Return the shifted tile, (1, C, size, size)."""
        return self.at(params, self.lookup(view)).permute(0, 3, 1, 2)

    def fit(
        self, params: Params, view: Shift, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        """Compare the field with a target (1, C, size, size) at random pixels. See `Fit`."""
        return random_pixels(self.at, self.lookup(view), target, self.pixels, generator, weights)

    def places(self, height: int, width: int, crop: Crop | None = None) -> Tensor:
        top, left, h, w = crop or (0, 0, height, width)
        y, x = (torch.arange(top, top + h) + 0.5) / height, (torch.arange(left, left + w) + 0.5) / width
        return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)

    def lookup(self, view: Shift) -> Tensor:
        moved = self.places(self.size, self.size, (view.rows, view.columns, self.size, self.size))
        return torch.remainder(moved, 1.0)[None]

    def canonical(self, params: Params) -> Tensor:
        return self.picture(params, self.size, self.size)
