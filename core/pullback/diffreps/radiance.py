"""Radiance fields: voxels seen through cameras.

There are three kinds of signal: "rgba" (premultiplied colour and opacity, for toybox), "rgb" (colour over a learned
background) and "latent" (raw features over a learned background, for latent diffusion). Values are in the model's range
[-1, 1], or in that of the latents.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Protocol

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Generator, Tensor

from ..fields.voxels import FILL, Voxels, trilinear
from ..geometry.cameras import DISTANCE, FOV, Cameras, rays, turntable
from ..noise import Views
from ..render.march import BOUND, samples, weights
from ..render.occupancy import inside, occupied
from ..representation import Crop, Recipe, Representation, Setting, noise_range, of_field
from ..schema import Count, Size
from ..solvers import Adam, Residual
from ..types import Model, Params
from ..viewpoints import ELEVATIONS, orbiting_views
from .siren import VIEW_SIZE, signal_size
from .subsets import chosen

KINDS = ("rgba", "rgb", "latent")
CHUNK = 8192
"""Rays that are rendered at a time without gradients; bounds the memory."""
SATURATED = 15.0
"""Density, per unit of length, to which grid values are clamped before a surface is extracted. It is 1.5 times the level of
that surface (`mesh.surface.LEVEL`), whatever the grid's resolution."""
RATES = {"density": 0.15, "features": 0.08, "background": 0.01}
"""Learning rates of the parameters."""
UNSEEN = 1e-3
"""Weight below which the colour of a sample is not looked up (SJC uses 1e-4)."""


Elevation = Annotated[float, Meta(ge=-90, le=90)]
"""Degrees above the horizon."""


class March(Protocol):
    """How rays are rendered.

    Args:
        theta: The parameters, in which the result is differentiable.
        origins: Origins (R, 3) of the rays.
        directions: Unit directions (R, 3).
        random: The generator that jitters the samples, or None for no jitter.

    Returns:
        Estimates of signals and opacity, (R, C + 1) each. The last is the best; a fit compares all of them with its targets.
    """

    def __call__(
        self, theta: Params, origins: Tensor, directions: Tensor, random: Generator | None = None, /
    ) -> list[Tensor]: ...


