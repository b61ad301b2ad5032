"""The latent z of a picture (a diffusion autoencoder): an encoder of points, what z alone says, and a prior over z.

The encoder sees the clean picture at a random subset of its pixels. z has zero mean and unit variance over its values. A sketch
is the mean picture of a z, from which the first estimate starts (`denoiser.py`). The prior is a diffusion model of z, conditioned
on words, camera and light, or on nothing (Preechakul et al. 2022).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from ...denoisers import edm
from ...schedules import log_linear
from .coarse import SIZE
from .denoiser import power
from .mollifier import frequency, transformed
from .network import SKETCH, WIDTHS, Config, Network, Residual, Sketch, SparseBlock, grid_of
from .operator import Neighbours
from .points import Points, gathered

CHANNELS = 32, 64, 96
"""Channels of the encoder at the resolution of the grid, a half and a quarter of it."""
FOLLOWED = 0.01
"""The part of the power of a sketch's errors that is replaced at every step of training."""
SIGMA_DATA = 1.0
TOP, LOW = 20.0, 0.02
"""Highest and lowest noise level of the prior's samples."""


class Encoder(nn.Module):
    """z = E(x0), from clean values (B, P, channels) at points."""

    def __init__(self, config: Config):
        super().__init__()
        a, b, c = CHANNELS
        self.enter = nn.Linear(config.channels, a)
        self.block = SparseBlock(a, 1)
        self.down = nn.Sequential(
            nn.Conv2d(a, b, 4, 2, 1), nn.SiLU(), _Plain(b), nn.Conv2d(b, c, 4, 2, 1), nn.SiLU(), _Plain(c),
            nn.Conv2d(c, c, 4, 2, 1),
        )  # fmt: skip
        self.leave = nn.Sequential(nn.SiLU(), nn.Linear(c, config.latent))

    def forward(self, values: Tensor, points: Points) -> Tensor:
        x = self.block(self.enter(values), values.new_zeros(len(values), 1), Neighbours(points))
        rows, columns = grid_of(points)
        grid = gathered(x, points.nearest(rows, columns), rows, columns)
        grid = self.down(grid.contiguous(memory_format=torch.channels_last))
        z = self.leave(grid.mean((2, 3)))
        return F.layer_norm(z.float(), z.shape[-1:])


class _Plain(nn.Module):
    """A residual block without a condition."""

    def __init__(self, channels: int):
        super().__init__()
        self.block = Residual(channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x, x.new_zeros(len(x), 1))


class Sketcher(nn.Module):
    """The mean picture of a latent z at `SKETCH` pixels, and how far pictures are from it."""

    def __init__(self, config: Config, width: int = 512):
        super().__init__()
        self.channels = config.channels
        self.layers = nn.Sequential(
            nn.Linear(config.latent, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(),
            nn.Linear(width, config.channels * SKETCH**2),
        )  # fmt: skip
        self.register_buffer("power", power(SIZE, SIZE)[0, :SKETCH].float())

    power: Tensor

    def forward(self, z: Tensor) -> Sketch:
        return Sketch(self.layers(z).float().view(-1, self.channels, SKETCH, SKETCH), self.power.clone())

    def error(self, z: Tensor, small: Tensor) -> Tensor:
        """Return the mean squared error for pictures (B, C, SIZE, SIZE) of latents z, and follow its power in training."""
        missed = self(z).picture - F.avg_pool2d(small, SIZE // SKETCH)
        if self.training:
            with torch.no_grad():
                k = frequency(SKETCH, SKETCH).round().long().to(z.device)
                found = transformed(missed).square().mean((0, 1)) * (SIZE / SKETCH) ** 2
                mean = torch.stack([found[k == n].mean() for n in range(SKETCH)])
                self.power.lerp_(mean, FOLLOWED)
        return missed.square().mean()


class Prior(nn.Module):
    """The denoiser D(z, sigma, described) of latents (B, latent): perceptrons that get the noisy latent again in every layer."""

    def __init__(self, config: Config, width: int = 192, layers: int = 4):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(16, width), nn.SiLU(), nn.Linear(width, width))
        self.described = nn.Linear(WIDTHS[2], width)
        sizes = [config.latent] + [width + config.latent] * (layers - 1)
        self.layers = nn.ModuleList(nn.Linear(size, width) for size in sizes)
        self.scales = nn.ModuleList(nn.Linear(width, width) for _ in sizes)
        self.leave = nn.Linear(width, config.latent)

    def forward(self, z: Tensor, sigma: Tensor, described: Tensor) -> Tensor:
        """Return E[z0 | z] for z = z0 + sigma eps; `described` is `Conditioner.described`."""
        return edm(self._network, SIGMA_DATA)(z, sigma, described)

    def _network(self, z: Tensor, level: Tensor, described: Tensor) -> Tensor:
        angle = level[:, None] * torch.arange(1, 9, device=z.device)
        c = F.silu(self.time(torch.cat([angle.sin(), angle.cos()], -1)) + self.described(described))
        h = z
        for n, (layer, scale) in enumerate(zip(self.layers, self.scales, strict=True)):
            out = layer(h if n == 0 else torch.cat([h, z], -1)) * (1 + scale(c))
            h = F.silu(F.layer_norm(out, out.shape[-1:]))
        return self.leave(h)

    def error(self, z: Tensor, described: Tensor, random: Generator) -> Tensor:
        """Return the denoising error, weighted as in EDM, for latents z (B, latent)."""
        sigma = torch.exp(1.2 * torch.randn(len(z), generator=random)).to(z)
        noise = torch.randn(z.shape, generator=random).to(z)
        weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
        return (weight[:, None] * (self(z + sigma[:, None] * noise, sigma, described) - z) ** 2).mean()

    @torch.no_grad()
    def sample(self, described: Tensor, random: Generator, steps: int = 25) -> Tensor:
        """Sample latents (B, latent) for descriptions (B, condition), by DDIM."""
        sigmas = log_linear(steps, LOW, TOP).tolist()
        z = TOP * torch.randn((len(described), self.leave.out_features), generator=random).to(described)
        for sigma, lower in zip(sigmas[:-1], sigmas[1:], strict=True):
            clean = self(z, z.new_full((len(z),), sigma), described)
            z = clean + lower / sigma * (z - clean)
        return F.layer_norm(z, z.shape[-1:])


class Functions(nn.Module):
    """All networks of ∞-Diff: the denoiser's, the encoder, the sketcher and the prior."""

    def __init__(self, config: Config = Config()):
        super().__init__()
        self.config = config
        self.denoiser, self.encoder = Network(config), Encoder(config)
        self.sketcher, self.prior = Sketcher(config), Prior(config)
