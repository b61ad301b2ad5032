"""Settings: what a user may set for any run, with their ranges and defaults. Every door shows them from here."""

from __future__ import annotations

import math
from dataclasses import dataclass

from .files import is_utf8
from .representation import Setting
from .schedules import MAX_STEPS, evaluations, repaint

SOLVERS = ("adam", "paper", "gauss-newton")
LONGEST_PROMPT = 2000
"""Characters of a prompt."""
RUN = {
    each.name: each
    for each in (
        Setting("seed", 0, "The same seed gives the same result.", 0, (1 << 63) - 1),
        Setting("steps", 30, "Noise levels to go through.", 1, MAX_STEPS),
        Setting("guidance", 3.0, "How strictly to follow the prompt: 0 not at all, 1 as trained.", 0.0, 100.0, 0.5),
        Setting("eta", 0.0, "Fresh noise per step, 0 to 1.", 0.0, 1.0, 0.05),
        Setting("solver", "adam", "How each step is fitted: adam, paper or gauss-newton.", choices=SOLVERS),
        Setting("views", 8, "Views per step.", 1, 64),
    )
}
"""The settings of a run that are numbers or words of a list, by name."""


@dataclass(frozen=True)
class Settings:
    """What a user may set for any run. ValueError names what is out of range.

    Args:
        prompt: what to draw.
        negative: what to keep away from.
        seed: of all that is random.
        steps: noise levels.
        guidance: 0 unconditional, 1 conditional (`guidance.py`).
        eta: DDIM's stochasticity.
        repaint: (jump, repeats); (1, 1) is none.
        solver: one of SOLVERS.
        views: views per step, for fields that have more than one.
    """

    prompt: str
    negative: str = ""
    seed: int = RUN["seed"].default  # type: ignore[assignment]
    steps: int = RUN["steps"].default  # type: ignore[assignment]
    guidance: float = RUN["guidance"].default  # type: ignore[assignment]
    eta: float = RUN["eta"].default  # type: ignore[assignment]
    repaint: tuple[int, int] = (1, 1)
    solver: str = RUN["solver"].default  # type: ignore[assignment]
    views: int = RUN["views"].default  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError('the prompt is empty: say what to draw, for example "a red mushroom"')
        for what, text in (("prompt", self.prompt), ("negative prompt", self.negative)):
            if len(text) > LONGEST_PROMPT:
                raise ValueError(f"the {what} has {len(text)} characters; it may have {LONGEST_PROMPT}: shorten it")
            if not is_utf8(text):
                raise ValueError(f"the {what} is not UTF-8: type it again, or convert what it was copied from")
        for name in ("guidance", "eta", "views"):
            low, high = RUN[name].low, RUN[name].high
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise ValueError(f"{name} is {value}; it must be between {low:g} and {high:g}")
        if self.repaint[1] > 1 and self.eta == 0:
            raise ValueError("repaint needs fresh noise to do anything: give an eta above 0 with it, for example 0.75")
        if not 0 <= self.seed <= RUN["seed"].high:
            raise ValueError(f"the seed is {self.seed}; it must be between 0 and 2^63 - 1")
        if self.solver not in SOLVERS:
            raise ValueError(f"the solver is {self.solver!r}; it must be one of {', '.join(SOLVERS)}")
        repaint(self.steps, *self.repaint)

    @property
    def walk(self) -> list[tuple[int, int]]:
        """The moves between noise levels."""
        return repaint(self.steps, *self.repaint)

    @property
    def evaluations(self) -> int:
        """Network evaluations per view (twice that with guidance)."""
        return evaluations(self.walk)
