"""Emission-absorption rendering along rays (Max 1995).

A ray is cut into N equal pieces between the points where it enters and leaves the ball of radius `BOUND`. The optical
thickness tau of a piece is its density times its length, its opacity is alpha = 1 - exp(-tau), and its weight is alpha times
the light that the pieces before it let through. The weights of a ray sum to its opacity.
"""

from __future__ import annotations

import torch
from torch import Tensor

BOUND = 1.0
"""Radius of the ball that holds the field."""


def chords(origins: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distances (R,) at which rays enter and leave the ball; the two are equal if a ray misses it.

    Args:
        origins: Origins (R, 3).
        directions: Unit directions (R, 3).
    """
    middle = -(origins * directions).sum(-1)
    closest = (origins + middle[:, None] * directions).square().sum(-1)
    half = (BOUND**2 - closest).clamp(min=0).sqrt()
    return (middle - half).clamp(min=0), (middle + half).clamp(min=0)


def samples(origins: Tensor, directions: Tensor, count: int, jitter: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Sample rays, one point per piece.

    Args:
        origins: Origins (R, 3).
        directions: Unit directions (R, 3).
        count: Pieces per ray.
        jitter: The position of the points within their pieces, (R,) in [0, 1). None takes the middle.

    Returns:
        The points (R, count, 3), and the length of the pieces (R,).
    """
    near, far = chords(origins, directions)
    length = (far - near) / count
    offset = 0.5 if jitter is None else jitter[:, None]
    distance = near[:, None] + (torch.arange(count, device=near.device) + offset) * length[:, None]
    return origins[:, None] + distance[..., None] * directions[:, None], length


def weights(tau: Tensor) -> Tensor:
    """Return the weights (R, N) of pieces with optical thickness tau (R, N), at least 0. All gradients are finite.

    Example:
        >>> weights(torch.tensor([[0.6931, 100.0]]))
        tensor([[0.5000, 0.5000]])
    """
    before = torch.cumsum(tau, -1) - tau
    return torch.exp(-before) * -torch.expm1(-tau)


def resampled(edges: Tensor, weights: Tensor, places: Tensor) -> Tensor:
    """Draw distances along rays where their weights are large (NeRF's hierarchical sampling).

    Args:
        edges: The ends of N pieces of each ray, (R, N + 1), rising.
        weights: The weights of the pieces, (R, N).
        places: Where to draw from the cumulative distribution, (R, M) in [0, 1).

    Returns:
        Distances (R, M), spread over the pieces in proportion to their weights, and uniform within a piece.

    Example:
        >>> edges, middle = torch.tensor([[0.0, 1.0, 2.0]]), torch.tensor([[0.25, 0.75]])
        >>> resampled(edges, torch.tensor([[0.0, 1.0]]), middle).round(decimals=2)
        tensor([[1.2500, 1.7500]])
    """
    share = weights + 1e-5  # a ray that hits nothing is sampled evenly
    below = torch.cumsum(share / share.sum(-1, keepdim=True), -1)
    piece = torch.searchsorted(below, places.contiguous(), right=True).clamp(max=weights.shape[1] - 1)
    end = below.gather(1, piece)
    begin = torch.where(piece > 0, below.gather(1, (piece - 1).clamp(min=0)), torch.zeros_like(end))
    part = ((places - begin) / (end - begin).clamp(min=1e-9)).clamp(0, 1)
    return torch.lerp(edges.gather(1, piece), edges.gather(1, piece + 1), part)
