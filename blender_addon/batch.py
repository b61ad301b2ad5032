"""Batch: makes many objects, worlds and images without a window. The exit code is 0 only if every job succeeded.

There are three equivalent ways to run it:
    blender -b --python-exit-code 1 --python blender_addon/batch.py -- --prompt "a red mushroom" -o out.blend
    blender --command pullback --prompt "a red mushroom" -o out.blend          (where the extension is installed)
    python -m blender_addon.batch --prompt "a red mushroom" -o out.blend       (with the bpy wheel)
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import sys
import time
import types
from collections.abc import Iterator
from pathlib import Path

if not __package__:  # Blender runs this file as a script: create its package, without running the package's __init__
    __package__ = "blender_addon"
    sys.modules[__package__] = types.ModuleType(__package__)
    sys.modules[__package__].__path__ = [str(Path(__file__).resolve().parent)]

import bpy

from . import arguments, glb, learned, preferences, protocol, render, scene
from .arguments import Item, Mistake
from .descriptions import RECONSTRUCTION, Makes
from .protocol import Done, Error, Message, Note, Progress, Ready, Silent
from .worker import Worker

SPACING = 2.5
"""Metres between neighbouring objects in a row. An object is at most two metres wide."""
EVERY = 5.0
"""Least seconds between two progress lines."""


def run(given: list[str]) -> int:
    """Run a batch. Return its exit code: 0, 1 if a job failed, 2 if the arguments are wrong, or 130 after Ctrl-C."""
    learned.recall()
    try:
        asked = arguments.parser().parse_args(given)
        items = arguments.items(asked)
        python = _interpreter(asked.python)
    except SystemExit as stop:  # argparse has printed the reason
        return int(stop.code or 0)
    except Mistake as mistake:
        _complain(f"pullback: {mistake}")
        return 2
    try:
        with _interruptible():
            _generate([item for item in items if not (asked.resume and _is_finished(item))], python, asked.resume)
            _deliver(items, asked)
    except KeyboardInterrupt:
        _complain("pullback: stopped; the same command with --resume continues")
        return 130
    failed = [item for item in items if item.error]
    for item in failed:
        _complain(f"Failed: {item.title}: {item.error}")
    _say(f"pullback: {len(items) - len(failed)} of {len(items)} done")
    return 1 if failed else 0


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C raise KeyboardInterrupt. Blender's own handler only stops renders when there is no window."""
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        if before is not None:  # None: a handler that was not set by Python and cannot be restored
            signal.signal(signal.SIGINT, before)


def _interpreter(chosen: str | None) -> str:
    """Return the Python for the worker: `chosen`, PULLBACK_PYTHON, the current one if it has Pullback, or one that is found."""
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


def _is_finished(item: Item) -> bool:
    """Return whether an earlier batch finished this job: the file exists, and its field has the same prompt, seed and model.

    What has no field, such as a shape, is never finished: it is made again in seconds.
    """
    item.files = _files(item)
    if not item.made.is_file():
        return False
    metadata = _field_texts(Path(item.files["field"]))
    asked = {"prompt": item.prompt, "seed": str(item.seed), "model": item.options["model"]}
    return all(metadata.get(name) == value for name, value in asked.items())


def _files(item: Item) -> dict[str, str]:
    return {
        "mesh" if item.makes is Makes.OBJECT else "picture": str(item.made),
        "field": f"{item.made}.field.safetensors",
    }


def _field_texts(path: Path) -> dict[str, str]:
    """Return the metadata of a field file, or {} if it is not one."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            texts = json.loads(file.read(min(size, 1 << 20)))["__metadata__"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return texts if isinstance(texts, dict) else {}


def _generate(items: list[Item], python: str, resume: bool) -> None:
    """Run jobs one after another in one worker. It is restarted if it dies."""
    worker = Worker(python, f"batch of blender {bpy.app.version_string}")
    waiting = {str(item.index): item for item in items}
    try:
        for id, item in waiting.items():
            worker.submit(protocol.job(id, item.kind, str(item.made), item.settings, item.options, resume))
        last_line = 0.0
        while worker.jobs:
            for message in worker.poll():
                item = waiting.get(str(message.id))
                if isinstance(message, Progress) and (
                    time.monotonic() - last_line > EVERY or message.stage != "sampling"
                ):
                    last_line = time.monotonic()
                    _say(f"{item.title}: {_progress(message)}")
                else:
                    _hear(message, item)
            time.sleep(0.05)
    finally:
        worker.stop()


def _hear(message: Message, item: Item | None) -> None:
    match message:
        case Done():
            item.files = message.files
        case Error() if item is not None:
            item.error = ". ".join(filter(None, [message.text, message.hint.replace("Resume", "--resume")]))
            for line in message.log if message.hint else ():  # an error without a hint needs no log
                _complain(f"    {line}")
        case Note():
            _complain(f"note: {message.text}")
        case Silent():
            _complain(f"pullback: {message.text}")
        case Ready():
            learned.hear(message.representations)


def _progress(message: Progress) -> str:
    text = f"{message.stage}, {message.move} of {message.total}"
    return text if message.seconds_left is None else f"{text}, {message.seconds_left:.0f} s left"


# Delivering


def _deliver(items: list[Item], asked: argparse.Namespace) -> None:
    """Put the results into their .blend files, and render the pictures that were asked for."""
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
    """Add a group of results to the scene, save and render it, and remove them again, so that every group starts the same."""
    _clear_startup()
    before, world = set(bpy.data.user_map()), bpy.context.scene.world
    objects = [_place(item, i) for i, item in enumerate(group)]
    if out.suffix.lower() == ".blend":
        out.parent.mkdir(parents=True, exist_ok=True)
        bpy.ops.wm.save_as_mainfile(filepath=str(out), copy=True, relative_remap=False)
        _say(f"Saved: '{out}'")
    if asked.render:
        picture = group[0].path(asked.render)
        render.render(picture, [obj for obj in objects if isinstance(obj, bpy.types.Object)], asked.samples)
        _say(f"Saved: '{picture}'")
    bpy.context.scene.world = world
    bpy.data.batch_remove(set(bpy.data.user_map()) - before)


def _clear_startup() -> None:
    """Remove the cube, the light and the camera of Blender's start-up scene. An opened file keeps its objects."""
    if not bpy.data.filepath:
        bpy.data.batch_remove(set(bpy.data.objects))


def _place(item: Item, place: int) -> bpy.types.ID:
    if item.makes is Makes.OBJECT:
        cursor = bpy.context.scene.cursor.location
        in_row = cursor + cursor.__class__((SPACING * place, 0, 0))
        location = (0.0, 0.0, 0.0) if item.kind == RECONSTRUCTION else in_row  # the place where the cameras see it
        return scene.add_object(
            glb.read(item.made), name=item.name, location=location,
            field=item.files.get("field", ""), prompt=item.prompt, seed=item.seed, model=item.options["model"],
        )  # fmt: skip
    add = {Makes.WORLD: scene.set_world, Makes.MATERIAL: scene.add_material, Makes.IMAGE: scene.add_image}[item.makes]
    made: bpy.types.ID = add(item.made, name=item.name)
    made.use_fake_user = True  # Blender does not save unused data, such as a world that a later one replaces
    return made


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def main() -> int:
    """Run with the arguments after "--" if there are any (Blender runs this file), otherwise with all arguments."""
    given = sys.argv
    if "--" in given:
        return run(given[given.index("--") + 1 :])
    return run([] if bpy.app.binary_path and bpy.app.background and __spec__ is None else given[1:])


if __name__ == "__main__":
    code = main()
    if code:
        sys.exit(code)
