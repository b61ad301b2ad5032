"""Do pulled-back objects come out as often as they should? Counted, under a prior that is known exactly.

`python benchmarks/exact_prior.py [--seeds 100] [--only anchor]`: six known objects have known weights. Their pictures
through 72 cameras are the means of a Gaussian mixture, so the denoiser of every view is exact, and a sampler is right
when each object comes out as often as its weight says and all views of one result show the same object. Prints a row for
each way of choosing views and noise. Needs the extra `train`, for its renderer.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import typer
from pullback.diffreps.radiance import RATES, VoxelRadiance
from pullback.fields.voxels import Voxels
from pullback.geometry.cameras import Cameras, orbit
from pullback.noise import AnchoredViews, FixedViews, FreshViews, Views, leading
from pullback.pull import Pull, start
from pullback.schedules import log_linear, repaint
from pullback.solvers import Adam
from torch import Generator, Tensor

SIZE, AROUND, VIEWS, SPREAD = 32, 24, 7, 0.1
HEIGHTS = (0.0, 25.0, 50.0)
KINDS = tuple(itertools.product(("mushroom", "duck"), ("red", "blue", "green")))
WEIGHTS = {
    "uneven": (0.25, 0.05, 0.15, 0.05, 0.30, 0.20), "even": (1 / 6,) * 6, "steep": (0.03, 0.05, 0.10, 0.02, 0.20, 0.60),
}  # fmt: skip
FIELD = VoxelRadiance("rgba", 4, SIZE, steps=32, rays=1024, voxels=Voxels(resolution=32))
SOLVER = Adam(12, 60, RATES, betas=(0.9, 0.95), last_rate=0.25)


@functools.cache
def bank() -> Cameras:
    """The prior's 72 cameras: 24 around, at three elevations."""
    azimuth = torch.arange(AROUND) * (2 * math.pi / AROUND)
    return orbit(azimuth.repeat(3), torch.deg2rad(torch.tensor(HEIGHTS)).repeat_interleave(AROUND))


@functools.cache
def means() -> Tensor:
    """(72, 6, 4, SIZE, SIZE) flat pictures of the six objects, in [-1, 1]."""
    from pullback.generative.toybox import pictures
    from pullback.generative.toybox.objects import build

    def known(noun: str, colour: str) -> Tensor:
        mesh, rgb = build(noun, colour, None, None, np.random.default_rng(1))
        seven = torch.from_numpy(pictures.photograph(mesh, rgb, bank(), SIZE)).float() / 127.5 - 1
        return torch.cat([seven[:, 3:6], seven[:, 6:]], 1)

    return torch.stack([known(*kind) for kind in KINDS], 1)


def numbers(view: Cameras) -> Tensor:
    """(B,) which of the bank's cameras these are."""
    around = torch.round(view.azimuth % (2 * math.pi) / (2 * math.pi / AROUND)).long() % AROUND
    return torch.round(torch.rad2deg(view.elevation) / 25).long().clamp(0, 2) * AROUND + around


@dataclass(frozen=True)
class Prior:
    """The exact denoiser: a mixture over objects of Gaussians of deviation SPREAD around their pictures."""

    weights: tuple[float, ...]

    def __call__(self, x: Tensor, sigma: Tensor, view: Cameras) -> Tensor:
        m, v = means()[numbers(view)], SPREAD**2 + sigma**2
        far = (x[:, None] - m).square().flatten(2).sum(-1)
        chance = torch.softmax(torch.tensor(self.weights).log() - far / (2 * v), 1)
        return (SPREAD**2 * x + sigma**2 * (chance[:, :, None, None, None] * m).sum(1)) / v


