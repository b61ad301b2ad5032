"""Disk: what the panels tell of it, looked up in a thread: no drawing asks the disk, the PATH or the network.

It is looked at when something may have changed: a file was opened or saved, a preference set, a job done.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import environment, windows

SOON, AGAIN = 0.1, 5.0
"""Seconds until an answer may be there, and between two looks for a Python where there is none yet."""

sources: dict[str, Callable[[], Callable[[], Any]]] = {}
"""What is looked for: a function that asks Blender, on the main thread, and returns another that asks the disk."""
seen: dict[str, Any] = {}
"""What was found, under the same names; empty until the first look."""
_question: environment.Question | None = None


def look() -> None:
    """Look anew, in the background; what is drawn changes with what is found."""
    global _question
    if bpy.app.background:  # nothing is drawn there
        return
    _question = None
    if not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, persistent=True)


def _tick() -> float | None:
    """Ask; later, take in the answer."""
    global _question
    if _question is None:
        asked = _all(sources)
        _question = environment.Question(lambda: _all(asked))
        return SOON
    if not _question.poll():
        return SOON
    before = dict(seen)
    seen.update(_question.answer or {})
    if seen != before:
        windows.redraw()
        windows.redraw("PREFERENCES")
    _question = None
    return AGAIN if seen.get("python") is None else None


def _all(functions: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """What each of them answers, less those that the disk fails."""
    answers = {}
    for name, ask in functions.items():
        with contextlib.suppress(OSError):
            answers[name] = ask()
    return answers


@persistent
def _changed(*_: object) -> None:
    look()


HANDLERS = ("load_post", "save_post")


def register() -> None:
    for name in HANDLERS:
        getattr(bpy.app.handlers, name).append(_changed)
    look()


def unregister() -> None:
    for name in HANDLERS:
        getattr(bpy.app.handlers, name).remove(_changed)
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    seen.clear()
