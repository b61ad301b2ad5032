"""Results: the folders for fields, and for textures that are not packed into the .blend file."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import bpy
from bpy.app.translations import pgettext_rpt as translate

from . import descriptions, preferences, protocol, runs


def packed() -> bool:
    """Return whether textures are packed into the .blend file."""
    page = preferences.get()
    return page is None or page.texture == "PACKED"


def folder() -> Path:
    """Return the folder for new results. Create it if it is missing; raise ValueError if that fails."""
    beside = _beside_the_file()
    try:
        if beside is None or packed():
            return preferences.user_folder("results")
        beside.mkdir(exist_ok=True)
        return beside
    except OSError as error:
        raise ValueError(translate("Cannot keep files: {error}").format(error=error)) from error


def folders() -> list[Path]:
    """Return the folders that may contain results: the user's, and the one beside the open file if it exists."""
    beside = _beside_the_file()
    return [preferences.user_folder("results"), *([beside] if beside is not None and beside.is_dir() else [])]


def output(request: dict[str, Any], place: dict[str, Any], taken: Collection[Path]) -> Path:
    """Return an unused path for the result of a job.

    Args:
        request: The job's kind, settings and options.
        place: Where the result goes.
        taken: Paths that other jobs will write.

    Raises:
        ValueError: If there is no unused path, or the folder cannot be created.
    """
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
    # While Blender starts and enables its extensions, bpy.data has no filepath yet.
    path = getattr(bpy.data, "filepath", "")
    return Path(path).parent / "pullback" if path else None
