"""Occupancy: which parts of a voxel field are not empty, so that rendering can skip the rest."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def occupied(density: Tensor, threshold: float, grow: int = 1) -> Tensor:
    """Return which grid points have density, or lie within `grow` grid points of one that has.

    Args:
        density: Density at the grid points, (R, R, R) as z, y, x.
        threshold: The least density that counts.
        grow: How many grid points around a dense one are included. With 1 or more, every place where trilinear
            interpolation can exceed the threshold is covered, and the surface has room to move.

    Returns:
        A mask (R, R, R).
    """
    size = 2 * grow + 1
    return F.max_pool3d((density >= threshold).float()[None, None], size, 1, grow)[0, 0] > 0


def inside(mask: Tensor, points: Tensor) -> Tensor:
    """Return whether the grid point nearest to each point is occupied.

    Args:
        mask: A mask (R, R, R) from `occupied`.
        points: Points (..., 3) of [-1, 1]^3 as x, y, z.
    """
    r = mask.shape[0]
    index = ((points + 1) * (0.5 * (r - 1))).round_().clamp_(0, r - 1).long()
    return mask.view(-1)[(index[..., 2] * r + index[..., 1]) * r + index[..., 0]]
