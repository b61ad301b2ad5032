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
from ..toybox.data import Pictures
from ..toybox.model import network as toybox_network
from ..toybox.network import ANY
from ..toybox.words import LENGTH, PAD, START
from .latent import SCALE, SIGMA_DATA, LatentConfig, LatentDenoiser, Normal, expected_picture, put
from .network import Autoencoder

FORMAT = "pullback-latent-1"
MEASURED = 256
"""Pictures from which the scale of the latents is measured."""
SCENES = 0.4
"""Part of the pictures that show two objects."""
LAID_OUT = 0.75
"""Part of those whose layout the model is told."""
SIDES = 0.125, 0.5
"""The smallest and the largest side of an object in such a picture, as a part of the picture's."""
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
        start_from: The model to start from, trained on the latents of the same encoder. By default it is toybox's trunk.
    """

    def __init__(
        self,
        folder: Path,
        autoencoder: Autoencoder,
        batch_size: int = 32,
        lr: float = 1e-3,
        start_from: LatentDenoiser | None = None,
    ):
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
        if start_from is None:
            model.start_from(toybox)
        else:
            model.load_state_dict(start_from.state_dict())
        self.networks: dict[str, Any] = {"model": model}
        self.optimisers = [with_muon(model, lr, but=_by_adam)]

    @torch.no_grad()
    def batch(self, random: np.random.Generator) -> Latents:
        """Draw pictures and encode them.

        A part `SCENES` of them show two objects, in front of a landscape or of nothing. Their captions say nothing of the
        objects. Of most, the expected picture shows where which object stands.
        """
        drawn = self.data.batch(self.batch_size, random)
        expected = expected_picture(self.template, drawn.words, drawn.cameras, drawn.lit)
        scenes = round(SCENES * self.batch_size)
        told = round(LAID_OUT * scenes)
        places = [scattered(drawn.x.shape[-1], random) for _ in range(scenes)]
        objects = drawn.x[:scenes, 3].amin((1, 2)) < 0.9
        drawn.x[:scenes] = together(drawn.x[:scenes], objects, places)
        layouts = together(expected[:scenes], objects, places)[:told]
        drawn.words[:scenes][objects] = torch.tensor([START] + [PAD] * (LENGTH - 1))
        drawn.cameras[:scenes][objects] = torch.tensor([0.0, 0.0, ANY])
        expected[:told] = layouts
        if told < scenes:
            rest = slice(told, scenes)
            expected[rest] = expected_picture(self.template, drawn.words[rest], drawn.cameras[rest], drawn.lit[rest])
        true, means = self.normal.scaled(self.autoencoder.encode(torch.cat([drawn.x, expected]))).chunk(2)
        return Latents(true, means, drawn.words, drawn.cameras, drawn.lit)

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


Place = tuple[int, int, int]
"""Top, left and side of a square, in pixels."""


def scattered(side: int, random: np.random.Generator) -> tuple[Place, Place]:
    """Draw two places that do not overlap in a square picture with a side in pixels."""
    across, places = bool(random.integers(2)), []
    for k in range(2):
        small = round(side * float(np.exp(random.uniform(*np.log(SIDES)))))
        free, along = (
            int(random.integers(side - small + 1)),
            int(random.integers(side // 2 - small + 1)) + k * (side // 2),
        )
        places.append((free, along, small) if across else (along, free, small))
    return places[0], places[1]


def together(pictures: Tensor, objects: Tensor, places: list[tuple[Place, Place]]) -> Tensor:
    """Put every picture small beside the next one.

    Args:
        pictures: Premultiplied RGBA (B, 4, H, W) in [-1, 1].
        objects: Whether each shows an object, (B,). Pictures of landscapes are put behind instead, at their full size.
        places: The places of each pair.

    Returns:
        Pictures of the same shape.
    """
    seen = pictures / 2 + 0.5
    scenes = torch.where(objects[:, None, None, None], 0.0, seen)
    for n, pair in enumerate(places):
        for k, (top, left, side) in zip((n, (n + 1) % len(seen)), pair, strict=True):
            if objects[k]:
                put(scenes[n], seen[k], top, left, side)
    return 2 * scenes - 1


def _by_adam(name: str) -> bool:
    return any(part in name for part in ("modulation", "embedding", "position", "stem", "head"))
