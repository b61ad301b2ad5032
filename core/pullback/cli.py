"""The command line: a sampling command for every kind of representation, `reconstruct`, `render`, `mesh` and others.

A user's mistake ends in one line on standard error and exit code 1 (2 for wrong options, 130 after Ctrl-C). A sampling run
keeps its state in `<output>.run` until the output is written; `--resume` continues it.
"""

from __future__ import annotations

import csv
import inspect
import io
import math
import re
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from . import errors, functions, outputs, storage, tasks
from .decoding import height_of
from .files import atomic
from .generative.clip.model import load_clip
from .generative.dpf.model import load_model as load_field_model
from .generative.infd.decoder import encoded, load_decoder, read_latents
from .generative.infty_diff import model as infty_diff
from .generative.infty_diff.uses import FEW, filled, upscaled
from .generative.lmconv.levels import levels_of
from .generative.lmconv.model import PixelModel
from .generative.lmconv.model import load_model as load_pixel_model
from .generative.lmconv.orders import MAX_CONTEXT
from .generative.toybox import words as toybox_words
from .geometry.cameras import orbit
from .models import PIXELS, device_of
from .outputs import FIELD, PREVIEW, beside, claimed, sampling
from .photographs import placement_of, read_photographs
from .pictures import write_png, write_straight
from .pull import State
from .reconstruct import RECONSTRUCT, Plan
from .representation import Flat, Representation, Setting
from .representations import chosen, commands, is_solid, of_command, suffixes
from .settings import MAX_PIXELS, MESH, RUN, Settings
from .storage import Field
from .training.folder import PictureFolder, read_picture, read_straight
from .types import Cancelled, Model
from .version import VERSION

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
console = Console(stderr=True, highlight=False, markup=False)

Number = TypeVar("Number", int, float)

Out = Annotated[Path, typer.Option("-o", "--out", help="The file to write.")]
FieldFile = Annotated[Path, typer.Argument(help="A field file that a sampling command wrote.")]
Repaint = Annotated[
    str, typer.Option(help="JUMP,REPEATS: walk back and forth to make views agree; needs --eta above 0.")
]
GuideTexts = Annotated[
    list[str] | None,
    typer.Option(help='"LEFT,TOP,WIDTH,HEIGHT: SENTENCE": what a box should show, in parts of the picture. Panoramas: '
                      '"AZIMUTH,ELEVATION,WIDTH,HEIGHT: ..." in degrees; objects: "AZIMUTH,ELEVATION: ...". '
                      '"*2" before the colon doubles its weight. Repeatable.'),
]  # fmt: skip
ModelName = Annotated[
    str,
    typer.Option("--model", help="toybox, infd, ddpm, infty-diff, a diffusers folder, or a .safetensors checkpoint."),
]
Start = Annotated[
    str,
    typer.Option(
        help="dpf-shapes, or a file of shapes: begin as what `pullback shape` draws for the prompt and the seed."
    ),
]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, mps ...")]
PixelModelName = Annotated[
    str, typer.Option("--model", help="lmconv (grey), lmconv-binary, or a file that `pullback train lmconv` wrote.")
]
Resume = Annotated[bool, typer.Option("--resume", help="Continue an interrupted run with the same output.")]
Preview = Annotated[bool, typer.Option("--preview", help="Keep a live picture beside the output.")]
_FACES, _TEXTURE = MESH[:2]
REPRESENTATION_PANEL = "what the representation takes"
"""The panel of a command's help that lists the representation's own settings."""


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


