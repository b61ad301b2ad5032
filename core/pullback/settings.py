"""The settings that do not depend on a representation: those of a run, and those of the files that are made from a field.

Their defaults, ranges and help are declared here once; the command line, the worker and ComfyUI take them from here.
"""

from __future__ import annotations

from dataclasses import dataclass

from .files import is_utf8
from .representation import Setting
from .schedules import MAX_STEPS, evaluations, repaint

SOLVERS = ("adam", "paper", "gauss-newton")
"""The inner solvers to choose from."""
LONGEST_PROMPT = 2000
"""The longest prompt, in characters."""
MAX_PIXELS = 1 << 16
"""The longest side of a picture, in pixels."""
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
"""The settings of a run that are numbers or choices, by name."""
RUN_OPTIONS = ("out", "model", "device", "resume", "preview")
"""Options of every sampling command and job that are not settings."""
PICTURE = (Setting("width", 2048, "Width of the picture in pixels.", 8, MAX_PIXELS, unit="pixels"),)
"""The settings of a picture that is made from a field."""
MESH = (
    Setting("faces", 20_000, "The largest number of triangles of the mesh.", 100, 1_000_000),
    Setting("texture", 1024, "Width and height of the texture in pixels.", 16, 8192, unit="pixels"),
    Setting("resolution", 128, "Cells along each side of the grid on which the surface is extracted.", 16, 512),
    Setting("bake_views", 24, "Views that the texture is baked from.", 4, 256),
    Setting("bake_size", 256, "Width and height of these views in pixels.", 32, 2048, unit="pixels"),
)
"""The settings of a mesh that is made from a field."""


@dataclass(frozen=True)
class Settings:
    """The settings of a run, whatever the representation.

    Args:
        prompt: What to draw. It may be empty if the model allows that.
        negative: What to avoid.
        seed: The seed of all random numbers, 0 to 2^63 - 1.
        steps: The number of noise levels, 1 to `MAX_STEPS`.
        guidance: 0 is unconditional, 1 is conditional, and larger values exaggerate (`guidance.py`); at most 100.
        eta: DDIM's stochasticity in [0, 1].
        repaint: RePaint's jump and repeats (`schedules.repaint`); (1, 1) is plain sampling.
        solver: One of `SOLVERS`.
        views: Views per step, for representations that have more than one; 1 to 64.
        guide: Regions and what they should show (`regions.parsed`).
        start: "", or the model of shapes of which a sample, with the same prompt and seed, is what an object begins as
            (`functions.begun`).

    Raises:
        ValueError: If a setting is out of range, or RePaint is asked for with an eta of 0.

    Example:
        >>> Settings("a red mushroom", steps=10).evaluations
        10
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
    guide: tuple[str, ...] = ()
    start: str = ""

    def __post_init__(self) -> None:
        for what, text in (("prompt", self.prompt), ("negative prompt", self.negative)):
            if len(text) > LONGEST_PROMPT:
                raise ValueError(f"the {what} has {len(text)} characters; it may have {LONGEST_PROMPT}: shorten it")
            if not is_utf8(text):
                raise ValueError(f"the {what} is not UTF-8: type it again, or convert what it was copied from")
        for name, setting in RUN.items():
            setting.check(getattr(self, name))
        if self.repaint[1] > 1 and self.eta == 0:
            raise ValueError("repaint needs fresh noise to do anything: give an eta above 0 with it, for example 0.75")
        repaint(self.steps, *self.repaint)

    @property
    def walk(self) -> list[tuple[int, int]]:
        """The moves between noise levels (`schedules.repaint`)."""
        return repaint(self.steps, *self.repaint)

    @property
    def evaluations(self) -> int:
        """Network evaluations per view; with guidance other than 0 and 1 each of them counts twice."""
        return evaluations(self.walk)
