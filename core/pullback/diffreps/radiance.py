"""Radiance: a voxel field seen through cameras, a diffrep theta, cameras -> pictures (B, C, H, W).

Three kinds of signal: "rgba" (premultiplied colour and opacity, what toybox sees), "rgb" (colour over a learned
background) and "latent" (raw features over a learned background, for latent diffusion). Values are in the
model's range [-1, 1], or the latents' own.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Generator, Tensor

from ..fields.voxels import Voxels, trilinear
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
"""Rays rendered at a time: bounds memory where there is no gradient."""
SATURATED = 15.0
"""Density at which a surface cannot get any denser: half of the light is lost within a voxel."""
UNSEEN = 1e-3
"""Weight below which a sample's colour is not looked up (SJC uses 1e-4)."""


Elevation = Annotated[float, Meta(ge=-90, le=90)]


class Object(Representation):
    """Base of what the command `generate` samples: things seen through cameras all around."""

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
        """Where the cameras of a run are."""
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
        """Lowest and highest elevation of the cameras: the settings', or those from which the model knows objects."""
        low, high = getattr(model, "elevations", ELEVATIONS)
        low, high = settings.get("lowest", low), settings.get("highest", high)
        if low >= high:
            raise ValueError(f"the lowest elevation ({low:g}) must be below the highest ({high:g}): change one of them")
        return low, high

    def seen_through(self, views: int, seed: int, settings: dict[str, Any]) -> tuple[Views, Views]:
        """The cameras of a step, and those of the last fit. settings: as in `recipe`."""
        distance, fov = settings.get("distance", DISTANCE), math.radians(settings.get("fov", math.degrees(FOV)))
        # A field of Pullback 0.1 does not know what it was seen from.
        known = ELEVATIONS if self.elevations == (-90.0, 90.0) else self.elevations
        return orbiting_views((self.channels, self.size), views, seed, known, distance, fov)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"the kind of radiance field is {self.kind!r}; it must be one of {', '.join(KINDS)}")
        if self.elevations[0] > self.elevations[1]:
            raise ValueError(f"the elevations are {self.elevations}; the lowest must come first")

    def beyond(self) -> Params:
        """The parameters of what lies behind the object, at the start: nothing, where the signals have an opacity."""
        return {} if self.kind == "rgba" else {"background": torch.zeros(1, self.channels, 4, 4)}

    def composed(self, params: Params, seen: Tensor, d: Tensor) -> Tensor:
        """Signals (..., C) of what was seen of the object along directions d (..., 3): light and, last, opacity."""
        if self.kind == "rgba":
            return 2 * seen - 1
        u = torch.atan2(d[..., :2].norm(dim=-1), d[..., 2]) / torch.pi
        v = torch.atan2(d[..., 1], d[..., 0]) / (2 * torch.pi) + 0.5
        at = (2 * torch.stack([u, v], -1) - 1).view(1, 1, -1, 2)
        behind = F.grid_sample(params["background"], at, padding_mode="border", align_corners=True)[0, :, 0].T
        return seen[..., :-1] + (1 - seen[..., -1:]) * behind.reshape(*seen.shape[:-1], -1)

    def emitted(self, features: Tensor) -> Tensor:
        """The light of raw features: colours in [0, 1], where the signals have an opacity."""
        return torch.sigmoid(2 * features) if self.kind == "rgba" else features


