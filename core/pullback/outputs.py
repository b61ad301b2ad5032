"""Outputs: the files that a task leaves, and the runs that lead to them. The command line and the worker share them.

An output `x.glb` or `x.png` has companions whose names begin with its own. While it is sampled, `x.glb.run` holds
the state: a run that was interrupted in any way continues from there to the same bytes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor
from trimesh import Trimesh

from . import storage, tasks
from .decoding import flat, on_white
from .files import atomic, clear_remains, is_utf8
from .mesh.glb import write_glb
from .pictures import write_png
from .pull import Pull, State
from .representation import OwnFile, Recipe, Representation, Setting, Solid
from .representations import is_solid
from .settings import Settings
from .storage import Field
from .types import Model, Progress

FIELD, TURNTABLE, RUN, PREVIEW, LOCK = ".field.safetensors", ".turntable.png", ".run", ".preview.png", ".lock"
"""What an output's companions add to its whole name, so that x.glb and x.png have fields of their own."""
LONGEST = 200
"""Bytes in an output's name: systems allow 255, and the companions' temporaries need the rest."""
MAX_PIXELS = 1 << 16
"""Longest side of a picture."""
PICTURE = (Setting("width", 2048, "Pixels of the picture's width.", 8, MAX_PIXELS, unit="pixels"),)
MESH = (
    Setting("faces", 20_000, "Triangles of the mesh, at most.", 100, 1_000_000),
    Setting("texture", 1024, "Pixels of the texture's side.", 16, 8192, unit="pixels"),
    Setting("resolution", 128, "Cells of a side of the grid in which the surface is found.", 16, 512),
    Setting("bake_views", 24, "Views from which the texture is taken.", 4, 256),
    Setting("bake_size", 256, "Pixels of their side.", 32, 2048, unit="pixels"),
)
"""What users may set of what is made of a field: a picture, or a mesh."""


def made_of(kind: type[Representation]) -> tuple[Setting, ...]:
    """What users may set of what a representation's command writes."""
    return (
        MESH
        if is_solid(kind)
        else (replace(PICTURE[0], name=kind.side, default=kind.pixels_wide, low=kind.least_wide),)
    )


def beside(out: Path, end: str) -> Path:
    """The companion of an output."""
    return out.with_name(out.name + end)


@contextmanager
def sampling(out: Path, *suffixes: str) -> Iterator[Path]:
    """Claim `out` for a sampling run; yields its run file, which after success is gone, and its preview with it.

    What is derived from a field claims its output alone: a run file beside it is somebody's unfinished run.
    """
    with claimed(out, *suffixes):
        yield beside(out, RUN)
        beside(out, RUN).unlink(missing_ok=True)
        beside(out, PREVIEW).unlink(missing_ok=True)


@contextmanager
def claimed(out: Path, *suffixes: str) -> Iterator[None]:
    """Make sure that `out` and its companions can be written, and that nobody else writes them during the block.

    suffixes: what the output may end in.
    """
    _check_name(out, suffixes)
    if not out.parent.is_dir():
        raise ValueError(f"the folder {out.parent} does not exist: make it first")
    companions = (out, *(beside(out, end) for end in (FIELD, TURNTABLE, RUN, PREVIEW)))
    for companion in companions:
        if companion.is_dir():
            raise ValueError(f"the output's {companion} is a folder: choose another output, or move the folder away")
    try:
        with tempfile.TemporaryFile(dir=out.parent):
            pass
    except OSError as error:
        raise ValueError(f"the folder {out.parent.resolve()} cannot be written: {error.strerror}") from error
    lock = FileLock(beside(out, LOCK))
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"another run is writing {out}: wait for it, or choose another output") from None
    try:
        for companion in companions:
            clear_remains(companion)
        yield
    finally:
        if os.name == "posix":  # Windows cannot remove an open file, and there nobody can take the lock after us
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _check_name(out: Path, suffixes: tuple[str, ...]) -> None:
    suffix = " or ".join(suffixes)
    size = len(os.fsencode(out.name))
    if size > LONGEST:
        raise ValueError(f"the output's name has {size} bytes; it may have {LONGEST}: shorten it")
    if out.is_dir():
        what = "is empty or this folder" if out == Path() else f"{out} is a folder"
        raise ValueError(f"the output {what}: name a file that ends in {suffix}")
    if out.name.lower() in suffixes:
        raise ValueError(f"the output {out} has nothing before {out.name}: give it a name")
    if out.suffix.lower() not in suffixes:
        raise ValueError(f"the output {out} should end in {suffix}")
    if not is_utf8(str(out)):  # its field could be written, but not read again
        raise ValueError(f"the output {out} is not UTF-8: choose another name")


