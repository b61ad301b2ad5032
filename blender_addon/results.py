"""Results: where what was made is kept: fields always, and textures where they are not packed into the .blend file."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import bpy
from bpy.app.translations import pgettext_rpt as translate

from . import descriptions, preferences, protocol, runs


def packed() -> bool:
    """Whether textures go into the .blend file."""
    mine = preferences.get()
    return mine is None or mine.texture == "PACKED"


def folder() -> Path:
    """Where new results go: made if missing. ValueError where that fails."""
    beside = _beside_the_file()
    try:
        if beside is None or packed():
            return preferences.user_folder("results")
        beside.mkdir(exist_ok=True)
        return beside
    except OSError as error:
        raise ValueError(translate("Cannot keep files: {error}").format(error=error)) from error


def folders() -> list[Path]:
    """Wherever results of this user and of the open file may lie."""
    beside = _beside_the_file()
    return [preferences.user_folder("results"), *([beside] if beside is not None and beside.is_dir() else [])]


def output(request: dict[str, Any], place: dict[str, Any], taken: Collection[Path]) -> Path:
    """A file of its own for what is made. taken: those that others will write. ValueError where there is none."""
    sampler = request.get("settings", {})
    name = protocol.slug(sampler.get("prompt") or place.get("object") or place.get("name", ""))
    stem = f"{name}-{sampler['seed']}" if "seed" in sampler else f"{name}-mesh"
    home, suffix = folder(), descriptions.suffix(request["kind"])
    for number in range(1, 10_000):
        out = home / f"{stem}{'' if number == 1 else f'-{number}'}{suffix}"
        if out not in taken and not out.exists() and not runs.unfinished(out):
            return out
    raise ValueError(translate("The folder {folder} is full").format(folder=home))


def _beside_the_file() -> Path | None:
    # There is no file yet while Blender starts and enables its extensions.
    path = getattr(bpy.data, "filepath", "")
    return Path(path).parent / "pullback" if path else None
