"""Do pulled-back objects come out as often as they should? Counted, under a prior that is known exactly.

`python benchmarks/exact_prior.py [--seeds 100] [--only anchor]` samples under a prior of six known objects with known weights.
Their pictures through 72 cameras are the means of a Gaussian mixture, so the denoiser of every view is exact. A sampler is right
if each object comes out as often as its weight says, and if all views of one result show the same object. The script prints a
row for each way of choosing views and noise, or only the row `--only`. Needs the extra `train`, for its renderer.
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
    """Return the prior's 72 cameras: 24 around the object at each of three elevations."""
    azimuth = torch.arange(AROUND) * (2 * math.pi / AROUND)
    return orbit(azimuth.repeat(3), torch.deg2rad(torch.tensor(HEIGHTS)).repeat_interleave(AROUND))


@functools.cache
def means() -> Tensor:
    """Return unlit pictures (72, 6, 4, SIZE, SIZE) of the six objects, in [-1, 1]."""
    from pullback.generative.toybox import pictures
    from pullback.generative.toybox.objects import build

    def known(noun: str, colour: str) -> Tensor:
        mesh, rgb = build(noun, colour, None, None, np.random.default_rng(1))
        photographs = torch.from_numpy(pictures.photograph(mesh, rgb, bank(), SIZE)).float() / 127.5 - 1
        return photographs[:, 3:]  # unlit RGB, and alpha

    return torch.stack([known(*kind) for kind in KINDS], 1)


def places(view: Cameras) -> Tensor:
    """Return the places (B,) of cameras in the bank."""
    around = torch.round(view.azimuth % (2 * math.pi) / (2 * math.pi / AROUND)).long() % AROUND
    return torch.round(torch.rad2deg(view.elevation) / 25).long().clamp(0, 2) * AROUND + around


@dataclass(frozen=True)
class Prior:
    """The exact denoiser of a mixture of Gaussians, of deviation SPREAD around the objects' pictures."""

    weights: tuple[float, ...]

    def __call__(self, x: Tensor, sigma: Tensor, view: Cameras) -> Tensor:
        m, v = means()[places(view)], SPREAD**2 + sigma**2
        distance = (x[:, None] - m).square().flatten(2).sum(-1)
        posterior = torch.softmax(torch.tensor(self.weights).log() - distance / (2 * v), 1)
        return (SPREAD**2 * x + sigma**2 * (posterior[:, :, None, None, None] * m).sum(1)) / v


def around(count: int, random: Generator) -> Cameras:
    """Draw cameras of the bank, spread evenly around the object, each at a random elevation of the three."""
    if not count:
        return bank()[:0]
    azimuths = (torch.randint(AROUND, (1,), generator=random) + torch.arange(count) * AROUND // count) % AROUND
    return bank()[torch.randint(3, (count,), generator=random) * AROUND + azimuths]


def _joined(first: Cameras, count: int, random: Generator) -> Cameras:
    others = around(count, random)
    return Cameras(torch.cat([first.pose, others.pose]), torch.cat([first.fov, others.fov]))


def anchored(random: Generator, share: Callable[[float], float] | None = None, anchors: int = 1) -> Views:
    """Return views of which the first `anchors` keep camera and noise; the others are new at every step."""
    first = around(anchors, random)
    shape = (VIEWS, 4, SIZE, SIZE)
    law = functools.partial(_joined, first, VIEWS - anchors)
    return AnchoredViews(law, shape, first, share or functools.partial(leading, VIEWS), anchors)


def fresh(random: Generator) -> Views:
    """Return views whose cameras and noise are new at every step."""
    return FreshViews(functools.partial(around, VIEWS), (VIEWS, 4, SIZE, SIZE))


def kept(random: Generator) -> Views:
    """Return a fixed bank of views that all keep their noise."""
    return FixedViews(around(VIEWS, random), (VIEWS, 4, SIZE, SIZE))


def alone(sigma: float) -> float:
    """Return the anchor's share: nearly all while the sample is being decided, at sigma > 8, and an equal share below."""
    return 0.999 if sigma > 8 else 1 / VIEWS


@dataclass(frozen=True)
class Way:
    """A way of choosing views and noise.

    Args:
        views: Draws the views of one sample.
        gamma: The share of the residual that is carried from step to step.
        eta: DDIM's eta.
        top: The highest noise level.
    """

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
    """Sample one field; return the number of the object that it shows, and the fraction of 12 views that show this object."""
    random = torch.Generator().manual_seed(seed)
    views = way.views(random)
    sigmas = log_linear(steps, 0.1, way.top)
    pull = Pull(FIELD, prior, views, SOLVER, sigmas, repaint(steps), way.eta, way.gamma, FIELD.fit)
    theta = pull(start(FIELD.init(random), views, SOLVER, random), random).params
    with torch.no_grad():
        distance = (FIELD(theta, bank()[::6])[:, None] - means()[::6]).square().mean((2, 3, 4))
    best = int(distance.mean(0).argmin())
    return best, float((distance.argmin(1) == best).float().mean())


def main(seeds: int = 100, only: str = "", weights: str = "uneven") -> None:
    """Print the table, and above it the mean total variation of as many exact draws, which a perfect sampler would have."""
    torch.set_num_threads(1)
    prior = Prior(WEIGHTS[weights])
    true = torch.tensor(prior.weights)
    random = torch.Generator().manual_seed(0)
    draws = torch.stack(
        [torch.multinomial(true, seeds, True, generator=random).bincount(minlength=6) for _ in range(1000)]
    )
    chance = float((draws / seeds - true).abs().sum(1).mean() / 2)
    print(f"true weights: {' '.join(f'{w:.2f}' for w in prior.weights)}")
    print(f"{seeds} exact draws have a mean total variation of {chance:.2f}\n")
    print("| views | frequencies | total variation | views agree |\n| --- | --- | --- | --- |")
    for name in [only] if only else WAYS:
        found = [sample(WAYS[name], prior, seed) for seed in range(seeds)]
        often = torch.tensor([k for k, _ in found]).bincount(minlength=6) / seeds
        agree = np.mean([a for _, a in found])
        frequencies = " ".join(f"{f:.2f}" for f in often)
        print(f"| {name} | {frequencies} | {float((often - true).abs().sum()) / 2:.2f} | {agree:.2f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
