"""The network of ∞-Diff: sparse operators at the points, a U-Net on a regular grid between them.

It maps values at any set of pixels of a picture of any size, (B, P, channels), to values at the same points. Blocks of the sparse
operator (`operator.py`) work at the points; the U-Net works on a grid of `GRID` cells along the shorter side, to which
values are gathered from the nearest points, and from which they are scattered back bilinearly. The condition c (noise level,
size, density, words, camera, light, and the latent z) scales and shifts all norms.

The network of the package corrects toybox's estimates (`denoiser.py`), so its U-Net has little left to do and is small.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..toybox.network import VIEW, Block, Residual, Words, camera_features, stretched
from .operator import Neighbours, SparseOperator
from .points import Points, cells, gathered, scattered

GRID = 32
"""Cells of the U-Net's grid along the shorter side."""
WIDTHS = 48, 96, 192
"""Channels of the U-Net at the resolution of its grid, at a half and at a quarter of it, as in toybox."""
SKETCH = 16
"""Side in pixels of the mean picture of a latent."""
FUSED = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION, SDPBackend.MATH]
FEW = 256
"""The most cells between which attention is written out."""


@dataclass(frozen=True)
class Config:
    """The sizes of the network.

    Args:
        channels: Channels of the pictures, 4 for premultiplied RGBA or 3 for RGB.
        point_channels: Channels at the points.
        blocks: Sparse blocks before the U-Net, and as many after it.
        latent: Width of the latent z.
        toybox: Whether toybox's estimate is the first one, which the network corrects.
        depth: Blocks of the transformer in the middle of the U-Net.
    """

    channels: int = 4
    point_channels: int = 32
    blocks: int = 2
    latent: int = 64
    toybox: bool = True
    depth: int = 5


@dataclass(frozen=True)
class Sketch:
    """What a latent z says of a picture.

    Args:
        picture: The mean picture, (B, channels, SKETCH, SKETCH).
        power: The power of the differences from it at whole frequencies, from 0 to SKETCH - 1 waves per half picture, for cosine
            transforms of 64 x 64 pixels.
    """

    picture: Tensor
    power: Tensor

    def detached(self) -> Sketch:
        """Return the same without gradients."""
        return Sketch(self.picture.detach(), self.power.detach())

    def power_at(self, k: Tensor) -> Tensor:
        """Return the power at any frequencies, interpolated between whole ones."""
        known, at = self.power.to(k).log(), k.clamp(max=SKETCH - 1)
        lower = at.floor().long().clamp(max=SKETCH - 2)
        return torch.exp(torch.lerp(known[lower], known[lower + 1], at - lower))


@dataclass(frozen=True)
class Condition:
    """What a picture is conditioned on.

    Args:
        words: Toybox's word numbers, (B, LENGTH).
        cameras: Azimuth and elevation in radians, and the kind of view, (B, 3), as toybox has them.
        lit: 1 for light and shadow, else 0, (B,).
        toybox: Toybox's denoiser D(x, sigma) of pictures (B, 4, h, w) for these words, cameras and light, if its estimate is
            the first one.
        sketch: What the latent says, if there is one.
    """

    words: Tensor
    cameras: Tensor
    lit: Tensor
    toybox: Callable[[Tensor, Tensor], Tensor] | None = None
    sketch: Sketch | None = None


class Modulated(nn.Module):
    """A norm without weights, then a scale and a shift from the condition c (B, condition)."""

    def __init__(self, width: int, condition: int):
        super().__init__()
        self.width, self.modulation = width, nn.Linear(condition, 2 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        scale, shift = self.modulation(c)[:, None].chunk(2, -1)
        return F.layer_norm(x, (self.width,)) * (1 + scale) + shift


class SparseBlock(nn.Module):
    """A block at the points: the sparse operator, and a perceptron of two layers, both added to their input."""

    def __init__(self, width: int, condition: int):
        super().__init__()
        self.before, self.operator = Modulated(width, condition), SparseOperator(width)
        self.between = Modulated(width, condition)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, c: Tensor, near: Neighbours) -> Tensor:
        x = x + self.operator(self.before(x, c), near)
        return x + self.down(F.gelu(self.up(self.between(x, c)), approximate="tanh"))


