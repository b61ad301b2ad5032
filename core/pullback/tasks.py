"""The tasks that users ask for, as functions: the command line, the worker and ComfyUI's nodes all call these.

A run is prepared from a `Model`, `Settings` and a `Recipe`, and its result is a `Field`. A field becomes pictures of any size
(`decoding.py`) or a textured mesh (`meshing.py`); the functions for these can be imported from here too. Progress, cancelling
and saving are callbacks (`types.py`, `pull.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from .generative.clip.model import load_clip
from .meshing import bake_cameras, baked, surface, textured_mesh
from .models import load_model
from .pull import Pull, State, start
from .regions import Guide, located, locator, shown_by
from .representation import Crop, Recipe, Representation, values
from .representations import chosen
from .schedules import log_linear
from .settings import SOLVERS, Settings
from .solvers import GaussNewton, Solver, paper_adam
from .storage import Field, generator
from .types import Box, Denoiser, LaysOut, Model, Progress

__all__ = [
    "SOLVERS", "Crop", "Recipe", "Settings", "bake_cameras", "baked", "bands", "beginning", "field_of", "height_of",
    "load_model", "on_white", "prepare", "preview", "recipe", "recipe_of", "sample", "settings_of_run", "solver_of", "surface",
    "textured_mesh", "turntable_picture", "view_bands", "views_of",
]  # fmt: skip

BESIDE_LAYOUT = 0.2
"""The strength of a guide where the model is conditioned on the layout too. At 1, its mistakes outweigh what it adds."""


def recipe(command: str, model: Model, settings: Settings, choice: str = "", **own: Any) -> Recipe:
    """Return how a field is sampled for a model.

    Args:
        command: "generate", "image", "panorama", "tile", or the command of another representation.
        model: The model.
        settings: The settings of the run.
        choice: The `choice` of one of the command's representations, or "" for the default.
        **own: The representation's own settings; those that are left out take values that suit the model.

    Raises:
        ValueError: If the choice or a setting is unknown or wrong.

    Example:
        >>> recipe("image", load_model(), Settings("a blue fish"), neurons=64).diffrep.width
        64
    """
    kind = chosen(command, choice)
    values(kind.settings(), own)  # raises if one is wrong
    return recipe_of(kind, model, settings, own)


def recipe_of(kind: type[Representation], model: Model, settings: Settings, own: Mapping[str, Any]) -> Recipe:
    """Return how a field of a representation is sampled for a model.

    Args:
        kind: The representation.
        model: The model.
        settings: The settings of the run.
        own: The representation's own settings that were given, already checked.
    """
    return kind.suited(model, **own).recipe(model, settings.views, settings.seed, **own)


def solver_of(recipe: Recipe, settings: Settings) -> Solver:
    """Return the inner solver that the settings name. A linear field always gets one Gauss-Newton step.

    Raises:
        ValueError: If the settings ask for gauss-newton and the field is fitted in random subsets.
    """
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
    """Return the sampler for a run.

    Args:
        model: The model.
        recipe: How the field is sampled.
        settings: The settings of the run.
        tick: Called before every field evaluation; it may raise `Cancelled`.

    Raises:
        ValueError: If the model rejects the prompt, a region is wrong, or the solver does not suit the field.
    """
    regions = located(recipe.diffrep, settings.guide)
    things = [(region.text, region.box) for region in regions if region.box is not None and region.weight > 0]
    told = bool(things) and isinstance(model, LaysOut)
    denoise = _conditioned(model, settings, things, recipe.diffrep)
    if regions:
        guide = Guide(load_clip(device=model.device), regions, BESIDE_LAYOUT if told else 1.0)
        denoise = guide.guiding(denoise, shown_by(model), locator(recipe.diffrep))
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


def _conditioned(model: Model, settings: Settings, things: Sequence[tuple[str, Box]], diffrep: Any) -> Denoiser:
    """Return the model's denoiser, conditioned on the layout too if the model takes one.

    Args:
        model: The model.
        settings: The settings of the run.
        things: Sentences and their boxes.
        diffrep: The representation that is sampled.
    """
    condition = settings.prompt, settings.negative, settings.guidance
    if things and isinstance(model, LaysOut):
        closed = getattr(diffrep, "closed", (False, False))
        return model.laid_out(*condition, things, diffrep.lookup, diffrep.aspect, closed)
    return model.denoiser(*condition)


def sample(
    pull: Any,
    seed: int,
    state: State | None = None,
    progress: Progress | None = None,
    save: Callable[[State], None] | None = None,
    device: str = "cpu",
) -> State:
    """Run a prepared sampler to the end; `field_of` makes a field from the result.

    Args:
        pull: The sampler, from `prepare` or `reconstruct.prepare`.
        seed: The seed of the run.
        state: The state to continue from, or None to start from the beginning.
        progress: Called after every move; it may raise `Cancelled`.
        save: Called with the state after every move.
        device: The device of the model, where the run is computed.
    """
    return pull((state or beginning(pull, seed=seed)).to(device), generator(seed), progress, save)


def beginning(pull: Any, device: str = "cpu", seed: int = 0) -> State:
    """Return the state before the first move. On the device "meta" it has shapes but no values."""
    random, diffrep = generator(seed), cast(Any, pull.render)
    with torch.device(device):
        state = start(diffrep.init(random), pull.views, pull.solver, random)
    return state


def field_of(recipe: Recipe, settings: Any, model: Model, state: State) -> Field:
    """Return the field in the state of a run, finished or not."""
    return Field(recipe.diffrep, state.params, settings.prompt, model.name, settings.seed)


def settings_of_run(task: str, model: str, settings: Settings, **more: Any) -> dict[str, Any]:
    """Return the settings that a run file records. They must be the same for the run to continue from the file.

    Args:
        task: The name of the task in run files (`Representation.task`).
        model: The name of the model.
        settings: The settings of the run.
        **more: The representation's own settings that were given.
    """
    agreed = asdict(settings)
    for name in ("guide", "start"):  # as in the run files of releases without them
        if not agreed[name]:
            del agreed[name]
    return {"task": task, "model": model, **agreed, **more}
