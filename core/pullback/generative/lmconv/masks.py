"""Masks of an order: which features around a pixel were there before it.

A mask has a value for every tap of a kernel and every pixel, (kernel * kernel, H W): 1 where the tap may be read. Taps outside of
the picture are 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .orders import ranks


def neighbours(height: int, width: int, kernel: int, dilation: int = 1) -> Tensor:
    """Return the pixel under every tap of a kernel at every pixel.

    Args:
        height: Height of the picture in pixels.
        width: Width of the picture.
        kernel: Side of the kernel, odd.
        dilation: Pixels between taps.

    Returns:
        Pixel numbers (kernel * kernel, H W), as int64; H W, one more than the last, outside of the picture.

    Raises:
        ValueError: If the kernel has no middle.
    """
    if kernel % 2 == 0:
        raise ValueError(f"a kernel of {kernel} has no middle: its side must be odd")
    offsets = dilation * (torch.arange(kernel) - kernel // 2)
    rows = (torch.arange(height)[:, None] + offsets)[:, None, :, None]  # (H, 1, kernel, 1)
    columns = (torch.arange(width)[:, None] + offsets)[None, :, None, :]
    inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
    pixels = torch.where(inside, rows * width + columns, height * width)
    return pixels.reshape(height * width, kernel * kernel).T.contiguous()


def local_mask(order: Tensor, height: int, width: int, kernel: int, dilation: int = 1, strict: bool = False) -> Tensor:
    """Return the mask of an order.

    Args:
        order: The order of the pixels, (H W,).
        height: Height of the picture in pixels.
        width: Width of the picture.
        kernel: Side of the kernel, odd.
        dilation: Pixels between taps.
        strict: Whether a pixel is hidden from itself too: in the first layer of a network.

    Returns:
        The mask (kernel * kernel, H W), as float32.
    """
    place = ranks(order)
    outside = place.new_tensor([len(order)])  # later than all
    there = torch.cat([place, outside])[neighbours(height, width, kernel, dilation)]
    return ((there < place) if strict else (there <= place)).float()


@dataclass(frozen=True)
class Masks:
    """The masks of one order for all layers of a network.

    Args:
        order: The order, (H W,).
        height: Height of the picture in pixels.
        width: Width of the picture.
        layers: Masks by dilation and strictness.
    """

    order: Tensor
    height: int
    width: int
    layers: dict[tuple[int, bool], Tensor]

    @classmethod
    def of(cls, order: Tensor, height: int, width: int, kernel: int, dilation: int) -> Masks:
        """Make the masks of the first layer, of plain and of dilated layers. The arguments are those of `local_mask`."""
        kinds = ((1, True), (1, False), (dilation, False))
        return cls(
            order, height, width, {each: local_mask(order, height, width, kernel, *each) for each in kinds}
        )  # fmt: skip

    def to(self, like: Tensor) -> Masks:
        """Return the masks in the precision and on the device of a tensor."""
        return Masks(self.order, self.height, self.width, {each: mask.to(like) for each, mask in self.layers.items()})
