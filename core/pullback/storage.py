"""Field files and run files. Each is a single safetensors file, without pickle, that is renamed into place when it is complete.

A field file holds a finished field: its parameters and, as text, `format`, `kind`, `config` (JSON), `words` (the prompt),
`model`, `seed` and the version of Pullback. `prompt` repeats `words`, unless a host stores its graph there. A run file
holds the complete state of an unfinished run and its settings, so that the run can continue after any interruption.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from msgspec import Meta
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Generator, Tensor

from .files import atomic
from .pull import State
from .representations import package_of, readable
from .schema import decoded, parsed
from .types import Params
from .version import VERSION

FIELD_FORMAT = "pullback-field-1"
RUN_FORMAT = "pullback-run-1"
OURS = "pullback"
"""The package whose representations are always installed."""
MAX_HEADER_BYTES = 1 << 24
"""The largest safetensors header that is read. Ours takes kilobytes; a host's graph, stored with it, may take more."""


@dataclass(frozen=True)
class Field:
    """A sampled field.

    Args:
        diffrep: The representation, which renders it.
        params: Its parameters.
        prompt: The prompt that it was sampled with.
        model: The name of the model that sampled it.
        seed: The seed of the run.
    """

    diffrep: Any
    params: Params
    prompt: str = ""
    model: str = "toybox"
    seed: int = 0

    def to(self, device: str) -> Field:
        """Return the same field on another device."""
        return replace(self, params={name: p.to(device) for name, p in self.params.items()})

    @property
    def kind(self) -> str:
        """The name of its representation."""
        return self.diffrep.name


def _config(diffrep: Any) -> str:
    values = {f.name: getattr(diffrep, f.name) for f in fields(diffrep) if f.init}
    return json.dumps({name: value for name, value in values.items() if value is not None}, default=asdict)


def _diffrep(texts: Mapping[str, str], path: Path) -> Any:
    kind, package, known = texts.get("kind", ""), texts.get("package", OURS), readable()
    if kind not in known:
        where = f"install the package {package!r:.60}, which has it" if package != OURS else "update pullback"
        raise ValueError(
            f"{path} holds a field of the unknown kind {kind!r:.60}: {where}; this version knows {', '.join(known)}"
        )
    try:
        return parsed(texts.get("config", "{}"), known[kind])
    except ValueError as error:
        raise ValueError(f"{path} describes its {kind} in a way that this version does not know ({error})") from error


DTYPES = {"F32": torch.float32, "F64": torch.float64, "F16": torch.float16, "U8": torch.uint8, "I64": torch.int64}
"""The types of tensors in our files, by their safetensors name."""
Shapes = dict[str, tuple[tuple[int, ...], Any]]
"""Shape and dtype of tensors, by name."""


def shapes_of(tensors: Params) -> Shapes:
    """Return shape and dtype of tensors, which may be on the meta device."""
    return {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}


@contextmanager
def opened(path: Path, expected: str) -> Iterator[tuple[Any, dict[str, str], Shapes]]:
    """Open a safetensors file without reading its tensors.

    Args:
        path: The file.
        expected: The format that it must have.

    Yields:
        The open file, its texts, and the shapes of its tensors.

    Raises:
        ValueError: If the file does not exist, is damaged or has another format.
        OSError: If the permission to read it is missing.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist or is not a file")
    with path.open("rb") as raw:  # safetensors would claim that an unreadable file does not exist
        header = int.from_bytes(raw.read(8), "little")
    if header > MAX_HEADER_BYTES:
        raise ValueError(f"{path} cannot be read: it is truncated or not a safetensors file of Pullback's")
    try:
        with safe_open(path, "pt") as file:
            texts = file.metadata() or {}
            if texts.get("format") != expected:
                format = texts.get("format", "unknown")
                raise ValueError(f"{path} is of the format {format!r:.60}; this version reads {expected!r}")
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118
            yield file, texts, {k: (tuple(s.get_shape()), DTYPES.get(s.get_dtype())) for k, s in slices.items()}
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read: it is truncated or not a safetensors file ({error})") from error


def read(path: Path, expected: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read the tensors and the texts of a safetensors file. Arguments and errors are those of `opened`."""
    with opened(path, expected) as (file, texts, _):
        return _tensors(file, path), texts


