"""Occupancy: which cells of a voxel field can be seen at all, so that empty space is skipped."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def occupied(density: Tensor, threshold: float, grow: int = 1) -> Tensor:
    """(R, R, R) bool, [z, y, x]: cells around grid points whose density reaches `threshold`, grown by `grow` cells.

    density: (R, R, R) at the grid points. With grow >= 1 every place where trilinear interpolation could
    exceed the threshold is covered, and the surface has room to move.
    """
    size = 2 * grow + 1
    return F.max_pool3d((density >= threshold).float()[None, None], size, 1, grow)[0, 0] > 0


def inside(mask: Tensor, points: Tensor) -> Tensor:
    """(...) bool: whether the grid point nearest to each point (..., 3) of [-1, 1]^3 is occupied."""
    r = mask.shape[0]
    index = ((points + 1) * (0.5 * (r - 1))).round_().clamp_(0, r - 1).long()
    return mask.view(-1)[(index[..., 2] * r + index[..., 1]) * r + index[..., 0]]