def _sampling_command(command: str) -> Callable[..., None]:
    """Make the function of a sampling command. Typer reads its options and its help from the signature."""
    kinds = of_command(command)
    default = kinds[0]
    settings = {each.name: each for kind in kinds for each in kind.settings()}

    def run(**values: Any) -> None:
        kind = chosen(command, values.pop(default.option, ""))
        own = {name: value for name in settings if (value := values.pop(name)) is not None}
        _sample(kind, own, **values)

    suffix = suffixes(default)[0]
    guidance, views = replace(RUN["guidance"], default=default.guidance), replace(RUN["views"], default=default.views)
    parameters = [
        _parameter("prompt", Annotated[str, typer.Argument(help=f'What to draw, for example "{default.example}".')]),
        _parameter("out", Out, Path(f"{default.noun or command}{suffix}")),
        *(_option(each) for each in outputs.file_settings(default)),
        _parameter("negative", Annotated[str, typer.Option(help="What to keep away from.")], ""),
        _option(RUN["seed"]), _option(RUN["steps"]), _option(guidance), _option(RUN["eta"]),
        _parameter("repaint", Repaint, "1,1"), _option(RUN["solver"]), _parameter("guide", GuideTexts, None),
        *([_option(views)] if default.views else []),
        *([_parameter("start", Start, "")] if hasattr(default, "shaped") else []),
        _parameter("model", ModelName, "toybox"), _parameter("device", Device, "auto"),
        _parameter("resume", Resume, False), _parameter("preview", Preview, False),
        *([_choice(kinds)] if len(kinds) > 1 else []),
        *(_own_option(each) for each in settings.values()),
    ]  # fmt: skip
    run.__doc__ = f"Sample {default.sentence[0].lower()}{default.sentence[1:]} Writes {_written(default)}."
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def _written(kind: type[Representation]) -> str:
    return "a GLB, its field file and a turntable picture" if is_solid(kind) else "a picture and its field file"


def _parameter(name: str, annotation: Any, default: Any = inspect.Parameter.empty) -> inspect.Parameter:
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _option(setting: Setting) -> inspect.Parameter:
    """The option of a setting. Its range is checked by `Setting.check`, so that every interface says the same of it."""
    return _parameter(setting.name, Annotated[type(setting.default), typer.Option(help=setting.help)], setting.default)


def _own_option(setting: Setting, panel: str | None = REPRESENTATION_PANEL) -> inspect.Parameter:
    """The option of a setting, None if it is left out: the model may then decide."""
    unit = f" ({setting.unit})" if setting.unit and setting.unit not in setting.help else ""
    default = f"; default: {setting.unset or setting.default}"
    option = typer.Option(help=setting.help.rstrip(".") + unit + default, rich_help_panel=panel)
    return _parameter(setting.name, Annotated[type(setting.default) | None, option], None)


def _choice(kinds: list[type[Representation]]) -> inspect.Parameter:
    """The option that chooses between the representations of a command."""
    words = " or ".join(f"{each.choice} ({each.means})" if each.means else each.choice for each in kinds)
    return _parameter(
        kinds[0].option, Annotated[str, typer.Option(help=f"Which kind of field: {words}.")], kinds[0].choice
    )


def _sample(
    kind: type[Representation], own: dict[str, Any], prompt: str, out: Path, negative: str, repaint: str, model: str,
    device: str, resume: bool, preview: bool, guide: list[str] | None, start: str = "", **values: Any,
) -> None:  # fmt: skip
    """Sample a field and write its files.

    Args:
        kind: The representation.
        own: Those of its own settings that are given.
        prompt, negative, repaint, model, device, resume, preview, guide, start: The options of these names.
        out: The output.
        **values: The values of the `RUN` settings and of `outputs.file_settings`.
    """
    run_values = {name: values.pop(name) for name in RUN.keys() & values.keys()}
    settings = Settings(
        prompt, negative, repaint=_pair(repaint), guide=tuple(guide or ()), start=start, **{"views": 1, **run_values}
    )
    options = {each.name: each.check(values[each.name], _flag(each.name)) for each in outputs.file_settings(kind)}
    own = _checked_own(kind, own)
    if kind.command == "panorama" and functions.draws_functions(model):
        return _sample_sphere(kind, own, model, settings, int(options[kind.side]), out, device)
    with sampling(out, *suffixes(kind)) as path:
        loaded = tasks.load_model(model, device)
        recipe = tasks.recipe_of(kind, loaded, settings, own)
        if resume and not path.exists():
            console.print(f"no unfinished run at {path}: starting from the beginning")
        run = outputs.run(kind.task(), loaded, recipe, settings, path, resume, own=own)
        field = _run_with_bar(run, path, resume, preview)
        with console.status("mesh and texture" if is_solid(kind) else "writing"):
            files = outputs.write_sampled(out, field, loaded, options)
    others = " and ".join(Path(each).name for each in files.values() if each != str(out))
    made = f"{options[kind.side]} pixels wide; " if kind.side in options else ""
    console.print(f"{out}: {made}also {others}")


