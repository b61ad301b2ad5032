"""Batch: many objects, worlds and images without a window. The exit code is 0 only if every one of them is there.

Three ways in, one meaning:
    blender -b --python-exit-code 1 --python blender_addon/batch.py -- --prompt "a red mushroom" -o out.blend
    blender --command pullback --prompt "a red mushroom" -o out.blend          (where the extension is installed)
    python -m blender_addon.batch --prompt "a red mushroom" -o out.blend       (with the bpy wheel)
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import string
import sys
import time
import types
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

if not __package__:  # Blender runs this file as a script: give it the package that it lies in, without its __init__
    __package__ = "blender_addon"
    sys.modules[__package__] = types.ModuleType(__package__)
    sys.modules[__package__].__path__ = [str(Path(__file__).resolve().parent)]

import bpy

from . import glb, preferences, presets, protocol, render, scene
from .worker import Worker

SPACING = 2.5
"""Metres between the objects of a row: an object is at most two metres wide."""
EVERY = 5.0
"""Seconds between two lines about a job that runs."""
KINDS = {"object": "prompt", "panorama": "panorama", "image": "image"}
"""The kinds of jobs and the options that name them."""
SETTINGS: dict[str, type] = {
    "negative": str, "steps": int, "guidance": float, "eta": float, "solver": str, "views": int,
}  # fmt: skip
OPTIONS: dict[str, dict[str, type]] = {
    "object": {"faces": int, "texture": int, "resolution": int, "bake_views": int, "bake_size": int},
    "panorama": {"width": int},
    "image": {"size": int},
}
PLACES = {"prompt", "seed", "kind", "index"}
"""What may stand in braces in the name of an output."""


class Mistake(ValueError):
    """Something wrong in what was asked for, in one sentence."""


@dataclass
class Item:
    """One thing to make. out: the file that is asked for. made: the file that the worker writes. error: why not."""

    index: int
    kind: str
    prompt: str
    seed: int
    settings: dict[str, Any]
    options: dict[str, Any]
    out: Path = Path()
    made: Path = Path()
    error: str = ""
    files: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f'{self.kind} "{self.prompt}" (seed {self.seed})'

    @property
    def name(self) -> str:
        return self.prompt[:60]

    def path(self, template: str) -> Path:
        """A template with its braces filled in."""
        values = {"prompt": protocol.slug(self.prompt), "seed": self.seed, "kind": self.kind, "index": self.index}
        return Path(template.format(**values)).absolute()


def run(arguments: list[str]) -> int:
    """Do what the arguments ask for; the exit code: 0, or 1 where a job failed, 2 where the arguments are wrong."""
    try:
        asked = _parser().parse_args(arguments)
        items = _items(asked)
        python = _interpreter(asked.python)
    except SystemExit as stop:  # argparse has said why
        return int(stop.code or 0)
    except Mistake as mistake:
        _complain(f"pullback: {mistake}")
        return 2
    try:
        _generate([item for item in items if not (asked.resume and _there(item))], python, asked.resume)
    except KeyboardInterrupt:
        _complain("pullback: stopped; the same command with --resume goes on")
        return 130
    _deliver(items, asked)
    failed = [item for item in items if item.error]
    for item in failed:
        _complain(f"Failed: {item.title}: {item.error}")
    _say(f"pullback: {len(items) - len(failed)} of {len(items)} done")
    return 1 if failed else 0


# What is asked for


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="pullback", description="Sample textured objects, panorama worlds and images, and put them into files.",
        epilog="The exit code is 0 only if every job succeeded, 1 where one failed, 2 where the arguments are wrong.",
    )  # fmt: skip
    what = parser.add_argument_group("what")
    what.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="an object; may be repeated")
    what.add_argument("--panorama", action="append", default=[], metavar="TEXT", help="a world; may be repeated")
    what.add_argument("--image", action="append", default=[], metavar="TEXT", help="an image; may be repeated")
    what.add_argument("--prompts", metavar="FILE", help="objects: a .txt with one prompt a line, or any jobs: a .jsonl "
                      'with lines such as {"kind": "object", "prompt": "a red mushroom", "seed": 7, "steps": 30}')  # fmt: skip
    what.add_argument("--seed", type=int, nargs="+", default=[0], help="every prompt with each of these seeds (0)")
    where = parser.add_argument_group("where")
    where.add_argument("-o", "--out", required=True, metavar="FILE", help="out.blend takes everything; with {prompt}, "
                       "{seed}, {kind} or {index} in its name each job gets its own .blend, .glb (objects) or .png")  # fmt: skip
    where.add_argument("--resume", action="store_true", help="do only what is missing, and continue what was begun")
    where.add_argument("--render", metavar="PNG", help="also a picture, by Cycles; takes the same names in braces")
    where.add_argument("--samples", type=int, default=render.SAMPLES, help=f"of that picture ({render.SAMPLES})")
    how = parser.add_argument_group("how")
    how.add_argument("--quality", choices=presets.QUALITIES, default="normal", help="draft, normal or fine (normal)")
    for name, kind in {**SETTINGS, **{n: t for options in OPTIONS.values() for n, t in options.items()}}.items():
        how.add_argument(f"--{name.replace('_', '-')}", type=kind, help="in place of the quality's")
    how.add_argument("--model", default="toybox", help="toybox, a diffusers folder or a .safetensors checkpoint")
    how.add_argument("--device", default="cpu", help="cpu, cuda, mps (cpu)")
    how.add_argument("--python", metavar="FILE", help="the interpreter that has pullback; else the one that is found")
    return parser


def _items(asked: argparse.Namespace) -> list[Item]:
    """Every job with its files. Mistake where the arguments do not fit together."""
    wanted = [{"kind": kind, "prompt": prompt} for kind, option in KINDS.items() for prompt in getattr(asked, option)]
    wanted += _listed(Path(asked.prompts)) if asked.prompts else []
    if not wanted:
        raise Mistake("nothing to do: give --prompt, --panorama, --image or --prompts")
    spread = [{"seed": seed, **job} for job in wanted for seed in ([job["seed"]] if "seed" in job else asked.seed)]
    items = [_item(index, job, asked) for index, job in enumerate(spread)]
    _check_names(asked.out)
    for item in items:
        _give_files(item, asked)
    _check_files(items, asked)
    return items


def _listed(path: Path) -> list[dict[str, Any]]:
    """The jobs that a .txt or .jsonl file lists; empty lines and lines that begin with # are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Mistake(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from None
    kept = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    if path.suffix == ".jsonl":
        return [_described(line, f"line {n} of {path.name}") for n, line in kept]
    if path.suffix == ".txt":
        return [{"kind": "object", "prompt": line} for _, line in kept]
    raise Mistake(f"{path.name} should be a .txt with one prompt a line, or a .jsonl with one job a line")


