"""Questions: background tasks whose progress and results the preferences show."""

import time
from collections.abc import Callable
from typing import Any

import bpy

from . import environment, windows

_asked: dict[str, environment.Question | environment.Commands] = {}
_then: dict[str, Callable[[], None]] = {}
_drawn: dict[str, object] = {}


def ask(
    name: str, question: environment.Question | environment.Commands, then: Callable[[], None] = lambda: None
) -> None:
    """Follow a question in the background.

    Args:
        name: "test", "create" or "server". An earlier question with the same name is ended.
        question: The question.
        then: Called on the main thread once the question is answered.
    """
    if name in _asked:
        _asked[name].end()
    _asked[name], _then[name] = question, then
    if not bpy.app.timers.is_registered(_look):
        bpy.app.timers.register(_look, persistent=True)


def of(name: str) -> Any:
    """Return the latest question with a name, or None."""
    return _asked.get(name)


def open(name: str) -> bool:
    """Return whether a question has been asked and not answered yet."""
    return name in _asked and not _asked[name].poll()


def wait() -> None:
    """Wait for all answers. Blender without a window needs this because its timers do not fire."""
    while _look() is not None:
        time.sleep(0.1)


def _look() -> float | None:
    for name in [name for name in _then if not open(name)]:
        _then.pop(name)()
    _redraw_if_changed()
    return 0.25 if any(map(open, _asked)) else None


def _redraw_if_changed() -> None:
    """Redraw the preferences if they would now show something different."""
    global _drawn
    now = {name: question.shown for name, question in _asked.items()}
    if now != _drawn:
        _drawn = now
        windows.redraw("PREFERENCES")


def register() -> None:
    """Do nothing: there are no questions yet."""


def unregister() -> None:
    if bpy.app.timers.is_registered(_look):
        bpy.app.timers.unregister(_look)
    for question in _asked.values():
        question.end()
    _asked.clear()
    _then.clear()
