"""Jobs: what the worker is asked for, a message of docs/worker.md each, done with tasks and outputs."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from . import outputs, storage, tasks
from .outputs import MESH, PICTURE, PREVIEW, Run, beside, claimed, sampling
from .pull import State
from .representation import Representation, Setting, values
from .representations import chosen, commands, is_solid, of_command, representations, suffixes
from .schema import built
from .settings import RUN, Settings
from .solvers import Adam

Say = Callable[..., None]
"""Called with the type of a message and its fields; the job's id is added to them."""

DERIVED = {"mesh": MESH, "picture": PICTURE}
"""The jobs that make something of a field that is there, and what they take."""

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
    out = Path(job.out)
    if not out.is_absolute():
        raise ValueError(f"the output {out} must be an absolute path")
    if job.kind in DERIVED:
        options = _derived_options(job)
        out.parent.mkdir(parents=True, exist_ok=True)
        with claimed(out, ".glb" if job.kind == "mesh" else ".png"):
            return _derived(job.kind, options, out, say, tick)
    asked = Asked.of(job)
    out.parent.mkdir(parents=True, exist_ok=True)
    with sampling(out, *suffixes(asked.kind)) as path:
        return _sampled(job, asked, out, path, say, tick)


def described() -> dict[str, list[dict[str, Any]]]:
    """What can be asked for, as JSON values, for programs that do not import this one.

    Returns:
        `settings`: those of every run. `representations`: what each declares, with `made`, the settings of what is written;
        `closed` and `aspect` of flat ones as `Flat` has them, null where they depend on the model.
    """
    kinds = representations().values()
    return {"settings": [_plain(each) for each in RUN.values()], "representations": [_told(kind) for kind in kinds]}


def _told(kind: type[Representation]) -> dict[str, Any]:
    closed, aspect = getattr(kind, "closed", None), getattr(kind, "aspect", None)  # properties are for instances
    return {
        "name": kind.name, "title": kind.title, "sentence": kind.sentence, "command": kind.command,
        "noun": kind.noun or kind.command, "option": kind.option, "choice": kind.choice, "means": kind.means,
        "views": kind.views, "looks": kind.looks, "guidance": kind.guidance, "example": kind.example,
        "suffixes": list(suffixes(kind)), "closed": list(closed) if isinstance(closed, tuple) else None,
        "aspect": aspect if isinstance(aspect, int | float) else None,
        "settings": [_plain(each) for each in kind.settings()], "made": [_plain(each) for each in outputs.made_of(kind)],
    }  # fmt: skip


def _plain(setting: Setting) -> dict[str, Any]:
    """Without infinite bounds, for which JSON has no number."""
    return {name: None if value in (math.inf, -math.inf) else value for name, value in asdict(setting).items()}


@dataclass(frozen=True)
class Asked:
    """What a sampling job asks for: the representation, the run's settings, its own, and the options of what is written."""

    kind: type[Representation]
    settings: Settings
    own: dict[str, Any]
    options: dict[str, Any]
    model: str
    device: str

    @classmethod
    def of(cls, job: Job) -> Asked:
        """ValueError names what is wrong with a job."""
        kinds = {of_command(each)[0].noun or each: each for each in commands()}
        if job.kind not in kinds:
            known = ", ".join([*kinds, *DERIVED])
            raise ValueError(f"the job is of the unknown kind {job.kind!r:.60}; this worker knows {known}")
        command = kinds[job.kind]
        given = dict(job.options)
        option = of_command(command)[0].option
        kind = chosen(command, _text(given.pop(option, ""), option))
        model, device = (_text(given.pop(name, ""), name) for name in ("model", "device"))
        own = {each.name: each for each in kind.settings()}
        mine = {name: given.pop(name) for name in own.keys() & given.keys()}
        options = _options(outputs.made_of(kind), given, [option, "model", "device", *own])
        values(tuple(own.values()), mine)
        return cls(kind, settings_of(job, kind), mine, options, model or "toybox", device or "cpu")


