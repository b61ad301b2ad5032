"""Heads: the distribution of a pixel, from the outputs of the network at its place.

A pixel's value is a whole number, its level, below `levels`. As a signal it lies in [-1, 1]. All distributions sum to 1 over the
levels: the mixtures are of logistic distributions whose tails belong to the lowest and the highest level (PixelCNN++).
"""

from __future__ import annotations

import math
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

SHARPEST = -7.0
"""The lowest logarithm of a logistic distribution's scale."""


class Head(Protocol):
    """The distribution of a pixel.

    Attributes:
        channels: Channels of the picture.
        levels: The number of levels of a channel.
        outputs: Channels of the network's output.
    """

    channels: int
    levels: int
    outputs: int

    def log_prob(self, outputs: Tensor, values: Tensor) -> Tensor:
        """Return the log probabilities (B, H, W), in nats, of pixels.

        Args:
            outputs: What the network says of them, (B, outputs, H, W).
            values: Their levels (B, channels, H, W), as integers.
        """
        ...

    def sample(self, outputs: Tensor, generator: Generator) -> Tensor:
        """Return random levels (B, channels), as int64, for what the network says of one pixel, (B, outputs)."""
        ...


def signal(values: Tensor, levels: int, like: Tensor | None = None) -> Tensor:
    """Return levels as signals in [-1, 1], in float32 or in the precision of another tensor."""
    values = values.float() if like is None else values.to(like)
    return 2 * values / (levels - 1) - 1


class BinaryHead:
    """Black or white, by a softmax of two outputs."""

    channels, levels, outputs = 1, 2, 2

    def log_prob(self, outputs: Tensor, values: Tensor) -> Tensor:
        return F.log_softmax(outputs, 1).gather(1, values.long())[:, 0]

    def sample(self, outputs: Tensor, generator: Generator) -> Tensor:
        return _choice(outputs, generator)[:, None]


class GreyHead:
    """A mixture of discretised logistic distributions.

    Args:
        mixtures: The number of distributions.
        levels: The number of levels.
    """

    channels = 1

    def __init__(self, mixtures: int, levels: int):
        self.levels, self.outputs = levels, 3 * mixtures

    def log_prob(self, outputs: Tensor, values: Tensor) -> Tensor:
        weights, means, scales = outputs.chunk(3, 1)
        parts = _discretised(values, means, scales, self.levels)
        return (F.log_softmax(weights, 1) + parts).logsumexp(1)

    def sample(self, outputs: Tensor, generator: Generator) -> Tensor:
        weights, means, scales = outputs.chunk(3, 1)
        which = _choice(weights, generator)[:, None]
        return _logistic(means.gather(1, which), scales.gather(1, which), self.levels, generator)


class ColourHead:
    """A mixture of products of discretised logistic distributions. Green's means follow red, and blue's red and green.

    Args:
        mixtures: The number of products.
        levels: The number of levels of a channel.
    """

    channels = 3

    def __init__(self, mixtures: int, levels: int):
        self.mixtures, self.levels, self.outputs = mixtures, levels, 10 * mixtures

    def log_prob(self, outputs: Tensor, values: Tensor) -> Tensor:
        weights, means, scales, slopes = self._split(outputs)
        parts = F.log_softmax(weights, 1)
        seen = signal(values, self.levels, outputs)[:, :, None]
        for channel in range(3):
            mean = self._mean(means, slopes, channel, seen)
            parts = parts + _discretised(values[:, channel : channel + 1], mean, scales[:, channel], self.levels)
        return parts.logsumexp(1)

    def sample(self, outputs: Tensor, generator: Generator) -> Tensor:
        weights, *rest = self._split(outputs)
        which = _choice(weights, generator)[:, None, None].expand(-1, 3, 1)
        means, scales, slopes = (each.gather(2, which) for each in rest)
        seen = torch.zeros_like(means)
        values = []
        for channel in range(3):
            mean = self._mean(means, slopes, channel, seen)
            values.append(_logistic(mean, scales[:, channel], self.levels, generator))
            seen[:, channel] = signal(values[-1], self.levels, outputs)
        return torch.cat(values, 1)

    def _split(self, outputs: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Weights (B, mixtures, ...), means, scales and slopes (B, 3, mixtures, ...)."""
        weights, rest = outputs[:, : self.mixtures], outputs[:, self.mixtures :]
        means, scales, slopes = (each.unflatten(1, (3, self.mixtures)) for each in rest.chunk(3, 1))
        return weights, means, scales, slopes.tanh()

    def _mean(self, means: Tensor, slopes: Tensor, channel: int, seen: Tensor) -> Tensor:
        """The means (B, mixtures, ...) of a channel, given the signals (B, 3, 1, ...) of those before it."""
        if channel == 0:
            return means[:, 0]
        if channel == 1:
            return means[:, 1] + slopes[:, 0] * seen[:, 0]
        return means[:, 2] + slopes[:, 1] * seen[:, 0] + slopes[:, 2] * seen[:, 1]


def _discretised(values: Tensor, mean: Tensor, log_scale: Tensor, levels: int) -> Tensor:
    """Log probabilities of levels (B, 1, ...) under logistic distributions (B, mixtures, ...).

    A level's probability is S(a) - S(b), with the logistic function S at the upper and the lower end of its bin. Its logarithm
    is log S(a) + log S(-b) + log(1 - exp(b - a)), which is accurate however small it is; so, other than in PixelCNN++, no
    approximation is needed.
    """
    sharpness = (-log_scale.clamp(min=SHARPEST)).exp()
    half = 1 / (levels - 1)
    centred = signal(values, levels, mean) - mean
    upper = F.logsigmoid((centred + half) * sharpness)
    lower = F.logsigmoid((half - centred) * sharpness)
    within = torch.log(-torch.expm1(-2 * half * sharpness))
    lowest, highest = values == 0, values == levels - 1
    zero = torch.zeros_like(within)
    return (
        torch.where(highest, zero, upper)
        + torch.where(lowest, zero, lower)
        + torch.where(lowest | highest, zero, within)
    )


def _logistic(mean: Tensor, log_scale: Tensor, levels: int, generator: Generator) -> Tensor:
    """Levels drawn from a discretised logistic distribution: those nearest to values drawn from the logistic one."""
    drawn = _uniform(mean, generator)
    x = mean + log_scale.clamp(min=SHARPEST).exp() * (drawn.log() - (-drawn).log1p())
    return ((x + 1) / 2 * (levels - 1)).round().clamp(0, levels - 1).long()


def _choice(logits: Tensor, generator: Generator) -> Tensor:
    """Random numbers (B,) of categories, for logits (B, categories)."""
    return (logits - (-_uniform(logits, generator).log()).log()).argmax(1)


def _uniform(like: Tensor, generator: Generator) -> Tensor:
    """Numbers between 0 and 1, neither of which occurs, drawn on the CPU and in float64 for the same values everywhere."""
    drawn = torch.rand(like.shape, generator=generator, dtype=torch.float64)
    smallest = math.ulp(1.0) / 2
    return drawn.clamp(smallest, 1 - smallest).to(like.device)
