"""A representation of another package: a picture made of a few cosines, in every door without an edit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from msgspec import Meta
from pullback.diffreps.image import pixel_centres
from pullback.noise import FixedViews
from pullback.representation import Recipe, Representation, Setting, noise_range, of_field
from pullback.solvers import Adam
from torch import Generator, Tensor


@dataclass(frozen=True)
class Cosines(Representation):
    """Coefficients (1, C, waves, waves) of cos(pi k (x + 1) / 2) cos(pi l (y + 1) / 2). Linear, so solved in one step."""

    channels: int = 4
    size: int = 64
    waves: Annotated[int, Meta(ge=1, le=64)] = 12

    name = "cosines"
    title = "Cosines"
    sentence = "A soft picture of a few cosines."
    command = "cosines"
    side = "size"
    aspect, closed, opaque, linear = 1.0, (False, False), True, True

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        return (of_field(cls, "waves", "Cosines along each side."),)

    @classmethod
    def suited(cls, model: Any, **settings: Any) -> Cosines:
        return cls(model.channels, model.size, **settings)

    def recipe(self, model: Any, views: int, seed: int, **settings: Any) -> Recipe:
        only = FixedViews(None, (1, self.channels, self.size, self.size))
        return Recipe(self, only, Adam(), noise_range(model, 0.05), 1.0)

    def init(self, generator: Generator) -> dict[str, Tensor]:
        return {"a": torch.zeros(1, self.channels, self.waves, self.waves)}

    def __call__(self, params: dict[str, Tensor], view: object = None) -> Tensor:
        return self.picture(params, self.size, self.size)

    canonical = __call__

    def at(self, params: dict[str, Tensor], places: Tensor) -> Tensor:
        x, y = (torch.cos(math.pi / 2 * (places[..., k, None] + 1) * torch.arange(self.waves)) for k in (0, 1))
        return torch.einsum("...k,...l,clk->...c", x, y, params["a"][0])

    def picture(self, params: dict[str, Tensor], height: int, width: int, crop: Any = None) -> Tensor:
        return self.at(params, pixel_centres(height, width, crop)).permute(2, 0, 1)[None]
