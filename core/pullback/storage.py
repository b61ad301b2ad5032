"""Storage: field files and run files, both one safetensors file, never pickle.

A field file holds a finished field: its parameters and, as text, `format`, `kind`, `config` (JSON), `words` (the prompt),
`model`, `seed` and the version of pullback. `prompt` holds the words as well, unless a host keeps its graph there.
A run file holds the whole state of an unfinished run and its settings, so that it can be taken up after any
interruption. Both appear by atomic rename.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor

from .diffreps.image import SirenImage
from .diffreps.panorama import SirenCylinder, SirenSphere
from .diffreps.radiance import VoxelRadiance
from .fields.voxels import Voxels
from .files import atomic
from .pull import State
from .types import Params
from .version import VERSION

FIELD_FORMAT = "pullback-field-1"
RUN_FORMAT = "pullback-run-1"
KINDS: dict[str, type] = {
    "siren-image": SirenImage, "siren-cylinder": SirenCylinder, "siren-sphere": SirenSphere, "voxel-radiance": VoxelRadiance,
}  # fmt: skip

LARGEST = 1 << 20
"""Greatest whole number in a field's configuration."""

Diffrep = SirenImage | SirenCylinder | SirenSphere | VoxelRadiance


@dataclass(frozen=True)
class Field:
    """A sampled field: how it renders, its parameters, and where it came from."""

    diffrep: Diffrep
    params: Params
    prompt: str = ""
    model: str = "toybox"
    seed: int = 0

    @property
    def kind(self) -> str:
        """Its name in files."""
        return next(name for name, cls in KINDS.items() if type(self.diffrep) is cls)


def _config(diffrep: Diffrep) -> str:
    return json.dumps({f.name: getattr(diffrep, f.name) for f in fields(diffrep) if f.init}, default=asdict)


def _diffrep(kind: str, config: str, path: Path) -> Diffrep:
    if kind not in KINDS:
        raise ValueError(f"{path} holds a field of the unknown kind {kind!r}; this version knows {', '.join(KINDS)}")
    try:
        return _built(KINDS[kind], json.loads(config))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} describes its {kind} in a way that this version does not know ({error})") from error


def _built(kind: type, values: Any) -> Any:
    """A diffrep, or a part of one, from its configuration; every value must be of its default's type."""
    if not isinstance(values, dict):
        raise ValueError(f"{values!r} is no configuration")
    default = kind()
    return kind(**{name: _alike(name, value, getattr(default, name, None)) for name, value in values.items()})


def _alike(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, Voxels):
        return _built(Voxels, value)
    if isinstance(default, tuple) and isinstance(value, list) and len(value) == len(default):  # JSON has no tuples
        return tuple(_alike(name, each, like) for each, like in zip(value, default, strict=True))
    if isinstance(default, str) and isinstance(value, str):
        return value
    least = 0 if name == "seed" else 1
    if type(default) is int and type(value) is int and least <= value <= LARGEST:
        return value
    if isinstance(default, float) and type(value) in (int, float) and math.isfinite(value):
        return value
    raise ValueError(f"{name} is {value!r}")


def read(path: Path, expected: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and texts of a safetensors file of the format `expected`; ValueError says what it is instead.

    OSError where it is there and may not be read.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist or is not a file")
    path.open("rb").close()  # of a file that may not be read safetensors says that it does not exist
    try:
        with safe_open(path, "pt") as file:
            texts = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read: it is truncated or not a safetensors file ({error})") from error
    if texts.get("format") != expected:
        raise ValueError(f"{path} is of the format {texts.get('format', 'unknown')!r}; this version reads {expected!r}")
    return tensors, texts


def write(path: Path, tensors: dict[str, Tensor], texts: dict[str, str]) -> None:
    """Write a safetensors file so that it is either whole or not there. OSError where that fails."""
    with atomic(path) as part:
        try:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part, texts)
        except SafetensorError as error:  # it wraps the system's error, disk full among them
            code = re.search(r"os error (\d+)", str(error))
            raise (OSError(int(code[1]), os.strerror(int(code[1]))) if code else OSError(str(error))) from error


