"""Paths: turns file names from graphs, which are not trusted, into paths within one folder. Does not import ComfyUI."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

DATE = re.compile(r"dd?|MM?|hh?|mm?|ss?|yyyy|yy")
LONGEST = 200
"""The greatest length of a name in bytes. File systems allow 255, and numbers, suffixes and temporary names need some."""


@dataclass(frozen=True)
class Target:
    """A file to write.

    Args:
        path: The path of the file.
        name: The path relative to the folder, with "/" as the separator.
        subfolder: `name` without the file.
    """

    path: Path
    name: str
    subfolder: str


def within(folder: str | Path, name: str) -> Path:
    """Return the path of `name` in `folder`. Raise ValueError if it would be outside the folder."""
    root, clean = Path(folder).resolve(), name.replace("\\", "/")
    odd = not clean.strip("/. ") or re.search("[:\0\ud800-\udfff]", clean)
    if not odd and not clean.startswith("/") and ".." not in clean.split("/"):
        path = (root / clean).resolve()
        if path.is_relative_to(root):
            return path
    raise ValueError(f"{name!r} is not the name of a file in {root.name}/: use letters, digits and / only")


def dated(prefix: str, now: time.struct_time) -> str:
    """Fill in the dates of a prefix, as ComfyUI's savers do: %date:yyyy-MM-dd hhmmss%, and %year% to %second%.

    In %date:…%, yyyy stands for four digits, MM, dd, hh (0 to 23), mm and ss for two digits, and M, d, h, m and s for a number
    without leading zeros.
    """
    prefix = re.sub(r"%date:([^%]+)%", lambda found: DATE.sub(lambda part: _part(part[0], now), found[1]), prefix)
    for name, value in zip(("year", "month", "day", "hour", "minute", "second"), now[:6], strict=True):
        prefix = prefix.replace(f"%{name}%", f"{value:02}")
    return prefix


def _part(name: str, now: time.struct_time) -> str:
    if name[0] == "y":
        return f"{now.tm_year:04}"[-len(name) :]
    return str(now["Mdhms".index(name[0]) + 1]).zfill(len(name))


def beginning(folder: str | Path, prefix: str) -> Path:
    """Return the beginning of the paths of files with a prefix: a path in the folder, with the dates filled in.

    Raises:
        ValueError: If the prefix leaves the folder or is too long, or its folder is a file or may not be written to.
    """
    start = within(folder, dated(prefix, time.localtime()))
    if any(len(os.fsencode(part)) > LONGEST for part in start.parts):
        raise ValueError(f"{prefix!r} is too long for the name of a file: use at most {LONGEST} letters between two /")
    above = next(parent for parent in start.parents if parent.exists())
    if not above.is_dir():
        raise ValueError(f"{prefix!r} is in {above.name}, which is a file and not a folder: choose another name")
    if not os.access(above, os.W_OK):
        raise ValueError(f"{prefix!r} is in {above.name}/, which may not be written to: choose another folder")
    return start


def fresh_path(folder: str | Path, prefix: str, suffix: str) -> Target:
    """Return an unused path, numbered as ComfyUI does (prefix_00001_suffix), and create its folder.

    Raises:
        ValueError: As `beginning` does.
    """
    start = beginning(folder, prefix)
    start.parent.mkdir(parents=True, exist_ok=True)
    taken = re.compile(re.escape(start.name) + r"_(\d+)_.*")
    numbers = [int(found[1]) for found in (taken.fullmatch(file.name) for file in start.parent.iterdir()) if found]
    path = start.with_name(f"{start.name}_{max(numbers, default=0) + 1:05}_{suffix}")
    name = path.relative_to(Path(folder).resolve()).as_posix()
    return Target(path, name, name.rpartition("/")[0])
