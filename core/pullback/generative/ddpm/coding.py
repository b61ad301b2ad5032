"""Progressive lossy coding: what a receiver has been sent, and what it can show, at every step (Ho et al. 2020, section 4.3).

The variational bound is the length of a code that sends x_T, then x_{T-1}, ..., and at last x_0. After x_t, the receiver shows
the picture that the network expects. It is an account of the bits, not a file format: no practical procedure is known that sends
a sample at the cost of its divergence.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .bound import prior_term, term
from .process import diffuse
from .reverse import Reverse, times

SCALE = 255 / 2
"""Levels of a file per unit of [-1, 1]."""


@dataclass(frozen=True)
class Code:
    """What pictures cost, and how wrong they are shown, at every step.

    Args:
        bits: L_0, L_1, ..., L_T of every picture, in bits per value, (B, T + 1) float64. L_t is what x_t costs after x_{t+1}.
        errors: Mean squared errors of the pictures that are expected of x_1, ..., x_T, (B, T) float64, in [-1, 1].
    """

    bits: Tensor
    errors: Tensor

    @property
    def bits_per_dim(self) -> Tensor:
        """The whole bound of every picture, (B,): the length of a lossless code in bits per value."""
        return self.bits.sum(1)

    @property
    def rate(self) -> Tensor:
        """Bits per value that have been sent when x_1, ..., x_T is known, (T,): mean over the pictures."""
        return self.bits.mean(0).flip(0).cumsum(0).flip(0)[1:]

    @property
    def distortion(self) -> Tensor:
        """The root mean squared error of what is shown then, (T,), on a scale of 0 to 255."""
        return SCALE * self.errors.mean(0).sqrt()

    @property
    def remainder(self) -> float:
        """L_0, what a lossless picture costs after x_1, in bits per value: the paper's "distortion" of 1.97."""
        return float(self.bits[:, 0].mean())


@torch.no_grad()
def code(reverse: Reverse, x0: Tensor, random: Generator, tick: Callable[[int, int], None] = lambda *_: None) -> Code:
    """Measure the code of pictures: T evaluations of the network for each.

    Args:
        reverse: The reverse process.
        x0: Pictures of 256 levels in [-1, 1], (B, C, H, W).
        random: Draws the noise, anew for every step.
        tick: Called after every step with how many are done, and how many there are; it may raise to stop.
    """
    steps = reverse.process.steps
    bits, errors = [prior_term(reverse.process, x0)], []
    for t in range(steps, 0, -1):
        eps = torch.randn(x0.shape, generator=random, dtype=x0.dtype).to(x0.device)
        cost, p = term(reverse, x0, times(len(x0), t), eps)
        bits.append(cost)
        errors.append((p.x0 - x0).double().square().flatten(1).mean(1))
        tick(steps - t + 1, steps)
    return Code(torch.stack(bits[::-1], 1).double().cpu(), torch.stack(errors[::-1], 1).cpu())


@torch.no_grad()
def received(reverse: Reverse, x0: Tensor, steps: Sequence[int], random: Generator) -> Tensor:
    """Return what the receiver shows after x_t, for each of some times t.

    Args:
        reverse: The reverse process.
        x0: Pictures (B, C, H, W).
        steps: The times, 1 to T.
        random: Draws the noise, which is the same at all times.

    Returns:
        Pictures (len(steps), B, C, H, W).
    """
    eps = torch.randn(x0.shape, generator=random, dtype=x0.dtype).to(x0.device)
    each = (times(len(x0), t) for t in steps)
    return torch.stack([reverse(diffuse(reverse.process, x0, t, eps), t).x0 for t in each])
