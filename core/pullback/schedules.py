"""Schedules: noise levels for sampling, the training tables of models, and RePaint walks.

The noise levels of N steps are a float64 tensor (N + 1,) that falls strictly and ends at 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

MAX_STEPS = 10_000
"""The largest number of steps of a run."""


def _check_steps(steps: int) -> None:
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"steps is {steps}; it must be between 1 and {MAX_STEPS}")


def _check_range(steps: int, sigma_min: float, sigma_max: float) -> None:
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"sigma runs from {sigma_max} to {sigma_min}; it must fall, and end above 0")
    _check_steps(steps)


def _with_zero(sigmas: Tensor) -> Tensor:
    return torch.cat([sigmas, sigmas.new_zeros(1)])


def karras(steps: int, sigma_min: float, sigma_max: float, rho: float = 7.0) -> Tensor:
    """Return noise levels evenly spaced in sigma^(1 / rho) (Karras et al. 2022, eq. 5).

    Args:
        steps: The number of steps N, at least 1.
        sigma_min: The last noise level before 0, above 0.
        sigma_max: The first noise level.
        rho: Larger values put more levels near `sigma_min`.

    Returns:
        The noise levels, (N + 1,) float64.

    Raises:
        ValueError: If steps is out of range or the sigmas do not fall.
    """
    _check_range(steps, sigma_min, sigma_max)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    return _with_zero((high + ramp * (low - high)) ** rho)


def log_linear(steps: int, sigma_min: float, sigma_max: float) -> Tensor:
    """Return noise levels evenly spaced in ln sigma. Arguments, result and errors are as in `karras`, without rho.

    Example:
        >>> log_linear(3, 0.1, 10.0)
        tensor([10.0000,  1.0000,  0.1000,  0.0000], dtype=torch.float64)
    """
    _check_range(steps, sigma_min, sigma_max)
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    return _with_zero(sigma_max * (sigma_min / sigma_max) ** ramp)


def flow(steps: int, shift: float = 1.0, t_max: float = 0.999) -> Tensor:
    """Return noise levels evenly spaced in the flow time t = sigma / (1 + sigma), with SD3's time shift.

    The shift t <- shift t / (1 + (shift - 1) t) (Esser et al. 2024, eq. 23) multiplies sigma by `shift`.

    Args:
        steps: The number of steps N, at least 1.
        shift: The time shift; 1 means no shift.
        t_max: The first flow time, below 1.

    Returns:
        The noise levels, (N + 1,) float64.

    Raises:
        ValueError: If steps is out of range.
    """
    _check_steps(steps)
    t = torch.linspace(t_max, 0, steps + 1, dtype=torch.float64)
    return shift * t / (1 - t)


def vp_table(beta_start: float = 0.00085, beta_end: float = 0.012, count: int = 1000, power: float = 2.0) -> Tensor:
    """Return the sigmas of a variance-preserving training schedule, whose beta is evenly spaced in beta^(1 / power).

    Args:
        beta_start: The first beta. The defaults are those of Stable Diffusion.
        beta_end: The last beta.
        count: The number of training steps.
        power: 2 for Stable Diffusion; 1 is DDPM's linear table.

    Returns:
        The table, (count,) float64, rising.
    """
    beta = torch.linspace(beta_start ** (1 / power), beta_end ** (1 / power), count, dtype=torch.float64) ** power
    return table_of(torch.cumprod(1 - beta, 0))


def table_of(alphas_cumprod: Tensor) -> Tensor:
    """Return sigma_t = sqrt((1 - abar_t) / abar_t) for a table of abar_t, in float64."""
    abar = alphas_cumprod.double()
    return ((1 - abar) / abar).sqrt()


def from_table(table: Tensor, steps: int, spacing: str = "leading", offset: int = 1) -> Tensor:
    """Return noise levels picked from a training table, spaced as the schedulers of diffusers space them.

    Args:
        table: The sigmas of the training steps, (count,), rising.
        steps: The number of steps N, 1 to count.
        spacing: "leading" takes every (count // N)-th entry from `offset` on, as Stable Diffusion's DDIM does;
            "trailing" counts backwards from the last entry.
        offset: The first entry, for "leading".

    Returns:
        The noise levels, (N + 1,).

    Raises:
        ValueError: If steps is out of range or the spacing is unknown.
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
    return _with_zero(table[index])


def time_in_table(table: Tensor, sigma: Tensor) -> Tensor:
    """Return the fractional index of each sigma in a rising table, linear in ln sigma and clamped to the table.

    Args:
        table: The sigmas of the training steps, (count,).
        sigma: Noise levels of any shape.

    Returns:
        Indices in [0, count - 1], of the shape of sigma.
    """
    log, target = table.log().to(sigma), sigma.log()
    high = torch.searchsorted(log, target).clamp(1, len(log) - 1)
    low = high - 1
    fraction = (target - log[low]) / (log[high] - log[low])
    return (low + fraction).clamp(0, len(table) - 1)


def repaint(steps: int, jump: int = 1, repeats: int = 1) -> list[tuple[int, int]]:
    """Return a RePaint walk: the moves (from, to) between indices of the noise levels, where 0 is the noisiest.

    After every `jump` reverse moves the walk goes back by `jump` and repeats them, `repeats` - 1 times; only the last block,
    which ends at sigma = 0, is not repeated. With jump 1 this is algorithm 1 of Lugmayr et al. 2022. The longer jumps of
    their code are as frequent, but are counted from one step before the end. A reverse move (to = from + 1) costs a
    network evaluation, a forward move none. If jump divides N there are N + (repeats - 1)(N - jump) reverse moves.

    Args:
        steps: The number of steps N.
        jump: The length of a block, 1 to N.
        repeats: How often each block is walked; 1 is plain sampling.

    Raises:
        ValueError: If an argument is out of range.

    Example:
        >>> repaint(2)
        [(0, 1), (1, 2)]
        >>> repaint(2, jump=1, repeats=2)
        [(0, 1), (1, 0), (0, 1), (1, 2)]
    """
    _check_steps(steps)
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
    """Return the number of reverse moves of a walk: the evaluations of the denoiser per view."""
    return sum(to > start for start, to in walk)