def _described(line: str, place: str) -> dict[str, Any]:
    """One line of a .jsonl file, its names and types checked."""
    try:
        job = json.loads(line)
    except ValueError:
        job = None
    if not isinstance(job, dict) or not isinstance(job.get("prompt"), str):
        raise Mistake(f'{place} should be a job such as {{"prompt": "a red mushroom"}}')
    job = {"kind": "object", **job}
    if job["kind"] not in KINDS:
        raise Mistake(f"{place} has the kind {job['kind']!r}; it must be one of {', '.join(KINDS)}")
    known = {"kind": str, "prompt": str, "seed": int, **SETTINGS, **OPTIONS[job["kind"]], "quality": str, "model": str,
             "device": str}  # fmt: skip
    for name, value in job.items():
        if name not in known:
            raise Mistake(f"{place} has {name!r}, which a job of the kind {job['kind']} does not take")
        if type(value) is not known[name] and not (known[name] is float and type(value) is int):
            raise Mistake(f"{place} has {name} {value!r}, which should be of the type {known[name].__name__}")
    if job.get("quality", "normal") not in presets.QUALITIES:
        raise Mistake(f"{place} has the quality {job['quality']!r}; it must be one of {', '.join(presets.QUALITIES)}")
    return job


def _item(index: int, job: dict[str, Any], asked: argparse.Namespace) -> Item:
    """A job with all its values: its own, else the arguments', else the quality's."""
    value = lambda name: job.get(name, getattr(asked, name))
    kind, quality = job["kind"], value("quality")
    own = lambda names: {name: value(name) for name in names if value(name) is not None}
    model = value("model")
    model = model if model == "toybox" else str(Path(model).absolute())
    settings = presets.settings(kind, quality) | own(SETTINGS) | {"prompt": job["prompt"], "seed": job["seed"]}
    options = presets.options(kind, quality) | own(OPTIONS[kind]) | {"model": model, "device": value("device")}
    return Item(index, kind, job["prompt"], job["seed"], settings, options)


