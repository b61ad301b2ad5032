"""Sampling pixel by pixel, where every new pixel costs the features of one pixel.

The features of a pixel depend only on pixels before it, in every layer. So they are computed once, when its turn comes, from kept
features around it, and stay. A whole picture costs what one evaluation of the network costs.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor
from torch.nn.utils import parametrize

from .conv import LocallyMaskedConv
from .heads import signal
from .masks import Masks, neighbours
from .network import PixelCNN
from .orders import MAX_CONTEXT, completing


class Features:
    """The inputs of all masked layers at the pixels that have been evaluated.

    Args:
        network: The network.
        masks: The masks of the order.
        values: Pictures as levels, (B, channels, H, W); only known pixels count.
        known: How many pixels, from the first of the order on, are known. They are evaluated here.
    """

    def __init__(self, network: PixelCNN, masks: Masks, values: Tensor, known: int = 0):
        self.network, self.masks = network, masks
        like = network.first.weight
        self._outside = masks.height * masks.width
        self._around = {
            each: neighbours(masks.height, masks.width, network.config.kernel, each[0]).to(like.device)
            for each in masks.layers
        }  # fmt: skip
        self._kept: dict[LocallyMaskedConv, Tensor] = {}
        self._weights: dict[LocallyMaskedConv, Tensor] = {}
        for conv in network.modules():
            if isinstance(conv, LocallyMaskedConv):
                channels = conv.weight.shape[1]
                # the features of a pixel lie together; one more pixel stands for all outside of the picture
                self._kept[conv] = like.new_zeros(self._outside + 1, values.shape[0], channels)
                self._weights[conv] = conv.weight.permute(2, 3, 1, 0).reshape(-1, len(conv.weight)).contiguous()
        self._blank = like.new_zeros(values.shape[0], network.head.channels, 1, 1)
        if known:
            network.through(signal(values, network.head.levels, like), self._everywhere)

    def outputs(self, pixel: int) -> Tensor:
        """Evaluate the network at a pixel, whose predecessors are all known, and return (B, head.outputs)."""
        return self.network.through(self._blank, lambda conv, h: self._at(conv, h, pixel))[:, :, 0, 0]

    def tell(self, pixel: int, values: Tensor) -> None:
        """Tell the levels (B, channels) of a pixel that has been evaluated."""
        x = signal(values, self.network.head.levels, self.network.first.weight)
        self._kept[self.network.first][pixel] = torch.cat([x, torch.ones_like(x[:, :1])], 1)

    def _everywhere(self, conv: LocallyMaskedConv, h: Tensor) -> Tensor:
        self._kept[conv][: self._outside] = h.flatten(2).permute(2, 0, 1)
        result: Tensor = conv(h, self.masks.layers[conv.dilation, conv.strict])
        return result

    def _at(self, conv: LocallyMaskedConv, h: Tensor, pixel: int) -> Tensor:
        kind, kept = (conv.dilation, conv.strict), self._kept[conv]
        kept[pixel] = h[:, :, 0, 0]
        patch = kept[self._around[kind][:, pixel]] * self.masks.layers[kind][:, pixel, None, None]
        rows = patch.transpose(0, 1).flatten(1)
        return torch.addmm(conv.bias, rows, self._weights[conv])[:, :, None, None]


@torch.no_grad()
def sample(
    network: PixelCNN,
    values: Tensor,
    order: Tensor,
    known: int,
    generator: Generator,
    tick: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """Sample pictures, or what is missing of them.

    Args:
        network: The network.
        values: Pictures as levels (B, channels, H, W). What they hold at pixels that are sampled does not matter.
        order: The order of the pixels, (H W,).
        known: So many pixels at its beginning are known, and stay.
        generator: Where random numbers come from.
        tick: Called after every pixel with how many have been sampled, and how many will be; it may raise to stop.

    Returns:
        Levels (B, channels, H, W).
    """
    missing = order[known:].tolist()
    flat = values.flatten(2).clone()
    with parametrize.cached():
        features = Features(network, network.masks(order, *values.shape[2:]), values, known)
        for done, pixel in enumerate(missing, 1):
            drawn = network.head.sample(features.outputs(pixel), generator)
            flat[:, :, pixel] = drawn.to(flat.dtype)
            features.tell(pixel, drawn)
            tick(done, len(missing))
    return flat.unflatten(2, values.shape[2:])


def complete(
    network: PixelCNN,
    values: Tensor,
    known: Tensor,
    generator: Generator,
    tick: Callable[[int, int], None] = lambda done, total: None,
    order: str = MAX_CONTEXT,
) -> Tensor:
    """Sample the unknown pixels of pictures, after all known ones.

    Args:
        network, values, generator, tick: As in `sample`.
        known: True where the pictures are known, (H, W).
        order: The order of the unknown ones, as in `orders.completing`. By default, those near known ones come first.

    Returns:
        Levels (B, channels, H, W), the known ones unchanged.

    Raises:
        ValueError: If all pixels are known, or none is with "max-context", or there is no such order.
    """
    if known.all():
        raise ValueError("no pixel is missing: there is nothing to fill")
    return sample(network, values, completing(known, order), int(known.sum()), generator, tick)
