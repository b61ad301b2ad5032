"""Voxels: a density and a feature at every point of [-1, 1]^3, trilinear between grid points, after SJC's voxNeRF.

density = sharpness * softplus(g + shift), per unit of length; the grids are stored (1, C, Z, Y, X), so that
a point (x, y, z) is looked up in the order that `grid_sample` wants. Grid points lie on the faces of the box. (voxNeRF's
are the centres of cells; it has no `sharpness`, but learns a factor on g.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Generator, Tensor

from ..schema import Count, Positive
from ..types import Params


@dataclass(frozen=True)
class Voxels:
    """Sizes and the start of a voxel field.

    shift: SJC's -1. sharpness: scales density, 20 lets one voxel be opaque. The start is a soft ball in the middle,
    g = blob (1 - |x| / radius), of the form that DDRep takes from ProlificDreamer, whose `blob` is 10 without a sharpness.
    """

    resolution: Annotated[int, Meta(ge=2, le=256)] = 48
    features: Count = 3
    shift: Annotated[float, Meta(ge=-100, le=100)] = -1.0
    sharpness: Positive = 20.0
    blob: Annotated[float, Meta(ge=-1000, le=1000)] = 3.0
    radius: Positive = 0.5

    def init(self, generator: Generator) -> Params:
        """The blob with zero features; draws nothing."""
        line = torch.linspace(-1, 1, self.resolution)
        norm = torch.stack(torch.meshgrid(line, line, line, indexing="ij")).norm(dim=0)
        shape = (1, self.features, *norm.shape)
        return {"density": (self.blob * (1 - norm / self.radius))[None, None], "features": torch.zeros(shape)}

    def density(self, params: Params, points: Tensor) -> Tensor:
        """Density (N,) >= 0 at points (N, 3) of the box; differentiable in params."""
        return self.activate(trilinear(params["density"], points)[:, 0])

    def feature(self, params: Params, points: Tensor) -> Tensor:
        """Raw features (N, features) at points (N, 3); differentiable in params."""
        return trilinear(params["features"], points)

    def activate(self, g: Tensor) -> Tensor:
        """Raw grid values to density per unit of length."""
        return self.sharpness * F.softplus(g + self.shift)


def trilinear(grid: Tensor, points: Tensor) -> Tensor:
    """Values (N, C) of a grid (1, C, Z, Y, X) at points (N, 3); outside the box those of its nearest face.

    `grid_sample` on the CPU uses one thread per batch entry, so the points are dealt to one entry per thread.
    """
    n = len(points)
    parts = torch.get_num_threads() if grid.device.type == "cpu" else 1
    dealt = F.pad(points, (0, 0, 0, -n % parts)).view(parts, 1, 1, -1, 3)
    values = F.grid_sample(grid.expand(parts, -1, -1, -1, -1), dealt, padding_mode="border", align_corners=True)
    return values.permute(0, 4, 1, 2, 3).reshape(-1, grid.shape[1])[:n]
