"""PixelCNN++ in one stream, with locally masked convolutions, dilation in place of scaling, and positional normalisation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from .conv import LocallyMaskedConv
from .heads import BinaryHead, ColourHead, GreyHead, Head
from .masks import Masks
from .orders import NAMES, S_CURVES

GROUPS = 3
"""Groups of blocks on the way in, and as many on the way out."""
LARGEST = 256
"""The largest side of a picture in pixels."""
EPSILON = 1e-5

Convolve = Callable[[LocallyMaskedConv, Tensor], Tensor]
"""How a layer is applied: to all pixels at once, or to one of them."""


@dataclass(frozen=True)
class Config:
    """The sizes of a network, and what it learns.

    Args:
        head: What a pixel is.
        bits: Bits of a channel, except in binary pictures.
        size: Side of the pictures that it is trained on, in pixels.
        filters: Channels of all layers.
        blocks: Blocks of a group; the last two groups have one more.
        mixtures: Distributions that are mixed, except in binary pictures.
        kernel: Side of the kernels.
        dilation: Pixels between the taps of dilated layers.
        orders: The orders that it is trained on, as in `orders.NAMES`.
    """

    head: Literal["colour", "grey", "binary"] = "grey"
    bits: Annotated[int, Meta(ge=1, le=8)] = 8
    size: Annotated[int, Meta(ge=2, le=LARGEST)] = 28
    filters: Annotated[int, Meta(ge=2, le=1024)] = 32
    blocks: Annotated[int, Meta(ge=1, le=16)] = 1
    mixtures: Annotated[int, Meta(ge=1, le=64)] = 5
    kernel: Annotated[int, Meta(ge=3, le=15)] = 3
    dilation: Annotated[int, Meta(ge=1, le=16)] = 2
    orders: Annotated[tuple[str, ...], Meta(min_length=1, max_length=64)] = S_CURVES

    def __post_init__(self) -> None:
        if self.kernel % 2 == 0:
            raise ValueError(f"a kernel of {self.kernel} has no middle: its side must be odd")
        if unknown := set(self.orders) - set(NAMES):
            raise ValueError(f"there is no order {min(unknown)!r}: choose of {', '.join(NAMES)}")


_PAPER = Config(filters=160, blocks=5, mixtures=10)
PRESETS = {
    "small": Config(),
    "small-binary": Config("binary"),
    "small-colour": Config("colour", size=32),
    "paper-grey": _PAPER,
    "paper-binary": replace(_PAPER, head="binary"),
    "paper-cifar": replace(_PAPER, head="colour", size=32),
    "paper-celeba": replace(_PAPER, head="colour", size=256, bits=5),
}


def head_of(config: Config) -> Head:
    """Return the head of a configuration."""
    if config.head == "binary":
        return BinaryHead()
    return (ColourHead if config.head == "colour" else GreyHead)(config.mixtures, 2**config.bits)


class PixelCNN(nn.Module):
    """The network: signals of a picture -> what it says of every pixel, given those before it in the order."""

    def __init__(self, config: Config = Config()):
        super().__init__()
        self.config, self.head = config, head_of(config)
        f, n, kernel = config.filters, config.blocks, config.kernel
        self.first = LocallyMaskedConv(self.head.channels + 1, f, kernel, strict=True)
        self.inwards = nn.ModuleList(nn.ModuleList(Block(f, kernel) for _ in range(n)) for _ in range(GROUPS))
        self.outwards = nn.ModuleList(
            nn.ModuleList(Block(f, kernel, skip=True) for _ in range(n + (group > 0))) for group in range(GROUPS)
        )
        dilated = [LocallyMaskedConv(f, f, kernel, config.dilation) for _ in range(2 * GROUPS - 2)]
        self.dilated_in, self.dilated_out = nn.ModuleList(dilated[: GROUPS - 1]), nn.ModuleList(dilated[GROUPS - 1 :])
        self.last = weight_norm(nn.Conv2d(f, self.head.outputs, 1))

    def masks(self, order: Tensor, height: int, width: int) -> Masks:
        """Return the masks of an order (H W,), on the network's device."""
        masks = Masks.of(order.cpu(), height, width, self.config.kernel, self.config.dilation)
        return masks.to(self.first.weight)

    def forward(self, x: Tensor, masks: Masks) -> Tensor:
        """Return the outputs for the head.

        Args:
            x: Signals (B, channels, H, W) in [-1, 1]. Pixels that come later in the order are not read.
            masks: From `self.masks`.

        Returns:
            (B, head.outputs, H, W).
        """
        return self.through(x, lambda conv, h: conv(h, masks.layers[conv.dilation, conv.strict]))

    def through(self, x: Tensor, convolve: Convolve) -> Tensor:
        """Evaluate the network with convolutions that are done elsewhere; all else concerns one pixel at a time.

        Args:
            x: Signals (B, channels, H, W).
            convolve: Applies a layer.
        """
        h = positional_norm(convolve(self.first, torch.cat([x, torch.ones_like(x[:, :1])], 1)))
        skips = [h]
        for group, blocks in enumerate(self.inwards):
            for block in blocks:  # type: ignore[attr-defined]
                skips.append(block(skips[-1], convolve))
            if group < GROUPS - 1:
                skips.append(positional_norm(convolve(self.dilated_in[group], skips[-1])))  # type: ignore[arg-type]
        h = skips.pop()
        for group, blocks in enumerate(self.outwards):
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, convolve, skips.pop())
            if group < GROUPS - 1:
                h = positional_norm(convolve(self.dilated_out[group], h))  # type: ignore[arg-type]
        with torch.autocast(h.device.type, enabled=False):  # bfloat16 is too coarse for the means of 256 levels
            outputs: Tensor = self.last(F.elu(h).to(self.first.weight))
        return outputs


class Block(nn.Module):
    """A gated residual block.

    Args:
        width: Channels.
        kernel: Side of its kernels.
        skip: Whether it is given features from the way in.
    """

    def __init__(self, width: int, kernel: int, skip: bool = False):
        super().__init__()
        self.enter = LocallyMaskedConv(2 * width, width, kernel)
        self.leave = LocallyMaskedConv(2 * width, 2 * width, kernel)
        self.skip = weight_norm(nn.Conv2d(2 * width, width, 1)) if skip else None

    def forward(self, x: Tensor, convolve: Convolve, skipped: Tensor | None = None) -> Tensor:
        h = positional_norm(convolve(self.enter, both_elu(x)))
        if self.skip is not None and skipped is not None:
            h = h + self.skip(both_elu(skipped))
        h, gate = convolve(self.leave, both_elu(h)).chunk(2, 1)
        return x + positional_norm(h) * gate.sigmoid()


def both_elu(x: Tensor) -> Tensor:
    """Return ELU of features and of their negatives, as twice as many channels."""
    return F.elu(torch.cat([x, -x], 1))


def positional_norm(x: Tensor) -> Tensor:
    """Scale the features (B, C, H, W) of every pixel to a mean of 0 and a variance of 1 (Li et al. 2019).

    The features of pixels with many neighbours before them and of pixels with few become alike.
    """
    return F.layer_norm(x.movedim(1, -1), x.shape[1:2], eps=EPSILON).movedim(-1, 1)
