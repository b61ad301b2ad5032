"""Checking JSON from files and pipes against dataclasses.

The bounds of a value are declared with its field: `steps: Annotated[int, Meta(ge=1, le=1024)] = 48`.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

T = TypeVar("T")

LONGEST = 1 << 16
"""The longest text that is read, in characters."""

Count = Annotated[int, Meta(ge=1, le=4096)]
Size = Annotated[int, Meta(ge=1, le=8192)]
Depth = Annotated[int, Meta(ge=1, le=64)]
Seed = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Positive = Annotated[float, Meta(gt=0, le=1e3)]


def parsed(text: str | bytes, kind: type[T]) -> T:
    """Read an object of a dataclass from JSON.

    Args:
        text: The JSON.
        kind: The dataclass.

    Raises:
        ValueError: If the text is not JSON, or a value is missing, unknown, of another type or out of range.

    Example:
        >>> from dataclasses import dataclass
        >>> @dataclass
        ... class Picture:
        ...     width: int
        >>> parsed('{"width": 3}', Picture)
        Picture(width=3)
    """
    return built(decoded(text), kind)


def decoded(text: str | bytes) -> Any:
    """Read JSON as Python values. Raise ValueError if the text is not JSON, too long, or nested too deeply."""
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters, more than {LONGEST}")
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ValueError(f"it is not JSON: {error}") from error


def built(values: Any, kind: type[T]) -> T:
    """Make an object of a dataclass from JSON values. `kind` and the errors are as in `parsed`."""
    _refuse_unknown(values, kind, "$")
    try:
        return msgspec.convert(values, kind)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise ValueError(str(error).replace("`", "")) from error


def _refuse_unknown(values: Any, kind: Any, place: str) -> None:
    """Raise ValueError for a name that is not a field of the dataclass, or of a dataclass within it."""
    if not is_dataclass(kind) or not isinstance(values, dict):
        return
    hints = get_type_hints(kind)
    known = {each.name for each in fields(kind) if each.init}
    for name, value in values.items():
        if name not in known:
            raise ValueError(f"it does not know {name!r:.60} at {place}")
        _refuse_unknown(value, hints[name], f"{place}.{name}")
