"""Training of a PixelCNN on a folder of pictures, in several orders: every step takes one of them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...training.folder import PictureFolder
from .levels import levels_of, shown
from .likelihood import bits_per_dim, conditionals
from .model import FORMAT
from .network import Config, PixelCNN
from .orders import named
from .sampling import complete, sample

SHOWN = 6
"""Pictures on a row of the sample sheet."""


class PixelCNNTrainee:
    """The network in training, as a `Trainee`.

    Args:
        folder: Its pictures. The squares in their middle are scaled to the configuration's size.
        config: Its sizes and orders.
        batch_size: Pictures per step.
        lr: The learning rate; 2e-4 in the paper, for networks of its size.
        start_from: The network to start from, or None.
    """

    def __init__(
        self,
        folder: PictureFolder,
        config: Config,
        batch_size: int = 16,
        lr: float = 1e-3,
        start_from: PixelCNN | None = None,
    ):
        self.folder, self.config, self.batch_size = folder, config, batch_size
        model = PixelCNN(config)
        if start_from is not None:
            model.load_state_dict(start_from.state_dict())
        self.networks: dict[str, Any] = {"model": model}
        self.optimisers: list[list[torch.optim.Optimizer]] = [[torch.optim.Adam(model.parameters(), lr)]]
        size = config.size
        self.masks = [model.masks(named(name, size, size), size, size) for name in config.orders]

    def batch(self, random: np.random.Generator) -> Tensor:
        """Draw pictures as levels, (B, channels, size, size)."""
        drawn = (self.folder.draw(random)[0] for _ in range(self.batch_size))
        return torch.stack([levels_of(pixels, self.config, self.config.size) for pixels in drawn])

    def losses(self, batch: Tensor, random: torch.Generator, step: int) -> Iterator[Tensor]:
        """Yield the bits per value of the pictures in a random one of the orders."""
        model = self.networks["model"]
        masks = self.masks[int(torch.randint(len(self.masks), (), generator=random))].to(
            torch.zeros(1, device=batch.device)
        )
        yield bits_per_dim(conditionals(model, batch, masks).mean(), batch.shape[1])

    @torch.no_grad()
    def sheet(self, model: PixelCNN) -> Tensor:
        """Return rows of pictures of the folder, of them with their upper halves sampled, and of samples."""
        random, size = np.random.default_rng(0), self.config.size
        device = model.first.weight.device
        true = torch.stack([levels_of(self.folder.draw(random)[0], self.config, size) for _ in range(SHOWN)]).to(device)
        known = torch.arange(size)[:, None].expand(size, size) >= size // 2
        filled = complete(model, true, known, torch.Generator().manual_seed(0))
        order = named(self.config.orders[0], size, size)
        free = sample(model, true, order, 0, torch.Generator().manual_seed(0))
        rows = [torch.cat(list(shown(row, model.head)), -1) for row in (true, filled, free)]
        return torch.cat(rows, -2)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of a file of weights."""
        return {"format": FORMAT, "config": json.dumps(asdict(self.config)), "pictures": str(len(self.folder))}