def _sampled(job: Job, asked: Asked, out: Path, path: Path, say: Say, tick: Callable[[], None]) -> dict[str, str]:
    settings = asked.settings
    say("progress", stage="loading the model", move=0, total=len(settings.walk), seconds_left=None, residual=0.0)
    model = load_model(asked.model, asked.device)
    recipe = tasks.recipe_of(asked.kind, model, settings, asked.own)
    run = outputs.run(asked.kind.task(), model, recipe, settings, path, job.resume, tick, asked.own)
    sampled = run(_Reporter(run, out, say, job.preview))
    _finishing(say, "mesh and texture" if is_solid(asked.kind) else "writing", len(settings.walk))
    return outputs.write_sampled(out, sampled, model, asked.options, tick)


def _derived_options(job: Job) -> dict[str, Any]:
    given = {name: value for name, value in job.options.items() if name not in ("field", "model", "device")}
    texts = {name: _text(job.options.get(name, ""), name) for name in ("field", "model", "device")}
    return _options(DERIVED[job.kind], given, list(texts)) | texts


def _derived(kind: str, options: dict[str, Any], out: Path, say: Say, tick: Callable[[], None]) -> dict[str, str]:
    """Another mesh or picture of a field that is there."""
    source = Path(options["field"])
    made = storage.load_field(source)
    _finishing(say, "loading the model", 1)
    model = load_model(options["model"] or made.model, options["device"] or "cpu")
    _finishing(say, "mesh and texture" if kind == "mesh" else "writing", 1)
    if kind == "mesh":
        outputs.write_mesh(out, made, model, tick, **outputs.shape(options))
        return {"mesh": str(out), "field": str(source)}
    outputs.write_whole(out, made, model, options["width"], tick)
    return {"picture": str(out), "field": str(source)}


def _finishing(say: Say, stage: str, total: int) -> None:
    say("progress", stage=stage, move=total, total=total, seconds_left=None, residual=0.0)


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


def settings_of(job: Job, kind: type[Representation]) -> Settings:
    """The settings of a sampling job; ValueError names what is wrong."""
    given = job.settings
    _refuse(given, {f.name for f in fields(Settings)}, "setting")
    texts = {name: _text(given.get(name, ""), name) for name in ("prompt", "negative")}
    repaint = given.get("repaint", (1, 1))
    if not (isinstance(repaint, list | tuple) and len(repaint) == 2 and all(type(each) is int for each in repaint)):
        raise ValueError(f"repaint is {repaint!r:.60}; it must be two whole numbers, for example [10, 3]")
    defaults = {"guidance": kind.guidance, "views": kind.views or 1}
    numbers = {name: _like(RUN[name], given[name]) for name in RUN.keys() & given.keys()}
    return Settings(**texts, repaint=(repaint[0], repaint[1]), **{**defaults, **numbers})  # type: ignore[arg-type]


def _options(known: tuple[Setting, ...], given: dict[str, Any], others: list[str]) -> dict[str, Any]:
    """The values of what a job may set of its output; ValueError names an unknown one, and `others` that it may set too."""
    names = [each.name for each in known]
    unknown = sorted(given.keys() - set(names))
    if unknown:
        raise ValueError(f"the option {unknown[0]!r:.60} is unknown; known are {', '.join([*names, *others])}")
    return dict(values(known, given))


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{name} is {value!r:.60}; it must be a text")
    return value


def _like(setting: Setting, value: Any) -> Any:
    """The value in the setting's type; `Settings` looks at its range. JSON has one kind of number."""
    if isinstance(setting.default, float) and type(value) is int:
        return float(value)
    if type(value) is not type(setting.default):
        raise ValueError(f"{setting.name} is {value!r:.60}; it must be like {setting.default!r}")
    return value


def _refuse(given: dict[str, Any], known: set[str], what: str) -> None:
    unknown = sorted(given.keys() - known)
    if unknown:
        raise ValueError(f"the {what} {unknown[0]!r:.60} is unknown; known are {', '.join(sorted(known))}")