def _tensors(file: Any, path: Path) -> dict[str, Tensor]:
    """Return all tensors of an open file. Raise ValueError if one has values that are not finite."""
    tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    broken = sorted(k for k, v in tensors.items() if v.is_floating_point() and not torch.isfinite(v).all())
    if broken:
        raise ValueError(
            f"{path} holds values that are not finite (NaN or infinite) in {', '.join(broken)}: sample it again"
        )
    return tensors


def _differing(wanted: Shapes, found: Shapes) -> str:
    """Return the names whose shapes differ, at most six of them."""
    wrong = sorted(k for k in wanted.keys() | found.keys() if wanted.get(k) != found.get(k))
    return ", ".join(f"{name:.60}" for name in wrong[:6])


def write(path: Path, tensors: dict[str, Tensor], texts: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Args:
        path: Where to write.
        tensors: The tensors, on any device.
        texts: The texts of its header.

    Raises:
        OSError: If it cannot be written.
    """
    with atomic(path) as part:
        try:
            save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, part, texts)
        except SafetensorError as error:  # which wraps errors of the operating system, such as a full disk
            code = re.search(r"os error (\d+)", str(error))
            raise (OSError(int(code[1]), os.strerror(int(code[1]))) if code else OSError(str(error))) from error


def save_field(path: Path, field: Field, embedded: Mapping[str, str] | None = None) -> None:
    """Write a field file.

    Args:
        path: Where to write. The file appears whole or not at all.
        field: The field.
        embedded: More texts for the file, such as a host's graph. They can replace `prompt`, but no other text of ours.

    Raises:
        OSError: If it cannot be written.
    """
    texts = {"format": FIELD_FORMAT, "kind": field.kind, "config": _config(field.diffrep), "words": field.prompt}
    texts |= {"model": field.model, "seed": str(field.seed), "pullback": VERSION}
    if (package := package_of(type(field.diffrep))) != OURS:
        texts["package"] = package
    write(path, field.params, {"prompt": field.prompt} | dict(embedded or {}) | texts)


def is_field(path: Path) -> bool:
    """Return whether a file is a field file, by its header. A file that cannot be read is not one."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format") == FIELD_FORMAT
    except (SafetensorError, OSError):
        return False


def load_field(path: Path) -> Field:
    """Read a field file.

    Raises:
        ValueError: If the file is missing, damaged, of another format, or of an unknown representation.
        OSError: If the permission to read it is missing.
    """
    with opened(path, FIELD_FORMAT) as (file, texts, found):
        diffrep = _diffrep(texts, path)
        wanted = _wanted(diffrep, found, path)
        if wanted != found:
            kind, wrong = texts["kind"], _differing(wanted, found)
            raise ValueError(f"{path} does not hold the tensors that its {kind} needs: {wrong}")
        tensors = _tensors(file, path)
    seed = texts.get("seed", "0")
    if not (seed.isascii() and seed.isdecimal() and len(seed) < 20 and int(seed) < 1 << 63):
        raise ValueError(f"{path} has the seed {seed!r:.60}; it must be a whole number below 2^63: sample it again")
    return Field(diffrep, tensors, texts.get("words", texts.get("prompt", "")), texts.get("model", ""), int(seed))


def _wanted(diffrep: Any, found: Shapes, path: Path) -> Shapes:
    """Return the shapes of a diffrep's parameters. Raise ValueError if they are too large to exist."""
    try:
        with torch.device("meta"):  # allocates nothing: a file may claim any size
            return shapes_of(diffrep.init(Generator()))
    except RuntimeError as error:
        raise ValueError(f"{path} describes a field that is too large to exist ({error})") from error


