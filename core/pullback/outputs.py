"""The files that commands and jobs write, and the runs that lead to them; shared by the command line and the worker.

An output such as `x.glb` has companion files whose names begin with `x.glb`. While it is sampled, `x.glb.run` holds the state
of the run. However the run was interrupted, it continues from there to the same bytes.
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

from . import functions, reconstruct, storage, tasks
from .decoding import flat, on_white
from .files import atomic, clear_remains, is_utf8
from .generative.dpf.model import FieldModel
from .mesh.glb import write_glb
from .mesh.surface import LEVEL
from .photographs import Photographs, Placement
from .pictures import write_png
from .pull import Pull, State
from .reconstruct import Plan, Stages
from .representation import OwnFile, Recipe, Representation, Setting, Solid
from .representations import is_solid
from .settings import MAX_PIXELS, MESH, PICTURE, Settings
from .storage import Field
from .types import CLIP, Model, Progress

# Companions append these to the whole name of their output, so that x.glb and x.png have separate fields.
FIELD = ".field.safetensors"
TURNTABLE = ".turntable.png"
RUN = ".run"
PREVIEW = ".preview.png"
LOCK = ".lock"
PHOTOGRAPHED = 5.0
"""Density of the surface of a field that was made of photographs. Their outlines fix it: a plain surface hides light that
grazes it at a low density already: at `LEVEL` meshes of such fields would be too small by a third of a voxel."""
MAX_NAME_BYTES = 200
"""The longest name of an output. File systems allow 255 bytes; companions and their temporary files need the rest."""


def file_settings(kind: type[Representation]) -> tuple[Setting, ...]:
    """Return the settings of the mesh or the picture that a representation's command writes."""
    if is_solid(kind):
        return MESH
    return (replace(PICTURE[0], name=kind.side, default=kind.pixels_wide, low=kind.least_wide),)


def beside(out: Path, end: str) -> Path:
    """Return the path of a companion: FIELD, TURNTABLE, RUN, PREVIEW or LOCK appended to an output's name."""
    return out.with_name(out.name + end)


@contextmanager
def sampling(out: Path, *suffixes: str) -> Iterator[Path]:
    """Claim an output for a sampling run and yield the path of its run file.

    If the block succeeds, the run file and the preview are removed. Meshes and pictures of an existing field use `claimed`
    instead, since a run file beside their output belongs to somebody's unfinished run. Arguments and errors are those of
    `claimed`.
    """
    with claimed(out, *suffixes):
        yield beside(out, RUN)
        beside(out, RUN).unlink(missing_ok=True)
        beside(out, PREVIEW).unlink(missing_ok=True)


