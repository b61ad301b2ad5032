"""What a model is: its domain, its network, its forward process, and what it predicts; and the presets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from msgspec import Meta

from ..ddpm.process import SCHEDULES, Process
from .chain import Predicted
from .domains import Domain, domain_of
from .network import Config


@dataclass(frozen=True)
class Design:
    """A model's design.

    Args:
        domain: The name of its domain (`domains.py`).
        side: Points along each side of the grid that it was trained on.
        network: The sizes of its network.
        predicted: What the network predicts (`chain.py`).
        steps: The steps T of the forward process.
        schedule: How its variances are spaced, one of `process.SCHEDULES`.
    """

    domain: Literal["plane", "cube", "sphere"] = "plane"
    side: Annotated[int, Meta(ge=2, le=1024)] = 32
    network: Config = Config()
    predicted: Predicted = "v"
    steps: Annotated[int, Meta(ge=2, le=10_000)] = 1000
    schedule: Literal["linear", "quadratic", "cosine"] = "cosine"

    def __post_init__(self) -> None:
        if self.functions_of.dimensions != self.network.dimensions:
            raise ValueError(f"a network of {self.network.dimensions} coordinates is none of the {self.domain}")

    @property
    def functions_of(self) -> Domain:
        """The domain."""
        return domain_of(self.domain, self.network.channels)

    def process(self) -> Process:
        """Return the tables of the forward process."""
        return Process(SCHEDULES[self.schedule](self.steps, 1e-4, 0.02))


@dataclass(frozen=True)
class Preset:
    """A design, and how it is trained.

    Args:
        design: The design.
        queries: Query points per function.
        batch_size: Functions per step.
        lr: The learning rate.
    """

    design: Design
    queries: int = 768
    batch_size: int = 16
    lr: float = 2e-3


_TINY = Config(width=32, latents=16, blocks=1, selfs=1, decoders=1, context=64)
_PAPER = Config(width=512, latents=512, blocks=12, selfs=2, octaves=10, heads=4, decoders=3, context=4096)
PRESETS = {
    "tiny": Preset(Design(network=_TINY), 64, 8),
    "small": Preset(Design()),
    "paper": Preset(Design(network=_PAPER), 4096, 128, 1e-4),
}
"""Sizes by name. The paper's are those of its table of hyperparameters for CelebA-HQ, as far as they can be told."""
SIDES = {"plane": 32, "cube": 32, "sphere": 64}
"""The grids that models are trained on, by domain."""


def preset_of(
    preset: Preset, domain: Domain, words: bool, architecture: str = "perceiver", objective: str = "v"
) -> Preset:
    """Return a preset for a domain.

    Args:
        preset: A preset of `PRESETS`.
        domain: The domain.
        words: Whether the model is conditioned on words.
        architecture: The architecture of its network.
        objective: What it predicts.

    Raises:
        ValueError: If there is no such architecture or objective.
    """
    for option, value, known in (
        ("architecture", architecture, ("perceiver", "transformer", "mixer")),
        ("objective", objective, ("eps", "x0", "v")),
    ):
        if value not in known:
            raise ValueError(f"--{option} is {value!r}; it must be {', '.join(known[:-1])} or {known[-1]}")
    side = SIDES[domain.name]
    octaves = min(preset.design.network.octaves, octaves_of(side))
    sizes = {
        "octaves": octaves,
        "dimensions": domain.dimensions,
        "channels": domain.channels,
        "words": words,
        "architecture": architecture,
    }
    network = replace(preset.design.network, **sizes)  # type: ignore[arg-type]
    kind = {"domain": domain.name, "side": side, "network": network, "predicted": objective}
    return replace(preset, design=replace(preset.design, **kind))  # type: ignore[arg-type]


def octaves_of(side: int) -> int:
    """Return how many octaves of Fourier features lie below half the rate of a grid with `side` points along each side.

    At half that rate and above, functions that differ between the points are the same at them, and samples at other points would
    show patterns that no training can remove.
    """
    return max(1, math.ceil(math.log2(side / 2)))
