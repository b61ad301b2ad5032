"""The mollifier T of ∞-Diff: Gaussian smoothing of pictures of any height and width, and its Wiener inverse.

White noise has no values at points, only smoothed noise has. ∞-Diff therefore diffuses T x0 with noise T eps (Bond-Taylor &
Willcocks 2024, section 3.1). T multiplies the cosine transform (DCT-II) of a picture by

    g(k, l) = exp(-(k² / H² + l² / W²) (π std)² / 2),

which for a square is exp(-(k² + l²) / (2 q²)) with q = N / (π std). `std` is the standard deviation of the smoothing in pixels.
T is symmetric, and keeps the mean of a picture. It is a product of two matrices, one for each axis.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

STD = 1.0
"""Standard deviation of the smoothing, in pixels, as in the paper."""
WIENER_NOISE = 0.05
"""The assumed ratio of noise to signal in the Wiener inverse, as in the paper's code."""


def mollify(x: Tensor, std: float = STD) -> Tensor:
    """Return T x, smoothed pictures, for pictures x (..., H, W)."""
    rows, columns = (_smoothing(n, std, x.dtype, str(x.device)) for n in x.shape[-2:])
    with torch.autocast(x.device.type, enabled=False):
        return rows @ x @ columns


def wiener(y: Tensor, std: float = STD, noise: float = WIENER_NOISE) -> Tensor:
    """Return the Wiener inverse of T for smoothed pictures y (..., H, W).

    It multiplies the cosine transform by g / (g² + noise²), so that T's inverse is missed by the factor noise² / (g² + noise²)
    at a frequency. With a noise of 0 it is the exact inverse, which in float32 is useful only for small `std`.

    Args:
        y: Smoothed pictures.
        std: Standard deviation of T in pixels.
        noise: The assumed ratio of noise to signal.
    """
    height, width = y.shape[-2:]
    g = response(height, width, std)
    return filtered(y, g / (g**2 + noise**2))


def filtered(x: Tensor, factors: Tensor) -> Tensor:
    """Multiply the cosine transform of pictures x (..., H, W) by factors (..., H, W)."""
    rows, columns = (cosines(n, x.dtype, str(x.device)) for n in x.shape[-2:])
    with torch.autocast(x.device.type, enabled=False):
        return rows.mT @ (transformed(x) * factors.to(x)) @ columns


def transformed(x: Tensor) -> Tensor:
    """Return the orthonormal cosine transform of pictures x (..., H, W)."""
    rows, columns = (cosines(n, x.dtype, str(x.device)) for n in x.shape[-2:])
    with torch.autocast(x.device.type, enabled=False):
        return rows @ x @ columns.mT


def frequency(height: int, width: int) -> Tensor:
    """Return the length of every frequency in waves per half of the shorter side, (H, W) in float64."""
    short = min(height, width)
    down, right = (torch.arange(n, dtype=torch.float64) * short / n for n in (height, width))
    return (down[:, None] ** 2 + right**2).sqrt()


def response(height: int, width: int, std: float = STD) -> Tensor:
    """Return the factors g of T, (H, W) in float64: the first axis is vertical frequency."""
    rows, columns = (_decay(n, std) for n in (height, width))
    return rows[:, None] * columns


def _decay(n: int, std: float) -> Tensor:
    return torch.exp(-0.5 * (torch.arange(n, dtype=torch.float64) / n * math.pi * std) ** 2)


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)  # a later call may need gradients
def cosines(n: int, dtype: torch.dtype, device: str) -> Tensor:
    """Return the orthonormal DCT-II of n values, (frequency, place)."""
    k, i = torch.arange(n, dtype=torch.float64)[:, None], torch.arange(n, dtype=torch.float64)
    matrix = torch.cos(math.pi / n * (i + 0.5) * k) * math.sqrt(2 / n)
    matrix[0] /= math.sqrt(2)
    return matrix.to(device, dtype)


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)
def _smoothing(n: int, std: float, dtype: torch.dtype, device: str) -> Tensor:
    """T along an axis of n pixels, (n, n)."""
    basis = cosines(n, torch.float64, "cpu")
    return (basis.mT @ (_decay(n, std)[:, None] * basis)).to(device, dtype)
