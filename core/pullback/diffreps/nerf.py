"""NeRF: one or two networks seen through cameras, for photographs (`reconstruct.py`)."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated

import torch
from msgspec import Meta
from torch import Generator, Tensor
from torch.utils.checkpoint import checkpoint

from ..fields.nerf import Network
from ..geometry.cameras import Cameras, rays
from ..render.march import chords, resampled, weights
from ..schema import Size
from ..solvers import Residual
from ..types import Params
from .radiance import Elevation, March, Marched, by_chunks
from .subsets import chosen

POINTS = 1 << 17
"""Points whose activations are kept at a time; those of others are computed again in the backward pass."""
Samples = Annotated[int, Meta(ge=0, le=4096)]


@dataclass(frozen=True)
class NerfRadiance(Marched):
    """A neural radiance field and how it is rendered.

    Its parameters are those of a network "coarse" and, if there are fine samples, of a network "fine", and a "background" unless
    the kind is "rgba".

    Args:
        kind: The kind of signal: "rgba", "rgb" or "latent".
        channels: Values per pixel.
        size: Side of a view that a model sees, in pixels.
        coarse: Samples per ray, evenly spaced.
        fine: Further samples where the coarse network finds something; at 0 there is only the coarse network.
        rays: Random rays per pass of a fit.
        network: The sizes of both networks.
        elevations: As in `VoxelRadiance`.
    """

    kind: str = "rgba"
    channels: Annotated[int, Meta(ge=1, le=4096)] = 4
    size: Size = 64
    coarse: Annotated[int, Meta(ge=2, le=4096)] = 64
    fine: Samples = 128
    rays: Annotated[int, Meta(ge=1, le=1 << 18)] = 1024
    network: Network = field(default_factory=Network)
    elevations: tuple[Elevation, Elevation] = (-90.0, 90.0)

    name = "nerf-radiance"
    title = "NeRF"
    sentence = "A 3D object made of a neural network, fitted to photographs."

    def __post_init__(self) -> None:
        super().__post_init__()
        wanted = self.channels - (self.kind == "rgba")
        if self.network.features != wanted:
            raise ValueError(
                f"a {self.kind} field of {self.channels} channels needs {wanted} features, not {self.network.features}"
            )

    @property
    def best(self) -> str:
        """The name of the network that is shown."""
        return "fine" if self.fine else "coarse"

    def init(self, generator: Generator) -> Params:
        """Return random networks, and a background of zeros if the kind has one."""
        fine = self.network.init(generator, "fine") if self.fine else {}
        return self.network.init(generator, "coarse") | fine | self.beyond()

    def marching(self, params: Params) -> March:
        def march(theta: Params, o: Tensor, d: Tensor, random: Generator | None = None) -> list[Tensor]:
            return [torch.cat(self._composited(theta, d, *shade), -1) for shade in self._shades(theta, o, d, random)]

        return march

    def fit(
        self, params: Params, cameras: Cameras, target: Tensor, generator: Generator, weights: Tensor | None = None
    ) -> Residual:
        """Compare with targets (B, C, H, W) along new random rays at every pass. See `Fit`."""
        origins, directions = (each.reshape(-1, 3).to(target.device) for each in rays(cameras, *target.shape[-2:]))
        wanted = target.permute(0, 2, 3, 1).reshape(-1, self.channels)
        chances = None if weights is None else weights.repeat_interleave(target[0, 0].numel())
        march = self.marching(params)

        def residual(theta: Params) -> Tensor:
            pick = chosen(len(wanted), self.rays, chances, generator).to(target.device)
            estimates = march(theta, origins[pick], directions[pick], generator)
            return torch.cat([each[:, : self.channels] - wanted[pick] for each in estimates])

        return residual

    @torch.no_grad()
    def depth(
        self, params: Params, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = lambda: None
    ) -> Tensor:
        """Return the mean distance to the surface, infinite where the opacity is at most one half. See `Solid.depth`."""

        def distance(o: Tensor, d: Tensor) -> Tensor:
            *_, (_, far, w, _) = self._shades(params, o, d, None)
            opacity = w.sum(-1)
            return torch.where(opacity > 0.5, (w * far).sum(-1) / opacity.clamp(min=0.5), torch.inf)

        cameras = cameras.to(next(iter(params.values())).device)
        return by_chunks(distance, *rays(cameras, height, width), tick)

    def density(self, params: Params, points: Tensor) -> Tensor:
        """Return the density (N,) per unit of length at points (N, 3); zero outside the ball."""
        parts = [self.network(params, self.best, p, torch.zeros_like(p))[0] for p in points.split(POINTS)]
        return torch.cat(parts) * (points.norm(dim=-1) <= 1)

    def _shades(
        self, params: Params, o: Tensor, d: Tensor, random: Generator | None
    ) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
        """For each network: whether rays hit the ball (R,), and samples of those H that do.

        The samples are distances (R or H, N), weights (R or H, N) and features (H, N, F).
        """
        near, far = chords(o, d)
        hit = far > near
        begin, length = near[hit][:, None], (far - near)[hit][:, None]
        edges = begin + length * torch.linspace(0, 1, self.coarse + 1).to(o)
        within = _uniform((len(begin), self.coarse), random).to(o)
        t = edges[:, :-1] + length / self.coarse * within
        shade = self._shade(params, "coarse", o[hit], d[hit], t, edges[:, -1:])
        yield hit, _spread(hit, t), _spread(hit, shade[0]), shade[1]
        if self.fine:
            places = (torch.arange(self.fine) + _uniform((len(begin), self.fine), random)) / self.fine
            more = resampled(edges, shade[0].detach(), places.to(o))
            t = torch.cat([t, more], -1).sort(-1).values
            shade = self._shade(params, "fine", o[hit], d[hit], t, edges[:, -1:])
            yield hit, _spread(hit, t), _spread(hit, shade[0]), shade[1]

    def _shade(self, params: Params, name: str, o: Tensor, d: Tensor, t: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Weights (H, N) and features (H, N, F) at distances t (H, N) along rays that leave the ball at `end` (H, 1)."""
        points = (o[:, None] + t[..., None] * d[:, None]).reshape(-1, 3)
        towards = d[:, None].expand(-1, t.shape[1], -1).reshape(-1, 3)
        look = functools.partial(self.network, params, name)
        if torch.is_grad_enabled() and len(points) > POINTS:
            look = functools.partial(checkpoint, look, use_reentrant=False)
        parts = [look(*part) for part in zip(points.split(POINTS), towards.split(POINTS), strict=True)]
        density, features = (torch.cat(each) for each in zip(*parts, strict=True))
        w = weights(density.view(t.shape) * torch.cat([t, end], -1).diff(dim=-1))
        return w, features.view(*t.shape, -1)

    def _composited(
        self, params: Params, d: Tensor, hit: Tensor, _: Tensor, w: Tensor, features: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Signals (R, C) and opacities (R, 1) of R rays."""
        opacity = w.sum(-1, keepdim=True)
        light = (w[hit][..., None] * self.emitted(features)).sum(1)
        colour = light.new_zeros(len(d), light.shape[1]).masked_scatter(hit[:, None], light)
        return self.composed(params, torch.cat([colour, opacity], -1), d), opacity


def _uniform(shape: tuple[int, int], random: Generator | None) -> Tensor:
    """Random numbers in [0, 1), or 0.5 everywhere."""
    return torch.full(shape, 0.5) if random is None else torch.rand(shape, generator=random)


def _spread(hit: Tensor, values: Tensor) -> Tensor:
    """Values (H, N) of the rays that hit, among all R: (R, N), with zeros for the others."""
    return values.new_zeros(len(hit), values.shape[1]).masked_scatter(hit[:, None], values)
