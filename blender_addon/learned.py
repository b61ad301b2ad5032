"""Learned: the representations of other packages, as the worker in the user's Python declares them; kept between sessions."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import descriptions, preferences, windows

then: list[Callable[[], None]] = []
"""Functions to call when the representations have changed."""


def recall() -> None:
    """Load the representations that were stored in an earlier session."""
    with contextlib.suppress(OSError, ValueError):
        descriptions.learn(json.loads(_file().read_text(encoding="utf-8")))


def hear(declared: Any) -> None:
    """Learn and store the representations that a worker declares. None, from workers that declare nothing, is ignored."""
    if not isinstance(declared, list) or not descriptions.learn(declared):
        return
    with contextlib.suppress(OSError):  # they are learned again in the next session
        path = _file()
        part = path.with_suffix(".part")
        part.write_text(json.dumps(declared), encoding="utf-8")
        part.replace(path)
    for each in then:
        each()
    windows.redraw()


def _file() -> Path:
    return preferences.user_folder("representations") / "learned.json"
