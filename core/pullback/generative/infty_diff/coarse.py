"""What toybox sees of a noisy picture of any size, and the way back.

Toybox denoises pictures of `SIZE` pixels. A larger picture x0 + sigma eps is reduced to this size by matrices R whose rows are
orthonormal: up to a factor, the noise of the reduced picture is white again, and toybox's estimate is what it would be for a
picture of its own. For sides that are a multiple of `SIZE`, the reduced pixels are means of squares.

Pictures that are smaller than toybox's are enlarged by matrices whose columns are orthonormal. At some frequencies they then lack
noise, and are filled up with white noise that is always the same.
"""

from __future__ import annotations

import functools
import math

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from .mollifier import cosines
from .points import cells

SIZE = 64
"""The shorter side of toybox's pictures in pixels."""


def coarse_size(height: int, width: int) -> tuple[int, int]:
    """Return height and width of the reduced picture: `SIZE` along the shorter side, multiples of 8."""
    return cells(height, width, SIZE)


def factor(height: int, width: int) -> float:
    """Return the noise level of a reduced picture, as a multiple of that of the picture."""
    rows, columns = coarse_size(height, width)
    return math.sqrt(rows * columns / (height * width))


def reduced(x: Tensor) -> Tensor:
    """Return pictures (B, C, H, W) in toybox's size, (B, C, h, w)."""
    height, width = x.shape[-2:]
    down, right = _both(x)
    return factor(height, width) * _product(down, x, right.mT)


def filled_up(small: Tensor, height: int, width: int, sigma: Tensor) -> Tensor:
    """Give a reduced noisy picture the noise that it lacks if it was smaller than toybox's.

    Args:
        small: Noisy pictures (B, C, h, w), as `reduced` returns them.
        height, width: Size of the picture in pixels.
        sigma: Noise levels of the picture, (B,).
    """
    rows, columns = small.shape[-2:]
    if rows <= height and columns <= width:
        return small
    noise = torch.randn(small.shape[1:], generator=Generator().manual_seed(0)).to(small)
    down, right = (_isometry(n, m, small.dtype, str(small.device)) for n, m in ((height, rows), (width, columns)))
    missing = noise - _product(down @ down.mT, noise, right @ right.mT)
    return small + factor(height, width) * sigma.to(small)[:, None, None, None] * missing


def enlarged(small: Tensor, height: int, width: int) -> Tensor:
    """Return smooth pictures (B, C, H, W) whose reduced pictures are `small`, (B, C, h, w)."""
    if small.shape[-2:] == (height, width):
        return small
    smooth = interpolate(small, (height, width), mode="bicubic", antialias=True)
    down, right = _both(smooth)
    return smooth + _product(down.mT, small - reduced(smooth), right) / factor(height, width)


def unseen(x: Tensor) -> Tensor:
    """Return the part of pictures (B, C, H, W) that reduced pictures do not show: what is orthogonal to the rows of R."""
    down, right = _both(x)
    return x - _product(down.mT, _product(down, x, right.mT), right)


def _product(left: Tensor, x: Tensor, right: Tensor) -> Tensor:
    with torch.autocast(x.device.type, enabled=False):
        return left @ x @ right


def _both(x: Tensor) -> tuple[Tensor, Tensor]:
    height, width = x.shape[-2:]
    rows, columns = coarse_size(height, width)
    return _isometry(height, rows, x.dtype, str(x.device)), _isometry(width, columns, x.dtype, str(x.device))


@functools.lru_cache(maxsize=32)
@torch.inference_mode(False)  # a later call may need gradients
def _isometry(n: int, m: int, dtype: torch.dtype, device: str) -> Tensor:
    """A matrix (m, n) that resamples n pixels to m, with orthonormal rows, or columns if m is larger.

    It is the one that is nearest to averaging over the new pixels; if m is larger, the cosine transform stays.
    """
    if m > n:
        return (cosines(m, torch.float64, "cpu")[:n].mT @ cosines(n, torch.float64, "cpu")).to(device, dtype)
    edges = [torch.arange(count + 1, dtype=torch.float64) / count for count in (m, n)]
    upper = torch.minimum(edges[0][1:, None], edges[1][1:])
    lower = torch.maximum(edges[0][:-1, None], edges[1][:-1])
    u, _, v = torch.linalg.svd((upper - lower).clamp(min=0), full_matrices=False)
    return (u @ v).to(device, dtype)
