"""The parts that the networks are made of: Fourier features, attention with layer norms in front, and token mixing."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PERIODS = 32
"""Frequencies of the embedding of the time."""


def fourier(x: Tensor, octaves: int) -> Tensor:
    """Return coordinates x (..., D) with their sines and cosines at the frequencies pi 2^k, (..., D + 2 D octaves)."""
    waves = x[..., None, :] * (math.pi * 2.0 ** torch.arange(octaves, device=x.device, dtype=x.dtype))[:, None]
    return torch.cat([x, waves.sin().flatten(-2), waves.cos().flatten(-2)], -1)


def clock(time: Tensor) -> Tensor:
    """Return sines and cosines (B, 2 PERIODS) of times (B,), with periods from about 6 to 60,000 steps."""
    rate = torch.exp(-math.log(10_000.0) * torch.arange(PERIODS, device=time.device) / (PERIODS - 1))
    angle = time[:, None].float() * rate
    return torch.cat([angle.sin(), angle.cos()], -1)


class Attention(nn.Module):
    """What tokens take over from others (or from each other), then a multilayer perceptron, each added to the tokens.

    Args:
        width: Channels of the tokens, and of the others.
        heads: Attention heads.
        widening: Width of the perceptron's hidden layer, in widths.
        crossed: Whether there are others; they get a layer norm of their own.
    """

    def __init__(self, width: int, heads: int, widening: int = 1, crossed: bool = False):
        super().__init__()
        self.heads = heads
        self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.norm_others = nn.LayerNorm(width) if crossed else None
        self.query, self.key_value, self.out = (nn.Linear(width, n * width) for n in (1, 2, 1))
        self.mlp = nn.Sequential(nn.Linear(width, widening * width), nn.GELU(), nn.Linear(widening * width, width))

    def forward(self, x: Tensor, others: Tensor | None = None) -> Tensor:
        """Return the new tokens (B, N, width), with or without others (B, M, width)."""
        tokens = self.norm(x)
        given = tokens if others is None or self.norm_others is None else self.norm_others(others)
        query = self._split(self.query(tokens))
        key, value = (self._split(part) for part in self.key_value(given).chunk(2, -1))
        x = x + self.out(_attended(query, key, value).transpose(1, 2).flatten(2))
        return x + self.mlp(self.norm_mlp(x))

    def _split(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Return softmax(Q K^T / sqrt(d)) V of heads (B, heads, N, d)."""
    if query.requires_grad and query.device.type == "cpu":  # the backward pass of the fused form is half as fast there
        weight = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        return weight.to(value.dtype) @ value
    return F.scaled_dot_product_attention(query, key, value)


class Mixer(nn.Module):
    """A block of MLP-Mixer (Tolstikhin et al. 2021): a perceptron along the tokens, then one along the channels.

    Args:
        width: Channels of the tokens.
        tokens: The number of tokens, which is fixed.
        hidden: Hidden units of the perceptron along the tokens.
        widening: Width of the other one's hidden layer, in widths.
    """

    def __init__(self, width: int, tokens: int, hidden: int, widening: int = 2):
        super().__init__()
        self.norm, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.mix = nn.Sequential(nn.Linear(tokens, hidden), nn.GELU(), nn.Linear(hidden, tokens))
        self.mlp = nn.Sequential(nn.Linear(width, widening * width), nn.GELU(), nn.Linear(widening * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Return the new tokens (B, N, width)."""
        x = x + self.mix(self.norm(x).transpose(1, 2)).transpose(1, 2)
        return x + self.mlp(self.norm_mlp(x))
