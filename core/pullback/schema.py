"""Schema: what a file or a line may say. Declared once, as dataclasses whose fields carry their bounds, and checked here.

A bound is written where the field is: `steps: Annotated[int, Meta(ge=1, le=1024)] = 48`.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec
from msgspec import Meta

T = TypeVar("T")

LONGEST = 1 << 16
"""Characters of a text that is read."""

Count = Annotated[int, Meta(ge=1, le=4096)]
Size = Annotated[int, Meta(ge=1, le=8192)]
Depth = Annotated[int, Meta(ge=1, le=64)]
Seed = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Positive = Annotated[float, Meta(gt=0, le=1e3)]


def parsed(text: str | bytes, kind: type[T]) -> T:
    """An object of the dataclass `kind` from JSON. ValueError says where the text is wrong, and what was expected."""
    return built(decoded(text), kind)


def decoded(text: str | bytes) -> Any:
    """JSON as Python values; ValueError where it is none, too long, too deep, or has numbers that are not finite."""
    if len(text) > LONGEST:
        raise ValueError(f"it has {len(text)} characters, more than {LONGEST}")
    try:
        return msgspec.json.decode(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (msgspec.DecodeError, UnicodeError) as error:
        raise ValueError(f"it is not JSON: {error}") from error


def built(values: Any, kind: type[T]) -> T:
    """An object of the dataclass `kind` from JSON values, every one of them checked; ValueError names the first wrong one."""
    _known(values, kind, "$")
    try:
        return msgspec.convert(values, kind)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        raise ValueError(str(error).replace("`", "")) from error


def _known(values: Any, kind: Any, place: str) -> None:
    """Refuse names that the dataclass does not have, within it as well."""
    if not is_dataclass(kind) or not isinstance(values, dict):
        return
    hints = get_type_hints(kind)
    mine = {each.name for each in fields(kind) if each.init}
    for name, value in values.items():
        if name not in mine:
            raise ValueError(f"it does not know {name!r:.60} at {place}")
        _known(value, hints[name], f"{place}.{name}")
