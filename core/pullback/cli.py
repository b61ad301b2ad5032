"""The command line: `pullback generate | image | panorama | render | mesh | words`.

What a user does wrong ends in one line on standard error and exit code 1 (2 for unknown options, 130 after
Ctrl-C). A sampling run keeps its state in `<output>.run` until the output is there; `--resume` continues it.
"""

from __future__ import annotations

import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from . import errors, outputs, storage, tasks
from .diffreps.radiance import VoxelRadiance
from .generative.toybox import words as toybox_words
from .geometry.cameras import orbit
from .outputs import FIELD, PREVIEW, TURNTABLE, beside, claimed, sampling
from .pictures import write_png
from .pull import State
from .storage import Field
from .tasks import Recipe, Settings
from .types import Cancelled, Model
from .version import VERSION

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False, markup=False)

Number = TypeVar("Number", int, float)

Prompt = Annotated[str, typer.Argument(help='What to draw, for example "a red mushroom".')]
Out = Annotated[Path, typer.Option("-o", "--out", help="The file to write.")]
FieldFile = Annotated[Path, typer.Argument(help="A field file that generate, image or panorama wrote.")]
Negative = Annotated[str, typer.Option(help="What to keep away from.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same result.")]
Steps = Annotated[int, typer.Option(help="Noise levels to go through.")]
Guidance = Annotated[float, typer.Option(help="How strictly to follow the prompt: 0 not at all, 1 as trained.")]
Eta = Annotated[float, typer.Option(help="Fresh noise per step, 0 to 1.")]
Repaint = Annotated[
    str, typer.Option(help="JUMP,REPEATS: walk back and forth to make views agree; needs --eta above 0.")
]
SolverName = Annotated[str, typer.Option("--solver", help="How each step is fitted: adam, paper or gauss-newton.")]
Views = Annotated[int, typer.Option(help="Views per step.")]
ModelName = Annotated[str, typer.Option("--model", help="toybox, a diffusers folder, or a .safetensors checkpoint.")]
Device = Annotated[str, typer.Option(help="cpu, cuda, mps ...")]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run with the same output.")]
Preview = Annotated[bool, typer.Option("--preview", help="Keep a live picture beside the output.")]


