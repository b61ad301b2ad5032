"""The sparse operator of ∞-Diff: a depthwise convolution on a set of points, with a kernel that is a function of the distance.

    (K f)(p) = 49 / n(p) · Σ_q K(p - q) f(q)

The sum runs over the points q in a window around p, and n(p) counts them: the result is a mean, which does not depend on how many
points are present (Bond-Taylor & Willcocks 2024, section 3.3). The kernel has 7 x 7 values per channel on a picture of `BASE`
pixels, with linear interpolation between them, down to 0 beyond them; on a finer lattice it is sampled more finely.

Four ways compute the same. Few points are summed over pairs. Many points are a picture with zeros where no point is, which is
convolved. Where the kernel's values lie a whole number d of pixels apart, it is a sum of hats that are 2 d wide: the picture is
convolved with one hat, and then with the 7 x 7 values alone, d pixels apart, in a time that does not depend on d. Other large
kernels are multiplied in the Fourier domain.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .points import Points

KERNEL = 7
"""Values of the kernel along each axis."""
BASE = 128
"""Shorter side, in pixels, of pictures on which the kernel's values lie one pixel apart."""
DENSE, MANY = 0.4, 16
"""Fraction of present pixels, and pairs per point, from either of which the dense way is faster than the pairs."""
PART = 256
"""Pairs that are computed at a time."""
LARGE = 9
"""Kernels with longer sides are multiplied in the Fourier domain."""


