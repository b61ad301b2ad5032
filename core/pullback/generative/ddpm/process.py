"""The forward process: noise is added to pictures in T steps, and what is known of x_{t-1} given x_t and x_0.

The letters are those of Ho et al. 2020. Pictures are (B, C, H, W) with values in [-1, 1], and times t are (B,) whole numbers
from 1 to T. All tables are float64 and start at t = 0, where the picture is x_0 itself. Tables and times stay on the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from ...schedules import table_of


def linear(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return variances beta_1 to beta_T, evenly spaced; by default the paper's."""
    return torch.linspace(first, last, steps, dtype=torch.float64)


def quadratic(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return variances that are evenly spaced in their square roots, as latent diffusion has them ("scaled_linear")."""
    return torch.linspace(first**0.5, last**0.5, steps, dtype=torch.float64) ** 2


def cosine(steps: int = 1000, first: float = 1e-4, last: float = 0.02) -> Tensor:
    """Return the variances of the cosine schedule (Nichol & Dhariwal 2021, eq. 17), whatever `first` and `last` are."""
    time = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    abar = torch.cos((time + 0.008) / 1.008 * torch.pi / 2) ** 2
    return (1 - abar[1:] / abar[:-1]).clamp(max=0.999)


SCHEDULES: dict[str, Callable[[int, float, float], Tensor]] = {
    "linear": linear, "quadratic": quadratic, "cosine": cosine,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Process:
    """The tables of a forward process.

    Args:
        betas: The variances beta_1 to beta_T, (T,) float64.
        times: What the network is told of the steps 1 to T, (T,); by default t - 1, as the paper's code counts.
    """

    betas: Tensor
    times: Tensor | None = None

    @property
    def steps(self) -> int:
        """The number of steps T."""
        return len(self.betas)

    @cached_property
    def beta(self) -> Tensor:
        """beta_t, (T + 1,)."""
        return torch.cat([self.betas.new_zeros(1), self.betas])

    @cached_property
    def abar(self) -> Tensor:
        """The product of 1 - beta_s over s up to t, (T + 1,)."""
        return torch.cumprod(1 - self.beta, 0)

    @cached_property
    def posterior_variance(self) -> Tensor:
        """The variance of q(x_{t-1} | x_t, x_0), beta~_t (eq. 3.7), (T + 1,); 0 at t = 1, where x_0 is known."""
        before = torch.cat([self.abar[:1], self.abar[:-1]])
        return torch.cat([self.beta[:1], ((1 - before) / (1 - self.abar) * self.beta)[1:]])

    @cached_property
    def sigma(self) -> Tensor:
        """The noise level of x_t / sqrt(abar_t) = x_0 + sigma_t eps, (T + 1,)."""
        return table_of(self.abar)

    def time(self, t: Tensor) -> Tensor:
        """Return what the network is told of steps t."""
        return t - 1 if self.times is None else self.times[t - 1]

    def spaced(self, steps: int) -> Process:
        """Return the process of fewer steps, evenly chosen of these (Nichol & Dhariwal 2021, section 4).

        Raises:
            ValueError: If there are not so many.
        """
        if not 1 <= steps <= self.steps:
            raise ValueError(f"{steps} steps cannot be chosen of {self.steps}: choose 1 to {self.steps}")
        if steps == self.steps:
            return self
        kept = torch.linspace(1 if steps > 1 else self.steps, self.steps, steps, dtype=torch.float64).round().long()
        abar = torch.cat([self.abar[:1], self.abar[kept]])
        return Process(1 - abar[1:] / abar[:-1], self.time(kept))


def at(table: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """Return a table's values at times t, (B, 1, 1, 1), on the device and in the type of x."""
    return table[t].to(x.dtype).to(x.device).reshape(-1, *[1] * (x.ndim - 1))


def diffuse(process: Process, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """Return x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps (eq. 3.4).

    Args:
        process: The process.
        x0: Pictures (B, C, H, W).
        t: Times (B,), 0 to T.
        eps: Unit-normal noise like x0.
    """
    abar = process.abar
    return at(abar.sqrt(), t, x0) * x0 + at((1 - abar).sqrt(), t, x0) * eps


def posterior_weights(process: Process) -> tuple[Tensor, Tensor]:
    """Return the tables of the factors of x_0 and x_t in the mean of q(x_{t-1} | x_t, x_0), (T + 1,) each (eq. 3.7)."""
    beta, abar = process.beta, process.abar
    before = torch.cat([abar[:1], abar[:-1]])
    of_x0, of_x = before.sqrt() * beta / (1 - abar), (1 - beta).sqrt() * (1 - before) / (1 - abar)
    return torch.cat([abar[:1], of_x0[1:]]), torch.cat([beta[:1], of_x[1:]])  # at t = 0 they are never asked for


def posterior_mean(process: Process, x0: Tensor, x: Tensor, t: Tensor) -> Tensor:
    """Return the mean of q(x_{t-1} | x_t, x_0), mu~_t (eq. 3.7).

    Args:
        process: The process.
        x0: Pictures (B, C, H, W).
        x: Noisy pictures x_t.
        t: Times (B,), 1 to T.
    """
    of_x0, of_x = posterior_weights(process)
    return at(of_x0, t, x) * x0 + at(of_x, t, x) * x


def x0_of_eps(process: Process, x: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """Return the picture x_0 that x_t was made of with the noise eps (eq. 3.15); the arguments are those of `diffuse`."""
    abar = process.abar
    return (x - at((1 - abar).sqrt(), t, x) * eps) / at(abar.sqrt(), t, x)


def x0_of_mean(process: Process, x: Tensor, t: Tensor, mean: Tensor) -> Tensor:
    """Return the picture x_0 of which `posterior_mean` makes this mean; the other arguments are those of that."""
    of_x0, of_x = posterior_weights(process)
    return (mean - at(of_x, t, x) * x) / at(of_x0, t, x)
