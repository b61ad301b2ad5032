"""Training of the small picture-text model, by contrasting the pairs of a batch (Radford et al. 2021, figure 3)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from ..muon import with_muon
from ..toybox.data import Pictures
from ..toybox.words import LANDSCAPES, NOUNS, encode
from .network import Config, PictureText

FORMAT = "pullback-picture-text-1"
WHITE, FLAT = 0.35, 0.25
"""Fractions of objects that are put on white, and on a random colour. The others are put on another picture of the batch."""
SCALES = 0.45, 1.3
"""The smallest and the largest size of an object's picture, relative to the frame."""
BLURRED = 0.4
"""Fraction of pictures that are blurred, as early estimates of a diffusion model are."""


@dataclass
class Pairs:
    """Pictures (B, 3, size, size) in [0, 1] and word numbers (B, LENGTH)."""

    pictures: Tensor
    words: Tensor

    def to(self, device: torch.device) -> Pairs:
        return Pairs(self.pictures.to(device), self.words.to(device))


class PictureTextTrainee:
    """The model in training, as a `Trainee`.

    Args:
        folder: A folder of toybox's pictures (`pullback.generative.toybox.train render`).
        config: The sizes of the network.
        batch_size: Pairs per step.
        lr: The learning rate.
    """

    def __init__(self, folder: Path, config: Config = Config(), batch_size: int = 128, lr: float = 2e-3):
        self.data, self.config, self.batch_size = Pictures(folder, config.size), config, batch_size
        model = PictureText(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.networks: dict[str, Any] = {"model": model}
        self.optimisers = [with_muon(model, lr, but=lambda name: "embedding" in name or "position" in name)]

    def batch(self, random: np.random.Generator) -> Pairs:
        """Draw pictures with captions, framed at random."""
        drawn = self.data.batch(self.batch_size, random, dropped=0.0)
        return Pairs(framed(drawn.x, torch.Generator().manual_seed(int(random.integers(2**62)))), drawn.words)

    def losses(self, batch: Pairs, random: Generator, step: int) -> Iterator[Tensor]:
        """Yield the contrastive loss."""
        model = getattr(self.networks["model"], "module", self.networks["model"])
        yield contrast(model.pictures(batch.pictures), model.texts(batch.words), model.temperature.exp(), batch.words)

    def sheet(self, model: PictureText) -> Tensor:
        """Return framed pictures, each above a bar: green if the model finds the picture's noun or landscape, else red."""
        batch = self.batch(np.random.default_rng(0))
        kinds = [*NOUNS, *LANDSCAPES]
        with torch.no_grad():
            similar = model.pictures(batch.pictures) @ model.texts(torch.tensor([encode(kind) for kind in kinds])).T
        best = similar.argmax(1)
        right = [encode(kinds[int(k)])[1] in row for k, row in zip(best, batch.words.tolist(), strict=True)]
        bar = torch.tensor([[0.0, 0.7, 0.0] if ok else [0.9, 0.0, 0.0] for ok in right])[:, :, None, None]
        tiles = torch.cat([batch.pictures, bar.expand(-1, -1, 4, self.config.size)], 2)
        return torch.cat([torch.cat(list(row), -1) for row in tiles[:64].split(16)], -2)

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the exported file."""
        return {"format": FORMAT, "config": json.dumps(asdict(self.config))}


def contrast(pictures: Tensor, texts: Tensor, scale: Tensor, words: Tensor) -> Tensor:
    """Return the contrastive loss of B pairs. Pairs with the same caption do not count as each other's negatives.

    Args:
        pictures: Unit embeddings (B, D).
        texts: Unit embeddings (B, D).
        scale: The inverse temperature.
        words: Captions as numbers (B, LENGTH).
    """
    logits = scale * pictures @ texts.T
    same = (words[:, None] == words[None]).all(-1) & ~torch.eye(len(words), dtype=torch.bool, device=words.device)
    logits = logits.masked_fill(same, -torch.inf)
    target = torch.arange(len(words), device=words.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def framed(rgba: Tensor, random: Generator) -> Tensor:
    """Show pictures at random sizes and places, in front of white, a colour or other pictures, some of them blurred.

    Args:
        rgba: Premultiplied pictures (B, 4, H, W) in [-1, 1].
        random: Draws sizes, positions, mirroring, backgrounds and blur.

    Returns:
        RGB (B, 3, H, W) in [0, 1].
    """
    count, side = len(rgba), rgba.shape[-1]
    draw = lambda *shape: torch.rand(count, *shape, generator=random)
    low, high = SCALES
    opaque = (rgba[:, 3].amin((1, 2)) > 0.9).float()
    scale = low + (high - low) * draw()
    scale = torch.where(opaque > 0, scale.clamp(min=1.0), scale)  # a landscape fills the frame
    shift = (2 * draw(2) - 1) * (1 - scale).abs()[:, None]
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0] = matrix[:, 1, 1] = 1 / scale
    matrix[:, :, 2] = -shift / scale[:, None]
    unit = rgba / 2 + 0.5
    moved = F.grid_sample(unit, F.affine_grid(matrix, list(rgba.shape), align_corners=False), align_corners=False)
    moved = torch.where(draw(1, 1, 1) < 0.5, moved.flip(3), moved)
    colour = draw(3, 1, 1).expand(-1, -1, side, side)
    other = unit.roll(1, 0)
    other = other[:, :3] + (1 - other[:, 3:]) * colour
    kind = draw(1, 1, 1)
    behind = torch.where(kind < WHITE, torch.ones_like(colour), torch.where(kind < WHITE + FLAT, colour, other))
    rgb = moved[:, :3] + (1 - moved[:, 3:]) * behind
    small = int(torch.randint(8, 33, (), generator=random))
    blurred = F.interpolate(F.interpolate(rgb, (small, small), mode="area"), (side, side), mode="bilinear")
    return torch.where(draw(1, 1, 1) < BLURRED, blurred, rgb).clamp(0, 1)
