"""Classifier-free guidance, as a denoiser made of two denoisers.

Scale 0 is unconditional, 1 is conditional, and larger values extrapolate (Ho & Salimans 2022 with scale = 1 + w). diffusers
calls the same number `guidance_scale`, but samples conditionally for every value up to 1.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .types import Denoiser


def guided(conditional: Denoiser, unconditional: Denoiser, scale: float) -> Denoiser:
    """Return the denoiser D_u + scale (D_c - D_u).

    Args:
        conditional: The denoiser D_c, conditioned on the prompt.
        unconditional: The denoiser D_u, without a condition or conditioned on the negative prompt.
        scale: The guidance scale. At 0 and 1 only one of the two denoisers is evaluated.

    Example:
        >>> denoise = guided(lambda x, sigma, cond: x + 1, lambda x, sigma, cond: x, 3.0)
        >>> denoise(10.0, 1.0, None)
        13.0
    """
    if scale == 0:
        return unconditional
    if scale == 1:
        return conditional

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        base = unconditional(x, sigma, cond)
        return base + scale * (conditional(x, sigma, cond) - base)

    return denoise
