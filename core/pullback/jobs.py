"""The jobs of the worker (docs/worker.md), checked and carried out."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from . import functions, outputs, storage, tasks
from .generative.clip.model import load_clip
from .generative.dpf.model import load_model as load_field_model
from .messages import Preview, Progress, Send, Stage
from .models import PIXELS, device_of
from .outputs import PREVIEW, Run, beside, claimed, sampling
from .photographs import placement_of, read_photographs
from .pull import Pull, State
from .reconstruct import RECONSTRUCT, Plan
from .representation import Representation, Setting, values
from .representations import chosen, commands, is_solid, of_command, representations, suffixes
from .schema import built
from .settings import MESH, PICTURE, RUN, Settings
from .solvers import Adam

DERIVED = {"mesh": MESH, "picture": PICTURE}
"""The kinds of jobs that make a file from an existing field, and their settings."""
RECONSTRUCTION = "reconstruct"
"""The kind of jobs that make an object from photographs."""
SHAPE = "shape"
"""The kind of jobs that sample a shape in one go."""
SHAPES = "dpf-shapes"
"""The model that samples shapes, unless a job names another one."""
OF_SHAPE = {each.name: each for each in functions.SHAPE if each not in MESH}
"""The settings of a shape by name, without those of its file."""
PREVIEW_PAUSE = 8
"""Pause between two previews, in multiples of the time that drawing one takes."""

load_model = functools.lru_cache(maxsize=1)(tasks.load_model)
"""`tasks.load_model`, which keeps the last model for the next job."""


@dataclass(frozen=True)
class Job:
    """A job as a client requests it. `preview` is the least time between two preview pictures in seconds, or 0 for none."""

    kind: str
    out: str
    id: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    resume: bool = False
    preview: Annotated[float, Meta(ge=0, le=86_400)] = 0.0

    @classmethod
    def parse(cls, message: Mapping[str, Any]) -> Job:
        """Read a message. Raise ValueError if it does not have the form of a job."""
        given = {name: value for name, value in message.items() if name != "type" and value is not None}
        try:
            return built({**given, "id": str(given.get("id", ""))}, cls)
        except ValueError as error:
            raise ValueError(f"this is not a job: {error}") from error


@dataclass(frozen=True)
class SamplingJob:
    """A job that samples a field, after its message was checked.

    Attributes:
        kind: The representation.
        settings: The settings of the run.
        own: The representation's own settings that were given.
        options: The settings of the files that are made from the field.
        model: The name of the model.
        device: The device that the model runs on.
    """

    kind: type[Representation]
    settings: Settings
    own: dict[str, Any]
    options: dict[str, Any]
    model: str
    device: str

    @classmethod
    def of(cls, job: Job) -> SamplingJob:
        """Check a job. Raise ValueError, which names the first thing that is wrong with it."""
        command_of = {of_command(command)[0].noun or command: command for command in commands()}
        if job.kind not in command_of:
            known = ", ".join([*command_of, *DERIVED, RECONSTRUCTION, SHAPE])
            raise ValueError(f"the job is of the unknown kind {job.kind!r:.60}; this worker knows {known}")
        command = command_of[job.kind]
        option = of_command(command)[0].option
        texts = _texts(job.options, (option, "model", "device"))
        kind = chosen(command, texts[option])
        declared = kind.settings()
        names = {each.name for each in declared}
        own = {name: value for name, value in job.options.items() if name in names}
        others = {name: value for name, value in job.options.items() if name not in names and name not in texts}
        options = _options(outputs.file_settings(kind), others, [*texts, *(each.name for each in declared)])
        checked = values(declared, own)
        return cls(
            kind, _settings(job, kind), {name: checked[name] for name in own}, options,
            texts["model"] or "toybox", texts["device"] or "cpu",
        )  # fmt: skip


def perform(message: Mapping[str, Any], send: Send, tick: Callable[[], None] = lambda: None) -> dict[str, str]:
    """Run a job.

    Args:
        message: The message that requests it.
        send: Called with messages about its progress.
        tick: Called often; it may raise `Cancelled`.

    Returns:
        The paths of the files that the job made, by name.

    Raises:
        ValueError: If anything is wrong with the job.
    """
    job = Job.parse(message)
    out = Path(job.out)
    if not out.is_absolute():
        raise ValueError(f"the output {out} must be an absolute path")
    if job.kind in DERIVED:
        return _perform_derived(job, out, send, tick)
    if job.kind == RECONSTRUCTION:
        return _perform_reconstruction(job, out, send, tick)
    if job.kind == SHAPE:
        return _perform_shape(job, out, send, tick)
    sampling_job = SamplingJob.of(job)
    out.parent.mkdir(parents=True, exist_ok=True)
    if sampling_job.kind.command == "panorama" and functions.draws_functions(sampling_job.model):
        return _perform_sphere(sampling_job, out, send, tick)
    with sampling(out, *suffixes(sampling_job.kind)) as path:
        kind, settings, own = sampling_job.kind, sampling_job.settings, sampling_job.own
        total = len(settings.walk)
        send(Progress(Stage.LOADING, 0, total))
        model = load_model(sampling_job.model, sampling_job.device)
        recipe = tasks.recipe_of(kind, model, settings, own)
        run = outputs.run(kind.task(), model, recipe, settings, path, job.resume, tick, own)
        sampled = run(_Reporter(run, out, send, job.preview))
        send(Progress(Stage.MESHING if is_solid(kind) else Stage.WRITING, total, total))
        return outputs.write_sampled(out, sampled, model, sampling_job.options, tick)


def described() -> dict[str, list[dict[str, Any]]]:
    """Return what jobs can request, as JSON values, for programs that do not import Pullback.

    Returns:
        "settings": the settings that every run has. "reconstruct": those of a reconstruction. "representations": what each
        representation declares, where `made` are the settings of the files that are made from it, and `closed` and `aspect` are
        as in `Flat`, or None if they depend on the model.
    """
    settings = [_without_infinities(each) for each in RUN.values()]
    reconstruct = [_without_infinities(each) for each in RECONSTRUCT.values()]
    return {
        "settings": settings,
        "reconstruct": reconstruct,
        "representations": [_description(kind) for kind in representations().values()],
    }


def _description(kind: type[Representation]) -> dict[str, Any]:
    closed, aspect = (
        getattr(kind, "closed", None),
        getattr(kind, "aspect", None),
    )  # on a class, properties have no value
    return {
        "name": kind.name, "title": kind.title, "sentence": kind.sentence, "command": kind.command,
        "noun": kind.noun or kind.command, "option": kind.option, "choice": kind.choice, "means": kind.means,
        "views": kind.views, "looks": kind.looks, "guidance": kind.guidance, "example": kind.example,
        "suffixes": list(suffixes(kind)), "closed": list(closed) if isinstance(closed, tuple) else None,
        "aspect": aspect if isinstance(aspect, int | float) else None,
        "settings": [_without_infinities(each) for each in kind.settings()],
        "made": [_without_infinities(each) for each in outputs.file_settings(kind)],
    }  # fmt: skip


def _without_infinities(setting: Setting) -> dict[str, Any]:
    """Return the fields of a setting, with None for infinite bounds, since JSON has no infinity."""
    return {name: None if value in (math.inf, -math.inf) else value for name, value in asdict(setting).items()}


def _perform_derived(job: Job, out: Path, send: Send, tick: Callable[[], None]) -> dict[str, str]:
    """Make a mesh or a picture from an existing field."""
    texts = _texts(job.options, ("field", "model", "device"))
    others = {name: value for name, value in job.options.items() if name not in texts}
    options = _options(DERIVED[job.kind], others, list(texts))
    if not texts["field"]:
        raise ValueError(f"the option field is missing; it must name the field file to make a {job.kind} of")
    out.parent.mkdir(parents=True, exist_ok=True)
    with claimed(out, ".glb" if job.kind == "mesh" else ".png"):
        source = Path(texts["field"])
        existing = storage.load_field(source)
        send(Progress(Stage.LOADING, 1, 1))
        model = load_model(texts["model"] or existing.model, texts["device"] or "cpu")
        if job.kind == "mesh":
            send(Progress(Stage.MESHING, 1, 1))
            outputs.write_mesh(out, existing, model, tick, placement_of(source), **outputs.mesh_arguments(options))
            return {"mesh": str(out), "field": str(source)}
        send(Progress(Stage.WRITING, 1, 1))
        outputs.write_whole(out, existing, model, options["width"], tick)
        return {"picture": str(out), "field": str(source)}


def _perform_reconstruction(job: Job, out: Path, send: Send, tick: Callable[[], None]) -> dict[str, str]:
    """Make an object from photographs."""
    texts = _texts(job.options, ("source", "model", "device"))
    others = {name: value for name, value in job.options.items() if name not in texts and name != "ball"}
    options = _options(MESH, others, [*texts, "ball"])
    if not texts["source"]:
        raise ValueError(
            "the option source is missing; it must name a transforms.json, or a folder with COLMAP's text files"
        )
    ball = job.options.get("ball")
    if ball is not None and not (
        isinstance(ball, list) and len(ball) == 4 and all(type(x) in (int, float) for x in ball)
    ):
        raise ValueError(f"ball is {ball!r:.60}; it must be four numbers: x, y, z and the radius")
    words = _texts(job.settings, ("prompt", "negative"))
    _refuse_unknown("setting", job.settings, {*words, *RECONSTRUCT})
    numbers = {name: setting.check(job.settings[name]) for name, setting in RECONSTRUCT.items() if name in job.settings}
    plan = Plan(**words, **numbers)  # type: ignore[arg-type]
    out.parent.mkdir(parents=True, exist_ok=True)
    with sampling(out, ".glb") as path:
        total = len(plan.walk)
        send(Progress(Stage.LOADING, 0, total))
        photographs = read_photographs(Path(texts["source"]), plan.size, ball, plan.front)
        model = load_model((texts["model"] or "toybox") if plan.way == "pullback" else PIXELS, texts["device"] or "cpu")
        clip = load_clip(device=model.device) if plan.way == "diet" else None
        run = outputs.reconstruction(photographs, plan, model, path, job.resume, tick, clip)
        made = run(_Reporter(run, out, send, job.preview))
        send(Progress(Stage.MESHING, total, total))
        return outputs.write_sampled(out, made, model, options, tick, photographs.placement)


def _perform_shape(job: Job, out: Path, send: Send, tick: Callable[[], None]) -> dict[str, str]:
    """Sample a shape in one go. There is no field, and nothing to resume."""
    texts = _texts(job.options, ("model", "device"))
    others = {name: value for name, value in job.options.items() if name not in texts}
    options = _options(tuple(each for each in functions.SHAPE if each in MESH), others, list(texts))
    words = _texts(job.settings, ("prompt",))
    _refuse_unknown("setting", job.settings, {*words, *OF_SHAPE})
    numbers = {name: setting.check(job.settings[name]) for name, setting in OF_SHAPE.items() if name in job.settings}
    out.parent.mkdir(parents=True, exist_ok=True)
    with claimed(out, ".glb"):
        send(Progress(Stage.LOADING, 0, 1))
        model = load_field_model(texts["model"] or SHAPES, device_of(texts["device"] or "cpu"), "cube")
        outputs.write_shape(
            out, model, words["prompt"], _counter(send, tick, Stage.MESHING), tick, **numbers, **options
        )
        return {"mesh": str(out)}


def _perform_sphere(job: SamplingJob, out: Path, send: Send, tick: Callable[[], None]) -> dict[str, str]:
    """Sample a panorama over the whole sphere. There is no field, and nothing to resume."""
    with claimed(out, ".png"):
        send(Progress(Stage.LOADING, 0, 1))
        told, width = _counter(send, tick, Stage.WRITING), job.options[job.kind.side]
        outputs.write_sphere(out, job.kind, job.own, job.model, job.settings, width, device_of(job.device), told)
        return {"picture": str(out)}


def _counter(send: Send, tick: Callable[[], None], then: Stage) -> Callable[[int, int, Any], None]:
    """Return a progress callback for models of functions. After the last step, it reports the stage `then`."""
    began = time.monotonic()

    def told(done: int, total: int, _: Any) -> None:
        tick()
        left = (time.monotonic() - began) / done * (total - done)
        send(Progress(Stage.SAMPLING, done, total, round(left, 1)))
        if done == total:
            send(Progress(then, total, total))

    return told


class _Reporter:
    """A run's progress callback: it reports moves and the time left, and draws previews.

    Args:
        run: The run.
        out: The output of the run.
        send: Called with the messages.
        pause: The least time between two previews in seconds, or 0 for no previews.
    """

    def __init__(self, run: Run, out: Path, send: Send, pause: float) -> None:
        self.run, self.out, self.send, self.pause = run, out, send, pause
        self.costs = _costs(run)
        self.first_move = run.state.move if run.state else 0
        self.began = time.monotonic()
        self.next_preview = 0.0

    def __call__(self, move: int, total: int, state: State) -> None:
        self.run.pull.tick()
        spent = time.monotonic() - self.began
        left = spent / sum(self.costs[self.first_move : move]) * sum(self.costs[move:])
        self.send(Progress(Stage.SAMPLING, move, total, round(left, 1), round(state.residual, 5)))
        if self.pause and move < total and time.monotonic() >= self.next_preview:
            self._draw_preview(state)

    def _draw_preview(self, state: State) -> None:
        began = time.monotonic()
        path = beside(self.out, PREVIEW)
        outputs.write_picture(path, tasks.preview(self.run.field(state), self.run.model))
        self.send(Preview(str(path)))
        ended = time.monotonic()
        self.next_preview = ended + max(self.pause, PREVIEW_PAUSE * (ended - began))


def _costs(run: Run) -> list[float]:
    """Return the relative cost of each move of a run: a RePaint move costs almost nothing, the final fit the most."""
    solver = run.pull.solver
    costs = [0.01 if to < here else 1.0 for here, to in run.settings.walk]
    if isinstance(run.pull, Pull):
        costs[-1] = solver.last_steps / solver.steps if isinstance(solver, Adam) else 1.0
    return costs


def _settings(job: Job, kind: type[Representation]) -> Settings:
    """Return the settings of a job that samples. Raise ValueError, which names the first wrong one."""
    given = job.settings
    _refuse_unknown("setting", given, {each.name for each in fields(Settings)})
    texts = _texts(given, ("prompt", "negative", "start"))
    repaint = given.get("repaint", (1, 1))
    if not (isinstance(repaint, list | tuple) and len(repaint) == 2 and all(type(each) is int for each in repaint)):
        raise ValueError(f"repaint is {repaint!r:.60}; it must be two whole numbers, for example [10, 3]")
    guide = given.get("guide", ())
    if not (isinstance(guide, list | tuple) and all(isinstance(each, str) for each in guide)):
        raise ValueError(
            f'guide is {guide!r:.60}; it must be a list of regions, for example ["0,0,0.5,1: a red mushroom"]'
        )
    defaults = {"guidance": kind.guidance, "views": kind.views or 1}
    numbers = {name: setting.check(given[name]) for name, setting in RUN.items() if name in given}
    return Settings(**texts, repaint=(repaint[0], repaint[1]), guide=tuple(guide), **{**defaults, **numbers})  # type: ignore[arg-type]


def _options(settings: tuple[Setting, ...], given: Mapping[str, Any], others: Iterable[str]) -> dict[str, Any]:
    """Return the values of a file's settings.

    Raise ValueError if a value is wrong or a name is unknown. For an unknown name, the message lists the known ones, including
    `others`, which are handled elsewhere.
    """
    _refuse_unknown("option", given, [each.name for each in settings], others)
    return dict(values(settings, given))


def _texts(given: Mapping[str, Any], names: Iterable[str]) -> dict[str, str]:
    """Return the values of some names, which must be text, and "" for those that are left out."""
    texts = {name: given.get(name, "") for name in names}
    for name, value in texts.items():
        if not isinstance(value, str):
            raise ValueError(f"{name} is {value!r:.60}; it must be text")
    return texts


def _refuse_unknown(what: str, given: Mapping[str, Any], known: Iterable[str], others: Iterable[str] = ()) -> None:
    names = list(known) if others else sorted(known)
    unknown = sorted(given.keys() - set(names))
    if unknown:
        raise ValueError(f"the {what} {unknown[0]!r:.60} is unknown; known are {', '.join([*names, *others])}")
