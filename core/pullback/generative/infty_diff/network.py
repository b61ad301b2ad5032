"""The network of ∞-Diff: sparse operators at the points, a U-Net on a regular grid between them.

It maps values at any set of pixels of a picture of any size, (B, P, channels), to values at the same points. Blocks of the sparse
operator (`operator.py`) work at the points; the U-Net works on a grid of `Config.grid` cells along the shorter side, to which
values are gathered from the nearest points, and from which they are scattered back bilinearly. The condition c (noise level, size,
density, words, camera and light) and the latent z scale and shift all norms. With a template (`toybox/network.py`), the U-Net also
gets the picture that is expected for the words and the camera.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..toybox.network import VIEW, Residual, camera_features
from ..toybox.words import LENGTH, PAD, VOCABULARY
from .operator import Neighbours, SparseOperator
from .points import Points, gathered, scattered

LAYERS = 6
"""Channels of the template's picture: premultiplied RGBA in [-1, 1], and where the main paint and the accent are."""
FEW = 256
"""The most cells between which attention is written out."""


@dataclass(frozen=True)
class Config:
    """The sizes of the network.

    Args:
        channels: Channels of the pictures, 4 for premultiplied RGBA or 3 for RGB.
        point_channels: Channels at the points.
        blocks: Sparse blocks before the U-Net, and as many after it.
        grid: Cells of the grid along the shorter side, a multiple of 4.
        widths: Channels of the U-Net at the grid's resolution, half of it, and a quarter, where attention works; multiples of
            8, 8 and 32.
        depth: Attention blocks.
        condition: Width of the condition's vector.
        latent: Width of the latent z.
        template: Whether toybox's template is an input.
    """

    channels: int = 4
    point_channels: int = 32
    blocks: int = 2
    grid: int = 32
    widths: tuple[int, int, int] = (32, 80, 160)
    depth: int = 5
    condition: int = 192
    latent: int = 64
    template: bool = True


@dataclass(frozen=True)
class Condition:
    """What a picture is conditioned on.

    Args:
        words: Word numbers (B, LENGTH) of toybox.
        cameras: Azimuth and elevation in radians, and the kind of view, (B, 3), as toybox has them.
        lit: 1 for light and shadow, else 0, (B,).
        expected: The template's picture (B, LAYERS, h, w), if the network takes one.
    """

    words: Tensor
    cameras: Tensor
    lit: Tensor
    expected: Tensor | None = None


class Modulated(nn.Module):
    """A norm without weights, then a scale and a shift from c, and a scale from z: h (1 + s(c)) + b(c), times 1 + s(z)."""

    def __init__(self, width: int, condition: int, latent: int):
        super().__init__()
        self.width = width
        self.by_condition, self.by_latent = nn.Linear(condition, 2 * width), nn.Linear(latent, width)
        for layer in (self.by_condition, self.by_latent):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, c: Tensor, z: Tensor) -> Tensor:
        scale, shift = self.by_condition(c)[:, None].chunk(2, -1)
        return (F.layer_norm(x, (self.width,)) * (1 + scale) + shift) * (1 + self.by_latent(z)[:, None])


class SparseBlock(nn.Module):
    """A block at the points: the sparse operator, and a perceptron of two layers, both added to their input."""

    def __init__(self, width: int, condition: int, latent: int):
        super().__init__()
        self.before, self.operator = Modulated(width, condition, latent), SparseOperator(width)
        self.between = Modulated(width, condition, latent)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x: Tensor, c: Tensor, z: Tensor, near: Neighbours) -> Tensor:
        x = x + self.operator(self.before(x, c, z), near)
        return x + self.down(F.gelu(self.up(self.between(x, c, z)), approximate="tanh"))