def _sample_sphere(
    kind: type[Representation], own: dict[str, Any], model: str, settings: Settings, width: int, out: Path, device: str
) -> None:
    """Write the panorama that a model of functions samples over the whole sphere."""
    with claimed(out, ".png"), _progress() as tick:
        outputs.write_sphere(out, kind, own, model, settings, width, device_of(device), tick)
    console.print(f"{out}: {width} pixels wide")


@contextmanager
def _progress(title: str = "sampling", transient: bool = True) -> Iterator[Callable[..., None]]:
    """Show a progress bar that the callback moves: it takes what is done, the total, and more that is not shown."""
    with Progress(console=console, transient=transient) as bar:
        line = bar.add_task(title)
        yield lambda done, total, *_: bar.update(line, completed=done, total=total)


def _checked_own(kind: type[Representation], own: Mapping[str, Any]) -> dict[str, Any]:
    """A representation's own settings, checked. ValueError names one that it does not have."""
    settings = {each.name: each for each in kind.settings()}
    for name in own.keys() - settings.keys():
        raise ValueError(f"{_flag(name)} is no setting of {kind.option} {kind.choice}: leave it out")
    return {name: settings[name].check(value, _flag(name)) for name, value in own.items()}


def _flag(name: str) -> str:
    """The option of a setting as users type it."""
    return "--" + name.replace("_", "-")


with warnings.catch_warnings(record=True) as _load_warnings:  # `main` prints them in its own way
    for _command in commands():
        app.command(_command)(_sampling_command(_command))


def _reconstruct_command() -> Callable[..., None]:
    """Make the function of `reconstruct`, as `_sampling_command` does."""

    def run(
        source: Path, out: Path, ball: str, clip: str, clip_file: Path | None, model: str, device: str, resume: bool,
        preview: bool, prompt: str, negative: str, **values: Any,
    ) -> None:  # fmt: skip
        options = {each.name: each.check(values.pop(each.name), _flag(each.name)) for each in MESH}
        given = {name: value for name, value in values.items() if value is not None}
        checked: dict[str, Any] = {name: RECONSTRUCT[name].check(value, _flag(name)) for name, value in given.items()}
        plan = Plan(prompt=prompt, negative=negative, **checked)
        at = _numbers("ball", ball, 4, float, "numbers") if ball else None
        with sampling(out, ".glb") as path:
            with console.status("reading the photographs"):
                photographs = read_photographs(source, plan.size, at, plan.front)
            loaded = tasks.load_model(model if plan.way == "pullback" else PIXELS, device)
            judge = load_clip(clip, clip_file, loaded.device) if plan.way == "diet" else None
            if resume and not path.exists():
                console.print(f"no unfinished run at {path}: starting from the beginning")
            run = outputs.reconstruction(photographs, plan, loaded, path, resume, clip=judge)
            field = _run_with_bar(run, path, resume, preview)
            with console.status("mesh and texture"):
                outputs.write_sampled(out, field, loaded, options, placement=photographs.placement)
        console.print(f"{out}: from {len(photographs)} photographs; also {beside(out, FIELD).name}")

    source_help = "A transforms.json (NeRF-synthetic, nerfstudio), or a folder with COLMAP's text files."
    ball_help = (
        "X,Y,Z,RADIUS of a ball that holds the object, in the cameras' scene; default: found from masks and views."
    )
    parameters = [
        _parameter("source", Annotated[Path, typer.Argument(help=source_help)]),
        _parameter("out", Out, Path("object.glb")),
        _parameter("prompt", Annotated[str, typer.Option(help="What the photographs show, for the method pullback.")], ""),
        _parameter("negative", Annotated[str, typer.Option(help="What to keep away from.")], ""),
        *(_own_option(each, None) for each in RECONSTRUCT.values()),
        _parameter("ball", Annotated[str, typer.Option(help=ball_help)], ""),
        _parameter("clip", Annotated[str, typer.Option(help="Of diet: an architecture of open_clip; default: a small one.")], ""),
        _parameter("clip_file", Annotated[Path | None, typer.Option(help="Its weights, a .safetensors file.")], None),
        *(_option(each) for each in MESH),
        _parameter("model", ModelName, "toybox"), _parameter("device", Device, "auto"),
        _parameter("resume", Resume, False), _parameter("preview", Preview, False),
    ]  # fmt: skip
    run.__doc__ = (
        "Reconstruct an object from photographs with poses. Writes a GLB where the cameras saw it, and its field file."
    )
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