class Object(Representation):
    """Base of the representations that the command `generate` samples: objects seen through cameras all around."""

    command = "generate"
    noun = "object"
    views = 8
    looks = "Cameras that each sampling step looks through."
    kind: str
    channels: int
    size: int
    elevations: tuple[float, float]

    @classmethod
    def camera_settings(cls) -> tuple[Setting, ...]:
        """Return the settings of the cameras."""
        (low, high), known = ELEVATIONS, "what the model knows objects from"
        return (
            Setting("lowest", low, "Lowest elevation of the cameras in degrees.", -89.0, 89.0, 1.0, "degrees", unset=known),
            Setting("highest", high, "Highest elevation of the cameras in degrees.", -89.0, 89.0, 1.0, "degrees", unset=known),
            Setting("distance", DISTANCE, "Distance of the cameras from the middle; the object lives within 1 of it.",
                    1.5, 20.0, 0.1),
            Setting("fov", math.degrees(FOV), "Vertical angle of the cameras in degrees.", 5.0, 120.0, 1.0, "degrees"),
        )  # fmt: skip

    @staticmethod
    def elevations_of(model: Model, settings: dict[str, Any]) -> tuple[float, float]:
        """Return the lowest and highest elevation of the cameras in degrees: as set, or else those that the model knows.

        Raises:
            ValueError: If the lowest is not below the highest.
        """
        low, high = getattr(model, "elevations", ELEVATIONS)
        low, high = settings.get("lowest", low), settings.get("highest", high)
        if low >= high:
            raise ValueError(f"the lowest elevation ({low:g}) must be below the highest ({high:g}): change one of them")
        return low, high

    def seen_through(self, views: int, seed: int, settings: dict[str, Any]) -> tuple[Views, Views]:
        """Return the cameras of a step and those of the last fit. `views`, `seed` and `settings` are as in `recipe`."""
        distance, fov = settings.get("distance", DISTANCE), math.radians(settings.get("fov", math.degrees(FOV)))
        # A field of Pullback 0.1 does not record which elevations it was seen from.
        known = ELEVATIONS if self.elevations == (-90.0, 90.0) else self.elevations
        return orbiting_views((self.channels, self.size), views, seed, known, distance, fov)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"the kind of radiance field is {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if self.elevations[0] > self.elevations[1]:
            raise ValueError(f"the elevations are {self.elevations}; the lowest must come first")

    def beyond(self) -> Params:
        """Return the initial background, a parameter that only the kinds without opacity in their signals have."""
        return {} if self.kind == "rgba" else {"background": torch.zeros(1, self.channels, 4, 4)}

    def composed(self, params: Params, seen: Tensor, d: Tensor) -> Tensor:
        """Compose the signals (..., C) of an object and its background.

        Args:
            params: The field's parameters, with the background if there is one.
            seen: The light of the object, followed by its opacity, (..., features + 1).
            d: Directions of the rays, unit vectors (..., 3).
        """
        if self.kind == "rgba":
            return 2 * seen - 1
        u = torch.atan2(d[..., :2].norm(dim=-1), d[..., 2]) / torch.pi
        v = torch.atan2(d[..., 1], d[..., 0]) / (2 * torch.pi) + 0.5
        at = (2 * torch.stack([u, v], -1) - 1).view(1, 1, -1, 2)
        behind = F.grid_sample(params["background"], at, padding_mode="border", align_corners=True)[0, :, 0].T
        return seen[..., :-1] + (1 - seen[..., -1:]) * behind.reshape(*seen.shape[:-1], -1)

    def emitted(self, features: Tensor) -> Tensor:
        """Return the light that raw features emit: colours in [0, 1] if the kind is "rgba", else the features themselves."""
        return torch.sigmoid(2 * features) if self.kind == "rgba" else features


