"""The latent diffusion model: toybox's trunk over latents, conditioned on the same words, cameras and light.

A latent has a quarter of the picture's side, so the network is the inner part of toybox's, from a quarter of the size inwards.
Besides the noisy latent, it sees the latent of the picture that toybox's template expects. Training starts from toybox's weights
wherever the shapes are the same.

Latents are scaled to a standard deviation of `SIGMA_DATA`. In a picture, noise averages out over the 16 pixels that a latent
covers. So a latent at noise level sigma looks like a picture at `SCALE` times sigma, and the latter is given to the network.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...denoisers import edm
from ..toybox.network import PALETTE, VIEW, Block, Residual, Template, Toybox, Words, camera_features, painted, palettes
from ..toybox.words import split_colours
from .network import Autoencoder

SIGMA_DATA = 0.5
SCALE = 4
"""Pixels of the picture per latent, along each side."""


@dataclass(frozen=True)
class LatentConfig:
    """The sizes of the network.

    Args:
        latent: Channels of the latent.
        side: Side of the latent in training.
        width: Width of the transformer's tokens.
        depth: The number of transformer blocks.
        channels: Channels of the convolutions at the latent's size.
    """

    latent: int = 4
    side: int = 16
    width: int = 192
    depth: int = 8
    channels: int = 96


class LatentDenoiser(nn.Module):
    """The denoiser D(z, sigma, context, expected latent, camera, lit) of latents (B, latent, side, side)."""

    def __init__(self, config: LatentConfig = LatentConfig()):
        super().__init__()
        self.config = config
        d, c = config.width, config.channels
        self.words = Words(d)
        self.time = nn.Sequential(nn.Linear(64, d), nn.SiLU(), nn.Linear(d, d))
        self.view = nn.Sequential(nn.Linear(VIEW, d), nn.SiLU(), nn.Linear(d, d))
        self.text = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        self.stem = nn.Conv2d(2 * config.latent, c, 3, padding=1)
        self.enter = Residual(c, d)
        self.down = nn.Conv2d(c, d, 4, 2, 1)
        self.position = nn.Parameter(0.02 * torch.randn(1, (config.side // 2) ** 2, d))
        self.blocks = nn.ModuleList(Block(d) for _ in range(config.depth))
        self.up = nn.Conv2d(d, 4 * c, 1)
        self.leave = Residual(c, d)
        self.norm = nn.GroupNorm(c // 8, c)
        self.head = nn.Conv2d(c, config.latent, 3, padding=1)
        for p in self.head.parameters():
            nn.init.zeros_(p)
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(1000), 32)), persistent=False)

    frequencies: Tensor

    def start_from(self, toybox: Toybox) -> None:
        """Copy the weights of toybox's trunk."""
        modules = {name: getattr(toybox, name) for name in ("words", "time", "view", "text", "blocks")}
        modules |= {"enter": toybox.enter[1], "down": toybox.down[2], "up": toybox.up[0], "leave": toybox.leave[0]}
        for name, module in modules.items():
            getattr(self, name).load_state_dict(module.state_dict())
        self.position.data.copy_(toybox.position)

    def condition(self, c_noise: Tensor, words: Tensor, camera: Tensor, lit: Tensor) -> Tensor:
        """Return the vector (B, width) that conditions all norms, from noise level, encoded words, camera and light."""
        angle = c_noise[:, None] * self.frequencies
        time = self.time(torch.cat([angle.sin(), angle.cos()], -1))
        view = self.view(torch.cat([camera_features(camera), lit[:, None]], -1))
        return F.silu(time + view + self.text(words.sum(1)))

    def predict(
        self, z: Tensor, c_noise: Tensor, words: Tensor, expected: Tensor, camera: Tensor, lit: Tensor
    ) -> Tensor:
        """Evaluate the network in EDM's scaling: z has unit variance, and c_noise (B,) is ln(sigma) / 4."""
        c = self.condition(c_noise + math.log(SCALE) / 4, words, camera, lit)
        skip = self.enter(self.stem(torch.cat([z, expected / SIGMA_DATA], 1)), c)
        tokens = self.down(F.silu(skip))
        shape = tokens.shape[2:]
        tokens = tokens.flatten(2).transpose(1, 2) + self._positions(*shape)
        for block in self.blocks:
            tokens = block(tokens, c)
        h = F.layer_norm(tokens, tokens.shape[-1:]).transpose(1, 2).unflatten(2, shape)
        h = self.leave(F.pixel_shuffle(self.up(h), 2) + skip, c)
        return self.head(F.silu(self.norm(h)))

    def _positions(self, rows: int, columns: int) -> Tensor:
        side = self.config.side // 2
        if (rows, columns) == (side, side):
            return self.position
        grid = self.position.transpose(1, 2).unflatten(2, (side, side))
        return F.interpolate(grid, (rows, columns), mode="bicubic").flatten(2).transpose(1, 2)

    def forward(self, z: Tensor, sigma: Tensor, words: Tensor, expected: Tensor, camera: Tensor, lit: Tensor) -> Tensor:
        """Return the denoised latents.

        Args:
            z: Noisy latents z0 + sigma eps, (B, latent, side, side).
            sigma: The noise level, (B,).
            words: Encoded words (B, LENGTH, width), from `self.words`.
            expected: The latent that is expected from words, camera and light alone, scaled as z, (B, latent, side, side).
            camera: Toybox's camera conditions (B, 3).
            lit: 1 for pictures with light and shadow, else 0, (B,).
        """
        return edm(lambda x, t, c: self.predict(x, t, *c), SIGMA_DATA)(z, sigma, (words, expected, camera, lit))


