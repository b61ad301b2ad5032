"""Samplers in image space: the reference that pulled-back sampling is compared with.

The state x = x0 + sigma eps is (B, C, H, W), and the sigmas fall to 0 (`schedules.py`). Deterministic steps draw no random
numbers.
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
    """Take one DDIM step (Song et al. 2021, eq. 12).

    Args:
        denoise: The model.
        x: The state, (B, C, H, W).
        sigma: The noise level of x.
        sigma_next: The lower noise level after the step.
        cond: Passed to the model.
        eta: Stochasticity in [0, 1].
        z: Fresh unit-normal noise with the shape of x; None only if eta or sigma_next is 0.
    """
    rho = refresh(sigma, sigma_next, eta)
    x0 = denoise(x, torch.tensor(sigma, dtype=x.dtype), cond)
    x = x0 + (1 - rho**2) ** 0.5 * sigma_next / sigma * (x - x0)
    return x if z is None else x + rho * sigma_next * z


def heun_step(denoise: Denoiser, x: Tensor, sigma: float, sigma_next: float, cond: Any) -> Tensor:
    """Take one second-order step on the probability flow ODE dx/dsigma = (x - D) / sigma (Karras et al. 2022, algorithm 1).

    Args:
        denoise: The model.
        x: The state, (B, C, H, W).
        sigma: The noise level of x.
        sigma_next: The lower noise level after the step.
        cond: Passed to the model.
    """
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
    """Sample by DDIM. With eta = 0 this is Euler's method on the probability flow ODE.

    Args:
        denoise: The model.
        noise: Unit-normal noise (B, C, H, W). Sampling starts at sigma_0 times it, as the pulled-back sampler does.
        sigmas: The noise levels, (N + 1,), falling.
        cond: Passed to the model.
        eta: Stochasticity in [0, 1].
        generator: Draws the fresh noise if eta is above 0.

    Returns:
        Samples (B, C, H, W).
    """
    x = float(sigmas[0]) * noise
    for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        rho = refresh(sigma, sigma_next, eta)
        z = torch.randn(x.shape, generator=generator, dtype=x.dtype) if rho > 0 and sigma_next > 0 else None
        x = ddim_step(denoise, x, sigma, sigma_next, cond, eta, z)
    return x


def heun(denoise: Denoiser, noise: Tensor, sigmas: Tensor, cond: Any = None) -> Tensor:
    """Sample by Heun's method (`heun_step`).

    A step evaluates the model twice, except that a step to sigma = 0 evaluates it once.

    Args:
        denoise: The model.
        noise: Unit-normal noise (B, C, H, W). Sampling starts at sigma_0 times it.
        sigmas: The noise levels, (N + 1,), falling.
        cond: Passed to the model.

    Returns:
        Samples (B, C, H, W).

    Example:
        >>> heun(lambda x, sigma, cond: torch.ones_like(x), torch.zeros(1, 1, 1, 2), torch.tensor([4.0, 1.0, 0.0]))
        tensor([[[[1., 1.]]]])
    """
    x = float(sigmas[0]) * noise
    for sigma, sigma_next in zip(sigmas[:-1].tolist(), sigmas[1:].tolist(), strict=True):
        x = heun_step(denoise, x, sigma, sigma_next, cond)
    return x