@contextmanager
def claimed(out: Path, *suffixes: str) -> Iterator[None]:
    """Make sure that an output and its companions can be written, and that nobody else writes them during the block.

    Args:
        out: The output.
        *suffixes: The suffixes that it may have.

    Raises:
        ValueError: If the name or the folder cannot be used, or if another process has claimed the output.
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
        if os.name == "posix":  # Windows cannot remove an open file, so there the lock file stays
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _check_name(out: Path, suffixes: tuple[str, ...]) -> None:
    suffix = " or ".join(suffixes)
    size = len(os.fsencode(out.name))
    if size > MAX_NAME_BYTES:
        raise ValueError(f"the output's name has {size} bytes; it may have {MAX_NAME_BYTES}: shorten it")
    if out.is_dir():
        what = "is empty or this folder" if out == Path() else f"{out} is a folder"
        raise ValueError(f"the output {what}: name a file that ends in {suffix}")
    if out.name.lower() in suffixes:
        raise ValueError(f"the output {out} has nothing before {out.name}: give it a name")
    if out.suffix.lower() not in suffixes:
        raise ValueError(f"the output {out} should end in {suffix}")
    if not is_utf8(str(out)):  # its field file could be written, but not read again
        raise ValueError(f"the output {out} is not UTF-8: choose another name")


@dataclass(frozen=True)
class Run:
    """A sampling run that keeps its run file up to date.

    Attributes:
        model: The model.
        recipe: How the field is sampled.
        settings: The settings of the run.
        pull: The sampler made from these three.
        path: The run file.
        agreed: What a run file must contain for the run to continue from it.
        state: Where the run continues from, or None to start from the beginning.
    """

    model: Model
    recipe: Recipe
    settings: Settings | Plan
    pull: Pull | Stages
    path: Path
    agreed: dict[str, Any]
    state: State | None

    def __call__(self, progress: Progress | None = None) -> Field:
        """Sample to the end and return the field. If `progress` raises `Cancelled`, the run file stays."""

        def save(state: State) -> None:
            storage.save_run(self.path, state, self.agreed)

        device = getattr(self.model, "device", "cpu")
        return self.field(tasks.sample(self.pull, self.settings.seed, self.state, progress, save, device))

    def field(self, state: State) -> Field:
        """Return the field in a state, finished or not."""
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
    """Prepare a sampling run.

    Args:
        task: The name of the task in run files (`Representation.task`).
        model: The model.
        recipe: How the field is sampled.
        settings: The settings of the run.
        path: The run file.
        resume: Whether to continue from the run file, if there is one.
        tick: Called before every field evaluation; it may raise `Cancelled`.
        own: The representation's own settings that the user gave.

    Raises:
        ValueError: If the model rejects the prompt, or the run file is damaged or was started with other settings.
    """
    agreed = tasks.settings_of_run(task, model.name, settings, **(own or {}))
    if settings.start:
        recipe = replace(recipe, sigma=(recipe.sigma[0], min(functions.BEGIN, recipe.sigma[1])))
    pull = tasks.prepare(model, recipe, settings, tick)
    state = None
    if resume and path.exists():
        defaults = _defaults(recipe.diffrep.settings())
        state = storage.load_run(path, agreed, tasks.beginning(pull, "meta"), len(settings.walk), defaults)
    elif settings.start:
        begun = functions.begun(recipe, settings, model.device, tick)
        state = replace(tasks.beginning(pull, seed=settings.seed), params=begun)
    return Run(model, recipe, settings, pull, path, agreed, state)


def reconstruction(
    photographs: Photographs,
    plan: Plan,
    model: Model,
    path: Path,
    resume: bool = False,
    tick: Callable[[], None] = lambda: None,
    clip: CLIP | None = None,
) -> Run:
    """Prepare a reconstruction. Arguments are as in `reconstruct.prepare` and `run`.

    Raises:
        ValueError: If the model does not suit the photographs, or the run file is damaged or of another reconstruction.
    """
    recipe, sampler = reconstruct.prepare(photographs, plan, model, clip, tick)
    agreed = plan.agreed(photographs, model)
    state = None
    if resume and path.exists():
        state = storage.load_run(path, agreed, tasks.beginning(sampler, "meta"), len(plan.walk))
    return Run(model, recipe, plan, sampler, path, agreed, state)


def _defaults(settings: tuple[Setting, ...]) -> dict[str, Any]:
    """Return the defaults of the settings for which leaving them out means the same as their default, whatever the model."""
    return {each.name: each.default for each in settings if not each.unset or each.default == 0}


def write_mesh(
    out: Path,
    field: Field,
    model: Model,
    tick: Callable[[], None] = lambda: None,
    placement: Placement | None = None,
    **options: int,
) -> Trimesh:
    """Write the textured mesh of a field and return it.

    Args:
        out: The GLB file.
        field: A field that has a surface.
        model: Decodes its colours.
        tick: Called often; it may raise `Cancelled`.
        placement: Where the object lies in the scene in which it was photographed, or None.
        **options: Those of `meshing.textured_mesh`.
    """
    level = LEVEL if placement is None else PHOTOGRAPHED
    mesh, texture = tasks.textured_mesh(field, model, tick=tick, level=level, **options)
    if placement is not None:
        mesh.apply_transform(placement.matrix.numpy())
    write_glb(out, mesh, texture, name=field.prompt or "object")
    return mesh


def write_picture(out: Path, picture: Tensor) -> None:
    """Write a small display picture (3 or 4, H, W) as PNG."""
    write_png(out, iter([picture]), picture.shape[-1], picture.shape[-2])


def write_whole(out: Path, field: Field, model: Model, width: int, tick: Callable[[], None] = lambda: None) -> int:
    """Write the whole picture of a flat field as PNG, using no more memory than a tile needs.

    Args:
        out: The PNG file.
        field: An image, a panorama or a tile.
        model: Decodes its signals.
        width: The width in pixels.
        tick: Called for every band of rows; it may raise `Cancelled`.

    Returns:
        The height in pixels.

    Raises:
        ValueError: If a side would exceed `MAX_PIXELS`, or the field is not flat.
    """
    height = tasks.height_of(field, width)
    if height > MAX_PIXELS:
        raise ValueError(f"the picture would be {width} x {height} pixels; neither side may be above {MAX_PIXELS}")

    def ticking(bands: Iterator[Tensor]) -> Iterator[Tensor]:
        for band in bands:
            tick()
            yield band

    write_png(out, composited(field, ticking(tasks.bands(field, height, width, model))), width, height)
    return height


def composited(field: Field, bands: Iterator[Tensor]) -> Iterator[Tensor]:
    """Composite bands of an opaque field over white; return those of other fields unchanged."""
    return map(on_white, bands) if flat(field).opaque else bands


def write_shape(
    out: Path,
    model: FieldModel,
    prompt: str,
    progress: Progress,
    tick: Callable[[], None] = lambda: None,
    **options: Any,
) -> Trimesh:
    """Sample a shape, write its textured mesh and return it.

    Args:
        out: The GLB file.
        model: A model of the cube.
        prompt: What to draw; it may be empty.
        progress, tick, options: As in `functions.shape`.
    """
    mesh, texture = functions.shape(model, prompt, progress=progress, tick=tick, **options)
    write_glb(out, mesh, texture, name=prompt.strip() or "shape")
    return mesh


def write_sphere(
    out: Path,
    kind: type[Representation],
    own: Mapping[str, Any],
    model: str,
    settings: Settings,
    width: int,
    device: str,
    progress: Progress,
) -> None:
    """Write the panorama that a model of functions samples over the whole sphere.

    Args:
        out: The PNG file.
        kind, own: The representation that was asked for, and its settings that were given. There must be none of them.
        model: The name of the model, or its file.
        settings, width, device, progress: As in `functions.panorama`.

    Raises:
        ValueError: If something was given that has no meaning for this model.
    """
    if kind.choice != "sphere" or own:
        raise ValueError(
            f"{model} samples the whole sphere and fits nothing: leave out the options of other projections"
        )
    write_png(out, functions.panorama(model, settings, width, device, progress), width, max(1, width // 2))


def write_sampled(
    out: Path,
    field: Field,
    model: Model,
    options: Mapping[str, Any],
    tick: Callable[[], None] = lambda: None,
    placement: Placement | None = None,
) -> dict[str, str]:
    """Write all files of a sampling command: the field, and a picture, or a turntable and a mesh or a file of its own format.

    Args:
        out: The output; its suffix chooses between a mesh and the representation's own file.
        field: The sampled field.
        model: Decodes its signals.
        options: The values of the settings in `file_settings`.
        tick: Called often; it may raise `Cancelled`.
        placement: Where the mesh lies in its scene, or None. It is recorded in the field file, since the field lies in the unit
            ball.

    Returns:
        The paths of the files: "field", and "picture", "mesh" or "file".
    """
    storage.save_field(beside(out, FIELD), field, {"placement": placement.describe()} if placement else None)
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
    write_mesh(out, field, model, tick, placement, **mesh_arguments(options))
    return {"mesh": str(out), **files}


def colours(model: Model) -> Callable[[Tensor], Tensor]:
    """Return a function from signals (N, C) to display RGB (N, 3) in [0, 1], for files that hold points."""

    def decoded(signals: Tensor) -> Tensor:
        size = model.size
        pixels = signals.T[None, :, :, None].expand(-1, -1, -1, 1)
        if model.scale == 1:
            return model.decode(pixels)[0, :3, :, 0].T
        uniform = (each[None, :, None, None].expand(1, -1, size, size) for each in signals)
        return torch.stack([model.decode(picture)[0, :3].mean((1, 2)) for picture in uniform])

    return decoded


def mesh_arguments(options: Mapping[str, Any]) -> dict[str, int]:
    """Return the values of the `MESH` settings under the names of `meshing.textured_mesh`'s arguments."""
    renamed = {"bake_views": "views", "bake_size": "view_size"}
    return {renamed.get(each.name, each.name): options[each.name] for each in MESH}
