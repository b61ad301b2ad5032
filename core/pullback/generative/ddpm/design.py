"""What a model is: its network, its forward process, what it predicts, and what it was trained on; and the presets."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Literal

from msgspec import Meta

from .network import Config
from .process import SCHEDULES, Process
from .reverse import Network, Predicted, Reverse, Variance

Beta = Annotated[float, Meta(gt=0, lt=1)]


@dataclass(frozen=True)
class Design:
    """A model's design.

    Args:
        network: The sizes of its network.
        predicted: What the network predicts (`reverse.py`).
        variance: The variance of the reverse process.
        objective: "simple", the squared error of the prediction, or "bound", a term of the variational bound.
        steps: The steps T of the forward process.
        schedule: How its variances are spaced, one of `process.SCHEDULES`.
        first: The first variance.
        last: The last variance.
    """

    network: Config = Config()
    predicted: Predicted = "eps"
    variance: Variance = "large"
    objective: Literal["simple", "bound"] = "simple"
    steps: Annotated[int, Meta(ge=2, le=10_000)] = 1000
    schedule: Literal["linear", "quadratic", "cosine"] = "linear"
    first: Beta = 1e-4
    last: Beta = 0.02

    def __post_init__(self) -> None:
        if self.network.learned != (self.variance == "learned"):
            raise ValueError("a variance is learned if, and only if, the network has outputs for it")

    def process(self) -> Process:
        """Return the tables of the forward process."""
        return Process(SCHEDULES[self.schedule](self.steps, self.first, self.last))

    def reverse(self, network: Network, clip: bool = True) -> Reverse:
        """Return the reverse process of a network of this design."""
        return Reverse(self.process(), network, self.predicted, self.variance, clip)

    def with_objective(self, name: str) -> Design:
        """Return the design that is trained on an objective, a key of `OBJECTIVES`.

        Raises:
            ValueError: If there is none of that name.
        """
        if name not in OBJECTIVES:
            raise ValueError(f"--objective is {name!r}; it must be one of {', '.join(OBJECTIVES)}")
        predicted, rest = OBJECTIVES[name]
        fixed: Variance = "large" if self.variance == "learned" else self.variance
        variance: Variance = "learned" if rest == "learned" else fixed
        network = replace(self.network, learned=rest == "learned")
        objective: Literal["simple", "bound"] = "bound" if rest else "simple"
        return replace(self, network=network, predicted=predicted, variance=variance, objective=objective)


OBJECTIVES: dict[str, tuple[Predicted, str]] = {
    "eps": ("eps", ""), "eps-bound": ("eps", "bound"), "eps-learned": ("eps", "learned"),
    "mean": ("mean", ""), "mean-bound": ("mean", "bound"), "mean-learned": ("mean", "learned"),
    "x0": ("x0", ""), "x0-bound": ("x0", "bound"), "x0-learned": ("x0", "learned"),
}  # fmt: skip
"""Objectives by name: what is predicted, by the squared error of the prediction (L_simple for eps), by the variational bound
with a fixed variance (`-bound`), or by the bound with a variance that is learned too (`-learned`). Table 2 of the paper."""


def objective_of(design: Design) -> str:
    """Return the name of the objective that a design is trained on."""
    rest = "" if design.objective == "simple" else "-learned" if design.variance == "learned" else "-bound"
    return design.predicted + rest


@dataclass(frozen=True)
class Preset:
    """A design, and how it is trained.

    Args:
        design: The design.
        batch_size: Pictures per step.
        lr: The learning rate.
        flips: Whether pictures are mirrored at random.
    """

    design: Design
    batch_size: int
    lr: float
    flips: bool = True


_SMALL = Config(1, 28, 32, (1, 2, 2), 1, (7,), groups=8)
_256 = Config(3, 256, 128, (1, 1, 2, 2, 4, 4))
PRESETS = {
    "tiny": Preset(Design(Config(1, 16, 24, (1, 2, 2), 1, (8,), groups=8)), 32, 2e-3, flips=False),
    "small": Preset(Design(_SMALL), 32, 1e-3, flips=False),
    "small-colour": Preset(Design(replace(_SMALL, channels=3, size=32, attention=(8,))), 32, 1e-3),
    "paper-cifar10": Preset(Design(Config(dropout=0.1)), 128, 2e-4),
    "paper-256": Preset(Design(_256, variance="small"), 64, 2e-5),
    "paper-256-large": Preset(Design(replace(_256, width=192), variance="small"), 64, 2e-5, flips=False),
}
