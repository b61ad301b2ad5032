"""The reverse process p(x_{t-1} | x_t), a Gaussian whose mean and variance follow from what a network predicts.

The network may predict the noise eps (`eps`), the picture (`x0`) or the mean of the posterior (`mean`). The variance is fixed,
beta_t (`large`) or beta~_t (`small`), or predicted (`learned`). Ho et al. 2020, section 3.2 (3.3.2 in the thesis).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from .process import Process, at, posterior_mean, x0_of_eps, x0_of_mean

Network = Callable[[Tensor, Tensor], Tensor]
"""Noisy pictures x_t (B, C, H, W) and their times (B,), counted from 0 -> what is predicted (B, C or 2 C, H, W)."""
Predicted = Literal["eps", "x0", "mean"]
Variance = Literal["large", "small", "learned"]


@dataclass(frozen=True)
class Gaussian:
    """p(x_{t-1} | x_t).

    Args:
        mean: Its mean, (B, C, H, W).
        log_variance: The logarithm of its variance, that broadcasts with the mean.
        x0: The picture that the network expects.
    """

    mean: Tensor
    log_variance: Tensor
    x0: Tensor


@dataclass(frozen=True, eq=False)
class Reverse:
    """The reverse process of a network.

    Args:
        process: The forward process.
        network: The network.
        predicted: What it predicts.
        variance: The variance. At t = 1, where beta~ is 0, both fixed ones are beta~_2, as in the paper's code.
        clip: Whether expected pictures are clamped to [-1, 1], as the paper samples and measures.
    """

    process: Process
    network: Network
    predicted: Predicted = "eps"
    variance: Variance = "large"
    clip: bool = True

    def spaced(self, steps: int) -> Reverse:
        """Return the reverse process of fewer steps (`Process.spaced`)."""
        return replace(self, process=self.process.spaced(steps))

    def raw(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the network predicts of x_t, in x's type, and the logarithm of the variance."""
        out = self.network(x, self.process.time(t)).to(x.dtype)
        beta, small = self.process.beta, self.process.posterior_variance
        first = small[min(2, self.process.steps)] if self.process.steps > 1 else beta[1]
        fixed = (small if self.variance == "small" else beta).clone()
        fixed[:2] = first
        if self.variance != "learned":
            return out, at(fixed.log(), t, x)
        out, ratio = out.chunk(2, 1)
        return out, at(fixed.log(), t, x) + ratio

    def expected(self, x: Tensor, t: Tensor, out: Tensor) -> Tensor:
        """Return the picture x_0 that a prediction of `raw` means."""
        if self.predicted == "eps":
            x0 = x0_of_eps(self.process, x, t, out)
        else:
            x0 = x0_of_mean(self.process, x, t, out) if self.predicted == "mean" else out
        return x0.clamp(-1, 1) if self.clip else x0

    def __call__(self, x: Tensor, t: Tensor) -> Gaussian:
        """Return p(x_{t-1} | x_t).

        Args:
            x: Noisy pictures x_t, (B, C, H, W).
            t: Times (B,), 1 to T.
        """
        out, log_variance = self.raw(x, t)
        x0 = self.expected(x, t, out)
        return Gaussian(posterior_mean(self.process, x0, x, t), log_variance, x0)


def target(process: Process, predicted: Predicted, x0: Tensor, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """Return what a network should predict of x_t, which was made of x_0 and the noise eps."""
    if predicted == "eps":
        return eps
    return x0 if predicted == "x0" else posterior_mean(process, x0, x, t)


def times(count: int, t: int) -> Tensor:
    """Return the same time for all pictures, (count,)."""
    return torch.full((count,), t, dtype=torch.long)
