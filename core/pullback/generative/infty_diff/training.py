"""Training of ∞-Diff: the denoiser on random points of pictures of random sizes, the encoder with it, and the prior beside it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ...training.folder import PictureFolder
from ..toybox import model as toybox
from ..toybox.data import Pictures
from ..toybox.network import ANY
from ..toybox.words import LENGTH, PAD, START, split
from ..toybox.words import encode as word_numbers
from .autoencoder import Functions
from .denoiser import SIZE, error, expected
from .model import FORMAT
from .mollifier import STD
from .network import Condition, Config
from .points import Points
from .sampling import sampled_mollified
from .sizes import picture_at

SIZES = {64: 0.55, 128: 0.3, 256: 0.15}
"""Sides of the pictures in training, in pixels, and how often each is drawn."""
MOST = 2048
"""The most points per picture of a step."""
FRACTIONS = (0.25, 0.25, 0.5, 1.0)
"""Fractions of the pixels, one of which is drawn at every step if it is no more than `MOST` points, else the most there is."""
EMPTY = 0.1
"""Fraction of captions, and independently of cameras, that are dropped."""
WITH_LATENT = 0.25
"""Fraction of a batch that gets a latent z. The captions and cameras of half of these are dropped."""
ADOPTED = 0.3
"""The learning rate of the weights that were toybox's, as a fraction of that of the others."""
SHOWN = 6
"""Samples on a sheet."""


@dataclass
class Drawn:
    """A batch of pictures (B, C, H, W) in [-1, 1], and their words, cameras and light as in `Condition`."""

    x: Tensor
    words: Tensor
    cameras: Tensor
    lit: Tensor

    def to(self, device: torch.device) -> Drawn:
        return Drawn(*(each.to(device) for each in (self.x, self.words, self.cameras, self.lit)))


class RenderedPictures:
    """Toybox's rendered pictures, coloured at random."""

    def __init__(self, folder: Path):
        self.pictures = Pictures(folder, 0)
        largest = max(shard[0].shape[-1] for shard in self.pictures.shards)
        self.sizes = [size for size in SIZES if size <= largest]

    def draw(self, size: int, count: int, random: np.random.Generator) -> Drawn:
        """Return pictures of `size` pixels."""
        batch = self.pictures.batch(count, random, EMPTY, size)
        return Drawn(batch.x, batch.words, batch.cameras, batch.lit)


class CaptionedPictures:
    """A folder of any pictures. Words of a caption that toybox does not know are left out."""

    def __init__(self, folder: Path, channels: int):
        self.pictures, self.sizes = PictureFolder(folder, channels), list(SIZES)

    def draw(self, size: int, count: int, random: np.random.Generator) -> Drawn:
        """Return the squares in the middle of pictures, scaled to `size` pixels."""
        x, words = [], []
        for _ in range(count):
            pixels, caption = self.pictures.draw(random)
            known = " ".join(split(caption)[0][: LENGTH - 1]) if random.random() > EMPTY else ""
            x.append(picture_at(pixels, size))
            words.append(word_numbers(known))
        cameras = torch.tensor([0.0, 0.0, ANY]).expand(count, 3)
        return Drawn(torch.stack(x), torch.tensor(words), cameras, torch.ones(count))


