"""Protocol: the JSON lines between this extension and `python -m pullback.worker`, described in docs/worker.md.

A message is a dict with a "type". Pure standard library.
"""

from __future__ import annotations

import json
import re
import unicodedata
from typing import Any

from .descriptions import DERIVED

VERSION = 1

Message = dict[str, Any]


class ProtocolError(ValueError):
    """A line that is no message of this protocol."""


def hello(client: str) -> Message:
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
) -> Message:
    """A job. out: an absolute path. preview: least seconds between pictures, 0 for none."""
    message = {"type": "job", "id": id, "kind": kind, "out": out, "options": options or {}}
    if kind not in DERIVED:
        message |= {"settings": settings or {}, "resume": resume, "preview": preview}
    return message


def cancel(id: str) -> Message:
    """Stop a job that runs or waits."""
    return {"type": "cancel", "id": id}


def encode(message: Message) -> bytes:
    """A message as its line."""
    return json.dumps(message, ensure_ascii=False, allow_nan=False).encode() + b"\n"


def parse(line: bytes) -> Message:
    """The message of a line; ProtocolError where it is none."""
    try:
        message = json.loads(line)
    except ValueError:
        message = None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise ProtocolError(f"not a message: {line[:80].decode(errors='replace').strip()!r}")
    return message


def slug(prompt: str) -> str:
    """A prompt as a part of a file name: "A red mushroom!" gives "a-red-mushroom"; at most 60 characters and 120 bytes, as
    file systems count, never empty."""
    words = re.findall(r"\w+", unicodedata.normalize("NFKC", prompt).lower())
    return "-".join(words)[:60].encode()[:120].decode(errors="ignore").strip("-") or "untitled"
