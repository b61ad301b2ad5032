"""Training of a diffusion model on a folder of pictures."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...training.folder import PictureFolder
from .bound import term
from .design import Preset
from .model import FORMAT, display, signal_of
from .network import UNet
from .process import diffuse
from .reverse import target
from .sampling import ancestral

SHOWN = 8
"""Pictures on a row of the sample sheet."""
SHEET_STEPS = 25
"""The steps in which they are sampled."""


class DDPMTrainee:
    """The network in training, as a `Trainee`.

    Args:
        folder: Its pictures. The squares in their middle are scaled to the design's size.
        preset: Its design, and how it is trained.
        batch_size: Pictures per step; by default the preset's.
        lr: The learning rate; by default the preset's.
        start_from: The network to start from, or None.
    """

    def __init__(
        self,
        folder: PictureFolder,
        preset: Preset,
        batch_size: int = 0,
        lr: float = 0.0,
        start_from: UNet | None = None,
    ):
        self.folder, self.preset, self.design = folder, preset, preset.design
        self.batch_size = batch_size or preset.batch_size
        model = UNet(self.design.network)
        if start_from is not None:
            model.load_state_dict(start_from.state_dict())
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.networks: dict[str, Any] = {"model": model}
        self.optimisers: list[list[torch.optim.Optimizer]] = [[torch.optim.Adam(model.parameters(), lr or preset.lr)]]
        self.process = self.design.process()

    def batch(self, random: np.random.Generator) -> Tensor:
        """Draw pictures (B, channels, size, size) in [-1, 1]."""
        config = self.design.network
        drawn = []
        for _ in range(self.batch_size):
            picture = signal_of(self.folder.draw(random)[0], config.channels, config.size)
            drawn.append(picture.flip(-1) if self.preset.flips and random.random() < 0.5 else picture)
        return torch.stack(drawn)

    def losses(self, batch: Tensor, random: torch.Generator, step: int) -> Iterator[Tensor]:
        """Yield the squared error of what is predicted, or the term of the bound in bits per value, at random times."""
        t = torch.randint(1, self.process.steps + 1, (len(batch),), generator=random)
        eps = torch.randn(batch.shape, generator=random).to(batch.device)
        reverse = self.design.reverse(self.networks["model"], clip=False)
        with torch.random.fork_rng(enabled=self.design.network.dropout > 0):  # dropout knows no generator
            torch.manual_seed(int(torch.randint(1 << 62, (), generator=random)))
            if self.design.objective == "bound":
                loss = term(reverse, batch, t, eps)[0].mean()
            else:
                x = diffuse(self.process, batch, t, eps)
                wanted = target(self.process, self.design.predicted, batch, x, t, eps)
                loss = (reverse.raw(x, t)[0] - wanted).square().mean()
        yield loss

    @torch.no_grad()
    def sheet(self, model: UNet) -> Tensor:
        """Return a row of pictures of the folder above one of samples, in fewer steps than T."""
        config, random = self.design.network, np.random.default_rng(0)
        true = torch.stack([signal_of(self.folder.draw(random)[0], config.channels, config.size) for _ in range(SHOWN)])
        reverse = self.design.reverse(model.eval()).spaced(min(SHEET_STEPS, self.process.steps))
        seeded = torch.Generator().manual_seed(0)
        noise = torch.randn((SHOWN, *true.shape[1:]), generator=seeded).to(model.first.weight)
        made = ancestral(reverse, noise, seeded)
        model.train()
        pictures = display(torch.cat([true, made.cpu()]))
        return torch.cat([torch.cat(list(row), -1) for row in pictures.split(SHOWN)], -2)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of a file of weights."""
        return {"format": FORMAT, "design": json.dumps(asdict(self.design)), "pictures": str(len(self.folder))}
