"""Samplers: reverse diffusion in image space, the reference of everything that is pulled back.

A sampler is a step (x, sigma, sigma_next) -> x. The state x = x0 + sigma eps is (B, C, H, W); a grid of sigmas
falls to 0 (`schedules.py`). Deterministic steps draw nothing from the generator.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor

from .noise import refresh
from .types import Denoiser


def ddim_step(
    denoise: Denoiser, x: Tensor, sigma: float, sigma_next: float, cond: Any, eta: float, z: Tensor | None
) -> Tensor:
    """One DDIM step with stochasticity eta in [0, 1] (Song et al. 2021, eq. 12); `z` is fresh noise, needed if eta > 0."""
    rho = refresh(sigma, sigma_next, eta)
    x0 = denoise(x, torch.tensor(sigma, dtype=x.dtype), cond)
    x = x0 + (1 - rho**2) ** 0.5 * sigma_next / sigma * (x - x0)
    return x if z is None else x + rho * sigma_next * z


def heun_step(denoise: Denoiser, x: Tensor, sigma: float, sigma_next: float, cond: Any) -> Tensor:
    """One second-order step on the PF-ODE dx/dsigma = (x - D) / sigma (Karras et al. 2022, algorithm 1)."""
    slope = (x - denoise(x, torch.tensor(sigma, dtype=x.dtype), cond)) / sigma
    end = x + (sigma_next - sigma) * slope
    if sigma_next == 0:
        return end
    slope_end = (end - denoise(end, torch.tensor(sigma_next, dtype=x.dtype), cond)) / sigma_next
    return x + (sigma_next - sigma) * (slope + slope_end) / 2


def ddim(
    denoise: Denoiser,
    noise: Tensor,
    sigmas: Tensor,
    cond: Any = None,
    eta: float = 0.0,
    generator: Generator | None = None,
) -> Tensor:
    """Sample from x = sigma_0 `noise` (unit normal, (B, C, H, W)) down the grid. eta = 0 is Euler's method on the PF-ODE.

    Starting from a zero image like the pulled-back sampler, so both see the same first state.
    """
    x = float(sigmas[0]) * noise
    for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        rho = refresh(sigma, sigma_next, eta)
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype) if rho > 0 and sigma_next > 0 else None
        x = ddim_step(denoise, x, sigma, sigma_next, cond, eta, z)
    return x


def heun(denoise: Denoiser, noise: Tensor, sigmas: Tensor, cond: Any = None) -> Tensor:
    """The same by Heun's method; 2 N - 1 evaluations for N steps."""
    x = float(sigmas[0]) * noise
    for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        x = heun_step(denoise, x, sigma, sigma_next, cond)
    return x
