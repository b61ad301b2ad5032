"""Jobs: what the worker is asked for, a message of docs/worker.md each, done with tasks and outputs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import Any

from . import outputs, storage, tasks
from .outputs import FIELD, PREVIEW, TURNTABLE, Run, beside, claimed, in_range, sampling
from .pull import State
from .solvers import Adam
from .tasks import Settings
from .types import Model

Job = dict[str, Any]
Say = Callable[..., None]
"""Called with the type of a message and its fields; the job's id is added to them."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "object": {"guidance": 2.0, "views": 8},
    "panorama": {"guidance": 2.0, "views": 12},
    "image": {"guidance": 3.0, "views": 1},
}
"""The settings in which the samplers differ; the command line has the same."""
MESH = {"faces": 20_000, "texture": 1024, "resolution": 128, "bake_views": 24, "bake_size": 256}
OPTIONS: dict[str, dict[str, Any]] = {
    "object": MESH,
    "panorama": {"width": 4096, "projection": "sphere"},
    "image": {"size": 2048},
    "mesh": {"field": "", **MESH},
    "picture": {"field": "", "width": 2048},
}
"""What the kinds of jobs take besides `model` and `device`, with the defaults."""
SUFFIX = {"object": ".glb", "panorama": ".png", "image": ".png", "mesh": ".glb", "picture": ".png"}

SPARING = 8
"""Pictures take at most one part in so many of the time."""

load_model = functools.lru_cache(maxsize=1)(tasks.load_model)


def perform(job: Job, say: Say, tick: Callable[[], None] = lambda: None) -> dict[str, str]:
    """Do a job; the paths of its files by name. ValueError for what is wrong with it; `tick` may raise `Cancelled`."""
    options = _options(job)
    out = Path(job["out"])
    if not out.is_absolute():
        raise ValueError(f"the output {out} must be an absolute path")
    out.parent.mkdir(parents=True, exist_ok=True)
    if job["kind"] in DEFAULTS:
        with sampling(out, SUFFIX[job["kind"]]) as path:
            return _sampled(job, options, out, path, say, tick)
    with claimed(out, SUFFIX[job["kind"]]):
        return _derived(options, out, say, tick)


def _sampled(
    job: Job, options: dict[str, Any], out: Path, path: Path, say: Say, tick: Callable[[], None]
) -> dict[str, str]:
    settings = _settings(job)
    say("progress", stage="loading the model", move=0, total=len(settings.walk), seconds_left=None, residual=0.0)
    model = load_model(options["model"] or "toybox", options["device"])
    run = _run(job["kind"], options, model, settings, path, job.get("resume", False), tick)
    field = run(_Reporter(run, out, say, job.get("preview", 0)))
    storage.save_field(beside(out, FIELD), field)
    _finishing(say, "mesh and texture" if job["kind"] == "object" else "writing", len(settings.walk))
    if job["kind"] != "object":
        outputs.write_whole(out, field, model, options.get("width") or options["size"], tick)
        return {"picture": str(out), "field": str(beside(out, FIELD))}
    outputs.write_picture(beside(out, TURNTABLE), tasks.turntable_picture(field, model))
    outputs.write_mesh(out, field, model, tick, **_shape(options))
    return {"mesh": str(out), "field": str(beside(out, FIELD)), "picture": str(beside(out, TURNTABLE))}


def _run(
    kind: str,
    options: dict[str, Any],
    model: Model,
    settings: Settings,
    path: Path,
    resume: bool,
    tick: Callable[[], None],
) -> Run:
    if kind == "panorama":
        recipe = tasks.panorama_recipe(model, settings, options["projection"])
        return outputs.run(f"panorama {options['projection']}", model, recipe, settings, path, resume, tick)
    if kind == "image":
        return outputs.run(kind, model, tasks.image_recipe(model, settings), settings, path, resume, tick)
    return outputs.run("generate", model, tasks.object_recipe(model, settings), settings, path, resume, tick)


