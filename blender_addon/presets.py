"""Presets: what "draft", "normal" and "fine" mean for each kind of job: so many times what the core's default is."""

from __future__ import annotations

from typing import Any

from .descriptions import RUN, Kind, Makes, Setting

PIXELS = "pixels"
"""Of a picture's side, whatever its option is called."""
SPENT: dict[str, dict[str, float]] = {
    "draft": {"steps": 0.4, "views": 0.7, "faces": 0.25, "texture": 0.5, "resolution": 0.75, PIXELS: 0.25},
    "normal": {"steps": 1, "views": 1, "faces": 1, "texture": 1, "resolution": 1, PIXELS: 1},
    "fine": {"steps": 2, "views": 1.5, "faces": 3, "texture": 2, "resolution": 1.5, PIXELS: 2},
}
QUALITIES = tuple(SPENT)


def settings(kind: Kind, quality: str) -> dict[str, Any]:
    """The sampler's settings of a preset, without prompt and seed."""
    return {"guidance": kind.usual.guidance, **_spent({"steps": RUN["steps"], **kind.of_run}, SPENT[quality])}


def options(kind: Kind, quality: str) -> dict[str, Any]:
    """The job's options of a preset, without the model."""
    spent = SPENT[quality]
    return _spent(kind.made, spent if kind.makes is Makes.OBJECT else dict.fromkeys(kind.made, spent[PIXELS]))


def _spent(settings: dict[str, Setting], factors: dict[str, float]) -> dict[str, int]:
    """The values of those settings that are a matter of quality."""
    each = ((name, settings[name], factor) for name, factor in factors.items() if name in settings)
    return {name: round(min(max(one.default * factor, one.low), one.high)) for name, one, factor in each}
