"""Presets: what "draft", "normal" and "fine" mean for each kind of job. Normal is the core's default."""

from __future__ import annotations

from typing import Any

QUALITIES = ("draft", "normal", "fine")

SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "object": {
        "draft": {"steps": 12, "views": 6},
        "normal": {"steps": 30, "views": 8},
        "fine": {"steps": 60, "views": 12},
    },
    "panorama": {
        "draft": {"steps": 12, "views": 8},
        "normal": {"steps": 30, "views": 12},
        "fine": {"steps": 60, "views": 18},
    },
    "image": {"draft": {"steps": 12}, "normal": {"steps": 30}, "fine": {"steps": 60}},
}
GUIDANCE = {"object": 1.0, "panorama": 1.0, "image": 3.0}

OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "object": {
        "draft": {"faces": 5_000, "texture": 512, "resolution": 96},
        "normal": {"faces": 20_000, "texture": 1024, "resolution": 128},
        "fine": {"faces": 60_000, "texture": 2048, "resolution": 192},
    },
    "panorama": {"draft": {"width": 1024}, "normal": {"width": 4096}, "fine": {"width": 8192}},
    "image": {"draft": {"size": 512}, "normal": {"size": 2048}, "fine": {"size": 4096}},
}


def settings(kind: str, quality: str) -> dict[str, Any]:
    """The sampler's settings of a preset, without prompt and seed."""
    return {"guidance": GUIDANCE[kind], **SETTINGS[kind][quality]}


def options(kind: str, quality: str) -> dict[str, Any]:
    """The job's options of a preset, without the model."""
    return dict(OPTIONS[kind][quality])
