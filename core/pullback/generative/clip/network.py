"""A small picture-text model: convolutions for pictures of 64 x 64 pixels, a transformer for toybox's words."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..infd.blocks import Residual
from ..toybox.network import Words


@dataclass(frozen=True)
class Config:
    """The sizes of the network.

    Args:
        size: Side of the pictures that the network takes, in pixels.
        widths: Channels at a half, a quarter, an eighth and a sixteenth of the size.
        embedding: The number of values in an embedding.
    """

    size: int = 64
    widths: tuple[int, ...] = (24, 48, 96, 192)
    embedding: int = 128


class PictureText(nn.Module):
    """Embeds pictures and word numbers in one space.

    The weight `temperature` is the natural logarithm of the inverse temperature, as CLIP's `logit_scale` is: in training,
    cosine similarities are multiplied by its exponential. Weights are saved under this name, so it stays.
    """

    def __init__(self, config: Config = Config()):
        super().__init__()
        self.config = config
        layers: list[nn.Module] = []
        for before, width in zip((3, *config.widths), config.widths, strict=False):
            layers += [nn.Conv2d(before, width, 4, 2, 1), Residual(width, width, False)]
        self.levels = nn.ModuleList(nn.Sequential(*layers[n : n + 2]) for n in range(0, len(layers), 2))
        self.out = nn.Linear(2 * config.widths[-1], config.embedding)
        self.words = Words(config.embedding)
        self.temperature = nn.Parameter(torch.tensor(math.log(10.0)))

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Return the feature maps of pictures (B, 3, size, size) in [0, 1], from fine to coarse."""
        h, found = 2 * pictures - 1, []
        for level in self.levels:
            h = level(h)
            found.append(h)
        return found

    def pictures(self, pictures: Tensor) -> Tensor:
        """Return the unit embeddings (B, embedding) of pictures (B, 3, size, size) in [0, 1]."""
        h = self.features(pictures)[-1]
        pooled = torch.cat([h.mean((2, 3)), h.amax((2, 3))], 1)
        return F.normalize(self.out(pooled), dim=-1)

    def texts(self, words: Tensor) -> Tensor:
        """Return the unit embeddings (B, embedding) of word numbers (B, LENGTH)."""
        return F.normalize(self.words(words).sum(1), dim=-1)
