"""The JSON lines between this extension and `python -m pullback.worker`, described in docs/worker.md.

Messages from the worker are instances of `Message`; messages to it are dicts. Standard library only.
"""

from __future__ import annotations

import json
import re
import unicodedata
from dataclasses import dataclass, field, fields
from typing import Any

from .descriptions import DERIVED

VERSION = 1

Outgoing = dict[str, Any]
"""A message to the worker."""


@dataclass(frozen=True, kw_only=True)
class Message:
    """A message from the worker. Messages of an unknown type become instances of this class itself.

    Args:
        id: The job that it is about. None if it is about the worker, or about the only job.
    """

    id: str | None = None


@dataclass(frozen=True, kw_only=True)
class Hello(Message):
    """The first message."""

    protocol: int
    pid: int = 0


@dataclass(frozen=True, kw_only=True)
class Ready(Message):
    """Jobs can run now.

    Args:
        representations: What `descriptions.learn` takes; None from workers that do not send it.
    """

    representations: list[dict[str, Any]] | None = None


@dataclass(frozen=True, kw_only=True)
class Heartbeat(Message):
    """The worker is alive."""


@dataclass(frozen=True, kw_only=True)
class Progress(Message):
    """The progress of a job: `move` of `total` moves of a stage are done."""

    stage: str
    move: int
    total: int
    seconds_left: float | None = None


@dataclass(frozen=True, kw_only=True)
class Preview(Message):
    """A new preview picture."""

    path: str


@dataclass(frozen=True, kw_only=True)
class Note(Message):
    """A warning; the job continues."""

    text: str


@dataclass(frozen=True, kw_only=True)
class Done(Message):
    """A job is done. `files` holds the paths by their meaning: "mesh", "field", "picture"."""

    files: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Cancelled(Message):
    """A job was stopped."""

    resumable: bool


@dataclass(frozen=True, kw_only=True)
class Error(Message):
    """A job or the worker failed.

    Args:
        text: What went wrong.
        resumable: Whether an unfinished run is left.
        hint: What to do. The extension adds it; it is not part of the protocol.
        log: The last lines of the worker's log. The extension adds them too.
    """

    text: str
    resumable: bool
    hint: str = ""
    log: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Silent(Message):
    """The worker has not sent anything for some time. This message comes from the extension itself."""

    text: str
    hint: str
    log: list[str]


@dataclass(frozen=True, kw_only=True)
class Awake(Message):
    """The worker sends messages again. This message comes from the extension itself."""


TYPES: dict[str, type[Message]] = {
    "hello": Hello, "ready": Ready, "heartbeat": Heartbeat, "progress": Progress, "preview": Preview, "note": Note,
    "done": Done, "cancelled": Cancelled, "error": Error,
}  # fmt: skip
ENDS = (Done, Error, Cancelled)
"""Every job ends with exactly one of these messages."""


class ProtocolError(ValueError):
    """A line is not a message of this protocol."""


def hello(client: str) -> Outgoing:
    """Return the first message. `client` appears in the worker's log."""
    return {"type": "hello", "protocol": VERSION, "client": client}


def job(
    id: str,
    kind: str,
    out: str,
    settings: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    resume: bool = False,
    preview: float = 0,
) -> Outgoing:
    """Return the message that asks for a job. docs/worker.md explains the arguments."""
    message = {"type": "job", "id": id, "kind": kind, "out": out, "options": options or {}}
    if kind not in DERIVED:
        message |= {"settings": settings or {}, "resume": resume, "preview": preview}
    return message


def cancel(id: str) -> Outgoing:
    """Return the message that stops a running or waiting job."""
    return {"type": "cancel", "id": id}


def encode(message: Outgoing) -> bytes:
    """Return the line of a message, as UTF-8 with a newline."""
    return json.dumps(message, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def parse(line: bytes) -> Message:
    """Return the message of a line. ProtocolError if it is not a message."""
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
    """Return a prompt as a part of a file name, of 1 to 60 characters and at most 120 bytes.

    Example:
        >>> slug("A red mushroom!")
        'a-red-mushroom'
    """
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", prompt).lower())
    return "-".join(words)[:60].encode()[:120].decode(errors="ignore").strip("-") or "untitled"
