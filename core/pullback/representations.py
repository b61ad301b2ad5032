"""Representations: all that there are, ours and other people's, by name.

A package adds one through the entry point `pullback.representations`, whose value is its class:

    [project.entry-points."pullback.representations"]
    my-field = "my_package:MyField"

It is then in the command line, the worker and ComfyUI. One that cannot be loaded is left out with a warning that
names its package, and breaks nothing else.
"""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import asdict
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .diffreps.image import SirenImage
from .diffreps.panorama import SirenCylinder, SirenSphere
from .diffreps.radiance import VoxelRadiance
from .diffreps.splats import GaussianSplats
from .diffreps.tile import SirenTile
from .representation import Representation

GROUP = "pullback.representations"
DECLARED = ("name", "title", "sentence", "command", "settings", "suited", "recipe", "init", "__call__")
TAKEN = frozenset({"render", "mesh", "words", "picture"})
"""Commands and jobs that are no representation's."""
RESERVED = frozenset(
    (
        *("prompt", "negative", "seed", "steps", "guidance", "eta", "repaint", "solver", "views"),
        *("out", "model", "device", "resume", "preview", "field", "projection", "size", "width"),
        *("faces", "texture", "resolution", "bake_views", "bake_size"),
    )
)
"""Options that sampling commands have, and that no setting of a representation may be called."""
BUILT_IN: tuple[type[Representation], ...] = (
    VoxelRadiance,
    SirenImage,
    SirenSphere,
    SirenCylinder,
    SirenTile,
    GaussianSplats,
)


@functools.cache
def representations() -> dict[str, type[Representation]]:
    """All representations by their names, ours first."""
    found = {each.name: each for each in BUILT_IN}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            found.setdefault(entry.name, _loaded(entry))
        except Exception as error:  # noqa: BLE001  another package's mistake must not take ours along
            warnings.warn(f"the representation {entry.name} of {entry.value} is left out: {error}", stacklevel=2)
    return found


def _loaded(entry: EntryPoint) -> type[Representation]:
    kind = entry.load()
    missing = [each for each in DECLARED if not hasattr(kind, each)]
    if missing:
        raise TypeError(
            f"it does not declare its {', '.join(missing)}; pullback.representation says what is to be declared"
        )
    if kind.name != entry.name:
        raise TypeError(f"it calls itself {kind.name!r}")
    if not (is_solid(kind) or hasattr(kind, "picture")):
        raise TypeError("it is neither Flat nor Solid: nothing can be made of it")
    if kind.command in TAKEN or kind.noun in TAKEN:
        raise TypeError(f"{kind.command!r} is a command of pullback's own")
    clash = sorted(RESERVED & {each.name for each in kind.settings()})
    if clash or not kind.sentence:
        raise TypeError(f"its setting {clash[0]!r} is one of every run" if clash else "its sentence is empty")
    return kind


def package_of(kind: type[Representation]) -> str:
    """The package that a representation comes from, to be named where it is missing."""
    if kind in BUILT_IN:  # under whatever name a host has imported us
        return "pullback"
    return kind.__module__.partition(".")[0]


def described() -> list[dict[str, Any]]:
    """What the representations declare, as JSON values, for programs that do not import them."""
    return [
        {
            "name": kind.name, "title": kind.title, "sentence": kind.sentence, "command": kind.command,
            "noun": kind.noun or kind.command, "option": kind.option, "choice": kind.choice, "views": kind.views,
            "guidance": kind.guidance, "example": kind.example, "suffixes": list(suffixes(kind)),
            "settings": [_plain(asdict(each)) for each in kind.settings()],
        }
        for kind in representations().values()
    ]  # fmt: skip


def _plain(values: dict[str, Any]) -> dict[str, Any]:
    """Without infinite bounds, for which JSON has no number."""
    return {name: None if value in (math.inf, -math.inf) else value for name, value in values.items()}


def is_solid(kind: type[Representation]) -> bool:
    """Whether a mesh is made of it; else a picture."""
    return all(hasattr(kind, each) for each in ("through", "opacity", "depth", "density"))


def suffixes(kind: type[Representation]) -> tuple[str, ...]:
    """What the files may end in that a representation's command writes, the usual one first."""
    own = getattr(kind, "suffix", "")
    return (".glb" if is_solid(kind) else ".png", *([own] if own else []))


def of_command(command: str) -> list[type[Representation]]:
    """The representations that a command samples, the usual one first."""
    return [each for each in representations().values() if each.command == command]


def commands() -> list[str]:
    """The commands that sample, each once."""
    return list(dict.fromkeys(each.command for each in representations().values()))


def chosen(command: str, choice: str) -> type[Representation]:
    """The representation of a command by its choice, the usual one for "". ValueError names those there are."""
    kinds = of_command(command)
    for each in kinds:
        if choice in ("", each.choice):
            return each
    names = [each.choice for each in kinds]
    if len(names) == 1:
        raise ValueError(f"{command} has one kind of field: leave out {kinds[0].option} {choice!r:.60}")
    raise ValueError(f"the {kinds[0].option} is {choice!r:.60}; it must be {', '.join(names[:-1])} or {names[-1]}")