@dataclass(frozen=True)
class VoxelRadiance(Object):
    """A voxel radiance field and how it is rendered.

    size: pixels of a training view. steps: pieces per ray. rays: random rays per field pass of a fit.
    lost: the part of its light, at most, that a ray loses in space that is skipped as empty.
    elevations: of the cameras that it was sampled through, lowest and highest, in degrees. From elsewhere it was never
    seen, and what it shows there is chance.
    threshold: None, or the opacity of one piece of a ray below which space counts as empty. Fields of Pullback 0.1 were
    fitted so, and look right only when they are rendered so.
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
        return cls.command  # as runs of the only representation of objects were called

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        help = "Grid points along each side of the cube."
        grid = of_field(Voxels, "resolution", help, "grid", low=16, high=160, step=8, node="resolution")
        return grid, VIEW_SIZE, *cls.camera_settings()

    @classmethod
    def suited(cls, model: Model, **settings: Any) -> VoxelRadiance:
        kind = signal_kind(model)
        own = {"resolution": settings["grid"]} if "grid" in settings else {}
        voxels = Voxels(features=model.channels - (kind == "rgba"), **own)
        size = signal_size(model, settings.get("view_size", 0))
        return cls(kind, model.channels, size, voxels=voxels, elevations=cls.elevations_of(model, settings))

    def recipe(self, model: Model, views: int, seed: int, **settings: Any) -> Recipe:
        some, more = self.seen_through(views, seed, settings)
        rates = {"density": 0.15, "features": 0.08, "background": 0.01}
        solver = Adam(20, 60, rates, betas=(0.9, 0.95), last_rate=0.25)
        return Recipe(self, some, solver, noise_range(model, 0.05), 1.0, self.fit, more)

    def init(self, generator: Generator) -> Params:
        """The field's start; a background of zeros where the kind has one."""
        return self.voxels.init(generator) | self.beyond()

    def __call__(self, params: Params, cameras: Cameras) -> Tensor:
        """Views (B, C, size, size) of the whole field, differentiable in params."""
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
        """Pictures (B, C, h, w) of any size, or of a part (top, left, h, w) of it; bounded memory without gradient.

        Here and below, `tick` is called often and may raise, to stop.
        """
        return self._marched(params, cameras, height, width, crop, tick)[:, : self.channels]

    def opacity(
        self, params: Params, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = lambda: None
    ) -> Tensor:
        """How much of each pixel the field hides, (B, 1, height, width) in [0, 1], whatever the kind."""
        return self._marched(params, cameras, height, width, None, tick)[:, self.channels :]

    @torch.no_grad()
    def depth(
        self, params: Params, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = lambda: None
    ) -> Tensor:
        """Mean distance from the eye to what hides each pixel, (B, 1, height, width); infinite where less than half is hidden."""
        mask = self.occupancy(params)
        cameras = cameras.to(mask.device)
        distance = lambda o, d: self._distance(params, o, *self._sampled(mask, o, d))
        return _by_chunks(distance, *rays(cameras, height, width), tick)

    def _distance(self, params: Params, o: Tensor, points: Tensor, length: Tensor, full: Tensor) -> Tensor:
        """(R,) of rays from their samples, as in `_shade`."""
        ray, piece = full.nonzero(as_tuple=True)
        density = self.voxels.density(params, points[ray, piece])
        w = weights(density.new_zeros(full.shape).index_put((ray, piece), density * length[ray]))
        far = (points - o[:, None]).norm(dim=-1)
        opacity = w.sum(-1)
        return torch.where(opacity > 0.5, (w * far).sum(-1) / opacity.clamp(min=0.5), torch.inf)

    def _marched(
        self,
        params: Params,
        cameras: Cameras,
        height: int,
        width: int,
        crop: tuple[int, int, int, int] | None,
        tick: Callable[[], None],
    ) -> Tensor:
        mask = self.occupancy(params)
        cameras = cameras.to(mask.device)
        shade = lambda o, d: torch.cat(self._shade(params, o, d, *self._sampled(mask, o, d)), -1)
        return _by_chunks(shade, *rays(cameras, height, width, crop), tick)

    def fit(
        self, params: Params, cameras: Cameras, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        """Compare with targets (B, C, H, W) through `rays` new random rays per pass, among those that can meet the field.

        Where the samples lie, and which of them are empty, is settled once for all passes. A view's rays are drawn as
        often as its share of the `weights` (B,).
        """
        origins, directions = (each.reshape(-1, 3).to(target.device) for each in rays(cameras, *target.shape[-2:]))
        jitter = torch.rand(len(origins), generator=generator).to(target.device)
        points, length, full = self._sampled(self.occupancy(params), origins, directions, jitter)
        wanted = target.permute(0, 2, 3, 1).reshape(-1, self.channels)
        every = torch.arange(len(origins))
        useful = full.any(-1).cpu().nonzero()[:, 0] if self.kind == "rgba" else every  # one wait a step
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
        """(R, R, R) bool, where the field is not empty: nothing else can cost a ray more than `lost` of its light."""
        if self.threshold is not None:
            least = -math.log1p(-self.threshold) * self.steps / 2
        else:  # of a density that fills the longest chord
            least = -math.log1p(-self.lost) / (2 * BOUND)
        return occupied(self.voxels.activate(params["density"][0, 0]), least)

    def density(self, params: Params, points: Tensor) -> Tensor:
        """Density (N,) at points (N, 3): what a surface is extracted from. Zero outside the ball.

        Smoothed over a voxel: views say what light crosses on its way, hardly which voxel took it, and single ones stick
        out of a sampled surface. Cut at `SATURATED` before that, or the darkest would grow into their neighbours.
        """
        grid = self.voxels.activate(params["density"]).clamp(max=SATURATED)
        smooth = F.avg_pool3d(F.avg_pool3d(grid, 2, 1, padding=1), 2, 1)
        return trilinear(smooth, points)[:, 0] * (points.norm(dim=-1) <= 1)

    def _sampled(
        self, mask: Tensor, o: Tensor, d: Tensor, jitter: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        points, length = samples(o, d, self.steps, jitter)
        return points, length, inside(mask, points) & (length > 0)[:, None]

    def _shade(
        self, params: Params, o: Tensor, d: Tensor, points: Tensor, length: Tensor, full: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Signals (R, C) and opacities (R, 1) of rays from their samples (R, N, 3).

        Density is looked up where `full` (R, N), features only where they are seen. A processor packs these samples; another
        device computes all of them and masks the empty ones, since it would have to wait to learn how many there are.
        """
        if full.device.type != "cpu":
            return self._shade_all(params, d, points, length, full)
        ray, piece = full.nonzero(as_tuple=True)
        density = self.voxels.density(params, points[ray, piece])
        tau = density.new_zeros(full.shape).index_put((ray, piece), density * length[ray])
        w = weights(tau)
        opacity = w.sum(-1, keepdim=True)
        ray, piece = (w.detach() > UNSEEN).nonzero(as_tuple=True)
        features = self.voxels.feature(params, points[ray, piece])
        light = w[ray, piece][:, None] * self.emitted(features)
        colour = features.new_zeros(len(o), features.shape[1]).index_add(0, ray, light)
        return self.composed(params, torch.cat([colour, opacity], -1), d), opacity

    def _shade_all(
        self, params: Params, d: Tensor, points: Tensor, length: Tensor, full: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What `_shade` computes, without packing."""
        density = self.voxels.density(params, points.reshape(-1, 3)).view(full.shape) * full
        w = weights(density * length[:, None])
        opacity = w.sum(-1, keepdim=True)
        features = self.voxels.feature(params, points.reshape(-1, 3)).view(*full.shape, -1)
        colour = ((w * (w.detach() > UNSEEN))[..., None] * self.emitted(features)).sum(1)
        return self.composed(params, torch.cat([colour, opacity], -1), d), opacity


def signal_kind(model: Model) -> str:
    """Which of KINDS a model's signals are."""
    return "rgba" if model.scale == 1 and model.channels == 4 else "rgb" if model.scale == 1 else "latent"


def _chances(view: Tensor, weights: Tensor) -> Tensor:
    """(N,) chances of rays that belong to `view` (N,), so that all rays of a view together have its weight (B,)."""
    count = torch.bincount(view, minlength=len(weights))
    return (weights / count.clamp(min=1))[view]


def _by_chunks(
    draw: Callable[[Tensor, Tensor], Tensor], origins: Tensor, directions: Tensor, tick: Callable[[], None]
) -> Tensor:
    """(B, C, H, W) of rays (B, H, W, 3), from what `draw` makes of some of them (R, 3): (R, C) or (R,)."""
    parts = []
    for o, d in zip(origins.reshape(-1, 3).split(CHUNK), directions.reshape(-1, 3).split(CHUNK), strict=True):
        tick()
        parts.append(draw(o, d))
    return torch.cat(parts).view(*origins.shape[:3], -1).permute(0, 3, 1, 2)
