"""The .ply file of 3D Gaussians (Kerbl et al. 2023), which viewers and editors of splats read.

It stores the logarithms of the standard deviations, the logits of the opacities, rotations as quaternions (w, x, y, z), and
colours as coefficients of the constant spherical harmonic, whose value is 1 / (2 sqrt(pi)): red is
0.5 + f_dc_0 / (2 sqrt(pi)), and likewise for green and blue.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
import torch.nn.functional as F

from .splats import MAX_OPACITY, Gaussians

CONSTANT = 1 / (2 * math.sqrt(math.pi))
"""The value of the constant spherical harmonic."""
COLUMNS = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "opacity"),
    *("scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)
"""The properties of a vertex, in the order of the file."""


def write_ply(path: Path, gaussians: Gaussians) -> None:
    """Write a .ply file.

    Args:
        path: The file.
        gaussians: Gaussians whose colours are display RGB (N, 3) in [0, 1].

    Raises:
        OSError: If the file cannot be written.
    """
    from plyfile import PlyData, PlyElement  # imported here, because nothing else needs it

    rows = torch.cat(
        [
            gaussians.mean,
            torch.zeros_like(gaussians.mean),  # normals, which the format has but no program uses
            (gaussians.colour.to(gaussians.mean) - 0.5) / CONSTANT,
            torch.logit(gaussians.opacity.clamp(1 - MAX_OPACITY, MAX_OPACITY))[:, None],
            gaussians.scale.log(),
            F.normalize(gaussians.rotation, dim=-1),
        ],
        -1,
    )
    table = rows.detach().cpu().float().numpy().astype("<f4").view([(name, "<f4") for name in COLUMNS])[:, 0]
    PlyData([PlyElement.describe(table, "vertex")]).write(str(path))
