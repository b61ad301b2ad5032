"""The diffusion of functions: values at points get noise, and points keep their places (section 3 of the paper).

Values at points are (B, N, C), times whole numbers from 1 to T, and noise levels those of a `Process` of DDPM, whose equations
hold for every point by itself. In sampling the context is a fixed random subset of the queries, and takes their values at every
step. A query outside the context changes no other query. So the chain of the context comes first, and what the network made of
it at every step is kept: a `Chain` is then asked at any points, in any number, at any time, and answers as if they had been
there from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Generator, Tensor

from ..ddpm.process import Process, at, diffuse, x0_of_eps
from .network import Encoding, FieldNetwork

Predicted = Literal["eps", "x0", "v"]
CHUNK = 1 << 12
"""Queries that are decoded at a time."""
Tick = Callable[[int, int], None]


def target(process: Process, predicted: Predicted, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    """Return what a network should predict: the noise eps, the values x_0, or v = sqrt(abar) eps - sqrt(1 - abar) x_0.

    Args:
        process: The forward process.
        predicted: Which of them.
        x0: Values (B, N, C).
        t: Times (B,), 1 to T.
        eps: Unit-normal noise like x0.
    """
    if predicted == "v":
        return at(process.abar.sqrt(), t, x0) * eps - at((1 - process.abar).sqrt(), t, x0) * x0
    return eps if predicted == "eps" else x0


def expected(process: Process, predicted: Predicted, x: Tensor, t: Tensor, out: Tensor) -> Tensor:
    """Return the values x_0 that a prediction means; `x` are the noisy values, and the rest is as in `target`."""
    if predicted == "v":
        return at(process.abar.sqrt(), t, x) * x - at((1 - process.abar).sqrt(), t, x) * out
    return x0_of_eps(process, x, t, out) if predicted == "eps" else out


def step(process: Process, x: Tensor, x0: Tensor, t: int, eta: float, noise: Tensor | None) -> Tensor:
    """Return x_{t-1} of x_t and the values that are expected (Song et al. 2021, eq. 12).

    Args:
        process: The forward process.
        x: Noisy values x_t.
        x0: What the network expects of them.
        t: The time, 1 to T.
        eta: 0 for DDIM; 1 for ancestral sampling with the variance beta~.
        noise: Unit-normal noise like x; None if eta is 0.
    """
    now, before = process.abar[t].item(), process.abar[t - 1].item()
    eps = (x - now**0.5 * x0) / (1 - now) ** 0.5
    variance = eta**2 * process.posterior_variance[t].item() if t > 1 else 0.0
    mean = before**0.5 * x0 + max(1 - before - variance, 0.0) ** 0.5 * eps
    return mean if noise is None or variance == 0 else mean + variance**0.5 * noise


@dataclass(frozen=True)
class Rule:
    """How a chain runs.

    Args:
        predicted: What the network predicts.
        guidance: 0 is unconditional, 1 conditional, larger values exaggerate the words.
        eta: 0 for DDIM, 1 for ancestral sampling, or between them.
        clip: Whether expected values are clamped to [-1, 1].
    """

    predicted: Predicted = "v"
    guidance: float = 1.0
    eta: float = 0.0
    clip: bool = True


class Chain:
    """A sampled function, known at the points of its context, and ready to be asked anywhere.

    Args:
        network: The network.
        process: The forward process, with as many steps as the chain shall have.
        points: The context's points, (N, D).
        words: Word numbers of B functions, (B, LENGTH).
        empty: The word numbers (LENGTH,) of no words, for guidance.
        rule: How the chain runs.
        random: Draws all noise, on the CPU.
        tick: Called after every step with the steps done and in total; it may raise to stop.
        known: The functions at the context's points, (B, N, C), if they are known there and only the rest is to be sampled.
    """

    @torch.no_grad()
    def __init__(
        self, network: FieldNetwork, process: Process, points: Tensor, words: Tensor, empty: Tensor, rule: Rule,
        random: Generator, tick: Tick = lambda done, total: None, known: Tensor | None = None,
    ):  # fmt: skip
        self.network, self.process, self.points, self.rule = network, process, points, rule
        self.count = len(words)
        self._words = torch.cat(
            [each for each, used in ((words, self._told), (empty.expand_as(words), self._untold)) if used]
        )
        self._encodings: list[Encoding] = []
        x = eps = self._noise(len(points), random)
        for t in range(process.steps, 0, -1):
            if known is not None:
                x = diffuse(process, known.to(x), torch.full((self.count,), t), eps)
            self._encodings.append(self._encode(x, t))
            x = self._move(x, self._expected(points, x, t), t, random) if known is None else known.to(x)
            tick(process.steps - t + 1, process.steps)
        self.values = x

    @property
    def _told(self) -> bool:
        return self.rule.guidance != 0

    @property
    def _untold(self) -> bool:
        return self.rule.guidance != 1 and self.network.config.words

    @torch.no_grad()
    def at(self, points: Tensor, random: Generator, tick: Tick = lambda done, total: None) -> Tensor:
        """Return the functions at any points, (B, Q, C). Points of the context have the values that they have there.

        Args:
            points: The points (Q, D).
            random: Draws their noise, on the CPU.
            tick: Called after every step with the steps done and in total; it may raise to stop.
        """
        x = self._noise(len(points), random)
        for t in range(self.process.steps, 0, -1):
            x = self._move(x, self._expected(points, x, t), t, random)
            tick(self.process.steps - t + 1, self.process.steps)
        same = torch.cat([_found(part, self.points) for part in points.split(CHUNK)])
        return torch.where((same >= 0)[:, None], self.values[:, same.clamp(min=0)], x)

    def _noise(self, count: int, random: Generator) -> Tensor:
        like = self.network.pair.weight
        return torch.randn(self.count, count, self.network.config.channels, generator=random).to(like)

    def _move(self, x: Tensor, x0: Tensor, t: int, random: Generator) -> Tensor:
        noise = self._noise(x.shape[1], random) if self.rule.eta and t > 1 else None
        return step(self.process, x, x0, t, self.rule.eta, noise)

    def _encode(self, x: Tensor, t: int) -> Encoding:
        copies = len(self._words) // self.count
        points = self.points.expand(len(self._words), -1, -1)
        return self.network.encode((points, x.repeat(copies, 1, 1)), self._time(t, len(self._words)), self._words)

    def _time(self, t: int, count: int) -> Tensor:
        return self.process.time(torch.full((count,), t)).to(self.points.device)

    def _expected(self, points: Tensor, x: Tensor, t: int) -> Tensor:
        """Return the values that are expected at points (Q, D) with the noisy values x (B, Q, C) at time t."""
        encoding = self._encodings[self.process.steps - t]
        parts = [self._decode(encoding, p, v) for p, v in zip(points.split(CHUNK), x.split(CHUNK, 1), strict=True)]
        out = torch.cat(parts, 1)
        x0 = expected(self.process, self.rule.predicted, x, torch.full((len(x),), t), out)
        return x0.clamp(-1, 1) if self.rule.clip else x0

    def _decode(self, encoding: Encoding, points: Tensor, x: Tensor) -> Tensor:
        copies = len(encoding.state) // self.count
        given = points.expand(len(encoding.state), -1, -1)
        out = self.network.decode(encoding, (given, x.repeat(copies, 1, 1)))
        if copies == 1:
            return out
        told, untold = out.chunk(2)
        return untold + self.rule.guidance * (told - untold)


def _found(queries: Tensor, points: Tensor) -> Tensor:
    """Return the number of the point (N, D) that each query (Q, D) coincides with, or -1, (Q,)."""
    same = (torch.cdist(queries, points, compute_mode="donot_use_mm_for_euclid_dist") == 0).max(1)
    return torch.where(same.values, same.indices, -1)