class Marched(Object):
    """Base of the radiance fields that are rendered along rays."""

    def marching(self, params: Params) -> March:
        """Return the function that renders rays. It determines only once, from `params`, where space is empty."""
        raise NotImplementedError

    def fit(
        self, params: Params, cameras: Cameras, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        """Compare the field with targets (B, C, H, W) along new random rays in every pass. See `Fit`."""
        raise NotImplementedError

    def __call__(self, params: Params, cameras: Cameras) -> Tensor:
        """Return views (B, C, size, size) through B cameras. Differentiable in params."""
        return self.through(params, cameras, self.size, self.size)

    def canonical(self, params: Params) -> Tensor:
        sides = turntable(4)
        return torch.cat([self(params, sides[i : i + 1]) for i in range(len(sides))])

    def through(
        self,
        params: Params,
        cameras: Cameras,
        height: int,
        width: int,
        crop: Crop | None = None,
        tick: Callable[[], None] = lambda: None,
    ) -> Tensor:
        """Render signals through cameras, at any size.

        Args:
            params: The parameters.
            cameras: B cameras.
            height: Height of the whole picture in pixels.
            width: Width of the whole picture.
            crop: The part (top, left, h, w) that is wanted, or None for all of it.
            tick: Called for every chunk of rays; it may raise to stop.

        Returns:
            Signals (B, C, h, w). Without gradients, only one chunk of rays is in memory at a time.
        """
        return self._signals_and_opacity(params, cameras, height, width, crop, tick)[:, : self.channels]

    def opacity(
        self, params: Params, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = lambda: None
    ) -> Tensor:
        """Return the opacity of each pixel, (B, 1, height, width) in [0, 1], for every kind of signal."""
        return self._signals_and_opacity(params, cameras, height, width, None, tick)[:, self.channels :]

    def _signals_and_opacity(
        self, params: Params, cameras: Cameras, height: int, width: int, crop: Crop | None, tick: Callable[[], None]
    ) -> Tensor:
        """Return signals and opacity, (B, C + 1, h, w)."""
        march = self.marching(params)
        cameras = cameras.to(next(iter(params.values())).device)
        return by_chunks(lambda o, d: march(params, o, d)[-1], *rays(cameras, height, width, crop), tick)


@dataclass(frozen=True)
class VoxelRadiance(Marched):
    """A voxel radiance field and how it is rendered.

    Its parameters are those of `Voxels` (raw grids "density" and "features") and, unless the kind is "rgba", a
    "background" (1, C, 4, 4).

    Args:
        kind: The kind of signal: "rgba", "rgb" or "latent".
        channels: Values per pixel.
        size: Side of a view that the model sees, in pixels.
        steps: Samples per ray.
        rays: Random rays per pass of a fit.
        threshold: None, or the opacity of one sample below which space counts as empty. Fields of Pullback 0.1 were
            fitted with it and look right only when rendered with it.
        voxels: The grid.
        lost: The largest fraction of its light that a ray may lose in space that is skipped as empty.
        elevations: Lowest and highest elevation of the cameras that it was sampled through, in degrees. What it shows
            from other elevations is arbitrary.

    Raises:
        ValueError: If the kind is unknown, the voxels have the wrong number of features, or the elevations are in the wrong
            order.
    """

    kind: str = "rgba"
    channels: Count = 4
    size: Size = 64
    steps: Annotated[int, Meta(ge=1, le=1024)] = 48
    rays: Annotated[int, Meta(ge=1, le=1 << 18)] = 2048
    threshold: Annotated[float, Meta(lt=1)] | None = None
    voxels: Voxels = field(default_factory=Voxels)
    lost: Annotated[float, Meta(gt=0, lt=1)] = 1 / 256
    elevations: tuple[Elevation, Elevation] = (-90.0, 90.0)

    name = "voxel-radiance"
    title = "Voxel NeRF"
    sentence = "A 3D object made of density and colour, seen through cameras that move around it."
    choice = "voxels"

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = self.channels - (self.kind == "rgba")
        if self.voxels.features != wanted:
            raise ValueError(
                f"a {self.kind} field of {self.channels} channels needs {wanted} features per voxel, not {self.voxels.features}"
            )

    @classmethod
    def task(cls) -> str:
        return cls.command  # run files date from when this was the only representation of objects

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        help = "Grid points along each side of the cube."
        grid = of_field(Voxels, "resolution", help, "grid", low=16, high=160, step=8, node="resolution")
        return grid, VIEW_SIZE, *cls.camera_settings()

    @classmethod
    def suited(cls, model: Model, **settings: Any) -> VoxelRadiance:
        kind = signal_kind(model)
        resolution = {"resolution": settings["grid"]} if "grid" in settings else {}
        voxels = Voxels(features=model.channels - (kind == "rgba"), **resolution)
        size = signal_size(model, settings.get("view_size", 0))
        return cls(kind, model.channels, size, voxels=voxels, elevations=cls.elevations_of(model, settings))

    def recipe(self, model: Model, views: int, seed: int, **settings: Any) -> Recipe:
        step_views, last_views = self.seen_through(views, seed, settings)
        solver = Adam(12, 60, RATES, betas=(0.9, 0.95), last_rate=0.25)
        return Recipe(self, step_views, solver, noise_range(model, 0.05), 1.0, self.fit, last_views)

    def init(self, generator: Generator) -> Params:
        """Return the initial voxels, and a background of zeros unless the kind is "rgba"."""
        return self.voxels.init(generator) | self.beyond()

    def shaped(self, volume: Tensor) -> Params:
        """Return the parameters of a shape. See `Shaped`. Fields of latents take over its density only."""
        read = F.grid_sample(
            volume.permute(0, 3, 2, 1)[None], self.voxels.points()[None], padding_mode="border", align_corners=False
        )
        opacity, colours = read[:, :1], read[:, 1:]
        empty, full = FILL
        features = colours.new_zeros(1, self.voxels.features, *colours.shape[2:])
        if self.kind == "rgba":
            features = colours.clamp(0.02, 0.98).logit() / 2  # the inverse of `emitted`
        elif self.kind == "rgb":
            features = 2 * colours - 1
        return {"density": empty + (full - empty) * opacity, "features": features, **self.beyond()}

    @torch.no_grad()
    def depth(
        self, params: Params, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = lambda: None
    ) -> Tensor:
        """Return the mean distance from the camera to the surface in each pixel, (B, 1, height, width).

        It is infinite where the opacity is at most one half.
        """
        mask = self.occupancy(params)
        cameras = cameras.to(mask.device)

        def distance(origins: Tensor, directions: Tensor) -> Tensor:
            return self._distance(params, origins, *self._samples(mask, origins, directions))

        return by_chunks(distance, *rays(cameras, height, width), tick)

    def _distance(self, params: Params, o: Tensor, points: Tensor, length: Tensor, full: Tensor) -> Tensor:
        """Return the mean distance to the surface along R rays, (R,), from samples as in `_shade`."""
        ray, piece = full.nonzero(as_tuple=True)
        density = self.voxels.density_at(params, points[ray, piece])
        w = weights(density.new_zeros(full.shape).index_put((ray, piece), density * length[ray]))
        far = (points - o[:, None]).norm(dim=-1)
        opacity = w.sum(-1)
        return torch.where(opacity > 0.5, (w * far).sum(-1) / opacity.clamp(min=0.5), torch.inf)

    def marching(self, params: Params) -> March:
        mask = self.occupancy(params)

        def march(theta: Params, o: Tensor, d: Tensor, random: Generator | None = None) -> list[Tensor]:
            jitter = None if random is None else torch.rand(len(o), generator=random).to(o)
            return [torch.cat(self._shade(theta, o, d, *self._samples(mask, o, d, jitter)), -1)]

        return march

    def fit(
        self, params: Params, cameras: Cameras, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        """Compare the field with targets (B, C, H, W) along new random rays in every pass. See `Fit`.

        If the kind is "rgba", only rays that can hit the field are drawn. The samples of all rays, and which of them are empty,
        are computed once for all passes.
        """
        origins, directions = (each.reshape(-1, 3).to(target.device) for each in rays(cameras, *target.shape[-2:]))
        jitter = torch.rand(len(origins), generator=generator).to(target.device)
        points, length, full = self._samples(self.occupancy(params), origins, directions, jitter)
        wanted = target.permute(0, 2, 3, 1).reshape(-1, self.channels)
        every = torch.arange(len(origins))
        useful = (
            full.any(-1).cpu().nonzero()[:, 0] if self.kind == "rgba" else every
        )  # waits for the device once per step
        if len(useful) == 0:
            useful = every
        chances = None if weights is None else _chances(useful // target[0, 0].numel(), weights)

        def residual(theta: Params) -> Tensor:
            pick = useful[chosen(len(useful), self.rays, chances, generator)].to(target.device)
            signal, _ = self._shade(theta, origins[pick], directions[pick], points[pick], length[pick], full[pick])
            return signal - wanted[pick]

        return residual

    @torch.no_grad()
    def occupancy(self, params: Params) -> Tensor:
        """Return where the field is not empty, (R, R, R) bool. In all other space a ray loses at most `lost` of its light."""
        if self.threshold is not None:
            least = -math.log1p(-self.threshold) * self.steps / 2
        else:  # the density at which the longest chord through the ball loses the fraction `lost` of the light
            least = -math.log1p(-self.lost) / (2 * BOUND)
        return occupied(self.voxels.activate(params["density"][0, 0]), least)

    def density(self, params: Params, points: Tensor) -> Tensor:
        """Return the density (N,) at points (N, 3) from which a surface is extracted; zero outside the unit ball.

        Unlike the rendered density, it is smoothed over a voxel: views show how much light a ray loses, but hardly in which
        voxel, so single voxels would stick out of the surface. Before smoothing, it is clamped to `SATURATED`, because
        otherwise the densest voxels would spread into their neighbours.
        """
        grid = self.voxels.activate(params["density"]).clamp(max=SATURATED)
        smooth = F.avg_pool3d(F.avg_pool3d(grid, 2, 1, padding=1), 2, 1)
        return trilinear(smooth, points)[:, 0] * (points.norm(dim=-1) <= 1)

    def _samples(
        self, mask: Tensor, o: Tensor, d: Tensor, jitter: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return points (R, N, 3) on rays, the length (R,) that each stands for, and which are not empty, (R, N) bool."""
        points, length = samples(o, d, self.steps, jitter)
        return points, length, inside(mask, points) & (length > 0)[:, None]

    def _shade(
        self, params: Params, o: Tensor, d: Tensor, points: Tensor, length: Tensor, full: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the signals (R, C) and opacities (R, 1) of R rays, from their samples (`_samples`).

        The density is looked up only where `full`, and the features only where the weight exceeds `UNSEEN`. On the CPU, these
        samples are packed. On a GPU, all samples are computed and the empty ones are masked, because the program would have
        to wait for the GPU to count them.
        """
        if full.device.type != "cpu":
            return self._shade_all(params, d, points, length, full)
        ray, piece = full.nonzero(as_tuple=True)
        density = self.voxels.density_at(params, points[ray, piece])
        tau = density.new_zeros(full.shape).index_put((ray, piece), density * length[ray])
        w = weights(tau)
        opacity = w.sum(-1, keepdim=True)
        ray, piece = (w.detach() > UNSEEN).nonzero(as_tuple=True)
        features = self.voxels.features_at(params, points[ray, piece])
        light = w[ray, piece][:, None] * self.emitted(features)
        colour = features.new_zeros(len(o), features.shape[1]).index_add(0, ray, light)
        return self.composed(params, torch.cat([colour, opacity], -1), d), opacity

    def _shade_all(
        self, params: Params, d: Tensor, points: Tensor, length: Tensor, full: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Do the same as `_shade`, without packing."""
        density = self.voxels.density_at(params, points.reshape(-1, 3)).view(full.shape) * full
        w = weights(density * length[:, None])
        opacity = w.sum(-1, keepdim=True)
        features = self.voxels.features_at(params, points.reshape(-1, 3)).view(*full.shape, -1)
        colour = ((w * (w.detach() > UNSEEN))[..., None] * self.emitted(features)).sum(1)
        return self.composed(params, torch.cat([colour, opacity], -1), d), opacity


def signal_kind(model: Model) -> str:
    """Return which of KINDS the signals of a model are."""
    return "rgba" if model.scale == 1 and model.channels == 4 else "rgb" if model.scale == 1 else "latent"


def _chances(view: Tensor, weights: Tensor) -> Tensor:
    """Return relative probabilities (N,) of rays, which sum to weights[b] over the rays whose `view` (N,) is b."""
    count = torch.bincount(view, minlength=len(weights))
    return (weights / count.clamp(min=1))[view]


def by_chunks(
    draw: Callable[[Tensor, Tensor], Tensor], origins: Tensor, directions: Tensor, tick: Callable[[], None]
) -> Tensor:
    """Render rays (B, H, W, 3) to (B, C, H, W) in chunks. `draw` maps R origins and directions to (R, C) or (R,)."""
    parts = []
    for o, d in zip(origins.reshape(-1, 3).split(CHUNK), directions.reshape(-1, 3).split(CHUNK), strict=True):
        tick()
        parts.append(draw(o, d))
    return torch.cat(parts).view(*origins.shape[:3], -1).permute(0, 3, 1, 2)
