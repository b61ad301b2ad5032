"""Listing: the field files of ComfyUI's folders, found again without reading everything again. No ComfyUI here.

A page asks for every node's choices whenever it opens, and ComfyUI itself at every prompt. So a folder is read anew only
where its time has changed, and a file's header only where the file has.
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
"""Nanoseconds after which a folder's time tells of every change: clocks of file systems are coarse."""


class Listing:
    """The field files under a folder. `is_field` tells from a file whether it is one."""

    def __init__(self, root: Path, is_field: Callable[[Path], bool]):
        self.root, self.is_field = root, is_field
        self._folders: dict[Path, tuple[int, list[Path], list[Path]]] = {}
        self._files: dict[Path, tuple[tuple[int, int], bool]] = {}

    def found(self) -> list[tuple[int, str]]:
        """(its time, its name within the folder with "/" between) of each, in no order."""
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
        """Files that may be fields, and folders. Links to folders are not followed: they lead out, or around."""
        try:
            changed = folder.stat().st_mtime_ns
            known = self._folders.get(folder)
            if known is None or known[0] != changed:
                known = (changed, *_read(folder))
                if time.time_ns() - changed > SETTLED:
                    self._folders[folder] = known
        except OSError:  # it is gone by now, or not ours to read
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
        shown = [entry for entry in entries if not entry.name.startswith(".")]  # a dot: being written, or hidden
    folders = [Path(entry.path) for entry in shown if entry.is_dir(follow_symlinks=False)]
    return [Path(entry.path) for entry in shown if entry.name.endswith(SUFFIX)], folders


def _state(path: Path) -> tuple[int, int] | None:
    """(time, size) of a file; None where there is none, as behind a link to nowhere."""
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
    """The field files of the folders {"input": path, "output": path}, as Load Field names them: newest first."""
    found = [(-changed, name, tag) for tag, folder in folders.items() for changed, name in _listing(folder).found()]
    return [name if tag == "input" else f"{name} [{tag}]" for _, name, tag in sorted(found)]


def located(folders: dict[str, str], name: str) -> Path:
    """The file that one of those names stands for. ValueError where it is missing, elsewhere or not a field file."""
    bare, tag = TAG.fullmatch(name).groups()  # type: ignore[union-attr]
    path = within(folders[tag or "input"], bare)
    if path.suffix != SUFFIX:
        raise ValueError(f"{name!r} is not a field file: its name should end in {SUFFIX}")
    if not path.is_file():
        raise ValueError(f"there is no field file {name!r}: save one with Save Field, or put it into the input folder")
    return path
