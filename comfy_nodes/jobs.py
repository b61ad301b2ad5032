"""The jobs that a run can do: sampling a field, or optimising it with SJC or SDS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from .denoiser import tick
from .ladder import Ladder
from .plans import shape_of


class Remembered:
    """A renderer that caches its last picture. The next step and the preview begin with the last picture of a step."""

    def __init__(self, render: Callable[[dict[str, Tensor], Any], Tensor]):
        self.render = render
        self.last: tuple[dict[str, Tensor], Any, Tensor] | None = None

    def __call__(self, params: dict[str, Tensor], view: Any) -> Tensor:
        """Return what `render` returns. The cache compares parameters by identity because nothing changes them in place."""
        if torch.is_grad_enabled():
            return self.render(params, view)
        if self.last is None or self.last[0] is not params or self.last[1] is not view:
            self.last = params, view, self.render(params, view)
        return self.last[2]


@dataclass
class Run:
    """Everything that a job works with.

    Args:
        recipe: The core's recipe of the field.
        denoise: The denoiser.
        ladder: The noise levels.
        params: The parameters of the field to start from.
        store: The initial noise of views that return at every step, or None if the core draws it.
        random: The random generator of the run.
        render: The renderer of the field.
        progress: The progress bar.
        known: The core's `Known` of a picture to start from, or None.
        state: The core's state after the last completed move, or None before the first.
        first: The initial noise with unit variance, without the factor that ComfyUI applies at the highest sigma.
        guidance: Turns the denoiser into a guided one, or None.
    """

    recipe: Any
    denoise: Any
    ladder: Ladder
    params: dict[str, Tensor]
    store: Tensor | None
    random: Generator
    render: Remembered
    progress: Any
    known: Any = None
    state: Any = None
    first: Tensor | None = None
    guidance: Any = None

    def to(self, device: torch.device) -> Run:
        """Return the same run on another device."""
        known, state, first = (
            value if value is None else value.to(device) for value in (self.known, self.state, self.first)
        )
        params = {name: p.to(device, copy=True) for name, p in self.params.items()}
        return replace(self, params=params, known=known, state=state, first=first)


@dataclass(frozen=True)
class Sampling:
    """The pulled-back sampler as a job.

    Args:
        eta: DDIM's stochasticity in [0, 1].
        repaint: RePaint's jump and repeats.
        solver: The inner solver.
        short: Whether the last fit makes only one pass. Used to measure its memory.
    """

    eta: float = 0.0
    repaint: tuple[int, int] = (1, 1)
    solver: str = "adam"
    short: bool = False

    def check(self, recipe: Any, steps: int) -> None:
        """Raise a ValueError if the settings do not suit the field or each other."""
        self._pulled(recipe, steps)

    def once(self) -> Sampling:
        """Return the shortest job that needs as much memory as this one."""
        return replace(self, repaint=(1, 1), short=True)

    def __call__(self, run: Run) -> dict[str, Tensor]:
        """Sample and return the parameters. A run that has a state continues from it."""
        from ..core.pullback.pull import Pull
        from ..core.pullback.storage import generator

        recipe, settings, solver = self._pulled(run.recipe, len(run.ladder.sigmas) - 1)
        denoise = run.denoise if run.guidance is None else run.guidance(run.denoise)
        if run.known is not None:

            def noise(view: Any) -> Tensor:
                return recipe.views.gather(run.first, view, generator(0))

            denoise = run.known.keeping(denoise, noise, run.denoise.masked)
        pull = Pull(
            run.render, denoise, recipe.views, solver, run.ladder.sigmas, settings.walk, self.eta, recipe.gamma,
            recipe.fit, recipe.last_views, run.progress.tick,
        )  # fmt: skip
        if run.state is None:
            self._begin(run, pull)

        def ended(_: int, __: int, now: Any) -> None:
            run.state = now
            run.progress.ended(now.params)

        return pull(run.state, run.random, ended).params

    def _begin(self, run: Run, pull: Any) -> None:
        from ..core.pullback.pull import start

        run.progress.begin(_units(run.recipe, pull.solver, pull.walk, run.known))
        params = run.params
        if run.known is not None:
            params = run.known.fitted(params, run.recipe.solver, run.random, run.progress.tick)
            run.progress.ended(params)
        state = start(params, pull.views, pull.solver, run.random, run.store)
        run.first = state.noise if run.store is None else state.noise / run.ladder.excess
        run.state = state if run.known is None else run.known.carried(state, pull, run.random)

    def _pulled(self, recipe: Any, steps: int) -> tuple[Any, Any, Any]:
        from ..core.pullback.tasks import Settings, solver_of

        prompt = "unused: the guider has the conditioning"
        settings = Settings(prompt, steps=steps, eta=self.eta, repaint=self.repaint, solver=self.solver)
        if self.solver == "adam" and hasattr(recipe.diffrep, "brief"):
            recipe = recipe.diffrep.brief(recipe)  # the other solvers need every pixel at every pass
        solver = solver_of(recipe, settings)
        if self.short and hasattr(solver, "last_steps"):
            solver = replace(solver, last_steps=1)
        return recipe, settings, solver


def _units(recipe: Any, solver: Any, walk: list[tuple[int, int]], known: Any) -> list[int]:
    """Return the units of progress of each move of a walk. If there is a known picture, those of its fit come first."""
    from ..core.pullback.known import STEPS

    views, last = (shape_of(source)[0] for source in (recipe.views, recipe.last_views or recipe.views))
    passes = getattr(solver, "steps", 12)  # Gauss-Newton makes about as many
    units = [views + passes if to > start else 0 for start, to in walk]
    units[-1] = last + getattr(solver, "last_steps", 3 * passes)
    return units if known is None else [STEPS, *units]


@dataclass(frozen=True)
class Climbing:
    """Optimising a field with SJC or SDS as a job.

    Args:
        rule: "sjc" or "sds".
        iterations: The number of steps.
        rate: The factor by which the recipe's learning rate is multiplied.
    """

    rule: str
    iterations: int
    rate: float

    def check(self, recipe: Any, steps: int) -> None:
        """Do nothing: the settings of this job are always valid."""

    def once(self) -> Climbing:
        """Return the shortest job that needs as much memory as this one."""
        return replace(self, iterations=1)

    def __call__(self, run: Run) -> dict[str, Tensor]:
        from ..core.pullback.baselines import ascend

        usual = getattr(run.recipe.solver, "lr", 1e-3)
        rates = {k: self.rate * (usual if isinstance(usual, float) else usual[k]) for k in run.params}
        sigmas = run.ladder.sigmas[run.ladder.sigmas > 0]
        run.progress.begin([shape_of(run.recipe.views)[0]] * self.iterations)
        return ascend(
            self.rule, run.recipe.diffrep, run.denoise, run.recipe.views, run.params, sigmas, self.iterations, rates,
            run.random, lambda _, __, params: run.progress.ended(params), tick,
        )  # fmt: skip
