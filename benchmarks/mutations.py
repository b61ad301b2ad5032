"""Crafted and damaged files: `python benchmarks/mutations.py [--count 10000]` counts how they are received.

Field files, run files and jobs are changed at random: their bytes, numbers, names, nesting and shapes. Fields that are still
accepted are also rendered, at 32 x 32 pixels. A mutation is accepted, refused with a sentence (ValueError), or "other", which is
any other exception. There must be no "other".
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


def mutated(value: Any, rng: random.Random) -> Any:
    """Return a JSON value with one change: an entry of a dictionary deleted or renamed, or a value replaced by a nasty one."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        value, name = copy.copy(value), rng.choice(list(value))
        how = rng.random()
        if how < 0.1:
            del value[name]
        elif how < 0.2:
            value[str(rng.choice(NASTY))[:80]] = value.pop(name)
        else:
            value[name] = mutated(value[name], rng)
        return value
    if rng.random() < 0.1:
        depth = rng.choice((10, 1000, 50_000))
        return json.loads("[" * 10 + "]" * 10) if depth == 10 else "[" * depth
    return rng.choice(NASTY)


def mutated_json(value: Any, rng: random.Random) -> str:
    """Return a mutated value as JSON or, one time in ten, a text that is malformed or holds a number out of range."""
    if rng.random() < 0.1:
        return rng.choice(("NaN", "Infinity", '{"a":' * 20_000, "[" * 60_000, '{"move": 1e999}', "", "\x00", '"'))
    return json.dumps(mutated(value, rng))


def damage(path: Path, rng: random.Random) -> None:
    """Overwrite one to four bytes of a file, mostly in its header. Sometimes also cut the file, or forge its header's length."""
    data = bytearray(path.read_bytes())
    header = min(len(data), 8 + int.from_bytes(data[:8], "little"))
    for _ in range(rng.randint(1, 4)):
        data[rng.randrange(header if rng.random() < 0.8 else len(data))] = rng.randrange(256)
    if rng.random() < 0.2:
        data = data[: rng.randrange(len(data))]
    if rng.random() < 0.1:
        data[:8] = struct.pack("<Q", rng.choice((0, 1 << 20, 1 << 40, (1 << 64) - 1)))
    path.write_bytes(data)


def field_file(folder: Path, rng: random.Random) -> None:
    """Write a field file, damage its bytes or mutate its metadata, load it, and render the field."""
    diffrep, path = rng.choice(DIFFREPS), folder / "f.field.safetensors"
    storage.save_field(path, storage.Field(diffrep, diffrep.init(storage.generator(0)), "a", "toybox", 7))
    if rng.random() < 0.5:
        damage(path, rng)
    else:
        tensors, texts = storage.read(path, storage.FIELD_FORMAT)
        texts["config"] = mutated_json(json.loads(texts["config"]), rng)
        if rng.random() < 0.2:
            texts[rng.choice(list(texts))] = str(rng.choice(NASTY)).encode("utf-8", "replace").decode()
        storage.write(path, tensors, texts)
    field = storage.load_field(path)
    with torch.no_grad():
        if isinstance(field.diffrep, Solid):
            field.diffrep.through(field.params, turntable(1), 32, 32)
        else:
            field.diffrep.picture(field.params, 32, 32)


def run_file(folder: Path, rng: random.Random) -> None:
    """Write a run file, damage its bytes or mutate its metadata, and load it."""
    path, random_state = folder / "r.run", storage.generator(3).get_state()
    state = State({"a": torch.ones(3)}, {"m.a": torch.ones(3)}, torch.ones(2, 2), torch.ones(2, 2), 4, random_state, 77)
    storage.save_run(path, state, SETTINGS)
    if rng.random() < 0.5:
        damage(path, rng)
    else:
        tensors, texts = storage.read(path, storage.RUN_FORMAT)
        name = rng.choice(("numbers", "settings"))
        storage.write(path, tensors, texts | {name: mutated_json(json.loads(texts[name]), rng)})
    storage.load_run(path, SETTINGS, state, 30)


def job(folder: Path, rng: random.Random) -> None:
    """Parse a mutated job, and make all checks that come before the sampling. Nothing is sampled."""
    from pullback.schema import decoded

    original = rng.choice((JOB, {**JOB, "kind": "image"}))
    message = decoded(mutated_json(original, rng).encode("utf-8", "surrogatepass"))
    if not isinstance(message, dict):
        raise ValueError("a message is an object")
    jobs.SamplingJob.of(jobs.Job.parse(message))


KINDS: dict[str, Callable[[Path, random.Random], None]] = {"field file": field_file, "run file": run_file, "job": job}


def outcome(kind: str, seed: int, folder: Path) -> tuple[str, float]:
    """Try one mutation; return "accepted", "refused" or "other: ...", and the seconds that it took."""
    began = time.perf_counter()
    try:
        KINDS[kind](folder, random.Random(seed))
        found = "accepted"
    except ValueError:
        found = "refused"
    except Exception as error:  # noqa: BLE001  counted, and named
        found = f"other: {type(error).__name__} with seed {seed}"
    return found, time.perf_counter() - began


def main(count: int = 10_000) -> None:
    """Print a row for each kind of file, and below it the first ten of its "other" outcomes.

    Seconds are those of the slowest mutation; the peak memory is that of the whole process until then.
    """
    print(
        "| what | mutations | accepted | refused | other | slowest | peak memory |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as folder:
            results = [outcome(kind, seed, Path(folder)) for seed in range(count // len(KINDS))]
        found = Counter(name for name, _ in results)
        other = {name: n for name, n in found.items() if name.startswith("other")}
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        numbers = f"{len(results)} | {found['accepted']} | {found['refused']} | {sum(other.values())}"
        print(f"| {kind} | {numbers} | {max(s for _, s in results):.2f} s | {memory} MiB |", flush=True)
        for name in list(other)[:10]:
            print(name)


if __name__ == "__main__":
    typer.run(main)
