"""Panoramas: SIRENs around the horizon (a cylinder) or over the whole sphere, which wrap around without a seam.

The cylinder (the panorama of DDRep, section 4.2) is a strip of `height` rows and `turn` columns that covers 360 degrees and is
seen in square crops. We make it wrap around with embedding frequencies that are whole numbers of waves per turn: values and all
derivatives agree at the two edges. The sphere, which is our addition, is a function of the direction as a unit vector and has
no edge; it is seen in perspective views from the centre.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from msgspec import Meta
from torch import Generator, Tensor

from ..fields.siren import gaussian_frequencies
from ..geometry.cameras import rays
from ..geometry.sphere import Headings, equirectangular, headings
from ..noise import CanvasViews, Crops
from ..representation import Crop, Recipe, Setting, noise_range
from ..schema import Count, Depth, Positive, Seed, Size
from ..solvers import Muon, Residual
from ..types import Model, Params
from ..viewpoints import SPHERE_FOV, outward_views
from .siren import VIEW_SIZE, SirenRepresentation, network, signal_size
from .subsets import random_pixels

AROUND = 8
"""Width of a full turn of a cylinder, in widths of a view."""


class Panorama(SirenRepresentation):
    """Base of the representations that the command `panorama` samples."""

    command = "panorama"
    option = "projection"
    views = 12
    example = "mountains at sunset"
    pixels_wide = 4096
    opaque: ClassVar[bool] = True
    closed: ClassVar[tuple[bool, bool]] = (False, True)


@dataclass(frozen=True)
class SirenCylinder(Panorama):
    """A strip of 360 degrees around the horizon. Its views are `Crops`.

    Args:
        channels, width, depth, embedding, bandwidth, seed: As in `SirenRepresentation`.
        height: Height of the strip, and side of a view, in pixels.
        turn: The number of pixel columns in 360 degrees, at least `height`.
        pixels: Random pixels per pass of a fit.

    Raises:
        ValueError: If the turn is narrower than one view.
    """

    channels: Count = 4
    height: Size = 64
    turn: Annotated[int, Meta(ge=1, le=1 << 17)] = 512
    width: Count = 256
    depth: Depth = 3
    embedding: Count = 192
    bandwidth: Positive = 18.0
    pixels: Annotated[int, Meta(ge=1, le=1 << 18)] = 8192
    seed: Seed = 0

    name = "siren-cylinder"
    title = "SIREN Panorama"
    sentence = "A strip all around, 8 times as wide as high, whose left edge is its right edge."
    choice = "cylinder"
    means = "a strip of 8:1"

    def __post_init__(self) -> None:
        if self.turn < self.height:
            raise ValueError(f"a turn of {self.turn} columns is less than one view of {self.height}: use more columns")

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        return VIEW_SIZE, *cls.network_settings()

    @classmethod
    def suited(cls, model: Model, **settings: Any) -> SirenCylinder:
        size = signal_size(model, settings.get("view_size", 0))
        return cls(model.channels, size, AROUND * size, **network(settings))

    def recipe(self, model: Model, views: int, seed: int, **settings: Any) -> Recipe:
        # The crops of a step cover the whole canvas, because a place that no crop sees would miss a noise level. They cover
        # it evenly, because where crops overlap, their mean is smoother than the model's pictures.
        once = -(-self.turn // self.height)
        canvas = CanvasViews(self.channels, self.height, self.turn, once * max(1, views // once))
        solver = Muon(2, 240, 3e-3, hidden=self.hidden)
        return Recipe(self, canvas, solver, noise_range(model, 0.05), 1.0, self.fit)

    @property
    def aspect(self) -> float:
        return self.turn // self.height

    def frequencies(self) -> Tensor:
        """Return frequencies (embedding / 2, 2): whole numbers of waves per turn, times 2 pi, and radians per unit of y."""
        waves = super().frequencies()
        around = torch.round(waves[:, 0] * (self.turn / self.height) / math.pi)
        return torch.stack([2 * math.pi * around, waves[:, 1]], -1)

    def at(self, params: Params, places: Tensor) -> Tensor:
        """Return values (..., C) at places (..., 2): the fraction u of the turn from the left edge, and y in [-1, 1], down."""
        coordinates = torch.stack([torch.remainder(places[..., 0], 1.0), places[..., 1]], -1)
        return self.embedded(params, coordinates)

    def __call__(self, params: Params, view: Crops) -> Tensor:
        """Return crops (B, C, height, height) of the strip."""
        return self.at(params, self.towards(view)).permute(0, 3, 1, 2)

    def canonical(self, params: Params) -> Tensor:
        return self(params, Crops(torch.arange(0, self.turn, self.height)))

    def lookup(self, view: Crops) -> Tensor:
        return self.towards(view) * torch.tensor((1.0, 0.5)) + torch.tensor((0.0, 0.5))

    def towards(self, view: Crops) -> Tensor:
        """Return the places of the crops' pixels, (B, height, height, 2), as in `at`."""
        columns = (view.column[:, None] + torch.arange(self.height)) % self.turn
        u = ((columns + 0.5) / self.turn)[:, None, :].expand(-1, self.height, -1)
        y = ((2 * torch.arange(self.height) + 1) / self.height - 1)[None, :, None].expand_as(u)
        return torch.stack([u, y], -1)

    def fit(
        self, params: Params, view: Crops, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        """Compare the field with targets (B, C, height, height) at random pixels. See `Fit`."""
        return random_pixels(self.at, self.towards(view), target, self.pixels, generator, weights)

    def places(self, height: int, width: int, crop: Crop | None = None) -> Tensor:
        top, left, h, w = crop or (0, 0, height, width)
        u = (torch.arange(left, left + w) + 0.5) / width
        y = (2 * torch.arange(top, top + h) + 1) / height - 1
        return torch.stack(torch.meshgrid(y, u, indexing="ij")[::-1], -1)


@dataclass(frozen=True)
class SirenSphere(Panorama):
    """A picture in all directions. Its views are `Headings`.

    Args:
        channels, width, depth, embedding, bandwidth, seed: As in `SirenRepresentation`.
        size: Side of a view in pixels.
        pixels: Random pixels per pass of a fit.
    """

    channels: Count = 4
    size: Size = 64
    width: Count = 256
    depth: Depth = 3
    embedding: Count = 192
    bandwidth: Positive = 18.0
    pixels: Annotated[int, Meta(ge=1, le=1 << 18)] = 4096
    seed: Seed = 0

    name = "siren-sphere"
    title = "SIREN Panorama"
    sentence = "A picture all around that closes by construction: its left edge is its right edge."
    choice = "sphere"
    means = "every direction, 2:1 equirectangular"
    aspect = 2.0

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        help = "Vertical angle of one view in degrees (sphere only)."
        fov = Setting("fov", math.degrees(SPHERE_FOV), help, 20.0, 120.0, 1.0, "degrees")
        return VIEW_SIZE, fov, *cls.network_settings()

    @classmethod
    def suited(cls, model: Model, **settings: Any) -> SirenSphere:
        return cls(model.channels, signal_size(model, settings.get("view_size", 0)), **network(settings))

    def recipe(self, model: Model, views: int, seed: int, **settings: Any) -> Recipe:
        fov = math.radians(settings["fov"]) if "fov" in settings else SPHERE_FOV
        some, everywhere = outward_views((self.channels, self.size), views, fov)
        solver = Muon(3, 160, 3e-3, hidden=self.hidden)
        return Recipe(self, some, solver, noise_range(model, 0.05), 1.0, self.fit, everywhere)

    def frequencies(self) -> Tensor:
        """Return random frequencies (embedding / 2, 3)."""
        return gaussian_frequencies(self.embedding // 2, 3, self.bandwidth, self.seed)

    def at(self, params: Params, directions: Tensor) -> Tensor:
        """Return values (..., C) in unit directions (..., 3)."""
        return self.embedded(params, directions)

    def __call__(self, params: Params, view: Headings) -> Tensor:
        """Return perspective views (B, C, size, size)."""
        return self.at(params, rays(view.cameras, self.size, self.size)[1]).permute(0, 3, 1, 2)

    def fit(
        self, params: Params, view: Headings, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        """Compare the field with targets (B, C, size, size) at random pixels. See `Fit`."""
        places = rays(view.cameras, *target.shape[-2:])[1]
        return random_pixels(self.at, places, target, self.pixels, generator, weights)

    def places(self, height: int, width: int, crop: Crop | None = None) -> Tensor:
        return equirectangular(height, width, crop)

    def lookup(self, view: Headings) -> Tensor:
        x, y, z = rays(view.cameras, self.size, self.size)[1].unbind(-1)
        return torch.stack([0.5 - torch.atan2(y, x) / (2 * math.pi), 0.5 - torch.asin(z) / math.pi], -1)

    def canonical(self, params: Params) -> Tensor:
        quarters = torch.arange(4) * (math.pi / 2)
        return self(params, headings(-quarters, torch.zeros(4), math.pi / 2))
