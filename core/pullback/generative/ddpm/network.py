"""The U-Net of Ho et al. 2020: a Wide ResNet with group norms, attention at 16 x 16, and the time added in every block."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Tensor, nn

LARGEST = 1024
"""The largest side of a picture in pixels."""
Small = Annotated[int, Meta(ge=1, le=64)]


@dataclass(frozen=True)
class Config:
    """The sizes of a network. The last four settings are the paper's by default; other networks of diffusers differ in them.

    Args:
        channels: Channels of pictures: 1 for grey, 3 for RGB.
        size: Side of the pictures that it is trained on, in pixels.
        width: Channels at the full size.
        multipliers: Channels at every size, each half the one before, in multiples of `width`.
        blocks: Residual blocks per size on the way down; there is one more on the way up.
        attention: The sides, in pixels, at which all places attend to each other. In the middle they always do.
        dropout: The part of the values in a block that training sets to 0.
        groups: Groups of the norms.
        learned: Whether it also predicts a variance of every value.
        head: Channels of an attention head; 0 for one head.
        padded: Where a picture is padded before it is halved: "after" (below and right) or "around".
        epsilon: Added to the variances in the norms.
        cosine_first: Whether the cosines of the time's embedding come before the sines.
        shift: The frequencies are 10000^(-i / (n - shift)), i < n.
    """

    channels: Literal[1, 3] = 3
    size: Annotated[int, Meta(ge=4, le=LARGEST)] = 32
    width: Annotated[int, Meta(ge=4, le=1024)] = 128
    multipliers: Annotated[tuple[Small, ...], Meta(min_length=1, max_length=8)] = (1, 2, 2, 2)
    blocks: Annotated[int, Meta(ge=1, le=16)] = 2
    attention: Annotated[tuple[int, ...], Meta(max_length=8)] = (16,)
    dropout: Annotated[float, Meta(ge=0, lt=1)] = 0.0
    groups: Annotated[int, Meta(ge=1, le=256)] = 32
    learned: bool = False
    head: Annotated[int, Meta(ge=0, le=1024)] = 0
    padded: Literal["after", "around"] = "after"
    epsilon: Annotated[float, Meta(gt=0, lt=1)] = 1e-6
    cosine_first: bool = False
    shift: Annotated[float, Meta(ge=0, le=1)] = 1

    def __post_init__(self) -> None:
        if self.size % self.factor:
            raise ValueError(
                f"pictures of {self.size} pixels cannot be halved {len(self.multipliers) - 1} times: "
                f"the side must be a multiple of {self.factor}"
            )
        for width in self.widths:
            if width % self.groups or (self.head and width % self.head) or self.width % 2:
                raise ValueError(
                    f"{width} channels do not divide into {self.groups} groups and heads of {self.head or width} "
                    "channels, or the width is odd"
                )

    @property
    def factor(self) -> int:
        """Pixels of the full size per pixel of the smallest; sides of pictures are multiples of it."""
        return 2 ** (len(self.multipliers) - 1)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels at every size."""
        return tuple(self.width * each for each in self.multipliers)


class Residual(nn.Module):
    """Two convolutions with the time added between them, added to their input."""

    def __init__(self, inner: int, outer: int, config: Config):
        super().__init__()
        self.norm1 = nn.GroupNorm(config.groups, inner, config.epsilon)
        self.conv1 = nn.Conv2d(inner, outer, 3, padding=1)
        self.time = nn.Linear(4 * config.width, outer)
        self.norm2 = nn.GroupNorm(config.groups, outer, config.epsilon)
        self.dropout = nn.Dropout(config.dropout)
        self.conv2 = _zero(nn.Conv2d(outer, outer, 3, padding=1))
        self.skip = nn.Conv2d(inner, outer, 1) if inner != outer else nn.Identity()

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(time))[:, :, None, None]
        return self.skip(x) + self.conv2(self.dropout(F.silu(self.norm2(h))))