def _check_names(template: str) -> None:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError:
        names = {""}
    unknown = sorted(names - PLACES)
    if unknown:
        raise Mistake(
            f"the name {template} has {{{unknown[0]}}}; known are " + ", ".join(f"{{{n}}}" for n in sorted(PLACES))
        )


def _give_files(item: Item, asked: argparse.Namespace) -> None:
    """What is asked for, and what the worker writes: the same, or a part beside the .blend file that takes it in."""
    item.out = item.path(asked.out)
    suffix = protocol.SUFFIX[item.kind]
    if item.out.suffix.lower() == ".blend":
        folder = item.out.with_suffix(".pullback")
        item.made = folder / f"{item.kind}-{protocol.slug(item.prompt)}-{item.seed}{suffix}"
    elif item.out.suffix.lower() == suffix:
        item.made = item.out
    else:
        raise Mistake(f"the output {item.out.name} should end in .blend or, for the {item.title}, in {suffix}")


def _check_files(items: list[Item], asked: argparse.Namespace) -> None:
    """No two jobs may write one file."""
    first: dict[Path, Item] = {}
    for item in items:
        other = first.setdefault(item.made, item)
        if other is not item:
            raise Mistake(
                f"{other.title} and {item.title} would both write {item.made.name}: put {{index}} or {{seed}} into -o"
            )
    if asked.render:
        _check_names(asked.render)
        if Path(asked.render).suffix.lower() != ".png":
            raise Mistake(f"--render is {asked.render}; it should end in .png")
        pictures = {item.out: item.path(asked.render) for item in items}
        if len(set(pictures.values())) < len(pictures):
            raise Mistake(
                f"--render {asked.render} would be written {len(pictures)} times: put {{prompt}} or {{index}} into it"
            )


def _interpreter(chosen: str | None) -> str:
    """The Python that runs the worker: the chosen one, the extension's, this one, or the one that is found."""
    chosen = chosen or os.environ.get("PULLBACK_PYTHON")
    if chosen:
        return chosen
    if all(importlib.util.find_spec(name) for name in ("torch", "pullback")):
        return sys.executable
    found = preferences.interpreter()
    if found is None:
        raise Mistake("no Python in which Pullback is installed was found: name it with --python")
    return str(found)


# Making


def _there(item: Item) -> bool:
    """Whether an earlier batch made it: the whole file is there, and its field says that it is of this job."""
    item.files = _files(item)
    if not item.made.is_file():
        return False
    told = _field_texts(Path(item.files["field"]))
    asked = {"prompt": item.prompt, "seed": str(item.seed), "model": item.options["model"]}
    return all(told.get(name) == value for name, value in asked.items())


def _files(item: Item) -> dict[str, str]:
    return {"mesh" if item.kind == "object" else "picture": str(item.made), "field": f"{item.made}.field.safetensors"}