@dataclass(frozen=True)
class Run:
    """A sampling run that keeps its run file up to date. `state`: where it goes on from, None at the beginning."""

    model: Model
    recipe: Recipe
    settings: Settings
    pull: Pull
    path: Path
    agreed: dict[str, Any]
    state: State | None

    def __call__(self, progress: Progress | None = None) -> Field:
        """Sample to the end. `progress` may raise `Cancelled`: the run file stays."""
        save = lambda now: storage.save_run(self.path, now, self.agreed)
        device = getattr(self.model, "device", "cpu")
        return self.field(tasks.sample(self.pull, self.settings.seed, self.state, progress, save, device))

    def field(self, state: State) -> Field:
        """The field in a state, finished or not."""
        return tasks.field_of(self.recipe, self.settings, self.model, state)


def run(
    task: str,
    model: Model,
    recipe: Recipe,
    settings: Settings,
    path: Path,
    resume: bool = False,
    tick: Callable[[], None] = lambda: None,
    own: Mapping[str, Any] | None = None,
) -> Run:
    """A run whose state is kept at `path`; with `resume` it goes on from there, if there is one.

    own: the representation's own settings that were given. ValueError for all that can be wrong with a prompt, and where
    the run at `path` had other settings.
    """
    agreed = tasks.settings_of_run(task, model.name, settings, **(own or {}))
    pull = tasks.prepare(model, recipe, settings, tick)
    state = None
    if resume and path.exists():
        state = storage.load_run(path, agreed, tasks.beginning(pull, "meta"), len(settings.walk))
    return Run(model, recipe, settings, pull, path, agreed, state)


def write_mesh(
    out: Path, field: Field, model: Model, tick: Callable[[], None] = lambda: None, **options: int
) -> Trimesh:
    """Write a field's textured mesh; the options are those of `tasks.textured_mesh`."""
    mesh, texture = tasks.textured_mesh(field, model, tick=tick, **options)
    write_glb(out, mesh, texture, name=field.prompt or "object")
    return mesh


def write_picture(out: Path, picture: Tensor) -> None:
    """Write a small display picture (3 or 4, H, W)."""
    write_png(out, iter([picture]), picture.shape[-1], picture.shape[-2])


def write_whole(out: Path, field: Field, model: Model, width: int, tick: Callable[[], None] = lambda: None) -> int:
    """Write an image or a panorama, `width` pixels wide, in the memory of a tile; returns its height."""
    height = tasks.height_of(field, width)
    if height > MAX_PIXELS:
        raise ValueError(f"the picture would be {width} x {height} pixels; neither side may be above {MAX_PIXELS}")

    def ticking(bands: Iterator[Tensor]) -> Iterator[Tensor]:
        for band in bands:
            tick()
            yield band

    write_png(out, opaque(field, ticking(tasks.bands(field, height, width, model))), width, height)
    return height


def opaque(field: Field, bands: Iterator[Tensor]) -> Iterator[Tensor]:
    """Bands as they are written: on white, where the field is opaque."""
    return map(on_white, bands) if flat(field).opaque else bands


def write_sampled(
    out: Path, field: Field, model: Model, options: Mapping[str, Any], tick: Callable[[], None] = lambda: None
) -> dict[str, str]:
    """Write all that a sampling command leaves of a field: the files' paths by name.

    options: the values of `made_of`. Solid fields leave a turntable, and a mesh or their own file; flat ones a picture.
    """
    storage.save_field(beside(out, FIELD), field)
    files = {"field": str(beside(out, FIELD))}
    if isinstance(field.diffrep, Solid):
        write_picture(beside(out, TURNTABLE), tasks.turntable_picture(field, model))
        files["picture"] = str(beside(out, TURNTABLE))
    if isinstance(field.diffrep, OwnFile) and out.suffix.lower() == field.diffrep.suffix:
        with atomic(out) as part:
            field.diffrep.write(part, field.params, colours(model))
        return {"file": str(out), **files}
    if not isinstance(field.diffrep, Solid):
        write_whole(out, field, model, options[field.diffrep.side], tick)
        return {"picture": str(out), **files}
    write_mesh(out, field, model, tick, **shape(options))
    return {"mesh": str(out), **files}


def colours(model: Model) -> Callable[[Tensor], Tensor]:
    """Signals (N, C) to display RGB (N, 3) in [0, 1], one pixel each, for files that hold points."""

    def decoded(signals: Tensor) -> Tensor:
        size = model.size
        pixels = signals.T[None, :, :, None].expand(-1, -1, -1, 1)
        if model.scale == 1:
            return model.decode(pixels)[0, :3, :, 0].T
        flat = [
            model.decode(each[None, :, None, None].expand(1, -1, size, size))[0, :3].mean((1, 2)) for each in signals
        ]
        return torch.stack(flat)

    return decoded


def shape(options: Mapping[str, Any]) -> dict[str, int]:
    """The options of a mesh as `meshing.textured_mesh` calls them."""
    renamed = {"bake_views": "views", "bake_size": "view_size"}
    return {renamed.get(each.name, each.name): options[each.name] for each in MESH}
