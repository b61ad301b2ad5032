"""Splats: an object made of 3D Gaussians, theta, cameras -> pictures (B, C, H, W), after Kerbl et al. 2023.

The three kinds of signal are those of `radiance.py`. The number of Gaussians stays. None is thinner than half a pixel of
the views that it is fitted to: larger pictures have no holes (cf. the 3D filter of Yu et al. 2024).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Generator, Tensor

from ..fields.gaussians import Gaussians, cloud, density
from ..geometry.cameras import DISTANCE, FOV, Cameras, rays, turntable
from ..pull import whole_view
from ..render import splats
from ..render.ply import write_ply
from ..representation import Crop, Recipe, Setting, noise_range, of_field
from ..schema import Count, Size
from ..solvers import Adam, Residual
from ..types import Model, Params
from .radiance import Elevation, Object, signal_kind
from .siren import VIEW_SIZE, signal_size
from .subsets import random_tiles

RATES = {"mean": 4e-3, "scale": 0.02, "rotation": 0.02, "opacity": 0.1, "colour": 0.05, "background": 0.01}
Tick = Callable[[], None]


@dataclass(frozen=True)
class GaussianSplats(Object):
    """3D Gaussians. size, elevations: as in `VoxelRadiance`. pixels: in random tiles, per pass of a fit."""

    kind: str = "rgba"
    channels: Count = 4
    size: Size = 64
    gaussians: Annotated[int, Meta(ge=1, le=1 << 20)] = 2048
    pixels: Annotated[int, Meta(ge=1, le=1 << 18)] = 4096
    elevations: tuple[Elevation, Elevation] = (-90.0, 90.0)

    name = "gaussian-splats"
    title = "Gaussian Splats"
    sentence = "A 3D object made of Gaussians that fade into each other, seen through cameras that move around it."
    choice = "splats"
    means = "Gaussians, also for a .ply file"
    suffix = ".ply"

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        many = of_field(cls, "gaussians", "How many Gaussians the object is made of.", low=64, high=65536, step=64)
        return many, VIEW_SIZE, *cls.camera_settings()

    @classmethod
    def suited(cls, model: Model, **settings: Any) -> GaussianSplats:
        size, many = signal_size(model, settings.get("view_size", 0)), settings.get("gaussians", cls.gaussians)
        return cls(signal_kind(model), model.channels, size, many, elevations=cls.elevations_of(model, settings))

    def recipe(self, model: Model, views: int, seed: int, **settings: Any) -> Recipe:
        (some, more), sigma = self.seen_through(views, seed, settings), noise_range(model, 0.05)
        return Recipe(self, some, Adam(20, 60, RATES, (0.9, 0.95), last_rate=0.25), sigma, 1.0, self.fit, more)

    def init(self, generator: Generator) -> Params:
        colours = torch.zeros(self.gaussians, self.channels - (self.kind == "rgba"))
        return cloud(self.gaussians, generator) | {"colour": colours} | self.beyond()

    def shaped(self, params: Params) -> Gaussians:
        """The Gaussians that the parameters stand for."""
        scale = (torch.exp(2 * params["scale"]) + (math.tan(FOV / 2) * DISTANCE / self.size) ** 2).sqrt()
        opacity, colour = torch.sigmoid(params["opacity"]), self.emitted(params["colour"])
        return Gaussians(params["mean"], scale, params["rotation"], opacity, colour)

    def __call__(self, params: Params, cameras: Cameras) -> Tensor:
        return self.through(params, cameras, self.size, self.size)

    def canonical(self, params: Params) -> Tensor:
        return self(params, turntable(4))

    # fmt: off
    def through(self, params: Params, cameras: Cameras, height: int, width: int, crop: Crop | None = None,
                tick: Tick = lambda: None) -> Tensor:
        cameras = cameras.to(params["mean"])
        seen = splats.picture(self.shaped(params), cameras, height, width, crop, tick).permute(0, 2, 3, 1)
        return self.composed(params, seen, rays(cameras, height, width, crop)[1]).permute(0, 3, 1, 2)

    def opacity(self, params: Params, cameras: Cameras, height: int, width: int, tick: Tick = lambda: None) -> Tensor:
        return splats.picture(self.shaped(params), cameras.to(params["mean"]), height, width, None, tick)[:, -1:]

    def depth(self, params: Params, cameras: Cameras, height: int, width: int, tick: Tick = lambda: None) -> Tensor:
        return splats.depth(self.shaped(params), cameras.to(params["mean"]), height, width, tick)
    # fmt: on

    def density(self, params: Params, points: Tensor) -> Tensor:
        return density(self.shaped(params), points)

    def fit(
        self, params: Params, cameras: Cameras, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        """Compare with targets (B, C, H, W) in new random tiles at every pass, drawn by the `weights` of their views."""
        if splats.fast(target.device):
            return whole_view(self)(params, cameras, target, generator, weights)
        cameras, (height, width) = cameras.to(target), target.shape[-2:]
        directions = rays(cameras, height, width)[1]

        def draw(theta: Params, tiles: splats.Tiles) -> Tensor:
            seen = splats.draw(self.shaped(theta), cameras, height, width, tiles)
            return self.composed(theta, seen, tiles.of(directions))

        return random_tiles(draw, target, self.pixels, generator, weights)

    def write(self, path: Path, params: Params, colours: Callable[[Tensor], Tensor]) -> None:
        shaped = self.shaped(params)
        signals = self.composed(params, F.pad(shaped.colour, (0, 1), value=1.0), shaped.mean)
        write_ply(path, replace(shaped, colour=colours(signals)))
