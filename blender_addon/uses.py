"""Uses: which results the .blend files use, so that what none of them uses can be deleted.

Every file that is saved or opened while the extension is enabled is written down with the results that it uses: what an
object was sampled into, and pictures that are not packed. Results go by their names, wherever a file says that they are.
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
"""Seconds for which every result is kept."""
MADE = re.compile(r".+-(\d+|mesh)(-\d+)?\.(glb|png)|.+\.texture(-\d+)?\.png")
"""What results and textures are called; other files are none of ours."""

Group = list[Path]


def unused() -> list[Group]:
    """The results that no file uses and that are older than a week, each with all that belongs to it."""
    return _search()()


def size(groups: list[Group]) -> int:
    """Bytes that these results take."""
    return sum(path.stat().st_size for group in groups for path in group if path.is_file())


def delete(groups: list[Group]) -> tuple[int, int]:
    """Delete these results; how many went and how many bytes they took."""
    gone, freed = 0, 0
    for group in groups:
        taken = size([group])
        with contextlib.suppress(OSError):  # it is open in another program: the next time
            for path in group:
                if path.is_dir():
                    shutil.rmtree(path)
                else:
                    path.unlink(missing_ok=True)
            gone, freed = gone + 1, freed + taken
    return gone, freed


def _search() -> Callable[[], list[Group]]:
    """The search for unused results, which may take place in any thread."""
    folder, ledger, used = preferences.user_folder("results"), preferences.user_folder("uses"), _used() | _queued()
    return lambda: _unused(folder, used.union(*map(_listed, ledger.glob("*.json"))))


def _unused(folder: Path, used: Collection[str]) -> list[Group]:
    groups: dict[str, Group] = {}
    for path in sorted(folder.iterdir()):
        groups.setdefault(runs.output_of(path.name), []).append(path)
    oldest = time.time() - KEPT
    return [group for out, group in groups.items() if MADE.fullmatch(out) and not _needed(group, used, oldest)]


def _needed(group: Group, used: Collection[str], oldest: float) -> bool:
    """Whether something of a result is used, young, or of a run that is not finished."""
    unfinished = any(path.name.endswith((runs.RUN, runs.NOTE)) for path in group)
    return unfinished or any(path.name in used or path.stat().st_mtime > oldest for path in group)


def _used() -> set[str]:
    """The names of all files that the open file uses."""
    fields = [str(obj["pullback_field"]) for obj in bpy.data.objects if "pullback_field" in obj]
    return {PurePath(path).name for path in (*fields, *bpy.utils.blend_paths(packed=True))}


def _queued() -> set[str]:
    """The names of all files that jobs work on."""
    fields = [PurePath(job.request["options"].get("field", "")).name for job in jobs.queue]
    return {job.out.name for job in jobs.queue} | set(fields)


# The ledger: a file for each .blend file


def _listed(entry: Path) -> set[str]:
    try:
        return set(map(str, json.loads(entry.read_text(encoding="utf-8"))["results"]))
    except (OSError, ValueError, LookupError, TypeError):
        return set()


def _note(path: str, before: bool) -> None:
    """Write down what a .blend file uses. before: also what it was translate to use, as when what was opened is no saved one."""
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
    """Number and bytes of what a search finds."""

    def ask() -> tuple[int, int]:
        groups = search()
        return len(groups), size(groups)

    return ask


def unregister() -> None:
    del disk.sources["unused"]
    for name, handler in HANDLERS:
        getattr(bpy.app.handlers, name).remove(handler)