def around(count: int, random: Generator) -> Cameras:
    """Cameras of the bank, spread evenly around the object, each at any of the heights."""
    if not count:
        return bank()[:0]
    places = (torch.randint(AROUND, (1,), generator=random) + torch.arange(count) * AROUND // count) % AROUND
    return bank()[torch.randint(3, (count,), generator=random) * AROUND + places]


def _joined(first: Cameras, count: int, random: Generator) -> Cameras:
    others = around(count, random)
    return Cameras(torch.cat([first.pose, others.pose]), torch.cat([first.fov, others.fov]))


def anchored(random: Generator, share: Callable[[float], float] | None = None, anchors: int = 1) -> Views:
    """`anchors` of VIEWS cameras keep their noise, the others are new at every step."""
    first = around(anchors, random)
    shape = (VIEWS, 4, SIZE, SIZE)
    law = functools.partial(_joined, first, VIEWS - anchors)
    return AnchoredViews(law, shape, first, share or functools.partial(leading, VIEWS), anchors)


def fresh(random: Generator) -> Views:
    """Everything is new at every step."""
    return FreshViews(functools.partial(around, VIEWS), (VIEWS, 4, SIZE, SIZE))


def kept(random: Generator) -> Views:
    """A bank of cameras that all keep their noise."""
    return FixedViews(around(VIEWS, random), (VIEWS, 4, SIZE, SIZE))


def alone(sigma: float) -> float:
    """One view alone while the sample is being chosen, and one of many below."""
    return 0.999 if sigma > 8 else 1 / VIEWS


@dataclass(frozen=True)
class Way:
    """A way of choosing views and noise: views of a seed, what is carried, DDIM's eta, the highest noise level."""

    views: Callable[[Generator], Views]
    gamma: float = 0.0
    eta: float = 0.0
    top: float = 200.0


WAYS = {
    "fresh": Way(fresh),
    "bank": Way(kept),
    "bank, carried": Way(kept, 1.0),
    "one leads alone": Way(functools.partial(anchored, share=alone)),
    "anchor": Way(anchored, 1.0),
    "anchor, sigma from 80": Way(anchored, 1.0, top=80.0),
    "anchor, sigma from 20": Way(anchored, 1.0, top=20.0),
    "anchor, eta 1": Way(anchored, 1.0, 1.0),
    "two anchors": Way(functools.partial(anchored, anchors=2), 1.0),
}


def sample(way: Way, prior: Prior, seed: int, steps: int = 26) -> tuple[int, float]:
    """The object that a seed became, and the part of 12 views that agree."""
    random = torch.Generator().manual_seed(seed)
    views = way.views(random)
    sigmas = log_linear(steps, 0.1, way.top)
    pull = Pull(FIELD, prior, views, SOLVER, sigmas, repaint(steps), way.eta, way.gamma, FIELD.fit)
    theta = pull(start(FIELD.init(random), views, SOLVER, random), random).params
    with torch.no_grad():
        far = (FIELD(theta, bank()[::6])[:, None] - means()[::6]).square().mean((2, 3, 4))
    best = int(far.mean(0).argmin())
    return best, float((far.argmin(1) == best).float().mean())


def main(seeds: int = 100, only: str = "", weights: str = "uneven") -> None:
    torch.set_num_threads(1)
    prior = Prior(WEIGHTS[weights])
    true = torch.tensor(prior.weights)
    random = torch.Generator().manual_seed(0)
    draws = torch.stack(
        [torch.multinomial(true, seeds, True, generator=random).bincount(minlength=6) for _ in range(1000)]
    )
    chance = float((draws / seeds - true).abs().sum(1).mean() / 2)
    print(
        f"true weights: {' '.join(f'{w:.2f}' for w in prior.weights)}; {seeds} draws of them differ by {chance:.2f}\n"
    )
    print("| views | frequencies | total variation | views agree |\n| --- | --- | --- | --- |")
    for name in [only] if only else WAYS:
        found = [sample(WAYS[name], prior, seed) for seed in range(seeds)]
        often = torch.tensor([k for k, _ in found]).bincount(minlength=6) / seeds
        agree = np.mean([a for _, a in found])
        parts = " ".join(f"{f:.2f}" for f in often)
        print(f"| {name} | {parts} | {float((often - true).abs().sum()) / 2:.2f} | {agree:.2f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
