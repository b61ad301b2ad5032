"""The locally masked convolution: every pixel has a mask of its own over the taps of the kernel.

The picture becomes patches, which are masked and multiplied by the weights. Automatic differentiation would keep the patches,
which are as many times larger than the picture as the kernel has taps. `masked_conv` keeps the picture instead. Its backward
pass makes patches of the gradient, of which both other gradients are one product each: by the weights, and by the picture.

Masking costs nothing: a patch is gathered row by row, a row being the features of one pixel, and a hidden one is a row of zeros.
"""

from __future__ import annotations

import functools
import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import pad, unfold

from .masks import neighbours

PART_BYTES = 1 << 24
"""Bytes of patches that are made at once; a picture whose patches are larger is taken alone."""


def naive_conv(x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, dilation: int = 1) -> Tensor:
    """Convolve as `masked_conv` does, in the textbook's form and with the backward pass of automatic differentiation."""
    batch, kernel = len(x), weight.shape[-1]
    patches = unfold(x, kernel, dilation, dilation * (kernel // 2))  # (B, C * taps, H W)
    patches.unflatten(1, (-1, len(mask))).mul_(mask)
    y = torch.baddbmm(bias[:, None].expand(batch, -1, 1), weight.flatten(1).expand(batch, -1, -1), patches)
    return y.unflatten(2, x.shape[2:])


def masked_conv(x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, dilation: int = 1) -> Tensor:
    """Convolve with a mask of every pixel.

    Args:
        x: Features (B, C, H, W).
        mask: 1 where a pixel may read a tap and 0 elsewhere, (kernel * kernel, H W).
        weight: (O, C, kernel, kernel), with an odd kernel.
        bias: (O,).
        dilation: Pixels between taps.

    Returns:
        (B, O, H, W).
    """
    if torch.is_autocast_enabled(x.device.type):  # a function with its own backward pass has to cast by itself
        precision = torch.get_autocast_dtype(x.device.type)
        x, weight, bias = (each.to(precision) for each in (x, weight, bias))
    with torch.autocast(x.device.type, enabled=False):
        result: Tensor = _MaskedConv.apply(x, mask.to(x), weight, bias, dilation)
    return result


class LocallyMaskedConv(nn.Module):
    """A layer that convolves with masks.

    Args:
        inputs: Channels of its input.
        outputs: Channels of its output.
        kernel: Side of the kernel, odd.
        dilation: Pixels between taps.
        strict: Whether its mask must hide a pixel from itself: in the first layer.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, dilation: int = 1, strict: bool = False):
        super().__init__()
        self.kernel, self.dilation, self.strict = kernel, dilation, strict
        bound = 1 / math.sqrt(inputs * kernel**2)
        self.weight = nn.Parameter(torch.empty(outputs, inputs, kernel, kernel).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(outputs).uniform_(-bound, bound))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        """Return (B, outputs, H, W) for features (B, inputs, H, W) and a mask (kernel * kernel, H W)."""
        return masked_conv(x, mask, self.weight, self.bias, self.dilation)


class _MaskedConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, dilation: int) -> Tensor:
        ctx.save_for_backward(x, mask, weight)
        ctx.dilation = dilation
        places = _places(mask, x, weight, dilation)
        by_tap = weight.permute(2, 3, 1, 0).flatten(0, 2)  # (taps * C, O)
        rows = x.new_empty(len(x), *x.shape[2:], len(weight))
        for part in _parts(x, mask):
            torch.addmm(bias, _patches(x[part], places), by_tap, out=rows[part].view(-1, len(weight)))
        return rows.movedim(-1, 1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, mask, weight = ctx.saved_tensors
        places, pixels = _places(mask, x, weight, ctx.dilation), mask.shape[1]
        # which pixel reads a pixel by a tap: never more than one
        readers = places.new_full((pixels + 1, len(mask)), pixels)
        readers.scatter_(0, places, torch.arange(pixels, device=places.device)[:, None].expand_as(places))
        by_tap = weight.permute(2, 3, 0, 1).flatten(0, 2)  # (taps * O, C)
        wants_x, _, wants_weight, wants_bias, _ = ctx.needs_input_grad
        grad_x = x.new_empty(len(x), *x.shape[2:], x.shape[1]) if wants_x else None
        grad_weight = torch.zeros_like(by_tap)
        for part in _parts(grad, mask):
            patches = _patches(grad[part], readers[:-1])
            if grad_x is not None:
                torch.mm(patches, by_tap, out=grad_x[part].view(-1, x.shape[1]))
            if wants_weight:
                grad_weight += patches.T @ _rows(x[part])
        return (
            None if grad_x is None else grad_x.movedim(-1, 1),
            None,
            grad_weight.unflatten(0, (*weight.shape[2:], -1)).permute(2, 3, 0, 1) if wants_weight else None,
            grad.sum((0, 2, 3)) if wants_bias else None,
            None,
        )


def _parts(x: Tensor, mask: Tensor) -> list[slice]:
    """Parts of a batch whose patches are made together."""
    pictures = max(1, PART_BYTES // (x[0].numel() * len(mask) * x.element_size()))
    return [slice(start, start + pictures) for start in range(0, len(x), pictures)]


def _places(mask: Tensor, x: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """The pixel that every pixel reads by every tap (H W, taps); H W where it may not, or where there is none."""
    around = _around(*x.shape[2:], weight.shape[-1], dilation, mask.device)
    return torch.where(mask > 0, around, mask.shape[1]).T


@functools.lru_cache(maxsize=16)
def _around(height: int, width: int, kernel: int, dilation: int, device: torch.device) -> Tensor:
    return neighbours(height, width, kernel, dilation).to(device)


def _rows(x: Tensor) -> Tensor:
    """Features (B, C, H, W) as rows of pixels, (B H W, C); no copy of what `masked_conv` returned."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


def _patches(x: Tensor, places: Tensor) -> Tensor:
    """Rows of patches (B H W, taps * C) of features, for pixels (H W, taps) of which H W is none."""
    rows, (pixels, taps) = _rows(x), places.shape
    first = torch.arange(0, len(rows), pixels, device=places.device)[:, None, None]
    index = torch.where(places < pixels, places + first, len(rows)).flatten()
    return pad(rows, (0, 0, 0, 1)).index_select(0, index).reshape(len(rows), taps * x.shape[1])