def save_run(path: Path, state: State, settings: dict[str, Any]) -> None:
    """Write a run file.

    Args:
        path: Where to write. The file appears whole or not at all.
        state: The state of the run.
        settings: The settings of the run, as JSON values. The run can be continued only with the same settings.

    Raises:
        OSError: If it cannot be written.
    """
    numbers = {"move": state.move, "passes": state.passes, "residual": state.residual}
    texts = {"settings": json.dumps(settings | {"pullback": VERSION}), "numbers": json.dumps(numbers)}
    write(path, _stored(state), {"format": RUN_FORMAT} | texts)


@dataclass(frozen=True)
class _Numbers:
    """The numbers of a `State` that a run file keeps as text."""

    move: Annotated[int, Meta(ge=0, le=1 << 20)]
    passes: Annotated[int, Meta(ge=0, le=1 << 53)]
    residual: float


def load_run(
    path: Path,
    settings: dict[str, Any],
    expected: State | None = None,
    moves: int = 1 << 20,
    defaults: Mapping[str, Any] | None = None,
) -> State:
    """Read a run file.

    Args:
        path: The run file.
        settings: The settings that the run must have been started with.
        expected: A state of the same run, to compare shapes with. It may be on the meta device. None compares nothing.
        moves: The number of moves of the whole run.
        defaults: The values of settings that are left out, either in `settings` or in the file.

    Raises:
        ValueError: If the file is damaged, or the run was started with other settings or another version of Pullback.
        OSError: If the permission to read the file is missing.
    """
    try:
        with opened(path, RUN_FORMAT) as (file, texts, found):
            before, numbers = decoded(texts["settings"]), parsed(texts["numbers"], _Numbers)
            if not isinstance(before, dict):
                raise _Damaged("its settings are not a JSON object")
            _check_same({**(defaults or {}), **before}, {**(defaults or {}), **settings}, path)
            if expected is not None and (wanted := shapes_of(_stored(expected))) != found:
                raise _Damaged(f"its tensors are not those of this run: {_differing(wanted, found)}")
            if numbers.move > moves:
                raise _Damaged(f"it has done {numbers.move} moves of {moves}")
            return _state(_tensors(file, path), numbers)
    except _OtherSettings as error:
        raise ValueError(str(error)) from None
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} is not a whole run ({error}): start anew, without --resume") from error


class _Damaged(ValueError):
    """A run file does not contain a run."""


class _OtherSettings(ValueError):
    """The run in a run file was started with other settings."""


def _check_same(before: dict[str, Any], settings: dict[str, Any], path: Path) -> None:
    """Raise `_OtherSettings` if the settings or the version in a run file differ from the present ones."""
    now = json.loads(json.dumps(settings | {"pullback": VERSION}))
    changed = [
        f"{k} {before.get(k)!r:.60} (now {now.get(k)!r:.60})"
        for k in sorted(before.keys() | now.keys())
        if before.get(k) != now.get(k)
    ]
    if changed:
        raise _OtherSettings(
            f"the unfinished run {path} was started with other settings: {', '.join(changed)}; use those, or leave out --resume"
        )


def _stored(state: State) -> dict[str, Tensor]:
    """Return the tensors of a state, under their names in a run file."""
    tensors = {f"params.{k}": v for k, v in state.params.items()} | {f"solver.{k}": v for k, v in state.solver.items()}
    return tensors | {"noise": state.noise, "carry": state.carry, "random": state.random}


def _state(tensors: dict[str, Tensor], numbers: _Numbers) -> State:
    Generator().set_state(tensors["random"])  # raises if this is not the state of a generator
    parts: dict[str, Params] = {"params": {}, "solver": {}}
    for key, value in tensors.items():
        head, _, name = key.partition(".")
        if name:
            parts[head][name] = value
    noise, carry, random = (tensors[key] for key in ("noise", "carry", "random"))
    return State(parts["params"], parts["solver"], noise, carry, numbers.move, random, numbers.passes, numbers.residual)


def generator(seed: int) -> Generator:
    """Return a generator on the CPU, so that its random numbers do not depend on the device that the model runs on."""
    return torch.Generator().manual_seed(seed)
