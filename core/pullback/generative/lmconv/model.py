"""Files of weights: a .safetensors with the format, the sizes, and what is known of the training in its metadata."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Generator, Tensor

from ...schema import parsed
from ..weights import read
from .levels import levels_of, shown
from .likelihood import bits_per_dim, ensemble
from .network import LARGEST, Config, PixelCNN
from .orders import named
from .sampling import complete

FORMAT = "pullback-lmconv-1"


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

    def bits_per_dim(self, pictures: list[Tensor], orders: int = 0) -> Tensor:
        """Return the bits per value of pictures, under the ensemble of the orders that the network was trained on.

        Args:
            pictures: Levels (channels, size, size) each.
            orders: How many of the orders, from the first; 0 for all.

        Raises:
            ValueError: If there are not so many orders.
        """
        names = self.config.orders
        if not 0 <= orders <= len(names):
            raise ValueError(f"--orders is {orders}; {self.name} was trained on {len(names)}")
        values = torch.stack(pictures).to(self.network.first.weight.device)
        chosen = [named(name, *values.shape[2:]) for name in names[: orders or None]]
        return bits_per_dim(ensemble(self.network, values, chosen), values[0].numel()).cpu()

    def fill(
        self, picture: np.ndarray, mask: np.ndarray, seed: int = 0, tick: Callable[[int, int], None] = lambda *_: None
    ) -> Tensor:
        """Sample the missing part of a picture, in the order that begins with what is known.

        Args:
            picture: RGB (H, W, 3), as uint8. A grey or binary network sees it in grey, and returns it so.
            mask: RGB (H, W, 3), as uint8: white, from 128, where the picture is missing.
            seed: Another one gives another sample.
            tick: Called after every pixel with how many have been sampled, and how many will be; it may raise to stop.

        Returns:
            RGB (3, H, W) in [0, 1].

        Raises:
            ValueError: If the mask has another size, or all or nothing is missing, or the picture is too large.
        """
        height, width = picture.shape[:2]
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
        values = levels_of(picture, self.config)[None].to(self.network.first.weight.device)
        filled = complete(self.network, values, known, Generator().manual_seed(seed), tick)
        return shown(filled[0].cpu(), self.network.head)


def load_model(path: Path, device: str = "cpu") -> PixelModel:
    """Load a file of weights that `pullback train lmconv` wrote.

    Args:
        path: The file.
        device: Where it runs.

    Raises:
        ValueError: If the file is missing, truncated, of another format, or does not fit its own sizes.
    """
    tensors, metadata = read(path, "a model that `pullback train lmconv` wrote")
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} is no lmconv model: its format is {metadata.get('format')!r}, expected {FORMAT!r}; "
            "`pullback train lmconv` makes one"
        )
    try:
        network = PixelCNN(parsed(metadata["config"], Config))
        network.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold an lmconv model of this version: train it again") from error
    network.eval().requires_grad_(False).to(device)
    return PixelModel(network, path.name, {key: value for key, value in metadata.items() if key != "config"})
