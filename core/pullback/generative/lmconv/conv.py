"""The locally masked convolution: every pixel has a mask of its own over the taps of the kernel.

The picture is unfolded into patches, which are masked and multiplied by the weights. Automatic differentiation would keep the
patches, which are as many times larger than the picture as the kernel has taps. `masked_conv` keeps the picture instead, and
unfolds it again in its backward pass.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import fold, unfold

PART_BYTES = 1 << 24
"""Bytes of patches that are unfolded at once; a picture whose patches are larger is unfolded alone."""


def naive_conv(x: Tensor, mask: Tensor, weight: Tensor, bias: Tensor, dilation: int = 1) -> Tensor:
    """Convolve as `masked_conv` does, with the backward pass of automatic differentiation."""
    return _assembled(_patches(x, mask, weight, dilation), weight, bias, x.shape)


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
        y = x.new_empty(len(x), len(weight), *x.shape[2:])
        for part in _parts(x, mask):
            y[part] = _assembled(_patches(x[part], mask, weight, dilation), weight, bias, x.shape)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        x, mask, weight = ctx.saved_tensors
        flat, kernel, dilation = grad.flatten(2), weight.shape[-1], ctx.dilation
        wants_x, _, wants_weight, wants_bias, _ = ctx.needs_input_grad
        grad_x = torch.empty_like(x) if wants_x else None
        grad_weight = torch.zeros_like(weight) if wants_weight else None
        for part in _parts(x, mask):
            if grad_weight is not None:
                patches = _patches(x[part], mask, weight, dilation)
                grad_weight += torch.bmm(flat[part], patches.mT).sum(0).reshape(weight.shape)
                del patches
            if grad_x is not None:
                back = _masked(torch.bmm(weight.flatten(1).T.expand(len(x[part]), -1, -1), flat[part]), mask)
                grad_x[part] = fold(back, x.shape[2:], kernel, dilation, _padding(kernel, dilation))
        return grad_x, None, grad_weight, flat.sum((0, 2)) if wants_bias else None, None


def _parts(x: Tensor, mask: Tensor) -> list[slice]:
    """Parts of a batch whose patches are unfolded together."""
    pictures = max(1, PART_BYTES // (x[0].numel() * len(mask) * x.element_size()))
    return [slice(start, start + pictures) for start in range(0, len(x), pictures)]


def _patches(x: Tensor, mask: Tensor, weight: Tensor, dilation: int) -> Tensor:
    """The masked patches (B, C * kernel * kernel, H W) of features."""
    kernel = weight.shape[-1]
    patches = unfold(x, kernel, dilation, _padding(kernel, dilation))
    return _masked(patches, mask)


def _masked(patches: Tensor, mask: Tensor) -> Tensor:
    """Patches (B, C * taps, H W) multiplied in place by a mask (taps, H W)."""
    patches.unflatten(1, (-1, len(mask))).mul_(mask)
    return patches


def _assembled(patches: Tensor, weight: Tensor, bias: Tensor, shape: torch.Size) -> Tensor:
    batch = len(patches)
    y = torch.baddbmm(bias[None, :, None].expand(batch, -1, -1), weight.flatten(1).expand(batch, -1, -1), patches)
    return y.unflatten(2, shape[2:])


def _padding(kernel: int, dilation: int) -> int:
    return dilation * (kernel // 2)
