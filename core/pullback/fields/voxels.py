"""Voxels: a density and a feature at every point of [-1, 1]^3, trilinear between grid points (SJC's voxNeRF).

density = sharpness * softplus(g + shift), per unit of length; the grids are stored (1, C, Z, Y, X), so that
a point (x, y, z) is looked up in the order that `grid_sample` wants. Grid points lie on the faces of the box.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..types import Params


@dataclass(frozen=True)
class Voxels:
    """Sizes and the start of a voxel field.

    shift: SJC's -1. sharpness: scales density, 20 lets one voxel be opaque. The start is ProlificDreamer's blob,
    g = blob (1 - |x| / radius): a soft ball in the middle (DreamFusion-like fields need one to begin with).
    """

    resolution: int = 48
    features: int = 3
    shift: float = -1.0
    sharpness: float = 20.0
    blob: float = 3.0
    radius: float = 0.5

    def init(self, generator: Generator) -> Params:
        """The blob with zero features; draws nothing."""
        line = torch.linspace(-1, 1, self.resolution)
        norm = torch.stack(torch.meshgrid(line, line, line, indexing="ij")).norm(dim=0)
        shape = (1, self.features, *norm.shape)
        return {"density": (self.blob * (1 - norm / self.radius))[None, None], "features": torch.zeros(shape)}

    def lookup(self, params: Params, points: Tensor) -> tuple[Tensor, Tensor]:
        """Density (N,) >= 0 and raw features (N, features) at points (N, 3); differentiable in params."""
        grid = torch.cat([params["density"], params["features"]], dim=1)
        h = F.grid_sample(grid, points.view(1, 1, 1, -1, 3), padding_mode="border", align_corners=True)
        h = h.view(1 + self.features, -1)
        return self.activate(h[0]), h[1:].T

    def density(self, params: Params, points: Tensor) -> Tensor:
        """Density (N,) alone."""
        h = F.grid_sample(params["density"], points.view(1, 1, 1, -1, 3), padding_mode="border", align_corners=True)
        return self.activate(h.view(-1))

    def activate(self, g: Tensor) -> Tensor:
        """Raw grid values to density per unit of length."""
        return self.sharpness * F.softplus(g + self.shift)