def reach(size: int) -> int:
    """Return half the width of the kernel's support in whole pixels, at least 1, for a shorter side of `size` pixels."""
    return max(1, math.ceil((KERNEL // 2 + 1) * size / BASE - 1e-9) - 1)


@functools.lru_cache(maxsize=16)
@torch.inference_mode(False)  # a later call may need gradients
def _interpolation(size: int) -> Tensor:
    """The matrix (2 reach + 1, KERNEL) that samples a piecewise linear function at whole pixels."""
    half = reach(size)
    at = torch.arange(-half, half + 1) * BASE / size + KERNEL // 2
    return (1 - (at[:, None] - torch.arange(KERNEL)).abs()).clamp(min=0)


def resized(kernel: Tensor, size: int) -> Tensor:
    """Sample kernels (C, 7, 7) for pictures whose shorter side has `size` pixels, (C, k, k) with an odd k."""
    matrix = _interpolation(size).to(kernel)
    return matrix @ kernel @ matrix.mT


class Neighbours:
    """The pairs of points that are in each other's window, and the number of points in every window.

    Args:
        points: The points.

    Attributes:
        count: The number of points in the window around every point, (P,).
        pairs: For the way of pairs: receiving points (E,), sending points (E,), and the positions (E,) in the sampled kernel.
    """

    def __init__(self, points: Points):
        self.points, self.size = points, min(points.height, points.width)
        self.half = reach(self.size)
        share = len(points) / (points.height * points.width)
        sparse = share < DENSE and share * (2 * self.half + 1) ** 2 < MANY
        self.pairs = self._pairs() if sparse else None
        if self.pairs is not None:
            self.count = torch.bincount(self.pairs[0], minlength=len(points)).float()
        else:
            present = points.picture(torch.ones(1, len(points), 1)).contiguous()
            self.count = points.of(_box(present, self.half)).view(-1)

    def _pairs(self) -> tuple[Tensor, Tensor, Tensor]:
        points, half, width = self.points, self.half, self.points.width
        number = torch.full(((points.height + 2 * half) * (width + 2 * half),), -1)
        row, column = points.pixels // width, points.pixels % width
        place = (row + half) * (width + 2 * half) + column + half
        number[place] = torch.arange(len(points))
        step = torch.arange(-half, half + 1)
        offset = (step[:, None] * (width + 2 * half) + step).flatten()
        sender = number[place[:, None] + offset]
        to, tap = (sender >= 0).nonzero(as_tuple=True)
        return to, sender[to, tap], tap


def _box(x: Tensor, half: int) -> Tensor:
    """The sums of (B, 1, H, W) over windows."""
    ones = x.new_ones(1, 1, 2 * half + 1, 1)
    return F.conv2d(F.conv2d(x, ones, padding=(half, 0)), ones.mT, padding=(0, half))


class _Paired(torch.autograd.Function):
    """Σ over pairs of weight[tap] · f[sender], for f (P, B, C) and weight (taps, C), computed in parts that fit in caches."""

    @staticmethod
    def forward(context: Any, f: Tensor, weight: Tensor, *pairs: Tensor) -> Tensor:
        context.save_for_backward(f, weight, *pairs)
        summed = torch.zeros_like(f)
        for to, sender, tap in zip(*(each.split(PART) for each in pairs), strict=True):
            summed.index_add_(0, to, f.index_select(0, sender).mul_(weight[tap][:, None]))
        return summed

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        f, weight, *pairs = context.saved_tensors
        gradient = gradient.contiguous()
        by_f, by_weight = torch.zeros_like(f), torch.zeros_like(weight)
        for to, sender, tap in zip(*(each.split(PART) for each in pairs), strict=True):
            received = gradient.index_select(0, to)
            by_weight.index_add_(0, tap, (received * f.index_select(0, sender)).sum(1))
            by_f.index_add_(0, sender, received.mul_(weight[tap][:, None]))
        return by_f, by_weight, None, None, None


class SparseOperator(nn.Module):
    """The operator K.

    Args:
        channels: Channels C; every channel has a kernel of its own.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.kernel = nn.Parameter(torch.randn(channels, KERNEL, KERNEL) / KERNEL**2)

    def forward(self, values: Tensor, near: Neighbours) -> Tensor:
        """Apply K to values (B, P, C) at the points of `near`."""
        kernel = resized(self.kernel, near.size).float()
        values, c = values.float(), self.kernel.shape[0]
        if near.pairs is not None:
            pairs = [each.to(values.device) for each in near.pairs]
            summed = _Paired.apply(values.transpose(0, 1).contiguous(), kernel.flatten(1).mT.contiguous(), *pairs)
            summed = summed.transpose(0, 1)
        else:
            picture = near.points.picture(values)
            if near.size > BASE and near.size % BASE == 0:
                dense = _by_hats(picture, self.kernel.float(), near.size // BASE)
            elif kernel.shape[-1] > LARGE:
                dense = _by_fourier(picture, kernel)
            else:
                dense = F.conv2d(picture, kernel[:, None], padding=near.half, groups=c)
            summed = near.points.of(dense)
        return summed * (KERNEL**2 / near.count.to(summed))[:, None]


def _by_hats(picture: Tensor, kernel: Tensor, d: int) -> Tensor:
    """The same for a kernel (C, 7, 7) whose values lie d pixels apart."""
    b, c, height, width = picture.shape
    hat = (1 - torch.arange(1 - d, d).to(picture).abs() / d).expand(c, 1, 1, -1)
    # Hats reach beyond the picture, and from there back into it: d pixels more on each side.
    x = F.conv2d(picture, hat, padding=(0, 2 * d - 1), groups=c)
    x = F.conv2d(x, hat.mT, padding=(2 * d - 1, 0), groups=c)
    # Every d-th pixel is a picture of its own.
    x = F.pad(x, (0, -width % d, 0, -height % d)).unflatten(2, (-1, d)).unflatten(4, (-1, d))
    rows, columns = x.shape[2], x.shape[4]
    x = x.permute(0, 3, 5, 1, 2, 4).reshape(-1, c, rows, columns)
    x = F.conv2d(x, kernel[:, None], padding=KERNEL // 2, groups=c).view(b, d, d, c, rows, columns)
    return x.permute(0, 3, 4, 1, 5, 2).reshape(b, c, rows * d, columns * d)[..., d : d + height, d : d + width]


def _by_fourier(picture: Tensor, kernel: Tensor) -> Tensor:
    """The same as a dense convolution of (B, C, H, W) with zeros around, a few channels at a time to save memory."""
    height, width = picture.shape[-2:]
    half = kernel.shape[-1] // 2
    size = [_even_length(n + half) for n in (height, width)]
    out = []
    for f, k in zip(picture.split(8, 1), kernel.split(8), strict=True):
        placed = F.pad(k.flip(-1, -2), (0, size[1] - k.shape[-1], 0, size[0] - k.shape[-2])).roll(
            (-half, -half), (-2, -1)
        )
        product = torch.fft.rfft2(f, size) * torch.fft.rfft2(placed)
        out.append(torch.fft.irfft2(product, size)[..., :height, :width])
    return torch.cat(out, 1)


def _even_length(n: int) -> int:
    """The smallest length from n on whose only factors are 2, 3 and 5, and that is even: quick to transform."""
    while True:
        n += n % 2
        rest = n
        for factor in (2, 3, 5):
            while rest % factor == 0:
                rest //= factor
        if rest == 1:
            return n
        n += 1