def _derived(options: dict[str, Any], out: Path, say: Say, tick: Callable[[], None]) -> dict[str, str]:
    """Another mesh or picture of a field that is there."""
    source = Path(options["field"])
    field = storage.load_field(source)
    _finishing(say, "loading the model", 1)
    model = load_model(options["model"] or field.model, options["device"])
    if "faces" in options:
        _finishing(say, "mesh and texture", 1)
        outputs.write_mesh(out, field, model, tick, **_shape(options))
        return {"mesh": str(out), "field": str(source)}
    _finishing(say, "writing", 1)
    outputs.write_whole(out, field, model, options["width"], tick)
    return {"picture": str(out), "field": str(source)}


def _finishing(say: Say, stage: str, total: int) -> None:
    say("progress", stage=stage, move=total, total=total, seconds_left=None, residual=0.0)


def _shape(options: dict[str, Any]) -> dict[str, int]:
    renamed = {"bake_views": "views", "bake_size": "view_size"}
    return {renamed.get(name, name): options[name] for name in MESH}


class _Reporter:
    """A run's progress callback: says how far it is and how long it will take, and draws a preview now and then."""

    def __init__(self, run: Run, out: Path, say: Say, every: float) -> None:
        self.run, self.out, self.say, self.every = run, out, say, every
        self.costs = _costs(run)
        self.first = run.state.move if run.state else 0
        self.began = time.monotonic()
        self.due = 0.0

    def __call__(self, move: int, total: int, state: State) -> None:
        self.run.pull.tick()
        spent = time.monotonic() - self.began
        left = spent / sum(self.costs[self.first : move]) * sum(self.costs[move:])
        self.say("progress", stage="sampling", move=move, total=total, seconds_left=round(left, 1),
                 residual=round(state.residual, 5))  # fmt: skip
        start = time.monotonic()
        if not self.every or move == total or start < self.due:
            return
        path = beside(self.out, PREVIEW)
        outputs.write_picture(path, tasks.preview(self.run.field(state), self.run.model))
        self.say("preview", path=str(path))
        drawn = time.monotonic()
        self.due = drawn + max(self.every, SPARING * (drawn - start))


def _costs(run: Run) -> list[float]:
    """What the moves of a run cost, compared with each other: a RePaint move next to nothing, the last fit most."""
    solver = run.pull.solver
    last = solver.last_steps / solver.steps if isinstance(solver, Adam) else 1.0
    costs = [0.01 if to < start else 1.0 for start, to in run.settings.walk]
    costs[-1] = last
    return costs


def _settings(job: Job) -> Settings:
    given = job.get("settings") or {}
    known = {f.name for f in fields(Settings)}
    _refuse(given, known, "setting")
    plain = Settings("?")
    values = {name: _like(getattr(plain, name), value, name) for name, value in given.items()}
    return Settings(**{"prompt": "", **DEFAULTS[job["kind"]], **values})


def _options(job: Job) -> dict[str, Any]:
    kind = job.get("kind")
    if kind not in OPTIONS:
        raise ValueError(f"the job is of the unknown kind {kind!r}; this worker knows {', '.join(OPTIONS)}")
    given = job.get("options") or {}
    defaults = {"model": "", "device": "cpu", **OPTIONS[kind]}
    _refuse(given, set(defaults), "option")
    options = defaults | {name: _like(defaults[name], value, name) for name, value in given.items()}
    for name in outputs.RANGES.keys() & options.keys():
        in_range(name, options[name])
    return options


def _like(default: Any, value: Any, name: str) -> Any:
    """The value as the type of the default; ValueError where it is of another. JSON has one kind of number."""
    if isinstance(default, tuple) and isinstance(value, list) and len(value) == len(default):
        return tuple(_like(d, v, name) for d, v in zip(default, value, strict=True))
    if isinstance(default, float) and type(value) in (int, float):
        return float(value)
    if type(value) is not type(default):
        raise ValueError(f"{name} is {value!r}; it must be like {default!r}")
    return value


def _refuse(given: dict[str, Any], known: set[str], what: str) -> None:
    unknown = sorted(given.keys() - known)
    if unknown:
        raise ValueError(f"the {what} {unknown[0]!r} is unknown; known are {', '.join(sorted(known))}")
