"""Images, which have a single view: a grid of pixels (the identity), and a SIREN over the plane.

Coordinates span [-1, 1] along the shorter side of the picture. The centre of pixel i, counted from 0, lies i + 1/2 pixels from
the edge. Signals are (1, C, H, W).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from ..noise import FixedViews
from ..representation import Crop, Recipe, Setting, noise_range
from ..schema import Count, Depth, Positive, Seed, Size
from ..solvers import Muon, Residual
from ..types import Model, Params
from .siren import SirenRepresentation, network, signal_size, view_size
from .subsets import random_pixels


@dataclass(frozen=True)
class PixelGrid:
    """The identity: theta is the picture, so that pulled-back sampling is image-space sampling.

    Args:
        shape: The shape of the picture, (1, C, H, W).
    """

    shape: tuple[int, int, int, int]
    linear: ClassVar[bool] = True

    def init(self, generator: Generator) -> Params:
        """Return zeros."""
        return {"pixels": torch.zeros(self.shape)}

    def __call__(self, params: Params, view: object = None) -> Tensor:
        return params["pixels"]

    def canonical(self, params: Params) -> Tensor:
        """Return the pixels."""
        return params["pixels"]

    def lookup(self, view: object) -> None:
        """Return None: the one view is the whole picture."""

    @property
    def aspect(self) -> float:
        """Width divided by height."""
        return self.shape[3] / self.shape[2]


def pixel_centres(height: int, width: int, crop: Crop | None = None) -> Tensor:
    """Return the coordinates (x right, y down) of the pixel centres of a picture, or of a part of it, (h, w, 2).

    Args:
        height: Height of the whole picture in pixels.
        width: Width of the whole picture.
        crop: The part (top, left, h, w), which may extend beyond the picture, or None for all of it.

    Example:
        >>> pixel_centres(1, 2)
        tensor([[[-1.,  0.],
                 [ 1.,  0.]]])
    """
    top, left, h, w = crop or (0, 0, height, width)
    half = min(height, width) / 2
    y = (torch.arange(top, top + h) + 0.5 - height / 2) / half
    x = (torch.arange(left, left + w) + 0.5 - width / 2) / half
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], dim=-1)


@dataclass(frozen=True)
class SirenImage(SirenRepresentation):
    """A SIREN over the plane: an image without a resolution. The default sizes are those of DDRep, section 4.1.

    Args:
        channels, width, depth, embedding, bandwidth, seed: As in `SirenRepresentation`.
        size: Height and width of the view that is sampled, in pixels.

    Attributes:
        pixels: Random pixels per pass of a fit that does not use all pixels.
    """

    channels: Count = 4
    size: tuple[Size, Size] = (64, 64)
    width: Count = 256
    depth: Depth = 3
    embedding: Count = 128
    bandwidth: Positive = 10.0
    seed: Seed = 0
    pixels: ClassVar[int] = 1024

    name = "siren-image"
    title = "SIREN Image"
    sentence = "An image without a resolution: a small network from places to colours, decoded later at any size."
    command = "image"
    guidance = 3.0
    example = "a blue fish"
    side = "size"
    least_wide = 1
    closed = False, False
    opaque = False

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        what = "in pixels of the view that the model sees."
        width = view_size("view_width", f"Width {what}", "width")
        return width, view_size("view_height", f"Height {what}", "height"), *cls.network_settings()

    @classmethod
    def suited(cls, model: Model, **settings: Any) -> SirenImage:
        height, width = (signal_size(model, settings.get(f"view_{side}", 0)) for side in ("height", "width"))
        return cls(model.channels, (height, width), **network(settings))

    def recipe(self, model: Model, views: int, seed: int, **settings: Any) -> Recipe:
        only = FixedViews(None, (1, self.channels, *self.size))
        return Recipe(self, only, Muon(hidden=self.hidden), noise_range(model, 0.03, self.size), 1.0)

    def brief(self, recipe: Recipe) -> Recipe:
        """Return a recipe that fits random pixels, so that a pass costs the same for latents of any size."""
        return replace(recipe, solver=Muon(last_steps=60, hidden=self.hidden), fit=self.fit)

    @property
    def aspect(self) -> float:
        return self.size[1] / self.size[0]

    def canonical(self, params: Params) -> Tensor:
        return self(params)

    def places(self, height: int, width: int, crop: Crop | None = None) -> Tensor:
        return pixel_centres(height, width, crop)

    def lookup(self, view: object) -> None:
        """Return None: the one view is the whole picture."""

    def at(self, params: Params, places: Tensor) -> Tensor:
        """Return values (..., C) at places (..., 2), in the coordinates of `pixel_centres`."""
        return self.embedded(params, places)

    def fit(
        self, params: Params, view: object, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        """Compare the field with a target (1, C, *size) at random pixels, which is faster and less exact than at all pixels."""
        return random_pixels(self.at, pixel_centres(*self.size)[None], target, self.pixels, generator, weights)

    def __call__(self, params: Params, view: object = None) -> Tensor:
        """Return the one view, (1, C, *size)."""
        return self.picture(params, *self.size)
