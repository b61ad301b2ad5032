"""Gaussian splats: objects made of 3D Gaussians (Kerbl et al. 2023), seen through cameras.

The kinds of signal are the same as in `radiance.py`. Unlike in the paper, the number of Gaussians is fixed. A Gaussian is never
thinner than half a pixel of the views that it is fitted to, so that larger pictures have no gaps between Gaussians (compare the
3D smoothing filter of Yu et al. 2024).
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

from ..fields.gaussians import Gaussians, cloud, density_at
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
"""Learning rates of the parameters."""
Tick = Callable[[], None]


@dataclass(frozen=True)
class GaussianSplats(Object):
    """A cloud of 3D Gaussians and how it is rendered.

    Its parameters are those of `fields.gaussians.cloud`, "colour" (N, features), and, unless the kind is "rgba", a "background"
    (1, C, 4, 4).

    Args:
        kind: The kind of signal: "rgba", "rgb" or "latent".
        channels: Values per pixel.
        size: Side of a view that the model sees, in pixels.
        gaussians: The number N of Gaussians.
        pixels: Random pixels per pass of a fit, in square tiles.
        elevations: Lowest and highest elevation of the cameras that it was sampled through, in degrees.

    Raises:
        ValueError: If the kind is unknown, or the elevations are in the wrong order.
    """

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
        count = of_field(cls, "gaussians", "How many Gaussians the object is made of.", low=64, high=65536, step=64)
        return count, VIEW_SIZE, *cls.camera_settings()

    @classmethod
    def suited(cls, model: Model, **settings: Any) -> GaussianSplats:
        size, count = signal_size(model, settings.get("view_size", 0)), settings.get("gaussians", cls.gaussians)
        return cls(signal_kind(model), model.channels, size, count, elevations=cls.elevations_of(model, settings))

    def recipe(self, model: Model, views: int, seed: int, **settings: Any) -> Recipe:
        step_views, last_views = self.seen_through(views, seed, settings)
        solver = Adam(20, 60, RATES, (0.9, 0.95), last_rate=0.25)
        return Recipe(self, step_views, solver, noise_range(model, 0.05), 1.0, self.fit, last_views)

    def init(self, generator: Generator) -> Params:
        """Return a new cloud whose colour parameters are zero, and a background of zeros unless the kind is "rgba"."""
        colours = torch.zeros(self.gaussians, self.channels - (self.kind == "rgba"))
        return cloud(self.gaussians, generator) | {"colour": colours} | self.beyond()

    def to_gaussians(self, params: Params) -> Gaussians:
        """Return the Gaussians that the parameters describe. Their colours are the light that they emit, (N, features).

        Half the width of a view's pixel, at the default distance and angle, is added in quadrature to every standard deviation.
        """
        scale = (torch.exp(2 * params["scale"]) + (math.tan(FOV / 2) * DISTANCE / self.size) ** 2).sqrt()
        opacity, colour = torch.sigmoid(params["opacity"]), self.emitted(params["colour"])
        return Gaussians(params["mean"], scale, params["rotation"], opacity, colour)

    def __call__(self, params: Params, cameras: Cameras) -> Tensor:
        """Return views (B, C, size, size) through B cameras. Differentiable in params."""
        return self.through(params, cameras, self.size, self.size)

    def canonical(self, params: Params) -> Tensor:
        return self(params, turntable(4))

    # fmt: off
    def through(self, params: Params, cameras: Cameras, height: int, width: int, crop: Crop | None = None,
                tick: Tick = lambda: None) -> Tensor:
        """Render signals (B, C, h, w) through B cameras, at any size. Arguments are those of `Solid.through`."""
        cameras = cameras.to(params["mean"])
        seen = splats.picture(self.to_gaussians(params), cameras, height, width, crop, tick).permute(0, 2, 3, 1)
        return self.composed(params, seen, rays(cameras, height, width, crop)[1]).permute(0, 3, 1, 2)

    def opacity(self, params: Params, cameras: Cameras, height: int, width: int, tick: Tick = lambda: None) -> Tensor:
        """Return the opacity of each pixel, (B, 1, height, width) in [0, 1], for every kind of signal."""
        return splats.picture(self.to_gaussians(params), cameras.to(params["mean"]), height, width, None, tick)[:, -1:]

    def depth(self, params: Params, cameras: Cameras, height: int, width: int, tick: Tick = lambda: None) -> Tensor:
        """Return the mean distance from the camera to the Gaussians in each pixel (`render.splats.depth`)."""
        return splats.depth(self.to_gaussians(params), cameras.to(params["mean"]), height, width, tick)
    # fmt: on

    def density(self, params: Params, points: Tensor) -> Tensor:
        """Return the density (P,) per unit of length at points (P, 3), from which a surface is extracted."""
        return density_at(self.to_gaussians(params), points)

    def fit(
        self, params: Params, cameras: Cameras, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        """Compare the field with targets (B, C, H, W) on new random tiles in every pass. See `Fit`.

        Tiles are drawn in proportion to the weights of their views. gsplat cannot render scattered tiles, so where it renders,
        every pixel of every view is compared.
        """
        if splats.uses_gsplat(target.device):
            return whole_view(self)(params, cameras, target, generator, weights)
        cameras, (height, width) = cameras.to(target), target.shape[-2:]
        directions = rays(cameras, height, width)[1]

        def draw(theta: Params, tiles: splats.Tiles) -> Tensor:
            seen = splats.draw(self.to_gaussians(theta), cameras, height, width, tiles)
            return self.composed(theta, seen, tiles.of(directions))

        return random_tiles(draw, target, self.pixels, generator, weights)

    def write(self, path: Path, params: Params, colours: Callable[[Tensor], Tensor]) -> None:
        """Write the Gaussians as a .ply file, in display colours. See `OwnFile.write`."""
        gaussians = self.to_gaussians(params)
        signals = self.composed(params, F.pad(gaussians.colour, (0, 1), value=1.0), gaussians.mean)
        write_ply(path, replace(gaussians, colour=colours(signals)))
