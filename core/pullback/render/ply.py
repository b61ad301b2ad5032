"""Ply: 3D Gaussians as the .ply file of Kerbl et al. 2023, which viewers and editors of splats read.

Deviations are stored as logarithms, opacities as logits, rotations as quaternions w x y z, and colours as the constant
spherical harmonic, whose value is 1 / (2 sqrt(pi)): red = 0.5 + f_dc_0 times that.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F

from .splats import MOST, Gaussians

CONSTANT = 1 / (2 * math.sqrt(math.pi))
COLUMNS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Write Gaussians whose colours are display RGB (N, 3) in [0, 1]."""
    from plyfile import PlyData, PlyElement  # nothing else needs it

    rows = torch.cat(
        [
            gaussians.mean,
            torch.zeros_like(gaussians.mean),  # the normals, which nobody uses
            (gaussians.colour.to(gaussians.mean) - 0.5) / CONSTANT,
            torch.logit(gaussians.opacity.clamp(1 - MOST, MOST))[:, None],
            gaussians.scale.log(),
            F.normalize(gaussians.rotation, dim=-1),
        ],
        -1,
    )
    table = rows.detach().cpu().float().numpy().astype("<f4").view([(name, "<f4") for name in COLUMNS])[:, 0]
    PlyData([PlyElement.describe(table, "vertex")]).write(str(path))
