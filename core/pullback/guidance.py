"""Guidance: classifier-free guidance as a denoiser made of two denoisers.

The convention: scale 0 is unconditional, 1 is conditional, above 1 extrapolates
(Ho & Salimans 2022 with scale = 1 + w). Note that `diffusers` calls the same number `guidance_scale`
but skips the unconditional call, and so samples conditionally, for every value up to 1.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from .types import Denoiser


def guided(conditional: Denoiser, unconditional: Denoiser, scale: float) -> Denoiser:
    """D_u + scale (D_c - D_u). One network evaluation at scale 0 and 1, two elsewhere."""
    if scale == 0:
        return unconditional
    if scale == 1:
        return conditional

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        base = unconditional(x, sigma, cond)
        return base + scale * (conditional(x, sigma, cond) - base)

    return denoise
