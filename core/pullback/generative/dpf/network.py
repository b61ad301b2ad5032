"""The score network: what it knows of a function comes from context pairs, and it is asked at query pairs.

A pair is a point and the noisy value there. Context pairs are encoded once, for any number of queries; queries do not see each
other. The order of the pairs means nothing. Three architectures (section 3 and appendix D of the paper): Perceiver IO, in which
every block of the encoder has its own cross-attention; a Transformer encoder over the context; and an MLP-Mixer over it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from ..toybox.words import LENGTH, PAD, VOCABULARY
from .blocks import PERIODS, Attention, Mixer, clock, fourier

Architecture = Literal["perceiver", "transformer", "mixer"]


@dataclass(frozen=True)
class Config:
    """The sizes of a network.

    Args:
        dimensions: Coordinates of a point.
        channels: Values at a point.
        architecture: Which encoder and decoder it has.
        octaves: Frequencies of the Fourier features of coordinates.
        width: Channels of latents and tokens.
        latents: Latents of the Perceiver IO.
        blocks: Blocks of its encoder, or layers of the other encoders.
        selfs: Self-attentions per block of the Perceiver IO.
        decoders: Cross-attentions of its decoder.
        heads: Attention heads.
        context: Context pairs, a fixed number only for the mixer.
        words: Whether it is conditioned on words.
    """

    dimensions: int = 2
    channels: int = 3
    architecture: Architecture = "perceiver"
    octaves: int = 5
    width: int = 160
    latents: int = 96
    blocks: int = 3
    selfs: int = 1
    decoders: int = 2
    heads: int = 2
    context: int = 512
    words: bool = True

    def __post_init__(self) -> None:
        for name in ("dimensions", "channels", "width", "latents", "blocks", "decoders", "heads", "context"):
            if not 1 <= getattr(self, name) <= 1 << 16:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be between 1 and 65536")
        if not (0 <= self.selfs <= 64 and 0 <= self.octaves <= 16):
            raise ValueError("selfs must be between 0 and 64, and octaves between 0 and 16")
        if self.width % self.heads:
            raise ValueError(f"the width {self.width} is no multiple of the {self.heads} heads")


@dataclass(frozen=True, eq=False)
class Encoding:
    """What is known of functions at one time.

    Args:
        state: The condition of every token: time and words, (B, width).
        latents: Latents (B, M, width); one per context pair for architectures other than the Perceiver IO.
        points: The points of the context, (B, N, D), for those.
    """

    state: Tensor
    latents: Tensor
    points: Tensor | None = None

    def __getitem__(self, index: slice) -> Encoding:
        return Encoding(self.state[index], self.latents[index], self.points[index] if self.points is not None else None)


class FieldNetwork(nn.Module):
    """The network. All architectures embed pairs, time and words alike.

    Args:
        config: Its sizes.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config, width = config, config.width
        embedded = config.dimensions * (1 + 2 * config.octaves) + config.channels
        self.pair, self.condition = nn.Linear(embedded, width), nn.Linear(width, width)
        self.token = nn.Sequential(nn.LayerNorm(width), nn.GELU(), nn.Linear(width, width))
        self.time = nn.Sequential(nn.Linear(2 * PERIODS, width), nn.GELU(), nn.Linear(width, width))
        if config.words:
            self.word, self.place = nn.Embedding(len(VOCABULARY), width), nn.Parameter(torch.zeros(LENGTH, width))
            self.phrase = nn.Sequential(
                nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width)
            )
            nn.init.normal_(self.place, std=0.5)
        if config.architecture == "perceiver":
            self.latents = nn.Parameter(0.5 * torch.randn(config.latents, width))
            self.encoder = nn.ModuleList(
                Attention(width, config.heads, crossed=layer == 0)
                for _ in range(config.blocks)
                for layer in range(1 + config.selfs)
            )
            self.decoder = nn.ModuleList(
                Attention(width, config.heads, widening=2, crossed=True) for _ in range(config.decoders)
            )
        elif config.architecture == "transformer":
            self.encoder = nn.ModuleList(Attention(width, config.heads, 2) for _ in range(config.blocks))
        else:
            self.encoder = nn.ModuleList(Mixer(width, config.context, width) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(width)
        merged = width if config.architecture == "perceiver" else 2 * width
        self.out = nn.Linear(merged + embedded, config.channels)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(
        self, context: tuple[Tensor, Tensor], query: tuple[Tensor, Tensor], time: Tensor, words: Tensor
    ) -> Tensor:
        """Return what the network predicts at the queries, (B, Q, C).

        Args:
            context: Points (B, N, D) and noisy values (B, N, C).
            query: Points (B, Q, D) and noisy values (B, Q, C).
            time: Times (B,), counted from 0.
            words: Word numbers (B, LENGTH).
        """
        return self.decode(self.encode(context, time, words), query)

    def encode(self, context: tuple[Tensor, Tensor], time: Tensor, words: Tensor) -> Encoding:
        """Encode context pairs; the arguments are those of `forward`.

        Raises:
            ValueError: If the mixer gets another number of pairs than it was trained with.
        """
        config = self.config
        state = self.time(clock(time).to(self.pair.weight))
        tokens = None
        if config.words:
            there = (words != PAD)[..., None]
            tokens = (self.word(words) + self.place) * there
            state = state + (self.phrase(tokens) * there).sum(1)
        if config.architecture == "mixer":
            if context[0].shape[1] != config.context:
                raise ValueError(f"this network takes {config.context} context points, not {context[0].shape[1]}")
            context = _sorted(*context)
        points = context[0]
        pairs = self._embed(*context)[1]
        pairs = self.token(pairs + self.condition(state)[:, None])
        if config.architecture != "perceiver":
            for layer in self.encoder:
                pairs = layer(pairs)
            return Encoding(state, pairs, points)
        given = pairs if tokens is None else torch.cat([pairs, tokens.to(pairs)], 1)
        latents = self.latents + state[:, None]
        for n, layer in enumerate(self.encoder):
            latents = layer(latents, given) if n % (1 + config.selfs) == 0 else layer(latents)
        return Encoding(state, latents)

    def decode(self, encoding: Encoding, query: tuple[Tensor, Tensor]) -> Tensor:
        """Return what the network predicts at the queries, (B, Q, C), in any number of them."""
        embedded, tokens = self._embed(*query)
        tokens = self.token(tokens + self.condition(encoding.state)[:, None])
        if encoding.points is None:
            for layer in self.decoder:
                tokens = layer(tokens, encoding.latents)
            merged = self.norm(tokens)
        else:
            nearest = _nearest(query[0], encoding.points)[..., None].expand(-1, -1, self.config.width)
            merged = torch.cat([self.norm(encoding.latents.gather(1, nearest)), tokens], -1)
        return self.out(torch.cat([merged, embedded.to(merged)], -1))

    def _embed(self, points: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        embedded = torch.cat([fourier(points, self.config.octaves), values], -1)
        return embedded, self.pair(embedded)


def _sorted(points: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
    """Put pairs in an order that depends on the points alone: by the last coordinate, then by those before it."""
    order = torch.arange(points.shape[1], device=points.device).expand(points.shape[:2])
    for axis in range(points.shape[-1]):
        keys = points[..., axis].gather(1, order)
        order = order.gather(1, keys.sort(dim=1, stable=True).indices)
    points, values = (x.gather(1, order[..., None].expand(-1, -1, x.shape[-1])) for x in (points, values))
    return points, values


def _nearest(queries: Tensor, points: Tensor) -> Tensor:
    """Return the number of the point (B, N, D) that is nearest to each query (B, Q, D), (B, Q) long."""
    return torch.cdist(queries.float(), points.float(), compute_mode="donot_use_mm_for_euclid_dist").argmin(-1)
