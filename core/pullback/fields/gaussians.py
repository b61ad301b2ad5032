"""Gaussians: a cloud of ellipsoids with soft edges, each of one colour and one opacity, and its density."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..types import Params

REACH = 3.0
"""Deviations at which a Gaussian ends."""
MOST = 0.999
"""Opacity that none exceeds, as in gsplat: what lies behind can still be learned."""
LIMIT = 1 << 24
"""Points times Gaussians that are looked at together: bounds the memory."""
BLOCK = 64
"""Points of a density that are looked up together."""
RADIUS = 0.8
"""Of the ball that a new cloud fills."""


@dataclass(frozen=True)
class Gaussians:
    """N Gaussians in the world.

    mean: (N, 3). scale: (N, 3), deviations along their own axes, above 0. rotation: (N, 4), quaternions w x y z of any
    length. opacity: (N,) in [0, 1], in the middle, before `MOST`. colour: (N, C), whatever is to be composited.
    """

    mean: Tensor
    scale: Tensor
    rotation: Tensor
    opacity: Tensor
    colour: Tensor

    @property
    def axes(self) -> Tensor:
        """(N, 3, 3): the columns are the Gaussians' axes, each of unit length."""
        w, x, y, z = F.normalize(self.rotation, dim=-1).unbind(-1)
        rows = (
            (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
            (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
            (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
        )
        return torch.stack([torch.stack(row, -1) for row in rows], -2)


def cloud(count: int, generator: Generator) -> Params:
    """Round ones of opacity 0.12 that fill a ball evenly: deviations as logarithms, opacities as logits."""
    towards = F.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    return {
        "mean": RADIUS * towards * torch.rand(count, 1, generator=generator) ** (1 / 3),
        "scale": torch.full((count, 3), math.log(RADIUS * count ** (-1 / 3))),
        "rotation": torch.tensor((1.0, 0.0, 0.0, 0.0)).repeat(count, 1),
        "opacity": torch.full((count,), -2.0),
    }


def density(gaussians: Gaussians, points: Tensor) -> Tensor:
    """Density (N,) per unit of length at points (N, 3): across its thinnest side a Gaussian loses its opacity of the light.

    Quick where points that follow each other are near each other.
    """
    inverse = gaussians.axes / gaussians.scale[:, None]  # columns: 1 / deviation along each axis
    reach = REACH * (gaussians.axes * gaussians.scale[:, None]).norm(dim=-1)
    thinnest = gaussians.scale.amin(-1)
    peak = -torch.log1p(-gaussians.opacity.clamp(max=MOST)) / (math.sqrt(2 * math.pi) * thinnest)
    blocks = torch.cat([points, points[-1:].expand(-len(points) % BLOCK, 3)]).view(-1, BLOCK, 3)
    parts = []
    for part in blocks.split(max(1, LIMIT // (BLOCK * len(gaussians.mean)))):
        low, high = part.amin(1)[:, None], part.amax(1)[:, None]
        there = ((gaussians.mean + reach >= low) & (gaussians.mean - reach <= high)).all(-1)
        place, present = listed(there)
        ahead = inverse[place].transpose(1, 2).flatten(2)  # (T, 3, 3 K)
        middle = (gaussians.mean[place][..., None, :] @ inverse[place]).flatten(1)[:, None]
        q = (part @ ahead - middle).square().unflatten(2, (-1, 3)).sum(-1)
        weight = torch.where((q <= REACH**2) & present[:, None], torch.exp(-q / 2), 0.0)
        parts.append((weight @ peak[place][..., None])[..., 0])
    return torch.cat(parts).flatten()[: len(points)]


def listed(there: Tensor) -> tuple[Tensor, Tensor]:
    """For every row of (T, N) bool the places that are true, in order: (T, K) of them, and which of these count, (T, K)."""
    count, n = there.sum(1), there.shape[1]
    if there.device.type != "cpu":
        return torch.arange(n, device=there.device).expand(len(there), n), there
    row, column = there.nonzero(as_tuple=True)
    slot = torch.arange(len(row)) - (count.cumsum(0) - count)[row]
    place = torch.zeros(len(there), int(count.max()) if len(row) else 1, dtype=torch.long)
    place[row, slot] = column
    return place, torch.arange(place.shape[1]) < count[:, None]