class InftyDiffTrainee:
    """∞-Diff in training, as a `Trainee`.

    Args:
        folder: Toybox's rendered pictures, some of them larger than 64 pixels, or a folder of any pictures with captions.
        config: The sizes of the networks; a folder of any pictures takes nothing from toybox.
        batch_size: Pictures per step.
        lr: The learning rate.
        start_from: Networks to start from, or None.
        std: Standard deviation of T in pixels.
        most: The most points per picture of a step.

    Raises:
        ValueError: If the folder holds no pictures.
    """

    def __init__(
        self,
        folder: Path,
        config: Config = Config(),
        batch_size: int = 16,
        lr: float = 2e-3,
        start_from: Functions | None = None,
        std: float = STD,
        most: int = MOST,
    ):
        rendered = any(folder.glob("*-????.npz"))
        if not rendered:
            config = Config(**asdict(config) | {"toybox": False})
        config = config if start_from is None else start_from.config
        self.data = RenderedPictures(folder) if rendered else CaptionedPictures(folder, config.channels)
        self.config, self.batch_size, self.std, self.most = config, batch_size, std, most
        model = Functions(config)
        if start_from is not None:
            model.load_state_dict(start_from.state_dict())
        self.networks: dict[str, Any] = {"model": model}
        adopted = model.denoiser.adopt(toybox.network(), start_from is None) if config.toybox else []
        known = {id(p) for p in adopted}
        others = [p for part in (model.denoiser, model.encoder) for p in part.parameters() if id(p) not in known]
        groups = [{"params": others, "lr": lr}, {"params": adopted, "lr": lr * ADOPTED}]
        self.optimisers: list[list[torch.optim.Optimizer]] = [
            [_adam([group for group in groups if group["params"]], lr)], [_adam([{"params": [*model.prior.parameters()]}], lr)]
        ]  # fmt: skip

    def batch(self, random: np.random.Generator) -> Drawn:
        """Draw pictures of a random size."""
        odds = np.array([SIZES[size] for size in self.data.sizes])
        size = int(random.choice(self.data.sizes, p=odds / odds.sum()))
        return self.data.draw(size, self.batch_size, random)

    def losses(self, batch: Drawn, random: Generator, step: int) -> Iterator[Tensor]:
        """Yield the denoiser's error at random points, then that of the prior."""
        model, x, size = self.networks["model"], batch.x, batch.x.shape[-1]
        plain = getattr(model, "module", model)
        count, seen = len(x), max(1, round(WITH_LATENT * len(x)))
        wanted = FRACTIONS[int(torch.randint(len(FRACTIONS), (), generator=random))] * size**2
        points, clean = (Points.random(size, size, min(int(wanted), self.most), random) for _ in range(2))
        described = plain.denoiser.conditioner.described(Condition(batch.words, batch.cameras, batch.lit)).detach()
        z = plain.encoder(clean.of(x[:seen]), clean)
        sigma = torch.exp(1.4 * torch.randn(count, generator=random) + 0.6).to(x) * size / SIZE
        noise = torch.randn(x.shape, generator=random).to(x)
        given = self._condition(batch, torch.rand(seen, generator=random) < 0.5)
        latents = torch.cat([z, z.new_zeros(count - seen, z.shape[1])])
        yield error(plain.denoiser, x, sigma, noise, points, given, latents, self.std).mean()
        yield plain.prior.error(z.detach(), described[:seen], random)

    def _condition(self, batch: Drawn, dropped: Tensor) -> Condition:
        """The condition of a batch; the first pictures lose theirs where `dropped` says so."""
        words, cameras = batch.words.clone(), batch.cameras.clone()
        chosen = dropped.nonzero()[:, 0].to(words.device)
        words[chosen] = torch.tensor([START] + [PAD] * (LENGTH - 1), device=words.device)
        cameras[chosen] = torch.tensor([0.0, 0.0, ANY], device=words.device)
        picture = None
        if self.config.toybox:
            picture = expected(toybox.network(device=str(words.device)), words, cameras, batch.lit)
        return Condition(words, cameras, batch.lit, picture)

    @torch.no_grad()
    def sheet(self, model: Functions) -> Tensor:
        """Return a row of pictures, and below it a row of samples for their captions and cameras."""
        size, random = self.data.sizes[0], Generator().manual_seed(0)
        drawn = self.data.draw(size, SHOWN, np.random.default_rng(0))
        given = self._condition(drawn, torch.zeros(0, dtype=torch.bool))
        none = torch.zeros(SHOWN, self.config.latent)
        noise = torch.randn(drawn.x.shape, generator=random)
        made = sampled_mollified(model.denoiser, noise, given, none, steps=15, std=self.std)
        rows = [torch.cat(list(_shown(pictures)), -1) for pictures in (drawn.x, made)]
        return torch.cat(rows, -2)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the exported file."""
        return {"format": FORMAT, "config": json.dumps(asdict(self.config)), "std": str(self.std)}


def _adam(groups: list[dict[str, Any]], lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.99), weight_decay=0.01)


def _shown(pictures: Tensor) -> Tensor:
    """Put pictures (B, 3 or 4, H, W) in [-1, 1] on white, (B, 3, H, W) in [0, 1]."""
    shown = (pictures / 2 + 0.5).clamp(0, 1)
    return shown if shown.shape[1] == 3 else (shown[:, :3] + 1 - shown[:, 3:]).clamp(0, 1)