@app.callback(invoke_without_command=True)
def pullback(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Sample 3D objects, panoramas and images of any size from any image diffusion model."""
    if version:
        typer.echo(f"pullback {VERSION}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def generate(
    prompt: Prompt, out: Out = Path("object.glb"), negative: Negative = "", seed: Seed = 0, steps: Steps = 30,
    guidance: Guidance = 1.0, eta: Eta = 0.0, repaint: Repaint = "1,1", solver: SolverName = "adam", views: Views = 8,
    model: ModelName = "toybox", device: Device = "cpu", resume: Resume = False, preview: Preview = False,
    faces: Annotated[int, typer.Option(help="Triangles of the mesh, at most.")] = 20_000,
    texture: Annotated[int, typer.Option(help="Pixels of the texture's side.")] = 1024,
) -> None:  # fmt: skip
    """Sample a textured 3D object; writes a GLB, its field file and a turntable picture."""
    settings = Settings(prompt, negative, seed, steps, guidance, eta, _pair(repaint), solver, views)
    _in_range("faces", faces)
    _in_range("texture", texture)
    with sampling(out, ".glb") as run:
        loaded = tasks.load_model(model, device)
        field = _sampled("generate", loaded, tasks.object_recipe(loaded, settings), settings, run, resume, preview)
        storage.save_field(beside(out, FIELD), field)
        with console.status("mesh and texture"):
            outputs.write_picture(beside(out, TURNTABLE), tasks.turntable_picture(field, loaded))
            mesh = outputs.write_mesh(out, field, loaded, faces=faces, texture=texture)
    console.print(f"{out}: {len(mesh.faces)} faces; also {beside(out, FIELD).name} and {beside(out, TURNTABLE).name}")


@app.command()
def image(
    prompt: Prompt, out: Out = Path("image.png"), size: Annotated[int, typer.Option(help="Pixels of a side.")] = 2048,
    negative: Negative = "", seed: Seed = 0, steps: Steps = 30, guidance: Guidance = 3.0, eta: Eta = 0.0,
    repaint: Repaint = "1,1", solver: SolverName = "adam", model: ModelName = "toybox", device: Device = "cpu",
    resume: Resume = False, preview: Preview = False,
) -> None:  # fmt: skip
    """Sample an image without a resolution, and write it at one."""
    settings = Settings(prompt, negative, seed, steps, guidance, eta, _pair(repaint), solver, 1)
    _in_range("size", size)
    with sampling(out, ".png") as run:
        loaded = tasks.load_model(model, device)
        field = _sampled("image", loaded, tasks.image_recipe(loaded, settings), settings, run, resume, preview)
        storage.save_field(beside(out, FIELD), field)
        outputs.write_whole(out, field, loaded, size)
    console.print(f"{out}: {size} x {size}; also {beside(out, FIELD).name}")


@app.command()
def panorama(
    prompt: Prompt, out: Out = Path("panorama.png"), width: Annotated[int, typer.Option(help="Pixels around.")] = 4096,
    projection: Annotated[str, typer.Option(help="sphere (2:1) or cylinder (8:1).")] = "sphere",
    negative: Negative = "", seed: Seed = 0, steps: Steps = 30, guidance: Guidance = 1.0, eta: Eta = 0.0,
    repaint: Repaint = "1,1", solver: SolverName = "adam", views: Views = 12, model: ModelName = "toybox",
    device: Device = "cpu", resume: Resume = False, preview: Preview = False,
) -> None:  # fmt: skip
    """Sample a panorama whose left edge is its right edge, and write it equirectangular or as a strip."""
    settings = Settings(prompt, negative, seed, steps, guidance, eta, _pair(repaint), solver, views)
    _in_range("width", width)
    with sampling(out, ".png") as run:
        loaded = tasks.load_model(model, device)
        recipe = tasks.panorama_recipe(loaded, settings, projection)
        field = _sampled(f"panorama {projection}", loaded, recipe, settings, run, resume, preview)
        storage.save_field(beside(out, FIELD), field)
        height = outputs.write_whole(out, field, loaded, width)
    console.print(f"{out}: {width} x {height}; also {beside(out, FIELD).name}")


@app.command()
def render(
    field_file: FieldFile, out: Out = Path("render.png"),
    size: Annotated[str, typer.Option(help="Pixels: WIDTHxHEIGHT, or one number for the longer side.")] = "1024",
    crop: Annotated[str, typer.Option(help="LEFT,TOP,WIDTH,HEIGHT in those pixels: only that part.")] = "",
    view: Annotated[
        str, typer.Option(help="AZIMUTH,ELEVATION in degrees, for 3D fields; 0,0 is the front, 30,20 the default.")
    ] = "",
    model: Annotated[str, typer.Option(help="Decodes latent fields; default: the field's own.")] = "", device: Device = "cpu",
    exact: Annotated[bool, typer.Option("--exact", help="Compute every pixel; else smooth parts of large pictures are "
                                                        "interpolated, within a 512th of the range.")] = False,
) -> None:  # fmt: skip
    """Render an existing field at any size, any part, any view; memory stays that of a tile."""
    field = _field(field_file)
    loaded = tasks.load_model(model or field.model, device)
    width, height = _size(size, field)
    part = _crop(crop, width, height)
    bands = _bands(field, loaded, width, height, part, view, exact)
    with claimed(out, ".png"):
        write_png(out, bands, part[3], part[2])
    console.print(f"{out}: {part[3]} x {part[2]}")


@app.command()
def mesh(
    field_file: FieldFile, out: Out = Path("object.glb"),
    faces: Annotated[int, typer.Option(help="Triangles, at most.")] = 20_000,
    texture: Annotated[int, typer.Option(help="Pixels of the texture's side.")] = 1024,
    model: Annotated[str, typer.Option(help="Decodes latent fields; default: the field's own.")] = "", device: Device = "cpu",
) -> None:  # fmt: skip
    """Make a textured mesh of an existing 3D field."""
    _in_range("faces", faces)
    _in_range("texture", texture)
    field = _field(field_file)
    with claimed(out, ".glb"):
        loaded = tasks.load_model(model or field.model, device)
        surface = outputs.write_mesh(out, field, loaded, faces=faces, texture=texture)
    console.print(f"{out}: {len(surface.faces)} faces")


@app.command("words")
def list_words() -> None:
    """List what the built-in model knows how to draw."""
    groups = (("objects", toybox_words.NOUNS), ("colours", toybox_words.COLOURS), ("sizes", toybox_words.SIZES),
              ("landscapes", toybox_words.LANDSCAPES), ("times of day", toybox_words.TIMES))  # fmt: skip
    for name, group in groups:
        typer.echo(f"{name}: {', '.join(group)}")
    typer.echo('examples: "a red mushroom", "a big blue and white fish", "mountains at sunset"')


def _sampled(
    task: str, model: Model, recipe: Recipe, settings: Settings, path: Path, resume: bool, preview: bool
) -> Field:
    """Sample with a progress bar, keeping the run file up to date; continue it if asked."""
    if resume and not path.exists():
        console.print(f"no unfinished run at {path}: starting from the beginning")
    run = outputs.run(task, model, recipe, settings, path, resume)
    if path.exists() and not resume:
        _warn(f"{path}, an unfinished run, is replaced; --resume would have continued it")
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("residual {task.fields[residual]:.4f}"),
    )
    with Progress(*columns, console=console) as bar:
        done = run.state.move if run.state else 0
        title = " ".join(settings.prompt.split())[:40]
        line = bar.add_task(title, total=len(settings.walk), completed=done, residual=0.0)

        def show(move: int, total: int, now: State) -> None:
            bar.update(line, completed=move, residual=now.residual)
            if preview:
                outputs.write_picture(path.with_suffix(PREVIEW), tasks.preview(run.field(now), model))

        return run(show)


def _bands(
    field: Field, model: Model, width: int, height: int, part: tasks.Crop, view: str, exact: bool
) -> Iterator[Tensor]:
    if not isinstance(field.diffrep, VoxelRadiance):
        if view:
            raise ValueError("this field has no sides, only a NeRF field has: leave out --view; --crop takes a part")
        return outputs.opaque(field, tasks.bands(field, height, width, model, part, exact=exact))
    azimuth, elevation = _numbers("view", view or "30,20", 2, float, "numbers")
    if abs(elevation) > 90:
        raise ValueError(f"--view is {view!r}; its second number, the elevation, must be between -90 and 90")
    camera = orbit(torch.tensor([math.radians(math.fmod(azimuth, 360))]), torch.tensor([math.radians(elevation)]))
    return tasks.view_bands(field, camera, height, width, model, part)


def _field(path: Path) -> Field:
    """The field of a file; ValueError where it is taken for the picture or the mesh, whose name is nearer at hand."""
    if path.suffix.lower() in (".glb", ".png"):
        raise ValueError(f"{path} is no field file, but what is made of one: give {beside(path, FIELD)}")
    return storage.load_field(path)


def _numbers(name: str, text: str, count: int, kind: Callable[[str], Number], what: str) -> list[Number]:
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(abs(number) < math.inf for number in numbers):
        raise ValueError(f"--{name} is {text!r}; it takes {count} {what} with commas between them")
    return numbers


def _pair(text: str) -> tuple[int, int]:
    jump, repeats = _numbers("repaint", text, 2, int, "whole numbers")
    return jump, repeats


def _in_range(name: str, value: int) -> None:
    outputs.in_range(name, value, f"--{name}")


def _size(text: str, field: Field) -> tuple[int, int]:
    sides = re.fullmatch(r"(\d{1,20})(?:x(\d{1,20}))?", text.lower())
    if sides is None:
        raise ValueError(f"--size is {text!r}; it takes WIDTHxHEIGHT or one number")
    width = int(sides[1])
    height = int(sides[2]) if sides[2] else max(1, width // tasks.aspect(field))
    for side in (width, height):
        _in_range("size", side)
    return width, height


def _crop(text: str, width: int, height: int) -> tasks.Crop:
    if not text:
        return 0, 0, height, width
    left, top, w, h = _numbers("crop", text, 4, int, "whole numbers")
    if min(left, top) < 0 or min(w, h) < 1 or left + w > width or top + h > height:
        raise ValueError(f"--crop {text} does not lie within the picture of {width} x {height}")
    return top, left, h, w


def _complain(text: str) -> None:
    console.print(f"pullback: {errors.plain(text)}", style="red", soft_wrap=True)


def _warn(message: Warning | str, *_: object, **__: object) -> None:
    console.print(f"note: {message}", style="yellow", soft_wrap=True)


def main() -> None:
    """The entry point: runs the command, and turns every user's mistake into one line and an exit code."""
    warnings.showwarning = _warn
    code, said = _guarded(lambda: app(standalone_mode=False))
    if said:
        _complain(said)
    sys.exit(code)


def _guarded(work: Callable[[], object]) -> tuple[int, str]:
    """Run `work`; its exit code and what to say of its failure."""
    stopped = "stopped; a sampling command continues with --resume"
    try:
        result = work()
    except (KeyboardInterrupt, Cancelled, typer.Abort):
        return 130, stopped
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # typer's and click's usage errors
            said = error.format_message()
            if "unexpected extra argument" in said:
                said += ": put quotes around a prompt of several words, and -o before an output"
            return int(error.exit_code), said
        said = errors.sentence(error)
        if said is None:
            raise
        return 1, said
    code = result if isinstance(result, int) else 0  # typer hands exit codes back, 130 for Ctrl-C among them
    return code, stopped if code == 130 else ""
