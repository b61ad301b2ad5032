"""Uses: keeps a record of the results that .blend files use, so that unused results can be deleted.

Whenever a .blend file is saved or opened while the extension is enabled, the results that it uses are recorded: the field files
of its objects, and pictures that are not packed. Results are identified by their file names, without folders.
"""

import contextlib
import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Collection
from pathlib import Path, PurePath

import bpy
from bpy.app.handlers import persistent

from . import disk, jobs, preferences, runs

KEPT = 7 * 86400.0
"""Seconds for which every result is kept, used or not."""
MADE = re.compile(r".+-(\d+|mesh)(-\d+)?\.(glb|png)|.+\.texture(-\d+)?\.png")
"""The file names of results and textures. Other files are never deleted."""

Group = list[Path]


def unused() -> list[Group]:
    """Return the results that no .blend file uses and that are older than a week, each as a group of files."""
    return _search()()


def size(groups: list[Group]) -> int:
    """Return the size of results in bytes."""
    return sum(path.stat().st_size for group in groups for path in group if path.is_file())


def delete(groups: list[Group]) -> tuple[int, int]:
    """Delete results. Return how many were deleted, and their size in bytes."""
    gone, freed = 0, 0
    for group in groups:
        taken = size([group])
        with contextlib.suppress(OSError):  # a file that is open in another program is deleted next time
            for path in group:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            gone, freed = gone + 1, freed + taken
    return gone, freed


def _search() -> Callable[[], list[Group]]:
    """Return a function that searches for unused results. It can be called in any thread."""
    folder, ledger, used = preferences.user_folder("results"), preferences.user_folder("uses"), _used() | _queued()
    return lambda: _unused(folder, used.union(*map(_listed, ledger.glob("*.json"))))


def _unused(folder: Path, used: Collection[str]) -> list[Group]:
    groups: dict[str, Group] = {}
    for path in sorted(folder.iterdir()):
        groups.setdefault(runs.output_of(path.name), []).append(path)
    oldest = time.time() - KEPT
    return [group for out, group in groups.items() if MADE.fullmatch(out) and not _needed(group, used, oldest)]


def _needed(group: Group, used: Collection[str], oldest: float) -> bool:
    """Return whether a file of a result is used, is younger than `oldest`, or belongs to an unfinished run."""
    unfinished = any(path.name.endswith((runs.RUN, runs.NOTE)) for path in group)
    return unfinished or any(path.name in used or path.stat().st_mtime > oldest for path in group)


def _used() -> set[str]:
    """Return the names of all files that the open .blend file uses."""
    fields = [str(obj["pullback_field"]) for obj in bpy.data.objects if "pullback_field" in obj]
    return {PurePath(path).name for path in (*fields, *bpy.utils.blend_paths(packed=True))}


def _queued() -> set[str]:
    """Return the names of all files that queued jobs read or write."""
    fields = [PurePath(job.request["options"].get("field", "")).name for job in jobs.queue]
    return {job.out.name for job in jobs.queue} | set(fields)


# The ledger: one JSON file for each .blend file


def _listed(entry: Path) -> set[str]:
    try:
        return set(map(str, json.loads(entry.read_text(encoding="utf-8"))["results"]))
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _note(path: str, before: bool) -> None:
    """Record the results that a .blend file uses.

    Args:
        path: The path of the .blend file.
        before: Whether to keep earlier records. True when a file is opened, which may be a recovered and not the saved one.
    """
    if not path:
        return
    with contextlib.suppress(OSError):  # a full disk must not disturb the saving of a file
        folder = preferences.user_folder("uses")
        entry = folder / f"{hashlib.sha256(path.encode('utf-8', 'surrogateescape')).hexdigest()[:32]}.json"
        names = {name for name in _used() if MADE.fullmatch(runs.output_of(name))}
        if before and entry.exists():
            names |= _listed(entry)
        if names or entry.exists():
            part = entry.with_suffix(".part")
            part.write_text(json.dumps({"blend": path, "results": sorted(names)}), encoding="utf-8")
            part.replace(entry)


@persistent
def _saved(path: str = "", *_: object) -> None:
    _note(path or bpy.data.filepath, before=False)


@persistent
def _opened(path: str = "", *_: object) -> None:
    _note(path or bpy.data.filepath, before=True)


HANDLERS = (("save_post", _saved), ("load_post", _opened))


def register() -> None:
    for name, handler in HANDLERS:
        getattr(bpy.app.handlers, name).append(handler)
    disk.sources["unused"] = lambda: _sized(_search())


def _sized(search: Callable[[], list[Group]]) -> Callable[[], tuple[int, int]]:
    """Return a function that returns the number of results that a search finds, and their size in bytes."""

    def ask() -> tuple[int, int]:
        groups = search()
        return len(groups), size(groups)

    return ask


def unregister() -> None:
    del disk.sources["unused"]
    for name, handler in HANDLERS:
        getattr(bpy.app.handlers, name).remove(handler)
