"""Paths: names from graphs, which are never trusted, as files within one folder. No ComfyUI here."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from pathlib import Path

SUFFIX = ".safetensors"
TAG = re.compile(r"(.*?)(?: \[(input|output)\])?", re.DOTALL)


@dataclass(frozen=True)
class Target:
    """A file to be written. name: within the folder, with "/" between; subfolder: the same without the file."""

    path: Path
    name: str
    subfolder: str


def within(folder: str | Path, name: str) -> Path:
    """The path of `name` in `folder`. ValueError where it would leave the folder."""
    root, clean = Path(folder).resolve(), name.replace("\\", "/")
    odd = not clean.strip("/. ") or any(character in clean for character in ":\0")
    if not odd and not clean.startswith("/") and ".." not in clean.split("/"):
        path = (root / clean).resolve()
        if path.is_relative_to(root):
            return path
    raise ValueError(f"{name!r} is not the name of a file in {root.name}/: use letters, digits and / only")


def fresh_path(folder: str | Path, prefix: str, suffix: str) -> Target:
    """A name that is not taken yet, as ComfyUI counts them: prefix_00001_suffix. Makes the folder.

    %year%, %month%, %day%, %hour%, %minute% and %second% are replaced. ValueError where the prefix leaves the folder.
    """
    now = time.localtime()
    for name, value in zip(("year", "month", "day", "hour", "minute", "second"), now[:6], strict=True):
        prefix = prefix.replace(f"%{name}%", f"{value:02}")
    start = within(folder, prefix)
    start.parent.mkdir(parents=True, exist_ok=True)
    taken = re.compile(re.escape(start.name) + r"_(\d+)_.*")
    numbers = [int(found[1]) for found in (taken.fullmatch(each.name) for each in start.parent.iterdir()) if found]
    path = start.with_name(f"{start.name}_{max(numbers, default=0) + 1:05}_{suffix}")
    name = path.relative_to(Path(folder).resolve()).as_posix()
    return Target(path, name, name.rpartition("/")[0])


def listed(folders: dict[str, str]) -> list[str]:
    """The field files of the folders {"input": path, "output": path}, as Load Field names them: newest first."""
    found = []
    for tag, folder in folders.items():
        root = Path(folder).resolve()
        for path in root.rglob(f"*{SUFFIX}"):
            name = path.relative_to(root).as_posix()
            found.append((-path.stat().st_mtime, name if tag == "input" else f"{name} [{tag}]"))
    return [name for _, name in sorted(found)]


def located(folders: dict[str, str], name: str) -> Path:
    """The file that one of those names stands for. ValueError where it is missing, elsewhere or not a field file."""
    bare, tag = TAG.fullmatch(name).groups()  # type: ignore[union-attr]
    path = within(folders[tag or "input"], bare)
    if path.suffix != SUFFIX:
        raise ValueError(f"{name!r} is not a field file: its name should end in {SUFFIX}")
    if not path.is_file():
        raise ValueError(f"there is no field file {name!r}: save one with Save Field, or put it into the input folder")
    return path