def expected_picture(template: Template, words: Tensor, camera: Tensor, lit: Tensor) -> Tensor:
    """Return the mean picture of a condition, (B, 4, 64, 64) in [-1, 1], over all colours that the words allow.

    Args:
        template: Toybox's template.
        words: Word numbers (B, LENGTH).
        camera: Toybox's camera conditions (B, 3).
        lit: 1 for pictures with light and shadow, else 0, (B,).
    """
    split = [split_colours(row) for row in words.tolist()]
    shapes = template.words(torch.tensor([others for others, _ in split], device=words.device))
    layers = template(shapes, camera, lit)
    palette = torch.stack([palettes(colours) for _, colours in split]).to(words.device)
    weight, main, accent = palette.split((1, PALETTE // 2, PALETTE // 2), -1)
    picture = painted(layers, (weight * main).sum(1), (weight * accent).sum(1))
    return F.interpolate(picture, scale_factor=2.0, mode="bilinear")


def put(scene: Tensor, picture: Tensor, top: int, left: int, side: int) -> None:
    """Draw a picture (4, S, S) over a square of a scene (4, H, W), in place. Both are premultiplied RGBA in [0, 1]."""
    shrunk = F.interpolate(picture[None], (side, side), mode="area")[0]
    scene[:, top : top + side, left : left + side].mul_(1 - shrunk[3:]).add_(shrunk)


@dataclass(frozen=True)
class Normal:
    """The mean and the standard deviation of the latents, by which latents are scaled.

    Args:
        mean: The mean of each channel, (latent,).
        deviation: The standard deviation of each channel, (latent,).
    """

    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    def scaled(self, z: Tensor) -> Tensor:
        """Scale latents (B, latent, h, w) to a mean of 0 and a standard deviation of `SIGMA_DATA`."""
        mean, deviation = self._columns(z)
        return SIGMA_DATA * (z - mean) / deviation

    def latents(self, scaled: Tensor) -> Tensor:
        """Undo `scaled`."""
        mean, deviation = self._columns(scaled)
        return scaled / SIGMA_DATA * deviation + mean

    def _columns(self, z: Tensor) -> tuple[Tensor, Tensor]:
        mean, deviation = (torch.tensor(values).to(z)[:, None, None] for values in (self.mean, self.deviation))
        return mean, deviation

    @classmethod
    def of(cls, autoencoder: Autoencoder, pictures: Tensor) -> Normal:
        """Measure the latents of pictures (B, channels, base, base) in [-1, 1]."""
        with torch.no_grad():
            z = autoencoder.encode(pictures)
        return cls(tuple(z.mean((0, 2, 3)).tolist()), tuple(z.std((0, 2, 3)).tolist()))