app.command("reconstruct")(_reconstruct_command())


def _shape_command() -> Callable[..., None]:
    """Make the function of `shape`, as `_sampling_command` does."""

    def run(prompt: str, out: Path, model: str, device: str, **values: Any) -> None:
        options: dict[str, Any] = {
            each.name: each.check(values[each.name], _flag(each.name)) for each in functions.SHAPE
        }
        with claimed(out, ".glb"), _progress() as tick:
            loaded = load_field_model(model, device_of(device), "cube")
            surface = outputs.write_shape(out, loaded, prompt, tick, **options)
        console.print(f"{out}: {len(surface.faces)} faces")

    model_help = "dpf-shapes, or a file that `pullback train dpf-shapes` wrote."
    parameters = [
        _parameter("prompt", Annotated[str, typer.Argument(help='What to draw, for example "a red chair".')]),
        _parameter("out", Out, Path("shape.glb")),
        *(_option(each) for each in functions.SHAPE),
        _parameter("model", Annotated[str, typer.Option(help=model_help)], "dpf-shapes"),
        _parameter("device", Device, "auto"),
    ]
    run.__doc__ = "Sample a 3D shape in one go, without views: a draft in seconds. Writes a GLB."
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


app.command("shape")(_shape_command())


@app.command()
def render(
    field_file: FieldFile, out: Out = Path("render.png"),
    size: Annotated[str, typer.Option(help="Pixels: WIDTHxHEIGHT, or one number for the longer side.")] = "1024",
    crop: Annotated[str, typer.Option(help="LEFT,TOP,WIDTH,HEIGHT in those pixels: only that part.")] = "",
    view: Annotated[
        str, typer.Option(help="AZIMUTH,ELEVATION in degrees, for 3D fields; 0,0 is the front, 30,20 the default.")
    ] = "",
    model: Annotated[str, typer.Option(help="Decodes latent fields; default: the field's own.")] = "", device: Device = "auto",
    exact: Annotated[bool, typer.Option("--exact", help="Compute every pixel; else smooth parts of large pictures are "
                                                        "interpolated, within a 512th of the range.")] = False,
) -> None:  # fmt: skip
    """Render an existing field at any size, in part or from any view, in the memory of a tile."""
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
    faces: Annotated[int, typer.Option(help=_FACES.help)] = _FACES.default,  # type: ignore[assignment]
    texture: Annotated[int, typer.Option(help=_TEXTURE.help)] = _TEXTURE.default,  # type: ignore[assignment]
    model: Annotated[str, typer.Option(help="Decodes latent fields; default: the field's own.")] = "", device: Device = "auto",
) -> None:  # fmt: skip
    """Make a textured mesh of an existing 3D field."""
    _FACES.check(faces, "--faces")
    _TEXTURE.check(texture, "--texture")
    field = _field(field_file)
    with claimed(out, ".glb"):
        loaded = tasks.load_model(model or field.model, device)
        surface = outputs.write_mesh(
            out, field, loaded, placement=placement_of(field_file), faces=faces, texture=texture
        )
    console.print(f"{out}: {len(surface.faces)} faces")


@app.command()
def decode(
    source: Annotated[Path, typer.Argument(help="Latents (a .safetensors file, such as ComfyUI's Save Latent), or a picture.")],
    decoder: Annotated[Path, typer.Option(help="A field decoder that `pullback train decoder` wrote.")],
    out: Out = Path("decoded.png"),
    size: Annotated[int, typer.Option(help="Pixels of the longer side.")] = 1024,
    crop: Annotated[str, typer.Option(help="LEFT,TOP,WIDTH,HEIGHT in those pixels: only that part.")] = "",
    device: Device = "auto",
) -> None:  # fmt: skip
    """Draw latents, or a picture, at any size with a field decoder, in the memory of a tile."""
    if not 1 <= size <= MAX_PIXELS:
        raise ValueError(f"--size is {size}; it must be between 1 and {MAX_PIXELS}")
    loaded = load_decoder(decoder, device_of(device))
    if source.suffix.lower() == ".safetensors":
        latents = read_latents(source)
    else:
        channels = loaded.autoencoder.config.channels
        latents = encoded(loaded, read_picture(source, channels))
    phi = loaded.features(latents)
    rows, columns = phi.shape[2:]
    height, width = (max(1, round(size * side / max(rows, columns))) for side in (rows, columns))
    part = _crop(crop, width, height)
    with claimed(out, ".png"), console.status("drawing"):
        write_png(out, loaded.bands(phi, height, width, part), part[3], part[2])
    console.print(f"{out}: {part[3]} x {part[2]}")