class Attention(nn.Module):
    """All places attend to all, added to the input."""

    def __init__(self, width: int, config: Config):
        super().__init__()
        self.heads = width // config.head if config.head else 1
        self.norm = nn.GroupNorm(config.groups, width, config.epsilon)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.out = _zero(nn.Linear(width, width))

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x).flatten(2).transpose(1, 2)
        split = (
            layer(h).unflatten(2, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        h = F.scaled_dot_product_attention(*split).transpose(1, 2).flatten(2)
        return x + self.out(h).transpose(1, 2).unflatten(2, x.shape[2:])


class Down(nn.Module):
    """Halves both sides."""

    def __init__(self, width: int, config: Config):
        super().__init__()
        self.around = config.padded == "around"
        self.conv = nn.Conv2d(width, width, 3, 2, padding=int(self.around))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x if self.around else F.pad(x, (0, 1, 0, 1)))


class Up(nn.Module):
    """Doubles both sides by repeating pixels, and smooths."""

    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class Level(nn.Module):
    """The blocks of one size, and the change to the next size, if there is one."""

    def __init__(self, widths: list[tuple[int, int]], attention: bool, change: nn.Module | None, config: Config):
        super().__init__()
        self.blocks = nn.ModuleList(Residual(inner, outer, config) for inner, outer in widths)
        self.attentions = nn.ModuleList(Attention(outer, config) for _, outer in widths if attention)
        self.change = change

    def forward(self, x: Tensor, time: Tensor, skips: list[Tensor] | None = None) -> list[Tensor]:
        """Return the features after every block. On the way up, each block takes one of the skipped features off the list."""
        found = []
        for n, block in enumerate(self.blocks):
            x = block(torch.cat([x, skips.pop()], 1) if skips is not None else x, time)
            x = self.attentions[n](x) if len(self.attentions) else x
            found.append(x)
        return found if self.change is None else [*found, self.change(x)]


class UNet(nn.Module):
    """The network: pictures x_t and times -> what it predicts (`reverse.py`), and log variances if it learns them."""

    def __init__(self, config: Config = Config()):
        super().__init__()
        self.config = config
        widths, n = config.widths, config.blocks
        sides = [config.size >> level for level in range(len(widths))]
        attends = [side in config.attention for side in sides]
        before = (config.width, *widths[:-1])
        self.first = nn.Conv2d(config.channels, config.width, 3, padding=1)
        self.time = nn.Sequential(
            nn.Linear(config.width, 4 * config.width), nn.SiLU(), nn.Linear(4 * config.width, 4 * config.width)
        )
        self.down = nn.ModuleList(
            Level([(inner, outer)] + [(outer, outer)] * (n - 1), attend, None if last else Down(outer, config), config)
            for inner, outer, attend, last in zip(before, widths, attends, _last(len(widths)), strict=True)
        )
        middle = widths[-1]
        self.middle = nn.ModuleList(Residual(middle, middle, config) for _ in range(2))
        self.middle_attention = Attention(middle, config)
        self.up = nn.ModuleList()
        inner = middle
        for level in reversed(range(len(widths))):
            outer = widths[level]
            skipped = [outer] * n + [before[level]]  # of this size's blocks, and of what came into it
            taken = [(width + skip, outer) for width, skip in zip([inner] + [outer] * n, skipped, strict=True)]
            self.up.append(Level(taken, attends[level], Up(outer) if level else None, config))
            inner = outer
        self.norm = nn.GroupNorm(config.groups, config.width * config.multipliers[0], config.epsilon)
        outputs = config.channels * (2 if config.learned else 1)
        self.last = _zero(nn.Conv2d(widths[0], outputs, 3, padding=1))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """Evaluate the network.

        Args:
            x: Pictures x_t of unit variance, (B, channels, H, W); both sides are multiples of `Config.factor`.
            time: t - 1, (B,), on the CPU: the network counts from 0. It may be fractional.

        Returns:
            (B, channels, H, W), or twice as many channels if it learns variances: the second half are log(variance / beta_t).
        """
        temb = self.time(embedding(time, self.config).to(self.first.weight))
        skips = [self.first(x.contiguous(memory_format=torch.channels_last))]
        for level in self.down:
            skips += level(skips[-1], temb)
        first, second = self.middle
        h = second(self.middle_attention(first(skips[-1], temb)), temb)
        for level in self.up:
            *_, h = level(h, temb, skips)
        return self.last(F.silu(self.norm(h)))


def embedding(time: Tensor, config: Config) -> Tensor:
    """Return the sinusoidal embedding (B, width) of times (B,), in float64 (Vaswani et al. 2017)."""
    n = config.width // 2
    rates = torch.exp(torch.arange(n, dtype=torch.float64) * -math.log(10000) / (n - config.shift))
    angle = time.double()[:, None] * rates
    waves = (angle.cos(), angle.sin()) if config.cosine_first else (angle.sin(), angle.cos())
    return torch.cat(waves, 1)


def _zero(layer: nn.Module) -> nn.Module:
    for p in layer.parameters():
        nn.init.zeros_(p)
    return layer


def _last(count: int) -> list[bool]:
    return [n == count - 1 for n in range(count)]