def save_field(path: Path, field: Field, embedded: Mapping[str, str] | None = None) -> None:
    """Write a field file.

    Args:
        path: where; it appears whole or not at all.
        field: what is saved.
        embedded: more texts for the file, for example a host's own description of how the field was made. They may
            take the place of `prompt`, which hosts use for graphs, and of nothing else.
    """
    texts = {"format": FIELD_FORMAT, "kind": field.kind, "config": _config(field.diffrep), "words": field.prompt}
    texts |= {"model": field.model, "seed": str(field.seed), "pullback": VERSION}
    write(path, field.params, {"prompt": field.prompt} | dict(embedded or {}) | texts)


def is_field(path: Path) -> bool:
    """Whether a file says of itself that it is a field. Reads its header only; False where that cannot be read."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == FIELD_FORMAT
    except (SafetensorError, OSError):
        return False


def load_field(path: Path) -> Field:
    """Read a field file. ValueError names what is wrong: the file, its format, its kind or its tensors."""
    tensors, texts = read(path, FIELD_FORMAT)
    diffrep = _diffrep(texts.get("kind", ""), texts.get("config", "{}"), path)
    with torch.device("meta"):  # shapes alone: a file may claim any size
        wanted = {k: (v.shape, v.dtype) for k, v in diffrep.init(Generator()).items()}
    found = {k: (v.shape, v.dtype) for k, v in tensors.items()}
    if wanted != found:
        wrong = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
        raise ValueError(f"{path} does not hold the tensors that its {texts['kind']} needs: {', '.join(wrong)}")
    broken = sorted(k for k, v in tensors.items() if not torch.isfinite(v).all())
    if broken:
        raise ValueError(
            f"{path} holds values that are not finite (NaN or infinite) in {', '.join(broken)}: sample it again"
        )
    seed = texts.get("seed", "0")
    if not seed.isdecimal():
        raise ValueError(f"{path} has the seed {seed!r}; it must be a whole number: sample it again")
    return Field(diffrep, tensors, texts.get("words", texts.get("prompt", "")), texts.get("model", ""), int(seed))


def save_run(path: Path, state: State, settings: dict[str, Any]) -> None:
    """Write the state of a run, with the settings that it must be continued with."""
    tensors = {f"params.{k}": v for k, v in state.params.items()} | {f"solver.{k}": v for k, v in state.solver.items()}
    tensors |= {"noise": state.noise, "carry": state.carry, "random": state.random}
    numbers = {"move": state.move, "passes": state.passes, "residual": state.residual}
    texts = {"settings": json.dumps(settings | {"pullback": VERSION}), "numbers": json.dumps(numbers)}
    write(path, tensors, {"format": RUN_FORMAT} | texts)


def load_run(path: Path, settings: dict[str, Any]) -> State:
    """Read the state of a run. ValueError where it was started with other settings or another version, naming them."""
    try:
        tensors, texts = read(path, RUN_FORMAT)
        before, numbers = dict(json.loads(texts["settings"])), json.loads(texts["numbers"])
        state = _state(tensors, numbers)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not a whole run ({error}): start anew, without --resume") from error
    now = json.loads(json.dumps(settings | {"pullback": VERSION}))
    if before != now:
        changed = [
            f"{k} {before.get(k)!r} (now {now.get(k)!r})"
            for k in sorted(before.keys() | now.keys())
            if before.get(k) != now.get(k)
        ]
        raise ValueError(
            f"the unfinished run {path} was started with other settings: {', '.join(changed)}; use those, or leave out --resume"
        )
    return state


def _state(tensors: dict[str, Tensor], numbers: dict[str, Any]) -> State:
    Generator().set_state(tensors["random"])  # raises where it is none
    parts: dict[str, Params] = {"params": {}, "solver": {}}
    for key, value in tensors.items():
        head, _, name = key.partition(".")
        if name:
            parts[head][name] = value
    return State(
        parts["params"],
        parts["solver"],
        tensors["noise"],
        tensors["carry"],
        int(numbers["move"]),
        tensors["random"],
        int(numbers["passes"]),
        float(numbers["residual"]),
    )


def generator(seed: int) -> Generator:
    """A generator on the CPU: the same numbers whatever device the model runs on."""
    return torch.Generator().manual_seed(seed)