@app.command()
def fill(
    picture: Annotated[Path, typer.Argument(help="A picture of which a part is missing.")],
    mask: Annotated[Path, typer.Option(help="A picture of the same size, white where it is missing.")],
    model: Annotated[
        str,
        typer.Option("--model", help="lmconv (grey), lmconv-binary or infty-diff (colours, any size), or a file of theirs."),
    ] = "lmconv",
    out: Out = Path("filled.png"),
    seed: Annotated[int, typer.Option(help="Another seed fills it in another way.")] = 0,
    order: Annotated[
        str, typer.Option(help="Of the missing pixels: max-context (near known ones first), raster, hilbert, s-curve-0 to -7.")
    ] = MAX_CONTEXT,
    prompt: Annotated[str, typer.Option(help="Of infty-diff: what the picture shows.")] = "",
    device: Device = "auto",
) -> None:  # fmt: skip
    """Fill the missing part of a picture: a small one pixel by pixel (lmconv), or one of any size at once (infty-diff)."""
    RUN["seed"].check(seed, _flag("seed"))
    if infty_diff.is_named(model):
        drawing = infty_diff.named(model, device_of(device))
        known, missing = read_straight(picture), read_picture(mask, 3)
        with claimed(out, ".png"), _progress("filling", transient=False) as tick:
            write_straight(out, filled(drawing, known, missing, prompt, seed=seed, tick=tick))
    else:
        if prompt:
            raise ValueError(f"{model} knows no words: leave out --prompt, or choose --model {infty_diff.NAME}")
        loaded = load_pixel_model(model, device_of(device))
        known, missing = read_picture(picture, 3), read_picture(mask, 3)
        if says := loaded.seen(known):
            _print_note(says)
        with claimed(out, ".png"), _progress("filling", transient=False) as tick:
            (whole,) = loaded.fill(known[None], missing, seed, order, tick)
            write_png(out, iter([whole]), whole.shape[2], whole.shape[1])
    console.print(f"{out}: {int((missing[..., 0] >= 128).sum())} pixels filled")


@app.command()
def upscale(
    picture: Annotated[Path, typer.Argument(help="The picture to enlarge.")],
    scale: Annotated[int, typer.Option(help="2, 4 or 8.")] = 4,
    model: Annotated[
        str, typer.Option("--model", help="infty-diff, or a file that `pullback train infty-diff` wrote.")
    ] = infty_diff.NAME,
    out: Out = Path("upscaled.png"),
    prompt: Annotated[str, typer.Option(help="What the picture shows.")] = "",
    seed: Annotated[int, typer.Option(help="Another seed draws other details.")] = 0,
    steps: Annotated[int, typer.Option(help="More steps make details bolder, but less true.")] = FEW,
    device: Device = "auto",
) -> None:  # fmt: skip
    """Enlarge a picture: its pixels stay as means, and the details are sampled."""
    RUN["seed"].check(seed, _flag("seed"))
    RUN["steps"].check(steps, _flag("steps"))
    drawing = infty_diff.named(model, device_of(device))
    given = read_picture(picture, drawing.channels)
    with claimed(out, ".png"), _progress("enlarging", transient=False) as tick:
        made = upscaled(drawing, given, scale, prompt, seed=seed, steps=steps, tick=tick)
        if len(made) == 4 and (given[..., 3] == 255).all():
            made = made[:3]
        write_png(out, iter([made]), made.shape[2], made.shape[1])
    console.print(f"{out}: {made.shape[2]} x {made.shape[1]}")


