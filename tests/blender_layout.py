"""A stand-in for Blender's layouts, for panels without a window."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any


class Layout:
    """Notes the names of the properties and operators that are drawn, also in its rows, boxes and panels."""

    def __init__(self, shown: set[str]):
        self.shown = shown

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: Layout(self.shown)

    def panel(self, *_: Any, **__: Any) -> tuple[Layout, Layout]:
        return Layout(self.shown), Layout(self.shown)

    def prop(self, owner: Any, name: str, **_: Any) -> None:
        assert hasattr(owner, name), name
        self.shown.add(name)

    def operator(self, name: str, **_: Any) -> SimpleNamespace:
        self.shown.add(name)
        return SimpleNamespace()
