"""Crafted and damaged files: `python benchmarks/mutations.py [--count 10000]` prints what became of them.

Field files, run files and jobs are changed at random: bytes, numbers, names, nesting, shapes. What is still accepted is
used: fields are rendered small. Anything but success or a sentence (ValueError) counts as "other"; there must be none.
"""

from __future__ import annotations

import copy
import json
import random
import resource
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import typer
from pullback import jobs, storage
from pullback.diffreps.image import SirenImage
from pullback.diffreps.panorama import SirenCylinder, SirenSphere
from pullback.diffreps.radiance import VoxelRadiance
from pullback.diffreps.tile import SirenTile
from pullback.fields.voxels import Voxels
from pullback.geometry.cameras import turntable
from pullback.pull import State
from pullback.representation import Solid

TINY = {"width": 8, "depth": 1, "embedding": 4}
DIFFREPS = (
    SirenImage(**TINY),
    SirenCylinder(**TINY),
    SirenSphere(**TINY),
    SirenTile(**TINY),
    VoxelRadiance(voxels=Voxels(resolution=4)),
)
NASTY: tuple[Any, ...] = (
    0, -1, 1, 2, 3, 7, 1 << 20, 1 << 31, 1 << 63, 10**400, -(10**400), 0.0, -0.5, 1e308, -1e308, 1e-308, "", "x", "9" * 5000,
    None, True, [], [1], {}, {"a": {}}, "\ud800", "../../x", "rgb", "latent", [1, 2], [1 << 40, 1], 0.03, 1e30,
)  # fmt: skip
SETTINGS = {"prompt": "a red car", "steps": 3}
JOB = {"kind": "nothing", "out": "/x.png", "settings": SETTINGS, "options": {"size": 64}, "resume": False, "preview": 1}


def changed(value: Any, dice: random.Random) -> Any:
    """A JSON value with one thing in it changed: a leaf, a name, or something more or less."""
    if isinstance(value, dict) and value and dice.random() < 0.9:
        value, name = copy.copy(value), dice.choice(list(value))
        how = dice.random()
        if how < 0.1:
            del value[name]
        elif how < 0.2:
            value[str(dice.choice(NASTY))[:80]] = value.pop(name)
        else:
            value[name] = changed(value[name], dice)
        return value
    if dice.random() < 0.1:
        depth = dice.choice((10, 1000, 50_000))
        return json.loads("[" * 10 + "]" * 10) if depth == 10 else "[" * depth
    return dice.choice(NASTY)


def text(value: Any, dice: random.Random) -> str:
    """A changed value as JSON, sometimes with what JSON does not have."""
    if dice.random() < 0.1:
        return dice.choice(("NaN", "Infinity", '{"a":' * 20_000, "[" * 60_000, '{"move": 1e999}', "", "\x00", '"'))
    return json.dumps(changed(value, dice))


def bent(path: Path, dice: random.Random) -> None:
    """Change bytes of a file, mostly of its header, or cut it."""
    data = bytearray(path.read_bytes())
    header = min(len(data), 8 + int.from_bytes(data[:8], "little"))
    for _ in range(dice.randint(1, 4)):
        data[dice.randrange(header if dice.random() < 0.8 else len(data))] = dice.randrange(256)
    if dice.random() < 0.2:
        data = data[: dice.randrange(len(data))]
    if dice.random() < 0.1:
        data[:8] = struct.pack("<Q", dice.choice((0, 1 << 20, 1 << 40, (1 << 64) - 1)))
    path.write_bytes(data)


def field_file(folder: Path, dice: random.Random) -> None:
    """Write, change and read a field file, and render what is read."""
    diffrep, path = dice.choice(DIFFREPS), folder / "f.field.safetensors"
    storage.save_field(path, storage.Field(diffrep, diffrep.init(storage.generator(0)), "a", "toybox", 7))
    if dice.random() < 0.5:
        bent(path, dice)
    else:
        tensors, texts = storage.read(path, storage.FIELD_FORMAT)
        texts["config"] = text(json.loads(texts["config"]), dice)
        if dice.random() < 0.2:
            texts[dice.choice(list(texts))] = str(dice.choice(NASTY)).encode("utf-8", "replace").decode()
        storage.write(path, tensors, texts)
    field = storage.load_field(path)
    with torch.no_grad():
        if isinstance(field.diffrep, Solid):
            field.diffrep.through(field.params, turntable(1), 32, 32)
        else:
            field.diffrep.picture(field.params, 32, 32)


def run_file(folder: Path, dice: random.Random) -> None:
    """Write, change and read a run file."""
    path, random_state = folder / "r.run", storage.generator(3).get_state()
    state = State({"a": torch.ones(3)}, {"m.a": torch.ones(3)}, torch.ones(2, 2), torch.ones(2, 2), 4, random_state, 77)
    storage.save_run(path, state, SETTINGS)
    if dice.random() < 0.5:
        bent(path, dice)
    else:
        tensors, texts = storage.read(path, storage.RUN_FORMAT)
        name = dice.choice(("numbers", "settings"))
        storage.write(path, tensors, texts | {name: text(json.loads(texts[name]), dice)})
    storage.load_run(path, SETTINGS, state, 30)


def job(folder: Path, dice: random.Random) -> None:
    """Read a changed job, and check all that is checked before work begins (its kind is of no work)."""
    from pullback.schema import decoded

    message = decoded(text(dice.choice((JOB, {**JOB, "kind": "image"})), dice).encode("utf-8", "surrogatepass"))
    if not isinstance(message, dict):
        raise ValueError("a message is an object")
    jobs.SamplingJob.of(jobs.Job.parse(message))


KINDS: dict[str, Callable[[Path, random.Random], None]] = {"field file": field_file, "run file": run_file, "job": job}


def tried(kind: str, seed: int, folder: Path) -> tuple[str, float]:
    """What became of one mutation, and the seconds that it took."""
    began = time.perf_counter()
    try:
        KINDS[kind](folder, random.Random(seed))
        found = "accepted"
    except ValueError:
        found = "refused"
    except Exception as error:  # noqa: BLE001  counted, and named
        found = f"other: {type(error).__name__} at {seed}"
    return found, time.perf_counter() - began


def main(count: int = 10_000) -> None:
    print(
        "| what | mutations | accepted | refused | other | slowest | peak memory |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            results = [tried(kind, seed, Path(folder)) for seed in range(count // len(KINDS))]
        found = Counter(name for name, _ in results)
        other = {name: n for name, n in found.items() if name.startswith("other")}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        numbers = f"{len(results)} | {found['accepted']} | {found['refused']} | {sum(other.values())}"
        print(f"| {kind} | {numbers} | {max(s for _, s in results):.2f} s | {memory} MB |", flush=True)
        for name in list(other)[:10]:
            print(name)


if __name__ == "__main__":
    typer.run(main)