def _field_texts(path: Path) -> dict[str, str]:
    """What a field file says of itself; nothing where it is none."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            texts = json.loads(file.read(min(size, 1 << 20)))["__metadata__"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return texts if isinstance(texts, dict) else {}


def _generate(items: list[Item], python: str, resume: bool) -> None:
    """Make what is missing, one after another, in one worker as long as it lives."""
    worker = Worker(python, f"batch of blender {bpy.app.version_string}")
    waiting = {str(item.index): item for item in items}
    try:
        for id, item in waiting.items():
            worker.submit(protocol.job(id, item.kind, str(item.made), item.settings, item.options, resume))
        told = 0.0
        while worker.jobs:
            for message in worker.poll():
                item = waiting.get(str(message.get("id")))
                if message["type"] == "progress" and (
                    time.monotonic() - told > EVERY or message["stage"] != "sampling"
                ):
                    told = time.monotonic()
                    _say(f"{item.title}: {_progress(message)}")
                else:
                    _hear(message, item)
            time.sleep(0.05)
    finally:
        worker.stop()


def _hear(message: protocol.Message, item: Item | None) -> None:
    kind = message["type"]
    if kind == "done":
        item.files = message["files"]
    elif kind == "error" and item is not None:
        item.error = ". ".join(filter(None, [message["text"], message["hint"].replace("Resume", "--resume")]))
        for line in message["log"] if message["hint"] else ():  # not for mistakes that the sentence says all about
            _complain(f"    {line}")
    elif kind == "note":
        _complain(f"note: {message['text']}")
    elif kind == "silent":
        _complain(f"pullback: {message['text']}")


def _progress(message: protocol.Message) -> str:
    text = f"{message['stage']}, {message['move']} of {message['total']}"
    return text if message["seconds_left"] is None else f"{text}, {message['seconds_left']:.0f} s left"


# Delivering


def _deliver(items: list[Item], asked: argparse.Namespace) -> None:
    """Put what was made into its .blend files, and draw the pictures that were asked for."""
    made = [item for item in items if not item.error]
    for item in made:
        if item.made == item.out:
            _say(f"Saved: '{item.out}'")
    for out in dict.fromkeys(item.out for item in made):
        group = [item for item in made if item.out == out]
        if out.suffix.lower() == ".blend" or asked.render:
            try:
                _gather(group, out, asked)
            except (OSError, ValueError, RuntimeError) as error:
                for item in group:
                    item.error = f"it was made, but {error}"


def _gather(group: list[Item], out: Path, asked: argparse.Namespace) -> None:
    """The group in the scene: saved, drawn, and taken out again, so that the next group finds the scene as it was."""
    _clear_startup()
    before, world = set(bpy.data.user_map()), bpy.context.scene.world
    things = [_place(item, i) for i, item in enumerate(group)]
    if out.suffix.lower() == ".blend":
        out.parent.mkdir(parents=True, exist_ok=True)
        bpy.ops.wm.save_as_mainfile(filepath=str(out), copy=True, relative_remap=False)
        _say(f"Saved: '{out}'")
    if asked.render:
        picture = group[0].path(asked.render)
        render.render(picture, [thing for thing in things if isinstance(thing, bpy.types.Object)], asked.samples)
        _say(f"Saved: '{picture}'")
    bpy.context.scene.world = world
    bpy.data.batch_remove(set(bpy.data.user_map()) - before)


def _clear_startup() -> None:
    """Take the cube, the lamp and the camera out of Blender's start-up scene; a file that was opened is kept whole."""
    if not bpy.data.filepath:
        bpy.data.batch_remove(set(bpy.data.objects))


def _place(item: Item, place: int) -> bpy.types.ID:
    if item.kind == "object":
        location = bpy.context.scene.cursor.location + bpy.context.scene.cursor.location.__class__(
            (SPACING * place, 0, 0)
        )
        return scene.add_object(
            glb.read(item.made), name=item.name, location=location, field=item.files["field"], prompt=item.prompt,
            seed=item.seed, model=item.options["model"],
        )  # fmt: skip
    if item.kind == "panorama":
        made: bpy.types.ID = scene.set_world(item.made, name=item.name)
    else:
        made = scene.add_image(item.made, name=item.name)
    made.use_fake_user = (
        True  # else a world that another took the place of, and an image on nothing, would not be saved
    )
    return made


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> int:
    """Run with the arguments after "--" where Blender runs this file, else with all of them."""
    arguments = sys.argv
    if "--" in arguments:
        return run(arguments[arguments.index("--") + 1 :])
    return run([] if bpy.app.binary_path and bpy.app.background and __spec__ is None else arguments[1:])


if __name__ == "__main__":
    code = main()
    if code:
        sys.exit(code)
