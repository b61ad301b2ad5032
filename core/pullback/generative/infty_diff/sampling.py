"""Sampling in ∞-Diff's own space, as in the paper: the state stays smoothed, and the Wiener inverse is taken once, at the end."""

from __future__ import annotations

import torch
from torch import Tensor

from ...schedules import log_linear
from .coarse import SIZE
from .denoiser import SHRINK, added
from .model import LOW, TOP
from .mollifier import STD, WIENER_NOISE, mollify, wiener
from .network import Condition, Network


def levels(height: int, width: int, steps: int) -> Tensor:
    """Return falling noise levels (steps + 1,) for pictures of a size: in proportion to their shorter side."""
    scale = min(height, width) / SIZE
    return log_linear(steps, LOW, TOP * scale)


@torch.no_grad()
def sampled_mollified(
    network: Network, noise: Tensor, given: Condition, z: Tensor, steps: int = 30, std: float = STD,
    inverse: float = WIENER_NOISE, shrink: float = SHRINK,
) -> Tensor:  # fmt: skip
    """Sample pictures by DDIM on the smoothed state y = T x, starting at T noise.

    Args:
        network, given, z, std, inverse, shrink: As in `denoiser.denoise`.
        noise: White noise (B, C, H, W).
        steps: Noise levels to go through.

    Returns:
        Pictures (B, C, H, W) in [-1, 1].
    """
    height, width = noise.shape[-2:]
    sigmas = levels(height, width, steps).tolist()
    y = mollify(sigmas[0] * noise, std)
    for sigma, lower in zip(sigmas[:-1], sigmas[1:], strict=True):
        level = torch.full((len(y),), sigma).to(y)
        b, more = added(network, wiener(y, std, 0.0), level, given, z, std, shrink)
        clean = mollify(b, std) + more
        y = clean + lower / sigma * (y - clean)
    return wiener(y, std, inverse).clamp(-1, 1)
