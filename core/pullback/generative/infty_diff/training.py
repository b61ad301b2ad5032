"""Training of ∞-Diff: the denoiser on random points of pictures of random sizes, the encoder with it, and the prior beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
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
from .coarse import SIZE
from .denoiser import error
from .model import FORMAT, toybox_under
from .mollifier import STD
from .network import Condition, Config, Sketch
from .points import Points
from .sampling import sampled_mollified
from .sizes import picture_at

DEPTH, OWN_DEPTH = 2, 5
"""Blocks of the U-Net's transformer of a network that corrects toybox's estimates, and of one that has nothing to start from."""
SIZES = {64: 0.15, 128: 0.5, 256: 0.35}
"""Sides of the pictures in training, in pixels, and how often each is drawn."""
MOST = 16384
"""The most points of a step, of all pictures together; a step has one picture at least."""
FRACTIONS = (0.125, 0.25, 0.5, 1.0)
"""Fractions of the pixels, one of which is drawn at every step."""
DETAIL = 0.75
"""Part of the pictures whose noise levels are those at which detail appears, between `DETAILED`; the others spread around 2."""
DETAILED = 0.004, 0.6
"""Lowest and highest of these noise levels, on a picture of 64 pixels."""
EMPTY = 0.1
"""Fraction of captions, and independently of cameras, that are dropped."""
WITH_LATENT = 0.25
"""Fraction of the steps with a latent z. The captions and cameras of half of the pictures are dropped there."""
ENCODED = 16
"""Pictures of `SIZE` pixels in every step from which encoder, sketcher and prior learn."""
CLEAN = 2048
"""The most points of a picture that the encoder sees."""
SHOWN = 6
"""Samples on a sheet."""


@dataclass
class Batch:
    """Pictures for the denoiser, how many of their points it sees, and pictures of `SIZE` pixels for the latents."""

    pictures: Drawn
    points: int
    small: Drawn

    def to(self, device: torch.device) -> Batch:
        return Batch(self.pictures.to(device), self.points, self.small.to(device))


@dataclass
class Drawn:
    """Pictures (B, C, H, W) in [-1, 1], and their words, cameras and light as in `Condition`."""

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
        config: The sizes of the networks, or None for those of the package, with a deeper U-Net for a folder of any pictures,
            which takes nothing from toybox.
        batch_size: The most pictures per step. There are fewer of them where each shows many points.
        lr: The learning rate.
        start_from: Networks to start from, or None.
        std: Standard deviation of T in pixels.
        most: The most points of a step, of all pictures together.

    Raises:
        ValueError: If the folder holds no pictures.
    """

    def __init__(
        self,
        folder: Path,
        config: Config | None = None,
        batch_size: int = 16,
        lr: float = 1e-3,
        start_from: Functions | None = None,
        std: float = STD,
        most: int = MOST,
    ):
        rendered = any(folder.glob("*-????.npz"))
        config = start_from.config if start_from else config or Config(depth=DEPTH if rendered else OWN_DEPTH)
        config = replace(config, toybox=rendered and config.toybox)
        self.data = RenderedPictures(folder) if rendered else CaptionedPictures(folder, config.channels)
        self.config, self.batch_size, self.std, self.most = config, batch_size, std, most
        model = Functions(config)
        if start_from is not None:
            model.load_state_dict(start_from.state_dict())
        self.networks: dict[str, Any] = {"model": model}
        latent = [*model.encoder.parameters(), *model.sketcher.parameters()]
        parts = [*model.denoiser.parameters()], latent, [*model.prior.parameters()]
        self.optimisers: list[list[torch.optim.Optimizer]] = [[_adam(part, lr)] for part in parts]

    def batch(self, random: np.random.Generator) -> Batch:
        """Draw pictures of a random size, and the part of their points that the network sees."""
        odds = np.array([SIZES[size] for size in self.data.sizes])
        size = int(random.choice(self.data.sizes, p=odds / odds.sum()))
        points = round(float(random.choice(FRACTIONS)) * size**2)
        count = min(max(1, self.most // points), self.batch_size)
        return Batch(self.data.draw(size, count, random), points, self.data.draw(SIZE, ENCODED, random))

    def losses(self, batch: Batch, random: Generator, step: int) -> Iterator[Tensor]:
        """Yield the denoiser's error at random points, that of the sketches of latents, and that of the prior of latents."""
        drawn, model, x = batch.pictures, self.networks["model"], batch.pictures.x
        plain, size, count = getattr(model, "module", model), x.shape[-1], len(x)
        points = Points.random(size, size, batch.points, random)
        sigma = self._levels(count, random).to(x) * size / SIZE
        noise = torch.randn(x.shape, generator=random).to(x)
        z, dropped = x.new_zeros(count, self.config.latent), torch.zeros(count, dtype=torch.bool)
        told = float(torch.rand((), generator=random)) < WITH_LATENT
        if told:
            clean = Points.random(size, size, min(batch.points, CLEAN), random)
            with torch.no_grad():
                z = plain.encoder(clean.of(x), clean)
            dropped = torch.rand(count, generator=random) < 0.5
        given = self._condition(drawn, dropped, plain.sketcher(z).detached() if told else None)
        yield error(plain.denoiser, x, sigma, noise, points, given, z, self.std).mean()

        small = batch.small
        seen = Points.random(SIZE, SIZE, SIZE**2 // 4, random)
        z = plain.encoder(seen.of(small.x), seen)
        yield plain.sketcher.error(z, small.x)
        described = plain.denoiser.conditioner.described(Condition(small.words, small.cameras, small.lit)).detach()
        yield plain.prior.error(z.detach(), described, random)

    def _levels(self, count: int, random: Generator) -> Tensor:
        """Noise levels of pictures of 64 pixels, (count,)."""
        low, high = (math.log(each) for each in DETAILED)
        detailed = torch.exp(low + (high - low) * torch.rand(count, generator=random))
        others = torch.exp(1.4 * torch.randn(count, generator=random) + 0.6)
        return (
            torch.where(torch.rand(count, generator=random) < DETAIL, detailed, others)
            if self.config.toybox
            else others
        )

    def _condition(self, batch: Drawn, dropped: Tensor, sketch: Sketch | None = None) -> Condition:
        """The condition of pictures; they lose words and camera where `dropped` (B,) says so."""
        words, cameras = batch.words.clone(), batch.cameras.clone()
        chosen = dropped.nonzero()[:, 0].to(words.device)
        words[chosen] = torch.tensor([START] + [PAD] * (LENGTH - 1), device=words.device)
        cameras[chosen] = torch.tensor([0.0, 0.0, ANY], device=words.device)
        coarse = None
        if self.config.toybox:
            coarse = toybox_under(toybox.network(device=str(words.device)), words, cameras, batch.lit)
        return Condition(words, cameras, batch.lit, coarse, sketch)

    @torch.no_grad()
    def sheet(self, model: Functions) -> Tensor:
        """Return a row of pictures, and below it a row of samples for their captions and cameras."""
        size, random = self.data.sizes[0], Generator().manual_seed(0)
        drawn = self.data.draw(size, SHOWN, np.random.default_rng(0))
        given = self._condition(drawn, torch.zeros(SHOWN, dtype=torch.bool))
        none = torch.zeros(SHOWN, self.config.latent)
        noise = torch.randn(drawn.x.shape, generator=random)
        made = sampled_mollified(model.denoiser, noise, given, none, steps=15, std=self.std)
        rows = [torch.cat(list(_shown(pictures)), -1) for pictures in (drawn.x, made)]
        return torch.cat(rows, -2)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the exported file."""
        return {"format": FORMAT, "config": json.dumps(asdict(self.config)), "std": str(self.std)}


def _adam(weights: list[torch.nn.Parameter], lr: float) -> torch.optim.Optimizer:
    return torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.99), weight_decay=0.01)


def _shown(pictures: Tensor) -> Tensor:
    """Put pictures (B, 3 or 4, H, W) in [-1, 1] on white, (B, 3, H, W) in [0, 1]."""
    shown = (pictures / 2 + 0.5).clamp(0, 1)
    return shown if shown.shape[1] == 3 else (shown[:, :3] + 1 - shown[:, 3:]).clamp(0, 1)
