"""Tasks: what users ask for, as functions. The command line, the nodes and the worker all call these.

A run is prepared from a `Model`, `Settings` and a `Recipe`, and sampled to a `Field`; from a field come pictures of any size
(`decoding.py`) and textured meshes (`meshing.py`), whose functions are to be had here as well. Progress, cancelling and
saving enter as callbacks (types.py, pull.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, cast

import torch

from .decoding import (
    bands,
    height_of,
    on_white,
    preview,
    turntable_picture,
    view_bands,
    views_of,
)
from .meshing import bake_cameras, baked, surface, textured_mesh
from .models import load_model
from .pull import Pull, State, start
from .representation import Crop, Recipe, Representation, values
from .representations import chosen
from .schedules import log_linear
from .settings import SOLVERS, Settings
from .solvers import GaussNewton, Solver, paper_adam
from .storage import Field, generator
from .types import Model, Progress

__all__ = [
    "SOLVERS", "Crop", "Recipe", "Settings", "bake_cameras", "baked", "bands", "beginning", "field_of", "height_of",
    "load_model", "on_white", "prepare", "preview", "recipe", "recipe_of", "sample", "settings_of_run", "solver_of", "surface",
    "textured_mesh", "turntable_picture", "view_bands", "views_of",
]  # fmt: skip


def recipe(command: str, model: Model, settings: Settings, choice: str = "", **own: Any) -> Recipe:
    """How a field is sampled for a model.

    Args:
        command: "generate", "image", "panorama", or that of another representation (`representations.py`).
        model: sizes the field.
        settings: of the run.
        choice: which of the command's representations; "" for the usual one.
        **own: the representation's own settings that are not left at what suits the model.
    """
    kind = chosen(command, choice)
    values(kind.settings(), own)  # says what is wrong with them
    return recipe_of(kind, model, settings, own)


def recipe_of(kind: type[Representation], model: Model, settings: Settings, own: Mapping[str, Any]) -> Recipe:
    """The same of a representation, whose `own` settings have been looked at."""
    return kind.suited(model, **own).recipe(model, settings.views, settings.seed, **own)


def solver_of(recipe: Recipe, settings: Settings) -> Solver:
    """The inner solver that the settings name, with the recipe's rates; a linear field is solved in one step in any case."""
    if getattr(recipe.diffrep, "linear", False):
        return GaussNewton()
    if settings.solver == "paper":
        return paper_adam(getattr(recipe.solver, "lr", 1e-3))
    if settings.solver == "gauss-newton":
        if recipe.fit is not None:
            raise ValueError(
                "gauss-newton needs the same residual at every pass, and this field is fitted through random rays: choose adam"
            )
        return GaussNewton()
    return recipe.solver


def prepare(model: Model, recipe: Recipe, settings: Settings, tick: Callable[[], None] = lambda: None) -> Pull:
    """The sampler that model, recipe and settings describe. All that can be wrong with a prompt is said here."""
    denoise = model.denoiser(settings.prompt, settings.negative, settings.guidance)
    return Pull(
        recipe.diffrep,
        denoise,
        recipe.views,
        solver_of(recipe, settings),
        log_linear(settings.steps, *recipe.sigma),
        settings.walk,
        settings.eta,
        recipe.gamma,
        recipe.fit,
        recipe.last_views,
        tick,
    )


def sample(
    pull: Pull,
    seed: int,
    state: State | None = None,
    progress: Progress | None = None,
    save: Callable[[State], None] | None = None,
    device: str = "cpu",
) -> State:
    """Run a prepared sampler from its start, or on from `state`, on a device; `field_of` makes a field of the result."""
    return pull((state or beginning(pull, seed=seed)).to(device), generator(seed), progress, save)


def beginning(pull: Pull, device: str = "cpu", seed: int = 0) -> State:
    """The state before the first move, or on the device "meta" its shapes alone."""
    random, diffrep = generator(seed), cast(Any, pull.render)
    with torch.device(device):
        state = start(diffrep.init(random), pull.views, pull.solver, random)
    return state


def field_of(recipe: Recipe, settings: Settings, model: Model, state: State) -> Field:
    """The field in a run's state, finished or not."""
    return Field(recipe.diffrep, state.params, settings.prompt, model.name, settings.seed)


def settings_of_run(task: str, model: str, settings: Settings, **more: Any) -> dict[str, Any]:
    """What a run file must agree on to be continued."""
    return {"task": task, "model": model, **asdict(settings), **more}
