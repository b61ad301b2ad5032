"""Training of the latent diffusion model on toybox's pictures, encoded by a trained autoencoder whose weights stay fixed."""

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
"""The number of pictures from which the mean and the deviation of the latents are measured."""
SCENES = 0.4
"""Fraction of each batch that is composed of two pictures (`compose_pairs`)."""
LAID_OUT = 0.75
"""Fraction of the composed pictures whose layout the model is told."""
SIDES = 0.125, 0.5
"""The smallest and the largest side of an object in a composed picture, as a fraction of the picture's side."""
SHOWN = 8
"""The number of pictures on a sample sheet."""


@dataclass
class Latents:
    """A batch of scaled latents and their conditions.

    Attributes:
        z: Scaled latents (B, latent, side, side).
        expected: Scaled latents of the pictures that the template expects, (B, latent, side, side).
        words: Word numbers (B, LENGTH).
        cameras: Toybox's camera conditions (B, 3).
        lit: 1 for pictures with light and shadow, else 0, (B,).
    """

    z: Tensor
    expected: Tensor
    words: Tensor
    cameras: Tensor
    lit: Tensor

    def to(self, device: torch.device) -> Latents:
        return Latents(*(getattr(self, field.name).to(device) for field in fields(self)))


class LatentTrainee:
    """The latent model in training, as a `Trainee`.

    Args:
        folder: A folder of toybox's pictures (`pullback.generative.toybox.train render`).
        autoencoder: The trained autoencoder.
        batch_size: Pictures per step.
        lr: The learning rate.
        start_from: A model to start from, trained on latents of the same encoder. By default, toybox's weights are used.
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

        The fraction `SCENES` of them is composed of two pictures each (`compose_pairs`). A composed picture keeps the caption
        and the camera of its first picture if that is a landscape, and has neither if it is an object. For the fraction
        `LAID_OUT` of the composed pictures, the expected pictures are composed in the same squares, so that they show which
        object stands where. For the others, the expected picture is that of the remaining caption and camera.
        """
        drawn = self.data.batch(self.batch_size, random)
        expected = expected_picture(self.template, drawn.words, drawn.cameras, drawn.lit)
        scenes = round(SCENES * self.batch_size)
        laid_out = round(LAID_OUT * scenes)
        squares = [draw_squares(drawn.x.shape[-1], random) for _ in range(scenes)]
        objects = drawn.x[:scenes, 3].amin((1, 2)) < 0.9
        drawn.x[:scenes] = compose_pairs(drawn.x[:scenes], objects, squares)
        layouts = compose_pairs(expected[:scenes], objects, squares)[:laid_out]
        drawn.words[:scenes][objects] = torch.tensor([START] + [PAD] * (LENGTH - 1))
        drawn.cameras[:scenes][objects] = torch.tensor([0.0, 0.0, ANY])
        expected[:laid_out] = layouts
        if laid_out < scenes:
            rest = slice(laid_out, scenes)
            expected[rest] = expected_picture(self.template, drawn.words[rest], drawn.cameras[rest], drawn.lit[rest])
        z, expected_z = self.normal.scaled(self.autoencoder.encode(torch.cat([drawn.x, expected]))).chunk(2)
        return Latents(z, expected_z, drawn.words, drawn.cameras, drawn.lit)

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
        """Return a row of pictures, and below it a row per noise level, with the model's estimates of the noisy pictures."""
        batch, random = self.batch(np.random.default_rng(0)), Generator().manual_seed(0)
        batch = Latents(*(getattr(batch, field.name)[:SHOWN] for field in fields(batch))).to(model.position.device)
        noise = torch.randn(batch.z.shape, generator=random).to(batch.z)
        words, rows = model.words(batch.words), [batch.z]
        for sigma in (0.3, 1.0, 20.0):
            levels = torch.full((len(noise),), sigma).to(noise)
            rows.append(model(batch.z + sigma * noise, levels, words, batch.expected, batch.cameras, batch.lit))
        self.autoencoder.to(noise.device)
        return torch.cat([torch.cat(list(self._drawn(z)), -1) for z in rows], -2)

    def _drawn(self, z: Tensor) -> Tensor:
        """Draw scaled latents on white, at twice the encoder's size."""
        drawn = self.autoencoder.picture(self.normal.latents(z), 2 * self.autoencoder.config.base)
        drawn = (drawn / 2 + 0.5).clamp(0, 1)
        return (drawn[:, :3] + 1 - drawn[:, 3:]).clamp(0, 1)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the exported file."""
        sizes, normal = asdict(self.config), asdict(self.normal)
        return {"format": FORMAT, "config": json.dumps(sizes), "normal": json.dumps(normal)}


Square = tuple[int, int, int]
"""Top, left and side of a square, in pixels."""


def draw_squares(side: int, random: np.random.Generator) -> tuple[Square, Square]:
    """Draw two squares in a picture of side x side pixels: one in its left and one in its right half, or above and below."""
    across, squares = bool(random.integers(2)), []
    for k in range(2):
        small = round(side * float(np.exp(random.uniform(*np.log(SIDES)))))
        free, along = (
            int(random.integers(side - small + 1)),
            int(random.integers(side // 2 - small + 1)) + k * (side // 2),
        )
        squares.append((free, along, small) if across else (along, free, small))
    return squares[0], squares[1]


def compose_pairs(pictures: Tensor, objects: Tensor, squares: list[tuple[Square, Square]]) -> Tensor:
    """Compose every picture with the next one, and the last with the first.

    A composition starts as the first picture of its pair if that is a landscape, and transparent if it is an object. Then the
    objects of the pair are drawn into its two squares. A landscape that is the second picture is left out.

    Args:
        pictures: Premultiplied RGBA (B, 4, H, W) in [-1, 1].
        objects: Whether each picture shows an object, and not a landscape, (B,).
        squares: The squares of each pair.

    Returns:
        The compositions, in the shape of the pictures.
    """
    unit = pictures / 2 + 0.5
    scenes = torch.where(objects[:, None, None, None], 0.0, unit)
    for n, pair in enumerate(squares):
        for k, (top, left, side) in zip((n, (n + 1) % len(unit)), pair, strict=True):
            if objects[k]:
                put(scenes[n], unit[k], top, left, side)
    return 2 * scenes - 1


def _by_adam(name: str) -> bool:
    """Return whether AdamW trains a weight. Muon trains the others."""
    return any(part in name for part in ("modulation", "embedding", "position", "stem", "head"))