@app.command()
def likelihood(
    folder: Annotated[Path, typer.Argument(help="A folder of pictures.")],
    model: PixelModelName = "lmconv",
    out: Annotated[Path | None, typer.Option("-o", "--out", help="A CSV to write; by default it is printed.")] = None,
    orders: Annotated[int, typer.Option(help="Orders of the ensemble; 0: all that the model was trained on.")] = 0,
    batch: Annotated[int, typer.Option(help="Pictures at a time.")] = 16, device: Device = "auto",
) -> None:  # fmt: skip
    """Measure how probable pictures are: exact bits per value of every picture of a folder, at the model's size, as CSV."""
    if not 1 <= batch <= 65536:
        raise ValueError(f"--batch is {batch}; it must be between 1 and 65536")
    loaded = load_pixel_model(model, device_of(device))
    pictures = PictureFolder(folder)
    with claimed(out, ".csv") if out else nullcontext():
        rows = list(_bits(pictures, loaded, orders, batch))
        if not rows:
            raise ValueError(f"no picture in {folder} can be used; see the notes above")
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("picture", "bits_per_dim"), *rows])
        if out:
            with atomic(out) as part:
                part.write_text(text.getvalue(), "utf-8")
        else:
            typer.echo(text.getvalue(), nl=False)
    mean = sum(float(bits) for _, bits in rows) / len(rows)
    console.print(f"{out or folder}: {len(rows)} pictures, {mean:.4f} bits per value on average")


def _bits(pictures: PictureFolder, model: PixelModel, orders: int, batch: int) -> Iterator[tuple[str, str]]:
    """The name and the bits per value of every picture that can be read."""
    said = False
    with Progress(console=console) as bar:
        for start in bar.track(range(0, len(pictures), batch), description="measuring"):
            names, values = [], []
            for path in pictures.paths[start : start + batch]:
                try:
                    pixels = read_picture(path, 3)
                except ValueError as error:
                    _print_note(f"{error}: left out")
                    continue
                if not said and (says := model.seen(pixels)):
                    _print_note(says)
                    said = True
                names.append(str(path.relative_to(pictures.folder)))
                values.append(levels_of(pixels, model.config, model.config.size))
            if values:
                bits, _ = model.likelihood(values, orders)
                yield from zip(names, (f"{each:.6f}" for each in bits.tolist()), strict=True)


