"""Voxels: density and features on a grid over [-1, 1]^3, trilinear between grid points, after SJC's voxNeRF.

The grid holds raw values g. The density is sharpness * softplus(g + shift), per unit of length. Grids are stored as
(1, C, Z, Y, X), the order in which `grid_sample` looks up a point (x, y, z), and the outermost grid points lie on the faces
of the box. (In voxNeRF, grid points are the centres of cells, and a learned factor on g takes the place of `sharpness`.)
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

FILL = -7.0, 3.0
"""Raw densities of empty and of full space, in a field that begins as a given shape."""


@dataclass(frozen=True)
class Voxels:
    """A voxel field: its sizes, and the soft ball g = blob (1 - |x| / radius) that it starts as.

    DDRep starts in the same way, after ProlificDreamer, whose `blob` is 10 and which has no `sharpness`. The parameters are the
    raw grids "density", (1, 1, R, R, R), and "features", (1, features, R, R, R).

    Args:
        resolution: Grid points R along each side of the box.
        features: Values per grid point in addition to the density.
        shift: Added to the raw density; -1 as in SJC.
        sharpness: Scales the density. At 20 a single voxel can be opaque.
        blob: The raw density in the middle of the ball.
        radius: The distance from the middle at which the raw density falls to 0.
    """

    resolution: Annotated[int, Meta(ge=2, le=256)] = 48
    features: Count = 3
    shift: Annotated[float, Meta(ge=-100, le=100)] = -1.0
    sharpness: Positive = 20.0
    blob: Annotated[float, Meta(ge=-1000, le=1000)] = 3.0
    radius: Positive = 0.5

    def init(self, generator: Generator) -> Params:
        """Return the ball with zero features. Draws no random numbers."""
        line = torch.linspace(-1, 1, self.resolution)
        norm = torch.stack(torch.meshgrid(line, line, line, indexing="ij")).norm(dim=0)
        shape = (1, self.features, *norm.shape)
        return {"density": (self.blob * (1 - norm / self.radius))[None, None], "features": torch.zeros(shape)}

    def points(self) -> Tensor:
        """Return the grid points (R, R, R, 3) as x, y, z, in the order of the grids."""
        line = torch.linspace(-1, 1, self.resolution)
        return torch.stack(torch.meshgrid(line, line, line, indexing="ij")[::-1], -1)

    def density_at(self, params: Params, points: Tensor) -> Tensor:
        """Return the density (N,), at least 0, at points (N, 3) of the box. Differentiable in params."""
        return self.activate(trilinear(params["density"], points)[:, 0])

    def features_at(self, params: Params, points: Tensor) -> Tensor:
        """Return the features (N, features) at points (N, 3) of the box. Differentiable in params."""
        return trilinear(params["features"], points)

    def activate(self, g: Tensor) -> Tensor:
        """Map raw values g to density per unit of length."""
        return self.sharpness * F.softplus(g + self.shift)


def trilinear(grid: Tensor, points: Tensor) -> Tensor:
    """Interpolate a grid over [-1, 1]^3.

    Args:
        grid: Values (1, C, Z, Y, X).
        points: Points (N, 3) as x, y, z. A point outside the box takes the value of the nearest point of the box.

    Returns:
        Values (N, C).
    """
    n = len(points)
    # `grid_sample` on the CPU uses one thread per batch entry, so each thread gets an entry with a part of the points.
    parts = torch.get_num_threads() if grid.device.type == "cpu" else 1
    batch = F.pad(points, (0, 0, 0, -n % parts)).view(parts, 1, 1, -1, 3)
    values = F.grid_sample(grid.expand(parts, -1, -1, -1, -1), batch, padding_mode="border", align_corners=True)
    return values.permute(0, 4, 1, 2, 3).reshape(-1, grid.shape[1])[:n]
