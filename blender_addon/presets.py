"""Presets: the settings of "draft", "normal" and "fine" for each kind of job, as multiples of the core's defaults."""

from __future__ import annotations

from typing import Any

from .descriptions import RUN, Kind, Makes, Setting

PIXELS = "pixels"
"""Stands for the option that sets the size of a picture in pixels, whatever its name."""
FACTORS: dict[str, dict[str, float]] = {
    "draft": {"steps": 0.4, "views": 0.7, "faces": 0.25, "texture": 0.5, "resolution": 0.75, PIXELS: 0.25},
    "normal": {"steps": 1, "views": 1, "faces": 1, "texture": 1, "resolution": 1, PIXELS: 1},
    "fine": {"steps": 2, "views": 1.5, "faces": 3, "texture": 2, "resolution": 1.5, PIXELS: 2},
}
QUALITIES = tuple(FACTORS)


def settings(kind: Kind, quality: str) -> dict[str, Any]:
    """Return the sampler's settings of a preset, without prompt and seed."""
    return {"guidance": kind.usual.guidance, **_scaled({"steps": RUN["steps"], **kind.of_run}, FACTORS[quality])}


def options(kind: Kind, quality: str) -> dict[str, Any]:
    """Return the job's options of a preset, without the model."""
    factors = FACTORS[quality]
    return _scaled(kind.made, factors if kind.makes is Makes.OBJECT else dict.fromkeys(kind.made, factors[PIXELS]))


def _scaled(settings: dict[str, Setting], factors: dict[str, float]) -> dict[str, int]:
    """Multiply the defaults of settings by the factors with the same names, and round and clamp the results."""
    scaled = ((name, settings[name], factor) for name, factor in factors.items() if name in settings)
    return {name: round(min(max(one.default * factor, one.low), one.high)) for name, one, factor in scaled}
