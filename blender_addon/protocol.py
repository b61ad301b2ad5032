"""Protocol: the JSON lines between this extension and `python -m pullback.worker`, described in docs/worker.md.

What the worker says is a `Message` of its type; what it is told is a dict. Pure standard library.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, field, fields
from typing import Any

from .descriptions import DERIVED

VERSION = 1

Told = dict[str, Any]
"""A message to the worker."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """Something that a worker says. id: of the job that it is about; None where it is about the worker, or about the one
    job that there is. A message of an unknown type is no more than this."""

    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Hello(Message):
    """The first message."""

    protocol: int
    pid: int = 0


@dataclass(frozen=True, kw_only=True)
class Ready(Message):
    """Jobs can run now. representations: as `descriptions.learn` takes them, None from a worker that does not say."""

    representations: list[dict[str, Any]] | None = None


@dataclass(frozen=True, kw_only=True)
class Heartbeat(Message):
    """It is alive."""


@dataclass(frozen=True, kw_only=True)
class Progress(Message):
    """How far a job is: so many moves of a stage."""

    stage: str
    move: int
    total: int
    seconds_left: float | None = None


@dataclass(frozen=True, kw_only=True)
class Preview(Message):
    """A picture of what there is so far."""

    path: str


@dataclass(frozen=True, kw_only=True)
class Note(Message):
    """Something to know, that stops nothing."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Done(Message):
    """A job is done: its files by what they are."""

    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Cancelled(Message):
    """A job was stopped."""

    resumable: bool


@dataclass(frozen=True, kw_only=True)
class Error(Message):
    """A job failed, or the worker. hint: what to do. log: the worker's last lines. Our end adds them: the worker says neither."""

    text: str
    resumable: bool
    hint: str = ""
    log: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Silent(Message):
    """Nothing was heard for some time: what our end makes of it."""

    text: str
    hint: str
    log: list[str]


@dataclass(frozen=True, kw_only=True)
class Awake(Message):
    """It was heard again."""


TYPES: dict[str, type[Message]] = {
    "hello": Hello, "ready": Ready, "heartbeat": Heartbeat, "progress": Progress, "preview": Preview, "note": Note,
    "done": Done, "cancelled": Cancelled, "error": Error,
}  # fmt: skip
ENDS = (Done, Error, Cancelled)
"""A job ends in exactly one of them."""


class ProtocolError(ValueError):
    """A line that is no message of this protocol."""


def hello(client: str) -> Told:
    """The first message; `client` is for the worker's log."""
    return {"type": "hello", "protocol": VERSION, "client": client}


def job(
    id: str,
    kind: str,
    out: str,
    settings: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    resume: bool = False,
    preview: float = 0,
) -> Told:
    """A job. out: an absolute path. preview: least seconds between pictures, 0 for none."""
    message = {"type": "job", "id": id, "kind": kind, "out": out, "options": options or {}}
    if kind not in DERIVED:
        message |= {"settings": settings or {}, "resume": resume, "preview": preview}
    return message


def cancel(id: str) -> Told:
    """Stop a job that runs or waits."""
    return {"type": "cancel", "id": id}


def encode(message: Told) -> bytes:
    """A message as its line."""
    return json.dumps(message, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def parse(line: bytes) -> Message:
    """The message of a line; ProtocolError where it is none."""
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    try:
        kind = TYPES.get(message["type"], Message)
        names = {each.name for each in fields(kind)}
        return kind(**{name: value for name, value in message.items() if name in names})
    except (TypeError, LookupError, AttributeError):
        raise ProtocolError(f"not a message: {line[:80].decode(errors='replace').strip()!r}") from None


def slug(prompt: str) -> str:
    """A prompt as a part of a file name: "A red mushroom!" gives "a-red-mushroom"; at most 60 characters and 120 bytes, as
    file systems count, never empty."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", prompt).lower())
    return "-".join(words)[:60].encode()[:120].decode(errors="ignore").strip("-") or "untitled"
