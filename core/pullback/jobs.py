"""Jobs: what the worker is asked for, a message of docs/worker.md each, done with tasks and outputs."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from . import outputs, storage, tasks
from .outputs import FIELD, PREVIEW, TURNTABLE, Run, beside, claimed, in_range, sampling
from .pull import State
from .schema import built
from .solvers import Adam
from .tasks import Settings
from .types import Model

Say = Callable[..., None]
"""Called with the type of a message and its fields; the job's id is added to them."""

DEFAULTS: dict[str, dict[str, Any]] = {
    "object": {"guidance": 1.0, "views": 8},
    "panorama": {"guidance": 1.0, "views": 12},
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


@dataclass(frozen=True)
class Job:
    """A message of the type "job". preview: seconds between two preview pictures, 0 for none."""

    kind: str
    out: str
    id: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    resume: bool = False
    preview: Annotated[float, Meta(ge=0, le=86_400)] = 0.0


def perform(message: dict[str, Any], say: Say, tick: Callable[[], None] = lambda: None) -> dict[str, str]:
    """Do a job; the paths of its files by name. ValueError for what is wrong with it; `tick` may raise `Cancelled`."""
    job = checked(message)
    options = _options(job)
    out = Path(job.out)
    if not out.is_absolute():
        raise ValueError(f"the output {out} must be an absolute path")
    out.parent.mkdir(parents=True, exist_ok=True)
    if job.kind in DEFAULTS:
        with sampling(out, SUFFIX[job.kind]) as path:
            return _sampled(job, options, out, path, say, tick)
    with claimed(out, SUFFIX[job.kind]):
        return _derived(options, out, say, tick)


def _sampled(
    job: Job, options: dict[str, Any], out: Path, path: Path, say: Say, tick: Callable[[], None]
) -> dict[str, str]:
    settings = settings_of(job)
    say("progress", stage="loading the model", move=0, total=len(settings.walk), seconds_left=None, residual=0.0)
    model = load_model(options["model"] or "toybox", options["device"])
    run = _run(job.kind, options, model, settings, path, job.resume, tick)
    sampled = run(_Reporter(run, out, say, job.preview))
    storage.save_field(beside(out, FIELD), sampled)
    _finishing(say, "mesh and texture" if job.kind == "object" else "writing", len(settings.walk))
    if job.kind != "object":
        outputs.write_whole(out, sampled, model, options.get("width") or options["size"], tick)
        return {"picture": str(out), "field": str(beside(out, FIELD))}
    outputs.write_picture(beside(out, TURNTABLE), tasks.turntable_picture(sampled, model))
    outputs.write_mesh(out, sampled, model, tick, **_shape(options))
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
    made = storage.load_field(source)
    _finishing(say, "loading the model", 1)
    model = load_model(options["model"] or made.model, options["device"])
    if "faces" in options:
        _finishing(say, "mesh and texture", 1)
        outputs.write_mesh(out, made, model, tick, **_shape(options))
        return {"mesh": str(out), "field": str(source)}
    _finishing(say, "writing", 1)
    outputs.write_whole(out, made, model, options["width"], tick)
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


def checked(message: dict[str, Any]) -> Job:
    """A message as a job, if it has the form of one; ValueError names what is wrong."""
    given = {name: value for name, value in message.items() if name != "type" and value is not None}
    try:
        return built({**given, "id": str(given.get("id", ""))}, Job)
    except ValueError as error:
        raise ValueError(f"the job is not what a job must be: {error}") from error


def settings_of(job: Job) -> Settings:
    """The settings of a sampling job; ValueError names what is wrong."""
    given = job.settings
    known = {f.name for f in fields(Settings)}
    _refuse(given, known, "setting")
    plain = Settings("?")
    values = {name: _like(getattr(plain, name), value, name) for name, value in given.items()}
    return Settings(**{"prompt": "", **DEFAULTS.get(job.kind, {}), **values})


def _options(job: Job) -> dict[str, Any]:
    kind, given = job.kind, job.options
    if kind not in OPTIONS:
        raise ValueError(f"the job is of the unknown kind {kind!r:.60}; this worker knows {', '.join(OPTIONS)}")
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
        raise ValueError(f"{name} is {value!r:.60}; it must be like {default!r}")
    return value


def _refuse(given: dict[str, Any], known: set[str], what: str) -> None:
    unknown = sorted(given.keys() - known)
    if unknown:
        raise ValueError(f"the {what} {unknown[0]!r} is unknown; known are {', '.join(sorted(known))}")