class UNet(nn.Module):
    """The U-Net on the grid, (B, WIDTHS[0], h, w) to the same, with a transformer in the middle."""

    def __init__(self, config: Config):
        super().__init__()
        a, b, d = WIDTHS
        self.enter = nn.ModuleList(Residual(n, d) for n in (a, b))
        self.down = nn.ModuleList(nn.Conv2d(n, m, 4, 2, 1) for n, m in ((a, b), (b, d)))
        self.position = nn.Parameter(0.02 * torch.randn(1, (GRID // 4) ** 2, d))
        self.blocks = nn.ModuleList(Block(d) for _ in range(config.depth))
        self.up = nn.ModuleList(nn.Conv2d(n, 4 * m, 1) for n, m in ((d, b), (b, a)))
        self.leave = nn.ModuleList(Residual(n, d) for n in (b, a))

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        skips = []
        for enter, down in zip(self.enter, self.down, strict=True):
            skips.append(enter(h, c))
            h = down(F.silu(skips[-1]))
        size = h.shape[-2:]
        tokens = h.flatten(2).transpose(1, 2) + stretched(self.position, *size)
        # The fused kernel's gradient is slow on CPUs, and so few tokens do not need it.
        with sdpa_kernel([SDPBackend.MATH] if tokens.shape[1] <= FEW else FUSED):
            for block in self.blocks:
                tokens = block(tokens, c)
        h = F.layer_norm(tokens, tokens.shape[-1:]).transpose(1, 2).unflatten(2, size)
        h = h.contiguous(memory_format=torch.channels_last)
        for up, leave in zip(self.up, self.leave, strict=True):
            h = leave(F.pixel_shuffle(up(h), 2) + skips.pop(), c)
        return h


class Conditioner(nn.Module):
    """The condition's vector c (B, WIDTHS[2]), from noise level, words, camera, light and latent, as in toybox."""

    def __init__(self, config: Config):
        super().__init__()
        d = WIDTHS[2]
        self.words = Words(d)
        self.time = nn.Sequential(nn.Linear(64, d), nn.SiLU(), nn.Linear(d, d))
        self.view = nn.Sequential(nn.Linear(VIEW, d), nn.SiLU(), nn.Linear(d, d))
        self.text = nn.Sequential(nn.Linear(d, d), nn.SiLU(), nn.Linear(d, d))
        self.lattice, self.latent = nn.Linear(2, d, bias=False), nn.Linear(config.latent, d, bias=False)
        for layer in (self.lattice, self.latent):
            nn.init.zeros_(layer.weight)
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(1000), 32)), persistent=False)

    frequencies: Tensor

    def forward(self, level: Tensor, points: Points, given: Condition, z: Tensor) -> Tensor:
        """Return c; the arguments are those of `Network.forward`."""
        angle = level[:, None] * self.frequencies
        time = self.time(torch.cat([angle.sin(), angle.cos()], -1))
        size, density = min(points.height, points.width), len(points) / (points.height * points.width)
        lattice = self.lattice(level.new_tensor([math.log2(size / 64) / 2, math.log2(density) / 4]))
        return F.silu(time + self.described(given) + self.latent(z) + lattice)

    def described(self, given: Condition) -> Tensor:
        """Return the part of c that stands for words, camera and light."""
        view = self.view(torch.cat([camera_features(given.cameras), given.lit[:, None]], -1))
        return view + self.text(self.words(given.words).sum(1))


def grid_of(points: Points) -> tuple[int, int]:
    """Return rows and columns of the grid for a picture: `GRID` along the shorter side, multiples of 8."""
    return cells(points.height, points.width, GRID)


class Network(nn.Module):
    """The network F of a denoiser, see `denoiser.py`."""

    def __init__(self, config: Config = Config()):
        super().__init__()
        self.config = config
        n, a, d = config.point_channels, WIDTHS[0], WIDTHS[2]
        self.conditioner = Conditioner(config)
        self.enter = nn.Linear(2 * config.channels, n)
        self.before = nn.ModuleList(SparseBlock(n, d) for _ in range(config.blocks))
        self.gather = nn.Conv2d(n, a, 3, padding=1)
        self.unet = UNet(config)
        self.scatter = nn.Linear(a, n)
        self.joins = nn.ModuleList(nn.Linear(2 * n, n) for _ in range(config.blocks))
        self.after = nn.ModuleList(SparseBlock(n, d) for _ in range(config.blocks))
        self.leave = nn.Linear(n, config.channels)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, values: Tensor, level: Tensor, points: Points, given: Condition, z: Tensor) -> Tensor:
        """Evaluate the network.

        Args:
            values: Values at the points, (B, P, 2 channels): the smoothed first estimate, and what differs from it in units of
                its standard deviation.
            level: A quarter of the logarithm of the noise level on a picture of 64 pixels, (B,).
            points: The points.
            given: The condition.
            z: The latent (B, latent), 0 for none.

        Returns:
            (B, P, channels).
        """
        c, near = self.conditioner(level, points, given, z), Neighbours(points)
        rows, columns = grid_of(points)
        x, skips = self.enter(values), []
        for block in self.before:
            x = block(x, c, near)
            skips.append(x)
        grid = gathered(x, points.nearest(rows, columns), rows, columns)
        grid = self.unet(self.gather(grid.contiguous(memory_format=torch.channels_last)), c)
        x = self.scatter(scattered(grid.float(), points))
        for join, block in zip(self.joins, self.after, strict=True):
            x = block(join(torch.cat([x, skips.pop()], -1)), c, near)
        return self.leave(x)
