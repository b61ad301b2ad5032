"""Training of the latent diffusion model on toybox's pictures, encoded by a trained autoencoder that stays as it is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ..muon import with_muon
from ..toybox.data import Batch, Pictures
from ..toybox.model import network as toybox_network
from ..toybox.network import ANY
from ..toybox.words import LENGTH, PAD, START
from .latent import SCALE, SIGMA_DATA, LatentConfig, LatentDenoiser, Normal, expected_picture
from .network import Autoencoder

FORMAT = "pullback-latent-1"
MEASURED = 256
"""Pictures from which the scale of the latents is measured."""
SCENES = 0.3
"""Part of the pictures that show two objects."""
SHOWN = 8
"""Pictures on a sample sheet."""


@dataclass
class Latents:
    """A batch of scaled latents and their conditions.

    Attributes:
        z: Scaled latents (B, latent, side, side).
        expected: Scaled latents of the pictures that the template expects, in the same shape.
        words: Word numbers (B, LENGTH).
        cameras: Cameras (B, 3).
        lit: (B,).
    """

    z: Tensor
    expected: Tensor
    words: Tensor
    cameras: Tensor
    lit: Tensor

    def to(self, device: torch.device) -> Latents:
        return Latents(*(getattr(self, each.name).to(device) for each in fields(self)))


class LatentTrainee:
    """The latent model in training, as a `Trainee`.

    Args:
        folder: A folder of toybox's pictures (`pullback.generative.toybox.train render`).
        autoencoder: The trained autoencoder.
        batch_size: Pictures per step.
        lr: The learning rate.
    """

    def __init__(self, folder: Path, autoencoder: Autoencoder, batch_size: int = 32, lr: float = 1e-3):
        self.data, self.batch_size = Pictures(folder), batch_size
        self.autoencoder = autoencoder.eval().requires_grad_(False)
        toybox = toybox_network()
        self.template = toybox.template
        sizes = autoencoder.config
        self.config = LatentConfig(
            sizes.latent, sizes.base // sizes.scale, toybox.position.shape[-1], len(toybox.blocks)
        )
        self.normal = Normal.of(autoencoder, self.data.batch(MEASURED, np.random.default_rng(0)).x)
        model = LatentDenoiser(self.config)
        model.start_from(toybox)
        self.networks: dict[str, Any] = {"model": model}
        self.optimisers = [with_muon(model, lr, but=_by_adam)]

    def batch(self, random: np.random.Generator) -> Latents:
        """Draw pictures and encode them. A part `SCENES` of them show two objects, without a caption."""
        drawn = self.data.batch(self.batch_size, random)
        scenes = round(SCENES * self.batch_size)
        drawn.x[:scenes] = together(drawn.x[:scenes], random)
        drawn.words[:scenes] = torch.tensor([START] + [PAD] * (LENGTH - 1))
        drawn.cameras[:scenes] = torch.tensor([0.0, 0.0, ANY])
        return self._encoded(drawn)

    @torch.no_grad()
    def _encoded(self, drawn: Batch) -> Latents:
        pictures = expected_picture(self.template, drawn.words, drawn.cameras, drawn.lit)
        z = self.normal.scaled(self.autoencoder.encode(torch.cat([drawn.x, pictures])))
        true, expected = z.chunk(2)
        return Latents(true, expected, drawn.words, drawn.cameras, drawn.lit)

    def losses(self, batch: Latents, random: Generator, step: int) -> Iterator[Tensor]:
        """Yield the weighted denoising error of EDM (Karras et al. 2022, eq. 8), at the noise levels of toybox's training."""
        model = self.networks["model"]
        sigma = torch.exp(1.5 * torch.randn(len(batch.z), generator=random) + 0.8).to(batch.z) / SCALE
        noise = torch.randn(batch.z.shape, generator=random).to(batch.z)
        column = sigma[:, None, None, None]
        words = getattr(model, "module", model).words(batch.words)
        denoised = model(batch.z + column * noise, sigma, words, batch.expected, batch.cameras, batch.lit)
        weight = (column**2 + SIGMA_DATA**2) / (column * SIGMA_DATA) ** 2
        yield (weight * (denoised - batch.z).square()).mean()

    @torch.no_grad()
    def sheet(self, model: LatentDenoiser) -> Tensor:
        """Return pictures, and below what is left of them at three noise levels after one denoising step."""
        batch, random = self.batch(np.random.default_rng(0)), Generator().manual_seed(0)
        batch = Latents(*(getattr(batch, each.name)[:SHOWN] for each in fields(batch))).to(model.position.device)
        noise = torch.randn(batch.z.shape, generator=random).to(batch.z)
        words, rows = model.words(batch.words), [batch.z]
        for sigma in (0.3, 1.0, 20.0):
            levels = torch.full((len(noise),), sigma).to(noise)
            rows.append(model(batch.z + sigma * noise, levels, words, batch.expected, batch.cameras, batch.lit))
        self.autoencoder.to(noise.device)
        return torch.cat([torch.cat(list(self._drawn(each)), -1) for each in rows], -2)

    def _drawn(self, z: Tensor) -> Tensor:
        drawn = self.autoencoder.picture(self.normal.latents(z), 2 * self.autoencoder.config.base)
        drawn = (drawn / 2 + 0.5).clamp(0, 1)
        return (drawn[:, :3] + 1 - drawn[:, 3:]).clamp(0, 1)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the exported file."""
        sizes, normal = asdict(self.config), asdict(self.normal)
        return {"format": FORMAT, "config": json.dumps(sizes), "normal": json.dumps(normal)}


def together(pictures: Tensor, random: np.random.Generator) -> Tensor:
    """Put every picture small beside the next one, at random places that do not overlap.

    Args:
        pictures: Premultiplied RGBA (B, 4, H, W) in [-1, 1]. Opaque ones are put behind instead, at their full size.
        random: Draws sizes and places.

    Returns:
        Pictures of the same shape.
    """
    seen, side = pictures / 2 + 0.5, pictures.shape[-1]
    scenes = torch.zeros_like(seen)
    for n, (first, second) in enumerate(zip(seen, seen.roll(-1, 0), strict=True)):
        if first[3].min() > 0.9:
            scenes[n] = first
        across = bool(random.integers(2))
        for k, each in enumerate((first, second)):
            if each[3].min() > 0.9:
                continue
            small = round(side * random.uniform(0.3, 0.5))
            shrunk = torch.nn.functional.interpolate(each[None], (small, small), mode="area")[0]
            free, along = side - small, int(random.integers(side // 2 - small + 1)) + k * (side // 2)
            y, x = (int(random.integers(free + 1)), along) if across else (along, int(random.integers(free + 1)))
            place = scenes[n, :, y : y + small, x : x + small]
            place.mul_(1 - shrunk[3:]).add_(shrunk)
    return 2 * scenes - 1


def _by_adam(name: str) -> bool:
    return any(part in name for part in ("modulation", "embedding", "position", "stem", "head"))
