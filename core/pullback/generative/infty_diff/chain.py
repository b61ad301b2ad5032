"""The mollified chain of ∞-Diff in closed form: marginals, posterior, and sampling with fresh smoothed noise.

The states are x_t = T (a_t x0 + s_t eps), with a_t² = abar_t and s_t² = 1 - abar_t for a table abar_1, ..., abar_N of a
variance-preserving process, and abar_0 = 1 (Bond-Taylor & Willcocks 2024, section 3.2, eq. 11 and 12). Means follow the usual
diffusion, and every covariance gets T Tᵀ in place of the unit matrix.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .mollifier import STD, mollify

MAX_BETA = 0.999


def cosine_table(steps: int = 1000, offset: float = 0.008) -> Tensor:
    """Return abar_1, ..., abar_N of the cosine schedule (Nichol & Dhariwal 2021, eq. 17), float64."""
    at = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    f = torch.cos((at + offset) / (1 + offset) * math.pi / 2) ** 2
    beta = (1 - f[1:] / f[:-1]).clamp(max=MAX_BETA)
    return torch.cumprod(1 - beta, 0)


@dataclass(frozen=True)
class Posterior:
    """q(x_t-1 | x_t, x0): mean `from_clean` T x0 + `from_noisy` x_t, and covariance `variance` T Tᵀ."""

    from_clean: float
    from_noisy: float
    variance: float


@dataclass(frozen=True)
class Chain:
    """The chain of a table.

    Args:
        table: abar_1, ..., abar_N, falling, float64.
        std: Standard deviation of T in pixels.
    """

    table: Tensor
    std: float = STD

    def abar(self, t: int) -> float:
        """Return abar_t; 1 for t = 0."""
        return 1.0 if t == 0 else float(self.table[t - 1])

    def sigma(self, t: int) -> float:
        """Return the noise level s_t / a_t of the core's terms."""
        return math.sqrt((1 - self.abar(t)) / self.abar(t))

    def diffuse(self, x0: Tensor, t: int, noise: Tensor) -> Tensor:
        """Return x_t for pictures x0 (B, C, H, W) and white noise of the same shape."""
        abar = self.abar(t)
        return mollify(math.sqrt(abar) * x0 + math.sqrt(1 - abar) * noise, self.std)

    def posterior(self, t: int, earlier: int | None = None) -> Posterior:
        """Return q(x_s | x_t, x0) for s = `earlier`, by default t - 1."""
        now, then = self.abar(t), self.abar(t - 1 if earlier is None else earlier)
        alpha = now / then
        return Posterior(
            math.sqrt(then) * (1 - alpha) / (1 - now),
            math.sqrt(alpha) * (1 - then) / (1 - now),
            (1 - then) / (1 - now) * (1 - alpha),
        )

    def ancestral(
        self, clean: Callable[[Tensor, float], Tensor], noise: Tensor, generator: Generator, times: list[int]
    ) -> Tensor:
        """Sample T x0 with fresh smoothed noise at every step.

        Args:
            clean: The estimate of T x0, from y = T (x0 + sigma eps) and sigma.
            noise: White noise (B, C, H, W); sampling starts at T noise.
            generator: Draws the fresh noise.
            times: The times t that are visited, falling, without 0.

        Returns:
            T x0, (B, C, H, W); `mollifier.wiener` makes pictures of it.
        """
        x = mollify(noise, self.std)
        for t, earlier in zip(times, [*times[1:], 0], strict=True):
            found = clean(x / math.sqrt(self.abar(t)), self.sigma(t))
            q = self.posterior(t, earlier)
            x = q.from_clean * found + q.from_noisy * x
            if earlier:
                fresh = torch.randn(x.shape, generator=generator, dtype=x.dtype).to(x.device)
                x = x + math.sqrt(q.variance) * mollify(fresh, self.std)
        return x

    def ddim(self, clean: Callable[[Tensor, float], Tensor], noise: Tensor, times: list[int]) -> Tensor:
        """Sample T x0 without fresh noise; the arguments are those of `ancestral`."""
        x = mollify(noise, self.std)
        for t, earlier in zip(times, [*times[1:], 0], strict=True):
            now, then = self.abar(t), self.abar(earlier)
            found = clean(x / math.sqrt(now), self.sigma(t))
            noisy = (x - math.sqrt(now) * found) / math.sqrt(1 - now)
            x = math.sqrt(then) * found + math.sqrt(1 - then) * noisy
        return x
