"""Learned: the representations of other packages, as the worker of the user's Python tells of them; kept between sessions."""

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import descriptions, preferences, windows

then: list[Callable[[], None]] = []
"""What is to be called when there are others than before."""


def recall() -> None:
    """Take in what was learned in an earlier session."""
    with contextlib.suppress(OSError, ValueError):
        descriptions.learn(json.loads(_file().read_text(encoding="utf-8")))


def hear(declared: Any) -> None:
    """Take in what a worker says that there is, and keep it; a worker that says nothing of it is passed over."""
    if not isinstance(declared, list) or not descriptions.learn(declared):
        return
    with contextlib.suppress(OSError):  # then it is learned again
        path = _file()
        part = path.with_suffix(".part")
        part.write_text(json.dumps(declared), encoding="utf-8")
        part.replace(path)
    for each in then:
        each()
    windows.redraw()


def _file() -> Path:
    return preferences.user_folder("representations") / "learned.json"
