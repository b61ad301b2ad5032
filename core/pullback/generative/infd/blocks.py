"""Blocks that the autoencoder and its renderers share."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

GROUPS = 32
"""The number of groups of a group norm, unless there are fewer channels."""


def norm(channels: int, grouped: bool) -> nn.Module:
    """Return a group norm if `grouped`, and the identity otherwise."""
    return nn.GroupNorm(min(GROUPS, channels), channels, eps=1e-6) if grouped else nn.Identity()


class Residual(nn.Module):
    """Two 3 x 3 convolutions, each after a norm and SiLU, added to their input.

    Args:
        channels: Channels of the input.
        out: Channels of the output.
        grouped: Whether to use group norms.
    """

    def __init__(self, channels: int, out: int, grouped: bool):
        super().__init__()
        self.norm1, self.norm2 = norm(channels, grouped), norm(out, grouped)
        self.conv1 = nn.Conv2d(channels, out, 3, padding=1)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1)
        self.skip = nn.Identity() if out == channels else nn.Conv2d(channels, out, 1)
        if not grouped:  # a network without norms trains stably if its blocks start as the identity
            nn.init.zeros_(self.conv2.weight)
            nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class Attention(nn.Module):
    """Self-attention between all positions, with one head, added to its input."""

    def __init__(self, channels: int, grouped: bool):
        super().__init__()
        self.norm = norm(channels, grouped)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.norm(x)).flatten(2).mT.chunk(3, -1)
        return x + self.out(F.scaled_dot_product_attention(q, k, v).mT.unflatten(2, x.shape[2:]))
