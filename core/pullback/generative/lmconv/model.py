"""Files of weights: a .safetensors with the format, the sizes, and what is known of the training in its metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from ...schema import parsed
from ..weights import expect, read
from .levels import levels_of, shown
from .likelihood import bits_per_dim, conditionals, mixed
from .network import LARGEST, Config, PixelCNN
from .orders import MAX_CONTEXT, named
from .sampling import complete

FORMAT = "pullback-lmconv-1"
SHIPPED = {name: Path(__file__).with_name(f"{name}.safetensors") for name in ("lmconv", "lmconv-binary")}
"""The models of the package: grey, and black and white."""


@dataclass(frozen=True)
class PixelModel:
    """A trained network and its file's card.

    Args:
        network: The network.
        name: What error messages call it.
        card: What its file says of its training.
    """

    network: PixelCNN
    name: str
    card: dict[str, str]

    @property
    def config(self) -> Config:
        return self.network.config

    def seen(self, pixels: np.ndarray) -> str:
        """Return how the network sees pictures (..., 3) uint8 whose colours it does not know, as a sentence, or ""."""
        if self.config.head == "colour" or (pixels == pixels[..., :1]).all():
            return ""
        shades = "grey" if self.config.head == "grey" else "black and white"
        return f"{self.name} knows {shades} pictures only, and sees coloured ones so"

    @torch.no_grad()
    def likelihood(
        self, pictures: list[Tensor], orders: int = 0, tick: Callable[[int, int], None] = lambda *_: None
    ) -> tuple[Tensor, Tensor]:
        """Return how probable pictures are, and which of their pixels are not.

        Args:
            pictures: Levels (channels, size, size) each.
            orders: How many of the orders that the network was trained on, from the first; 0 for all.
            tick: Called after every order with how many are done, and how many there are; it may raise to stop.

        Returns:
            Bits per value (B,) under the ensemble of the orders, and bits of every pixel (B, size, size) given those before it,
            on average over the orders.

        Raises:
            ValueError: If there are not so many orders.
        """
        names = self.config.orders
        if not 0 <= orders <= len(names):
            raise ValueError(f"orders is {orders}; {self.name} was trained on {len(names)}: choose 0 to {len(names)}")
        values = torch.stack(pictures).to(self.network.first.weight.device)
        size, chosen, each = values.shape[2:], names[: orders or None], []
        for done, name in enumerate(chosen, 1):
            nats = conditionals(self.network, values, self.network.masks(named(name, *size), *size))
            each.append(nats.double().cpu())
            tick(done, len(chosen))
        maps = torch.stack(each)
        return bits_per_dim(mixed(maps.sum((2, 3))), values[0].numel()), bits_per_dim(maps.mean(0), 1)

    def fill(
        self,
        pictures: np.ndarray,
        mask: np.ndarray,
        seed: int = 0,
        order: str = MAX_CONTEXT,
        tick: Callable[[int, int], None] = lambda *_: None,
    ) -> Tensor:
        """Sample the missing part of pictures.

        Args:
            pictures: RGB (B, H, W, 3), as uint8. A grey or binary network sees them in grey, and returns them so.
            mask: RGB (H, W, 3), as uint8: white, from 128, where the pictures are missing.
            seed: Another one gives other samples.
            order: The order of the missing pixels, as in `orders.completing`.
            tick: Called after every pixel with how many have been sampled, and how many will be; it may raise to stop.

        Returns:
            RGB (B, 3, H, W) in [0, 1].

        Raises:
            ValueError: If the mask has another size, or all or nothing is missing, or the pictures are too large, or there is
                no such order.
        """
        height, width = pictures.shape[1:3]
        if mask.shape[:2] != (height, width):
            raise ValueError(
                f"the mask has {mask.shape[1]} x {mask.shape[0]} pixels and the picture {width} x {height}: give a mask of "
                "the picture's size"
            )
        if max(height, width) > LARGEST:
            raise ValueError(
                f"the picture has {width} x {height} pixels, and at most {LARGEST} x {LARGEST} can be filled pixel by "
                f"pixel: scale it down ({self.name} learnt {self.config.size} x {self.config.size})"
            )
        known = torch.from_numpy(mask[..., 0] < 128)
        if known.all():
            raise ValueError("the mask is black everywhere: make it white where the picture is to be filled")
        if not known.any():
            raise ValueError("the mask is white everywhere: leave it black where the picture is known")
        values = torch.stack([levels_of(picture, self.config) for picture in pictures])
        values = values.to(self.network.first.weight.device)
        filled = complete(self.network, values, known, Generator().manual_seed(seed), tick, order)
        return shown(filled.cpu(), self.network.head)


def load_model(name: str | Path = "lmconv", device: str = "cpu") -> PixelModel:
    """Load a model.

    Args:
        name: One of `SHIPPED`, or a file of weights that `pullback train lmconv` wrote.
        device: Where it runs.

    Raises:
        ValueError: If the file is missing, truncated, of another format, or does not fit its own sizes.
    """
    path = SHIPPED.get(str(name), Path(name))
    tensors, metadata = read(path, f"{', '.join(SHIPPED)}, or a file that `pullback train lmconv` wrote")
    expect(metadata, path, "lmconv model", FORMAT, "pullback train lmconv")
    try:
        network = PixelCNN(parsed(metadata["config"], Config))
        network.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold an lmconv model of this version: train it again") from error
    network.eval().requires_grad_(False).to(device)
    card = {key: value for key, value in metadata.items() if key != "config"}
    return PixelModel(network, str(name) if name in SHIPPED else path.name, card)
