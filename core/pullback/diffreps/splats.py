"""Splats: an object made of 3D Gaussians, theta, cameras -> pictures (B, C, H, W), after Kerbl et al. 2023.

Signals are of the three kinds of `radiance.py`. The number of Gaussians stays. None is thinner than half a pixel of the
views that it is fitted to, so that larger pictures have no holes (cf. the 3D filter of Yu et al. 2024).
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
from .subsets import chosen

TILE = 4
"""Pixels of the side of a tile that a fit looks at, at most."""
RADIUS = 0.6
"""Of the ball that the Gaussians fill at the start."""


@dataclass(frozen=True)
class GaussianSplats(Object):
    """3D Gaussians. size, elevations: as in `VoxelRadiance`. pixels: in random tiles, per field pass of a fit."""

    kind: str = "rgba"
    channels: Count = 4
    size: Size = 64
    gaussians: Annotated[int, Meta(ge=1, le=1 << 20)] = 2048
    pixels: Annotated[int, Meta(ge=1, le=1 << 18)] = 2048
    elevations: tuple[Elevation, Elevation] = (-90.0, 90.0)

    name = "gaussian-splats"
    title = "Gaussian Splats"
    sentence = "A 3D object made of Gaussians that fade into each other, seen through cameras that move around it."
    choice = "splats"
    means = "Gaussians, also for a .ply file"
    suffix = ".ply"

    def __post_init__(self) -> None:
        self.checked()

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        many = of_field(cls, "gaussians", "How many Gaussians the object is made of.", low=64, high=65536, step=64)
        return many, VIEW_SIZE, *cls.camera_settings()

    @classmethod
    def suited(cls, model: Model, **settings: Any) -> GaussianSplats:
        own = {name: settings[name] for name in ("gaussians",) if name in settings}
        size = signal_size(model, settings.get("view_size", 0))
        return cls(signal_kind(model), model.channels, size, elevations=cls.elevations_of(model, settings), **own)

    def recipe(self, model: Model, views: int, seed: int, **settings: Any) -> Recipe:
        some, more = self.seen_through(views, seed, settings)
        rates = {"mean": 5e-3, "scale": 0.03, "rotation": 0.03, "opacity": 0.1, "colour": 0.05, "background": 0.01}
        solver = Adam(20, 60, rates, betas=(0.9, 0.95), last_rate=0.25)
        return Recipe(self, some, solver, noise_range(model, 0.05), 1.0, self.fit, more)

    def init(self, generator: Generator) -> Params:
        """A cloud of small grey ones, evenly spread through a ball; deviations as logarithms, opacities as logits."""
        n, features = self.gaussians, self.channels - (self.kind == "rgba")
        towards = F.normalize(torch.randn(n, 3, generator=generator), dim=-1)
        mean = RADIUS * towards * torch.rand(n, 1, generator=generator) ** (1 / 3)
        scale = torch.full((n, 3), math.log(RADIUS * n ** (-1 / 3)))
        rotation = torch.tensor((1.0, 0.0, 0.0, 0.0)).repeat(n, 1)
        made = {"mean": mean, "scale": scale, "rotation": rotation}
        return made | {"opacity": torch.full((n,), -2.0), "colour": torch.zeros(n, features)} | self.beyond()

    def shaped(self, params: Params) -> splats.Gaussians:
        """The Gaussians that the parameters stand for."""
        thinnest = math.tan(FOV / 2) * DISTANCE / self.size
        scale = (thinnest**2 + torch.exp(2 * params["scale"])).sqrt()
        opacity, colour = torch.sigmoid(params["opacity"]), self.emitted(params["colour"])
        return splats.Gaussians(params["mean"], scale, params["rotation"], opacity, colour)

    def __call__(self, params: Params, cameras: Cameras) -> Tensor:
        """Views (B, C, size, size), differentiable in params."""
        return self.through(params, cameras, self.size, self.size)

    def canonical(self, params: Params) -> Tensor:
        return self(params, turntable(4))

    def through(
        self, params: Params, cameras: Cameras, height: int, width: int, crop: Crop | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> Tensor:  # fmt: skip
        """Pictures (B, C, h, w) of any size, or of a part (top, left, h, w) of it. `tick` is called often."""
        cameras = cameras.to(params["mean"])
        seen = splats.picture(self.shaped(params), cameras, height, width, crop, tick).permute(0, 2, 3, 1)
        directions = rays(cameras, height, width, crop)[1]
        return self.composed(params, seen[..., :-1], seen[..., -1:], directions).permute(0, 3, 1, 2)

    def opacity(
        self, params: Params, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = lambda: None
    ) -> Tensor:
        """How much of each pixel the field hides, (B, 1, height, width) in [0, 1]."""
        return splats.picture(self.shaped(params), cameras.to(params["mean"]), height, width, None, tick)[:, -1:]

    def depth(
        self, params: Params, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = lambda: None
    ) -> Tensor:
        """Mean distance to what hides each pixel, (B, 1, height, width); infinite where less than half is hidden."""
        return splats.depth(self.shaped(params), cameras.to(params["mean"]), height, width, tick)

    def density(self, params: Params, points: Tensor) -> Tensor:
        """Density (N,) at points (N, 3): what a surface is extracted from."""
        return splats.density(self.shaped(params), points)

    def fit(
        self, params: Params, cameras: Cameras, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        """Compare with targets (B, C, H, W) in new random tiles at every pass, drawn by the `weights` of their views."""
        if splats.fast(target.device):
            return whole_view(self)(params, cameras, target, generator, weights)
        height, width = target.shape[-2:]
        cameras, side = cameras.to(target), math.gcd(TILE, height, width)
        pictures = target.permute(0, 2, 3, 1), rays(cameras, height, width)[1]
        wanted, directions = (splats.cut(each, side) for each in pictures)
        chances = None if weights is None else weights.repeat_interleave(len(wanted) // len(weights))

        def residual(theta: Params) -> Tensor:
            pick = chosen(len(wanted), max(1, self.pixels // side**2), chances, generator).to(target.device)
            gaussians, tiles = self.shaped(theta), splats.tiles_of(pick, height, width, side)
            light = splats.draw(splats.project(gaussians, cameras, height, width), gaussians.colour, tiles)
            return self.composed(theta, light[..., :-1], light[..., -1:], directions[pick]) - wanted[pick]

        return residual

    def write(self, path: Path, params: Params, colours: Callable[[Tensor], Tensor]) -> None:
        """A .ply file as other programs read it, with Z up as in Blender."""
        shaped, opaque = self.shaped(params), torch.ones_like(params["mean"][:, :1])
        write_ply(path, replace(shaped, colour=colours(self.composed(params, shaped.colour, opaque, params["mean"]))))
