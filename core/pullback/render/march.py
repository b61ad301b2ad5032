"""March: emission-absorption rendering along rays, sampled only where something is.

A ray is cut into N equal pieces between its entrance into and its exit from the ball of radius `BOUND`.
tau (R, N) is density times length, alpha = 1 - exp(-tau), and the weight of a piece is alpha times what the
pieces before it let through (Max 1995). The weights of a ray add up to its opacity, at most 1.
"""

from __future__ import annotations

import torch
from torch import Tensor

BOUND = 1.0


def chords(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Distances (R,) at which rays (R, 3), with unit directions, enter and leave the ball; equal where they miss."""
    middle = -(origins * directions).sum(-1)
    closest = (origins + middle[:, None] * directions).square().sum(-1)
    half = (BOUND**2 - closest).clamp(min=0).sqrt()
    return (middle - half).clamp(min=0), (middle + half).clamp(min=0)


def samples(origins: Tensor, directions: Tensor, count: int, jitter: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Points (R, count, 3) on rays and the length (R,) of the pieces they stand for.

    jitter: (R,) in [0, 1), the place of the samples within their pieces; None is the middle.
    """
    near, far = chords(origins, directions)
    length = (far - near) / count
    offset = 0.5 if jitter is None else jitter[:, None]
    distance = near[:, None] + (torch.arange(count, device=near.device) + offset) * length[:, None]
    return origins[:, None] + distance[..., None] * directions[:, None], length


def weights(tau: Tensor) -> Tensor:
    """(R, N) weights from optical thickness tau >= 0 (R, N); differentiable, finite gradients everywhere."""
    before = torch.cumsum(tau, -1) - tau
    return torch.exp(-before) * -torch.expm1(-tau)
