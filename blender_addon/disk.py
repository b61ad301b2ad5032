"""Disk: looks up in a thread what the panels show about the disk, so that drawing them never waits for the disk or the PATH.

It looks again when something may have changed: a file was opened or saved, a preference was set, or a job is done.
"""

import contextlib
from collections.abc import Callable
from typing import Any

import bpy
from bpy.app.handlers import persistent

from . import environment, windows

SOON, AGAIN = 0.1, 5.0
"""Seconds between two checks for an answer, and between two searches for a Python while none is found."""

sources: dict[str, Callable[[], Callable[[], Any]]] = {}
"""The searches by name. Each function reads Blender's data on the main thread and returns another that reads the disk."""
seen: dict[str, Any] = {}
"""The results of the searches, by the same names. Empty until the first search has ended."""
_question: environment.Question | None = None


def look() -> None:
    """Search again in the background, and redraw if the results have changed."""
    global _question
    if bpy.app.background:  # nothing is drawn
        return
    _question = None
    if not bpy.app.timers.is_registered(_tick):
        bpy.app.timers.register(_tick, persistent=True)


def _tick() -> float | None:
    """Start the searches; in later calls, store their results."""
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
    """Call every function and return the results by name, without those of functions that raise OSError."""
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
