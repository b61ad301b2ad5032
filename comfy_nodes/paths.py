"""Paths: names from graphs, which are never trusted, as files within one folder. No ComfyUI here."""

from __future__ import annotations

import os
import re
import time
from dataclasses import dataclass
from pathlib import Path

DATE = re.compile(r"dd?|MM?|hh?|mm?|ss?|yyyy|yy")
LONGEST = 200
"""Bytes of a name: file systems take 255, of which a number, a suffix and a temporary name need some."""


@dataclass(frozen=True)
class Target:
    """A file to be written. name: within the folder, with "/" between; subfolder: the same without the file."""

    path: Path
    name: str
    subfolder: str


def within(folder: str | Path, name: str) -> Path:
    """The path of `name` in `folder`. ValueError where it would leave the folder."""
    root, clean = Path(folder).resolve(), name.replace("\\", "/")
    odd = not clean.strip("/. ") or re.search("[:\0\ud800-\udfff]", clean)
    if not odd and not clean.startswith("/") and ".." not in clean.split("/"):
        path = (root / clean).resolve()
        if path.is_relative_to(root):
            return path
    raise ValueError(f"{name!r} is not the name of a file in {root.name}/: use letters, digits and / only")


def dated(prefix: str, now: time.struct_time) -> str:
    """A prefix with its dates in place, as core's savers have them: %date:yyyy-MM-dd hhmmss%, and %year% to %second%.

    In %date:…%, yyyy, MM, dd, hh (of 24), mm and ss stand for two digits each (yyyy four); M, d, h, m and s for the
    number alone.
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
    """What files of a prefix begin with: a path in the folder, with its dates in place.

    ValueError where the prefix leaves the folder, is too long, or leads into what is no folder or may not be written to.
    """
    start = within(folder, dated(prefix, time.localtime()))
    if any(len(os.fsencode(part)) > LONGEST for part in start.parts):
        raise ValueError(f"{prefix!r} is too long for the name of a file: use {LONGEST} letters at most between two /")
    above = next(each for each in start.parents if each.exists())
    if not above.is_dir():
        raise ValueError(f"{prefix!r} lies in {above.name}, which is a file and not a folder: choose another name")
    if not os.access(above, os.W_OK):
        raise ValueError(f"{prefix!r} lies in {above.name}/, which may not be written to: choose another folder")
    return start


def fresh_path(folder: str | Path, prefix: str, suffix: str) -> Target:
    """A name that is not taken yet, as ComfyUI counts them: prefix_00001_suffix. Makes the folder.

    Raises ValueError as `beginning` does.
    """
    start = beginning(folder, prefix)
    start.parent.mkdir(parents=True, exist_ok=True)
    taken = re.compile(re.escape(start.name) + r"_(\d+)_.*")
    numbers = [int(found[1]) for found in (taken.fullmatch(each.name) for each in start.parent.iterdir()) if found]
    path = start.with_name(f"{start.name}_{max(numbers, default=0) + 1:05}_{suffix}")
    name = path.relative_to(Path(folder).resolve()).as_posix()
    return Target(path, name, name.rpartition("/")[0])