@app.command("train")
def train_model(
    model: Annotated[
        str,
        typer.Argument(
            help="decoder (a field decoder), lmconv (pixel by pixel), ddpm, infty-diff, dpf, dpf-shapes, dpf-sphere (functions), "
            "latent, clip, toybox or template."
        ),
    ],
    data: Annotated[
        Path,
        typer.Argument(
            help="A folder of pictures; for dpf-shapes and dpf-sphere what generative.dpf.render makes; for all but decoder, "
            "lmconv, ddpm, infty-diff and dpf, of toybox's rendered ones."
        ),
    ],
    out: Out = Path("model.safetensors"),
    steps: Annotated[int, typer.Option(help="Steps in total, those of an earlier run included.")] = 2000,
    preset: Annotated[
        str, typer.Option(help="Sizes of a field decoder, of lmconv or of ddpm: small, paper-... (docs).")
    ] = "small",
    batch: Annotated[int, typer.Option(help="Pictures per step; 0: the model's default.")] = 0,
    lr: Annotated[float, typer.Option(help="Learning rate; 0: the model's default.")] = 0.0,
    largest: Annotated[int, typer.Option(help="Largest side that pictures are scaled to, in pixels.")] = 1024,
    adversarial: Annotated[float, typer.Option(help="Weight of a field decoder's adversary; 0.75 in the paper.")] = 0.0,
    perceptual: Annotated[
        float,
        typer.Option(help="Weight of a field decoder's perceptual distance, of our picture-text model's features."),
    ] = 0.0,
    lpips: Annotated[
        bool, typer.Option("--lpips", help="Take LPIPS as the perceptual distance, if the package lpips is installed.")
    ] = False,
    vae: Annotated[
        Path | None,
        typer.Option(
            help="A VAE to make a field decoder of, with the same latents: a diffusers folder, or a .safetensors file."
        ),
    ] = None,
    base: Annotated[int, typer.Option(help="Side of the pictures that this VAE sees in training, in pixels.")] = 256,
    decoder: Annotated[Path | None, typer.Option(help="The field decoder whose latents a latent model learns.")] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(help="Exported weights to start from (all but clip and template); a decoder keeps its latents."),
    ] = None,
    template: Annotated[Path | None, typer.Option(help="The trained template that toybox learns around.")] = None,
    objective: Annotated[
        str,
        typer.Option(
            help="What ddpm predicts: eps (default), mean or x0; with -bound or -learned by the variational bound. "
            "What a dpf predicts: v (default), eps or x0."
        ),
    ] = "",
    architecture: Annotated[str, typer.Option(help="Of a dpf: perceiver, transformer or mixer.")] = "perceiver",
    decay: Annotated[float, typer.Option(help="Last part of the steps, over which the rate falls to zero.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Seed of everything random.")] = 0,
    precision: Annotated[str, typer.Option(help="no (float32), bf16, fp16, or auto for the faster one.")] = "auto",
    tracker: Annotated[str, typer.Option(help="A tracker of accelerate, such as tensorboard.")] = "",
) -> None:
    """Train a model. A run that was stopped continues from OUT.training.safetensors, with samples in the picture beside it."""
    for name, value, low, high in (
        ("steps", steps, 1, 1e9), ("batch", batch, 0, 65536), ("lr", lr, 0, 1), ("largest", largest, 8, 65536),
        ("adversarial", adversarial, 0, 100), ("perceptual", perceptual, 0, 100), ("decay", decay, 0, 1),
        ("seed", seed, 0, 2**63 - 1), ("base", base, 8, 4096),
    ):  # fmt: skip
        if not low <= value <= high:
            raise ValueError(f"--{name} is {value:g}; it must be between {low:g} and {high:g}")
    if precision not in ("no", "bf16", "fp16", "auto"):
        raise ValueError(f"--precision is {precision!r}; it must be no, bf16, fp16 or auto")
    try:
        from . import trainable
        from .training import loop
    except ImportError as error:
        raise ImportError(f'training needs {error.name}: pip install "pullback[train]"') from error
    with claimed(out, ".safetensors"):
        given = trainable.Options(
            preset,
            batch,
            lr,
            largest,
            adversarial,
            decoder,
            start_from,
            template,
            perceptual,
            lpips,
            vae,
            base,
            objective,
            architecture,
        )
        trainee = trainable.trainee_of(model, data, given)
        state = out.with_suffix(".training.safetensors")
        plan = loop.Plan(
            steps, warmup=min(100, max(1, steps // 10)), decay=decay, every=min(500, max(1, steps // 20)), seed=seed,
            precision=precision,
        )  # fmt: skip
        average = loop.train(trainee, state, plan, console, tracker or None)
        loop.export(out, average, {**trainee.metadata(), "step": str(steps)})
    console.print(f"{out}: trained for {steps} steps; more --steps continue from {state.name}")


@app.command("words")
def list_words() -> None:
    """List what the built-in model knows how to draw."""
    groups = (("objects", toybox_words.NOUNS), ("colours", toybox_words.COLOURS), ("sizes", toybox_words.SIZES),
              ("landscapes", toybox_words.LANDSCAPES), ("times of day", toybox_words.TIMES))  # fmt: skip
    for name, group in groups:
        typer.echo(f"{name}: {', '.join(group)}")
    typer.echo('examples: "a red mushroom", "a big blue and white fish", "mountains at sunset"')


def _run_with_bar(run: outputs.Run, path: Path, resume: bool, preview: bool) -> Field:
    """Sample with a progress bar, and with a preview picture if it is asked for."""
    if path.exists() and not resume:
        _print_note(f"{path}, an unfinished run, is replaced; --resume would have continued it")
    settings, model = run.settings, run.model
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

        def show(move: int, total: int, state: State) -> None:
            bar.update(line, completed=move, residual=state.residual)
            if preview:
                outputs.write_picture(path.with_suffix(PREVIEW), tasks.preview(run.field(state), model))

        return run(show)


def _bands(
    field: Field, model: Model, width: int, height: int, part: tasks.Crop, view: str, exact: bool
) -> Iterator[Tensor]:
    """The picture that `render` writes, as bands (C, rows, w)."""
    if isinstance(field.diffrep, Flat):
        if view:
            raise ValueError("this field has no sides, only a 3D field has: leave out --view; --crop takes a part")
        return outputs.composited(field, tasks.bands(field, height, width, model, part, exact=exact))
    azimuth, elevation = _numbers("view", view or "30,20", 2, float, "numbers")
    if abs(elevation) > 90:
        raise ValueError(f"--view is {view!r}; its second number, the elevation, must be between -90 and 90")
    camera = orbit(torch.tensor([math.radians(math.fmod(azimuth, 360))]), torch.tensor([math.radians(elevation)]))
    return tasks.view_bands(field, camera, height, width, model, part)


def _field(path: Path) -> Field:
    """Load a field file. ValueError if the user gave the picture or the mesh beside it instead."""
    if path.suffix.lower() in (".glb", ".png"):
        raise ValueError(f"{path} is no field file, but what is made of one: give {beside(path, FIELD)}")
    return storage.load_field(path)


def _numbers(name: str, text: str, count: int, kind: Callable[[str], Number], what: str) -> list[Number]:
    """Parse `count` numbers with commas between them. ValueError says that option `name` takes so many of `what`."""
    try:
        numbers = [kind(part) for part in text.split(",")]
    except ValueError:
        numbers = []
    if len(numbers) != count or not all(abs(number) < math.inf for number in numbers):
        raise ValueError(f"--{name} is {text!r}; it takes {count} {what} with commas between them")
    return numbers


def _pair(text: str) -> tuple[int, int]:
    """Parse --repaint."""
    jump, repeats = _numbers("repaint", text, 2, int, "whole numbers")
    return jump, repeats


def _size(text: str, field: Field) -> tuple[int, int]:
    """Parse --size: width and height in pixels."""
    sides = re.fullmatch(r"(\d{1,20})(?:x(\d{1,20}))?", text.lower())
    if sides is None:
        raise ValueError(f"--size is {text!r}; it takes WIDTHxHEIGHT or one number")
    width = int(sides[1])
    if sides[2]:
        height = int(sides[2])
    elif isinstance(field.diffrep, Flat):
        width = round(width * min(1.0, field.diffrep.aspect))  # one number is the longer side
        height = height_of(field, width)
    else:
        height = width
    for side in (width, height):
        if not 1 <= side <= MAX_PIXELS:
            raise ValueError(f"--size is {side}; it must be between 1 and {MAX_PIXELS}")
    return width, height


def _crop(text: str, width: int, height: int) -> tasks.Crop:
    """Parse --crop: top, left, height and width of the part, all of the picture if it is empty."""
    if not text:
        return 0, 0, height, width
    left, top, w, h = _numbers("crop", text, 4, int, "whole numbers")
    if min(left, top) < 0 or min(w, h) < 1 or left + w > width or top + h > height:
        raise ValueError(f"--crop {text} does not lie within the picture of {width} x {height}")
    return top, left, h, w


def _print_error(text: str) -> None:
    console.print(f"pullback: {errors.plain(text)}", style="red", soft_wrap=True)


def _print_note(message: Warning | str, *_: object, **__: object) -> None:
    console.print(f"note: {message}", style="yellow", soft_wrap=True)


def main() -> None:
    """Run the command line: a user's mistake becomes one line and an exit code."""
    warnings.showwarning = _print_note
    for each in _load_warnings:
        _print_note(each.message)
    code, message = _exit_code(lambda: app(standalone_mode=False))
    if message:
        _print_error(message)
    sys.exit(code)


def _exit_code(work: Callable[[], object]) -> tuple[int, str]:
    """Run `work` and return the exit code and the error message, "" if there is none."""
    stopped = "stopped; a sampling command continues with --resume"
    try:
        result = work()
    except (KeyboardInterrupt, Cancelled, typer.Abort):
        return 130, stopped
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # usage errors of typer and click
            message = error.format_message()
            if "unexpected extra argument" in message:
                message += ": put quotes around a prompt of several words, and -o before an output"
            return int(error.exit_code), message
        message = errors.sentence(error)
        if message is None:
            raise
        return 1, message
    code = result if isinstance(result, int) else 0  # typer returns exit codes, such as 130 for Ctrl-C
    return code, stopped if code == 130 else ""
