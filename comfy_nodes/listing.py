"""Listing: a cached list of the field files in ComfyUI's folders. Does not import ComfyUI.

A page requests the choices of every node whenever it opens, and ComfyUI does at every prompt. A folder is therefore read again
only if its modification time has changed, and the header of a file only if the file has changed.
"""

from __future__ import annotations

import functools
import os
import re
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .paths import within

SUFFIX = ".safetensors"
TAG = re.compile(r"(.*?)(?: \[(input|output)\])?", re.DOTALL)
SETTLED = 2_000_000_000
"""Nanoseconds after a change during which a folder is not cached. File times are coarse and could miss a second change."""


class Listing:
    """The field files under a folder. `is_field` returns whether a file is a field file."""

    def __init__(self, root: Path, is_field: Callable[[Path], bool]):
        self.root, self.is_field = root, is_field
        self._folders: dict[Path, tuple[int, list[Path], list[Path]]] = {}
        self._files: dict[Path, tuple[tuple[int, int], bool]] = {}

    def found(self) -> list[tuple[int, str]]:
        """Return the modification time and the relative path of each field file, in no particular order."""
        states = ((path, _state(path)) for path in self._candidates())
        return [
            (state[0], path.relative_to(self.root).as_posix()) for path, state in states if self._holds(path, state)
        ]

    def _candidates(self) -> Iterator[Path]:
        waiting = [self.root]
        while waiting:
            files, folders = self._inside(waiting.pop())
            yield from files
            waiting += folders

    def _inside(self, folder: Path) -> tuple[list[Path], list[Path]]:
        """Return files that may be fields, and folders. Links to folders may lead outside or in a circle, so they are ignored."""
        try:
            changed = folder.stat().st_mtime_ns
            known = self._folders.get(folder)
            if known is None or known[0] != changed:
                known = (changed, *_read(folder))
                if time.time_ns() - changed > SETTLED:
                    self._folders[folder] = known
        except OSError:  # it was deleted, or we may not read it
            return [], []
        return known[1], known[2]

    def _holds(self, path: Path, state: tuple[int, int] | None) -> bool:
        if state is None:
            return False
        if path not in self._files or self._files[path][0] != state:
            self._files[path] = state, path.resolve().is_relative_to(self.root) and self.is_field(path)
        return self._files[path][1]


def _read(folder: Path) -> tuple[list[Path], list[Path]]:
    with os.scandir(folder) as entries:
        shown = [
            entry for entry in entries if not entry.name.startswith(".")
        ]  # with a dot: hidden, or still being written
    folders = [Path(entry.path) for entry in shown if entry.is_dir(follow_symlinks=False)]
    return [Path(entry.path) for entry in shown if entry.name.endswith(SUFFIX)], folders


def _state(path: Path) -> tuple[int, int] | None:
    """Return the modification time and the size of a file, or None if there is no file, for example behind a broken link."""
    try:
        found = path.stat()
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size) if stat.S_ISREG(found.st_mode) else None


@functools.cache
def _listing(folder: str) -> Listing:
    from ..core.pullback.storage import is_field

    return Listing(Path(folder).resolve(), is_field)


def listed(folders: dict[str, str]) -> list[str]:
    """Return the names of the field files in {"input": path, "output": path} as Load Field shows them, newest first."""
    found = [(-changed, name, tag) for tag, folder in folders.items() for changed, name in _listing(folder).found()]
    return [name if tag == "input" else f"{name} [{tag}]" for _, name, tag in sorted(found)]


def located(folders: dict[str, str], name: str) -> Path:
    """Return the path of a name from `listed`. Raise ValueError if it is missing, outside the folders or not a field file."""
    bare, tag = TAG.fullmatch(name).groups()  # type: ignore[union-attr]
    path = within(folders[tag or "input"], bare)
    if path.suffix != SUFFIX:
        raise ValueError(f"{name!r} is not a field file: its name should end in {SUFFIX}")
    if not path.is_file():
        raise ValueError(f"there is no field file {name!r}: save one with Save Field, or put it into the input folder")
    return path
