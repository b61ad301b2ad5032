"""Schedules: grids of sigma, the tables of trained models, and RePaint walks over a grid.

A grid is a float64 tensor (N + 1,), strictly decreasing, whose last entry is 0: N denoising steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_STEPS = 10_000


def _counted(steps: int) -> int:
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"steps is {steps}; it must be between 1 and {MAX_STEPS}")
    return steps


def _checked(steps: int, sigma_min: float, sigma_max: float) -> int:
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"sigma runs from {sigma_max} to {sigma_min}; it must fall, and end above 0")
    return _counted(steps)


def _ended(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Karras et al. 2022, eq. 5: evenly spaced in sigma^(1 / rho)."""
    ramp = torch.linspace(0, 1, _checked(steps, sigma_min, sigma_max), dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _ended((high + ramp * (low - high)) ** rho)


def log_linear(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Evenly spaced in ln sigma."""
    ramp = torch.linspace(0, 1, _checked(steps, sigma_min, sigma_max), dtype=torch.float64)
    return _ended(sigma_max * (sigma_min / sigma_max) ** ramp)


def flow(steps: int, shift: float = 1.0, t_max: float = 0.999) -> Tensor:
    """Evenly spaced in the flow time t = sigma / (1 + sigma), from t_max to 0, after the time shift of SD3.

    Esser et al. 2024, eq. 23: t <- shift t / (1 + (shift - 1) t), which multiplies sigma by `shift`.
    """
    t = torch.linspace(t_max, 0, _counted(steps) + 1, dtype=torch.float64)
    return shift * t / (1 - t)


def vp_table(beta_start: float = 0.00085, beta_end: float = 0.012, count: int = 1000, power: float = 2.0) -> Tensor:
    """sigma_t of a variance-preserving training schedule, (count,) float64, increasing.

    beta is evenly spaced in beta^(1 / power): the defaults are Stable Diffusion's; power 1 is DDPM's linear table.
    """
    beta = torch.linspace(beta_start ** (1 / power), beta_end ** (1 / power), count, dtype=torch.float64) ** power
    return table_of(torch.cumprod(1 - beta, 0))


def table_of(alphas_cumprod: Tensor) -> Tensor:
    """sigma_t = sqrt((1 - abar_t) / abar_t) of a table of abar_t, in float64."""
    abar = alphas_cumprod.double()
    return ((1 - abar) / abar).sqrt()


def from_table(table: Tensor, steps: int, spacing: str = "leading", offset: int = 1) -> Tensor:
    """The sigmas of `steps` entries of a training table, spaced as diffusers' schedulers space them.

    "leading": every (count // steps)-th entry from `offset` on (SD's DDIM); "trailing": backwards from the last.
    """
    count = len(table)
    if not 1 <= steps <= count:
        raise ValueError(f"steps is {steps}; this model's table has {count} entries, so 1 to {count}")
    if spacing == "leading":
        index = torch.arange(steps).flip(0) * (count // steps) + min(offset, count - 1 - (steps - 1) * (count // steps))
    elif spacing == "trailing":
        index = torch.round(count - torch.arange(steps, dtype=torch.float64) * (count / steps)).long() - 1
    else:
        raise ValueError(f"spacing is {spacing!r}; it must be 'leading' or 'trailing'")
    return _ended(table[index])


def time_in_table(table: Tensor, sigma: Tensor) -> Tensor:
    """The fractional index of sigma in an increasing table, linear in ln sigma; clamped to the table. Shape of sigma."""
    log, target = table.log().to(sigma), sigma.log()
    high = torch.searchsorted(log, target).clamp(1, len(log) - 1)
    low = high - 1
    fraction = (target - log[low]) / (log[high] - log[low])
    return (low + fraction).clamp(0, len(table) - 1)


def repaint(steps: int, jump: int = 1, repeats: int = 1) -> list[tuple[int, int]]:
    """The RePaint walk over a grid of N = `steps` steps: moves (from, to) between grid indices, 0 the noisiest.

    After each `jump` reverse moves the walk returns `jump` indices, `repeats` - 1 times; the last block, whose end is
    sigma = 0, is walked once. With jump 1 that is algorithm 1 of Lugmayr et al. 2022; the longer jumps of their code come
    as often, but end on multiples of `jump` counted from one step before the end. Reverse moves (to = from + 1) cost a
    network evaluation, forward moves none; where jump divides N there are N + (repeats - 1)(N - jump) of the former.
    """
    _counted(steps)
    if not 1 <= jump <= steps or repeats < 1:
        raise ValueError(
            f"repaint is ({jump}, {repeats}); jump must be in 1 to {steps} (the steps) and repeats at least 1"
        )
    if repeats * steps > 10 * MAX_STEPS:
        raise ValueError(f"repaint repeats {repeats} times over {steps} steps; at most {10 * MAX_STEPS // steps} times")
    walk: list[tuple[int, int]] = []
    for start in range(0, steps, jump):
        stop = min(start + jump, steps)
        down = [(i, i + 1) for i in range(start, stop)]
        up = [(i, i - 1) for i in range(stop, start, -1)]
        again = repeats - 1 if stop < steps else 0
        walk += (down + up) * again + down
    return walk


def evaluations(walk: list[tuple[int, int]]) -> int:
    """How many of a walk's moves are reverse, each one evaluation of the denoiser per view."""
    return sum(to > start for start, to in walk)