class AttentionBlock(nn.Module):
    """Attention between the cells of the coarsest grid, and a perceptron, both added to their input."""

    def __init__(self, width: int, condition: int, latent: int):
        super().__init__()
        self.heads = width // 32
        self.before, self.between = Modulated(width, condition, latent), Modulated(width, condition, latent)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor, c: Tensor, z: Tensor) -> Tensor:
        b, n, d = x.shape
        q, k, v = self.qkv(self.before(x, c, z)).view(b, n, 3, self.heads, d // self.heads).permute(2, 0, 3, 1, 4)
        if n <= FEW:  # quicker on CPUs, where the fused kernel's gradient is slow
            mixed = torch.softmax(q @ k.mT / math.sqrt(d // self.heads), -1) @ v
        else:
            mixed = F.scaled_dot_product_attention(q, k, v)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, n, d))
        return x + self.down(F.gelu(self.up(self.between(x, c, z)), approximate="tanh"))


class UNet(nn.Module):
    """The U-Net on the grid, (B, widths[0], h, w) to the same."""

    def __init__(self, config: Config):
        super().__init__()
        (a, b, d), c = config.widths, config.condition + config.latent
        self.cells = config.grid // 4
        self.enter = nn.ModuleList(Residual(n, c) for n in (a, b))
        self.reduce = nn.ModuleList(nn.Conv2d(n, m, 2, 2) for n, m in ((a, b), (b, d)))
        self.position = nn.Parameter(0.02 * torch.randn(1, d, self.cells, self.cells))
        self.blocks = nn.ModuleList(AttentionBlock(d, config.condition, config.latent) for _ in range(config.depth))
        self.enlarge = nn.ModuleList(nn.Conv2d(n, 4 * m, 1) for n, m in ((d, b), (b, a)))
        self.leave = nn.ModuleList(Residual(n, c) for n in (b, a))

    def forward(self, x: Tensor, c: Tensor, z: Tensor) -> Tensor:
        both, skips = torch.cat([c, z], -1), []
        for enter, reduce in zip(self.enter, self.reduce, strict=True):
            skips.append(enter(x, both))
            x = reduce(skips[-1])
        place = F.interpolate(self.position, x.shape[-2:], mode="bilinear")
        size = x.shape[-2:]
        tokens = (x + place).flatten(2).transpose(1, 2)
        for block in self.blocks:
            tokens = block(tokens, c, z)
        x = F.layer_norm(tokens, tokens.shape[-1:]).transpose(1, 2).unflatten(2, size)
        x = x.contiguous(memory_format=torch.channels_last)
        for enlarge, leave in zip(self.enlarge, self.leave, strict=True):
            x = leave(F.pixel_shuffle(enlarge(x), 2) + skips.pop(), both)
        return x


class Conditioner(nn.Module):
    """The condition's vector c (B, width), from noise level, words, camera and light."""

    def __init__(self, width: int):
        super().__init__()
        self.level = nn.Sequential(nn.Linear(34, width), nn.SiLU(), nn.Linear(width, width))
        self.view = nn.Sequential(nn.Linear(VIEW, width), nn.SiLU(), nn.Linear(width, width))
        self.embedding = nn.Embedding(len(VOCABULARY), 128)
        self.order = nn.Parameter(0.5 * torch.randn(LENGTH, 128))
        self.word = nn.Sequential(nn.Linear(128, width), nn.SiLU(), nn.Linear(width, width))
        self.register_buffer("frequencies", torch.exp(torch.linspace(0, math.log(300), 16)), persistent=False)

    frequencies: Tensor

    def forward(self, level: Tensor, points: Points, given: Condition) -> Tensor:
        """Return c for noise levels (B,), in the scale of `Network.forward`."""
        angle = level[:, None] * self.frequencies
        size, density = min(points.height, points.width), len(points) / (points.height * points.width)
        setting = level.new_tensor([math.log2(size / 128), math.log2(density) / 2]).expand(len(level), 2)
        c = self.level(torch.cat([angle.sin(), angle.cos(), setting], -1)) + self.described(given)
        return F.silu(c)

    def described(self, given: Condition) -> Tensor:
        """Return the part of c that stands for words, camera and light."""
        words = self.word(self.embedding(given.words) + self.order) * (given.words != PAD)[..., None]
        return words.sum(1) + self.view(torch.cat([camera_features(given.cameras), given.lit[:, None]], -1))


def grid_of(points: Points, cells: int) -> tuple[int, int]:
    """Return rows and columns of the grid for a picture: `cells` along the shorter side, multiples of 4."""
    short = min(points.height, points.width)
    rows, columns = (max(cells, 4 * round(cells * side / short / 4)) for side in (points.height, points.width))
    return rows, columns


class Network(nn.Module):
    """The network F of a denoiser, see `denoiser.py`."""

    def __init__(self, config: Config = Config()):
        super().__init__()
        self.config = config
        n, a, sizes = config.point_channels, config.widths[0], (config.condition, config.latent)
        self.conditioner = Conditioner(config.condition)
        self.enter = nn.Linear(config.channels, n)
        self.before = nn.ModuleList(SparseBlock(n, *sizes) for _ in range(config.blocks))
        self.gather = nn.Conv2d(n + LAYERS * config.template, a, 1)
        self.unet = UNet(config)
        self.scatter = nn.Linear(a, n)
        self.joins = nn.ModuleList(nn.Linear(2 * n, n) for _ in range(config.blocks))
        self.after = nn.ModuleList(SparseBlock(n, *sizes) for _ in range(config.blocks))
        self.leave = nn.Linear(n, config.channels)
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)

    def forward(self, values: Tensor, level: Tensor, points: Points, given: Condition, z: Tensor) -> Tensor:
        """Evaluate the network.

        Args:
            values: Values of unit variance at the points, (B, P, channels).
            level: A quarter of the logarithm of the noise level on a picture of 64 pixels, (B,).
            points: The points.
            given: The condition.
            z: The latent (B, latent), 0 for none.

        Returns:
            (B, P, channels).
        """
        c, near = self.conditioner(level, points, given), Neighbours(points)
        rows, columns = grid_of(points, self.config.grid)
        x, skips = self.enter(values), []
        for block in self.before:
            x = block(x, c, z, near)
            skips.append(x)
        grid = gathered(x, points.nearest(rows, columns), rows, columns)
        if self.config.template:
            assert given.expected is not None
            grid = torch.cat([grid, _fitted(given.expected, rows, columns).to(grid)], 1)
        grid = self.unet(self.gather(grid.contiguous(memory_format=torch.channels_last)), c, z)
        x = self.scatter(scattered(grid.float(), points))
        for join, block in zip(self.joins, self.after, strict=True):
            x = block(join(torch.cat([x, skips.pop()], -1)), c, z, near)
        return self.leave(x)


def _fitted(square: Tensor, rows: int, columns: int) -> Tensor:
    """Centre a square picture on a grid; beyond it, its edge goes on."""
    side = min(rows, columns)
    if square.shape[-1] != side:
        square = F.interpolate(square, (side, side), mode="bilinear")
    top, left = (rows - side) // 2, (columns - side) // 2
    return F.pad(square, (left, columns - side - left, top, rows - side - top), mode="replicate")
