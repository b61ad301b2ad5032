"""The messages of the worker: one class for each type, as docs/worker.md describes them.

This module imports nothing that takes time to load, because the worker says hello before torch is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Any, ClassVar


class Kind(str, Enum):
    """The types of the messages that a client sends."""

    HELLO = "hello"
    JOB = "job"
    CANCEL = "cancel"


class Stage(str, Enum):
    """What a job is doing, in words for people."""

    LOADING = "loading the model"
    SAMPLING = "sampling"
    MESHING = "mesh and texture"
    WRITING = "writing"


@dataclass(frozen=True)
class Message:
    """Base of the messages that the worker sends. `type` is the value of the field `type` in JSON."""

    type: ClassVar[str]


@dataclass(frozen=True)
class Hello(Message):
    """The first message: the versions of the protocol, of Pullback and of Python, and the worker's process id."""

    type = "hello"
    protocol: int
    pullback: str
    python: str
    pid: int


@dataclass(frozen=True)
class Ready(Message):
    """Jobs can run now: the version of torch, the devices, the settings of runs and reconstructions, and all representations."""

    type = "ready"
    torch: str
    devices: list[str]
    settings: list[dict[str, Any]]
    reconstruct: list[dict[str, Any]]
    representations: list[dict[str, Any]]


@dataclass(frozen=True)
class Heartbeat(Message):
    """The worker is alive."""

    type = "heartbeat"


@dataclass(frozen=True)
class Progress(Message):
    """How far a job has come.

    Args:
        stage: What the job is doing.
        move: The number of moves done.
        total: The number of moves of the whole run.
        seconds_left: An estimate, or None if there is none yet.
        residual: Root mean square of what the last fit missed.
    """

    type = "progress"
    stage: Stage
    move: int
    total: int
    seconds_left: float | None = None
    residual: float = 0.0


@dataclass(frozen=True)
class Preview(Message):
    """There is a new preview picture at `path`."""

    type = "preview"
    path: str


@dataclass(frozen=True)
class Note(Message):
    """Something that the user should know, although the job goes on."""

    type = "note"
    text: str


@dataclass(frozen=True)
class Done(Message):
    """The job succeeded. `files` are the paths of its files, by name."""

    type = "done"
    files: dict[str, str]


@dataclass(frozen=True)
class Cancelled(Message):
    """The job was cancelled. `resumable` says whether it can be continued from a run file."""

    type = "cancelled"
    resumable: bool


@dataclass(frozen=True)
class Error(Message):
    """A job failed, or the worker itself if the message names no job. `text` says why in one sentence."""

    type = "error"
    text: str
    resumable: bool = False


Send = Callable[[Message], None]
"""Sends a message about the current job."""


def encoded(message: Message, **more: Any) -> bytes:
    """Return a message as a line of JSON.

    Args:
        message: The message.
        **more: Further fields: the `id` of the job that it is about.

    Example:
        >>> encoded(Preview("/a.png"), id="1")
        b'{"type": "preview", "id": "1", "path": "/a.png"}\\n'
    """
    text = json.dumps({"type": message.type, **more, **asdict(message)}, ensure_ascii=False)
    return text.encode("utf-8", "backslashreplace") + b"\n"  # lone surrogates in paths become JSON's own escapes
