"""Renderers: from a feature map to the pixels of a picture of any size.

A feature map phi is (B, C, H, W). A pixel is given by its place, the row and column of its centre in [-1, 1], and by its cell,
its height and width in the same units: 2 / height and 2 / width of the whole picture. A renderer is a module

    renderer(phi, places (B, h, w, 2), cell (B, 2)) -> values (B, channels, h, w), nominally in [-1, 1]

A part of a picture has the same values as in the whole picture if it is drawn with `margin` more pixels on every side.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from ...representation import Crop
from .blocks import Residual, norm


def places(height: int, width: int, crop: Crop | None = None) -> Tensor:
    """Return the centres (row, column) of the pixels of a picture, or of a part of it, (h, w, 2) in [-1, 1].

    Args:
        height: Height of the whole picture in pixels.
        width: Width of the whole picture.
        crop: The part (top, left, h, w), or None for all of it.

    Example:
        >>> places(1, 2)
        tensor([[[ 0.0000, -0.5000],
                 [ 0.0000,  0.5000]]])
    """
    top, left, h, w = crop or (0, 0, height, width)
    rows = (2 * torch.arange(top, top + h) + 1) / height - 1
    columns = (2 * torch.arange(left, left + w) + 1) / width - 1
    return torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1)


def nearest(phi: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Look up the feature that is nearest to each place.

    Args:
        phi: Features (B, C, H, W).
        places: Places (B, h, w, 2) in [-1, 1].

    Returns:
        The features (B, C, h, w), and the places relative to the centres of their features, (B, 2, h, w) in [-1, 1]
        (INFD, section 3.2).
    """
    size = torch.tensor(phi.shape[2:], device=places.device)
    at = (places + 1) * size / 2
    index = torch.minimum(at.floor().long().clamp(min=0), size - 1)
    flat = (index[..., 0] * size[1] + index[..., 1]).flatten(1)
    found = phi.flatten(2).gather(2, flat[:, None].expand(-1, phi.shape[1], -1)).unflatten(2, places.shape[1:3])
    return found, (2 * (at - index - 0.5)).to(phi).movedim(-1, 1)


class CLIF(nn.Module):
    """The convolutional local image function (INFD, section 3.2): features, relative places and cells -> convolutions -> RGB.

    Args:
        features: Channels of phi.
        channels: Channels of the picture.
        hidden: Channels of the convolutions; 256 in the paper.
        blocks: Residual blocks; 2 in the paper.
        grouped: Whether to use group norms, as in the paper. Without them, a part drawn with its margin equals that part of the
            whole picture. With them, `exact_tiles.py` has to draw parts.
    """

    def __init__(self, features: int, channels: int, hidden: int = 256, blocks: int = 2, grouped: bool = False):
        super().__init__()
        self.enter = nn.Conv2d(features + 4, hidden, 3, padding=1)
        self.blocks = nn.Sequential(*(Residual(hidden, hidden, grouped) for _ in range(blocks)))
        self.norm = norm(hidden, grouped)
        self.last = nn.Conv2d(hidden, channels, 3, padding=1)
        self.margin = 2 + 2 * blocks

    @property
    def layers(self) -> tuple[Callable[[Tensor], Tensor], ...]:
        """The layers, in the order in which they run on the result of `gather`."""
        return self.enter, *self.blocks, self.norm, nn.functional.silu, self.last

    def gather(self, phi: Tensor, places: Tensor, cell: Tensor) -> Tensor:
        """Return the features, relative places and cells of pixels, (B, features + 4, h, w)."""
        found, relative = nearest(phi, places)
        size = torch.tensor(phi.shape[2:], device=cell.device)
        cells = (cell * size).to(phi)[:, :, None, None].expand_as(relative)
        return torch.cat([found, relative, cells], 1)

    def forward(self, phi: Tensor, places: Tensor, cell: Tensor) -> Tensor:
        x = self.gather(phi, places, cell)
        for layer in self.layers:
            x = layer(x)
        return x


class HeatField(nn.Module):
    """Waves that fade with the size of a pixel, so that anti-aliasing is exact (after Thera, Becker et al. 2025).

    Around every feature the picture is a sum of waves a cos(2 pi f x) + b sin(2 pi f x), with x in [-1, 1] relative to the
    feature, the same frequencies f everywhere, and amplitudes from the feature. Diffusing heat for a time that is the variance
    of a Gaussian pixel multiplies every wave by a known factor.

    Args:
        features: Channels of phi.
        channels: Channels of the picture.
        hidden: Channels of the network that predicts the amplitudes.
        waves: The number of waves around every feature.
    """

    PIXEL: ClassVar[float] = 0.35
    """Standard deviation, in pixels, of a Gaussian that blurs about as much as the mean over a pixel."""
    FASTEST: ClassVar[float] = 2.0
    """The number of periods of the fastest wave across half a feature's width, at the start of training."""

    def __init__(self, features: int, channels: int, hidden: int = 256, waves: int = 32):
        super().__init__()
        self.channels, self.margin = channels, 0
        self.amplitudes = nn.Sequential(
            nn.Conv2d(features, hidden, 3, padding=1),
            nn.SiLU(),
            nn.Conv2d(hidden, hidden, 1),
            nn.SiLU(),
            nn.Conv2d(hidden, channels * (1 + 2 * waves), 1),
        )
        angle = math.pi * (5**0.5 - 1) * torch.arange(waves)
        radius = self.FASTEST * ((torch.arange(waves) + 0.5) / waves) ** 0.5
        self.frequencies = nn.Parameter(torch.stack([radius * angle.sin(), radius * angle.cos()], 1))

    def forward(self, phi: Tensor, places: Tensor, cell: Tensor) -> Tensor:
        found, relative = nearest(self.amplitudes(phi), places)
        size = torch.tensor(phi.shape[2:], device=cell.device)
        spread = self.PIXEL * (cell * size).to(phi)  # (B, 2), in the units of the relative places
        fade = torch.exp(-2 * math.pi**2 * (spread[:, None] * self.frequencies).square().sum(-1))[..., None, None]
        phase = 2 * math.pi * torch.einsum("bdhw,kd->bkhw", relative, self.frequencies)
        mean, cosines, sines = found.split((self.channels, *[self.channels * len(self.frequencies)] * 2), 1)
        shape = (self.channels, len(self.frequencies))
        waves = cosines.unflatten(1, shape) * (fade * phase.cos())[:, None]
        waves = waves + sines.unflatten(1, shape) * (fade * phase.sin())[:, None]
        return mean + waves.sum(2)


RENDERERS = {"clif": CLIF, "heat": HeatField}
