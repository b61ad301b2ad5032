"""All installed representations by name: Pullback's own, and those of other packages.

A package adds a representation through an entry point in the group `pullback.representations`, whose value is its class:

    [project.entry-points."pullback.representations"]
    my-field = "my_package:MyField"

The command line, the worker and ComfyUI then offer it. A broken representation is left out, with a warning that names it and
its class.
"""

from __future__ import annotations

import functools
import math
import re
import warnings
from dataclasses import fields
from importlib.metadata import EntryPoint, entry_points

from .diffreps.image import SirenImage
from .diffreps.nerf import NerfRadiance
from .diffreps.panorama import SirenCylinder, SirenSphere
from .diffreps.radiance import VoxelRadiance
from .diffreps.splats import GaussianSplats
from .diffreps.tile import SirenTile
from .representation import Representation
from .settings import MESH, RUN_OPTIONS, Settings

GROUP = "pullback.representations"
"""The group of the entry points."""
DECLARED = ("name", "title", "sentence", "command", "settings", "suited", "recipe", "init", "__call__")
"""What every representation must have."""
TAKEN = frozenset({"render", "mesh", "words", "picture", "reconstruct"})
"""The names of commands and jobs that do not sample a representation."""
BUILT_IN: tuple[type[Representation], ...] = (
    VoxelRadiance,
    SirenImage,
    SirenSphere,
    SirenCylinder,
    SirenTile,
    GaussianSplats,
)
FITTED: tuple[type[Representation], ...] = (NerfRadiance,)
"""Our representations that are fitted to photographs (`reconstruct.py`), and that no command samples."""
RESERVED = frozenset(
    (
        *(each.name for each in fields(Settings)),
        *(each.name for each in MESH),
        *RUN_OPTIONS,
        *(each.option for each in BUILT_IN),
        *(each.side for each in BUILT_IN),
    )
)
"""Names that no setting of a representation may have, because sampling commands have them already."""


@functools.cache
def representations() -> dict[str, type[Representation]]:
    """Return all representations by name, ours first."""
    found = {each.name: each for each in BUILT_IN}
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        try:
            found.setdefault(entry.name, _loaded(entry))
        except Exception as error:  # noqa: BLE001  another package's mistake must not disable ours
            reason = " ".join(str(error).split()) or type(error).__name__
            warnings.warn(f"the representation {entry.name} of {entry.value} is left out: {reason:.300}", stacklevel=2)
    return found


def readable() -> dict[str, type[Representation]]:
    """Return the representations that a field file may hold, by name."""
    return representations() | {each.name: each for each in FITTED}


def _loaded(entry: EntryPoint) -> type[Representation]:
    """Return the class of an entry point. Raise if it cannot be loaded, or if its declarations would break the interfaces."""
    kind = entry.load()
    missing = [each for each in DECLARED if not hasattr(kind, each)]
    if missing:
        raise TypeError(
            f"it does not declare its {', '.join(missing)}; see pullback.representation for what to declare"
        )
    if kind.name != entry.name:
        raise TypeError(f"it calls itself {kind.name!r}")
    if not (is_solid(kind) or hasattr(kind, "picture")):
        raise TypeError("it is neither Flat nor Solid, so no file can be made from it")
    if kind.command in TAKEN or kind.noun in TAKEN:
        raise TypeError(f"{kind.command!r} is one of Pullback's own commands")
    _check_declarations(kind)
    return kind


def _check_declarations(kind: type[Representation]) -> None:
    """Raise if the interfaces could not be made from what a representation declares."""
    if not re.fullmatch("[a-z][a-z0-9-]*", kind.command):
        raise TypeError(f"its command is {kind.command!r}; it must be a word in lower case")
    words = ("title", "sentence", "noun", "choice", "option", "means", "looks", "example", "side")
    for name in words:
        if not isinstance(getattr(kind, name), str):
            raise TypeError(f"its {name} is {getattr(kind, name)!r:.60}; it must be text")
    if not kind.sentence:
        raise TypeError("its sentence is empty")
    for setting in kind.settings():
        if not re.fullmatch("[a-z][a-z0-9_]*", setting.name):
            raise TypeError(f"its setting {setting.name!r} must be named in lower case, with underscores")
        if setting.name in RESERVED | {kind.option, kind.side}:
            raise TypeError(f"its setting {setting.name!r} has a name that every run uses already")
        setting.check(setting.default)
    for name in ("views", "guidance", "pixels_wide", "least_wide"):
        value = getattr(kind, name)
        if type(value) not in (int, float) or not 0 <= value < math.inf:
            raise TypeError(f"its {name} is {value!r:.60}; it must be a number, 0 or above")


def package_of(kind: type[Representation]) -> str:
    """Return the name of the package that a representation comes from, for messages where the package is missing."""
    if kind in BUILT_IN + FITTED:  # also if a host has imported Pullback under another name
        return "pullback"
    return kind.__module__.partition(".")[0]


def is_solid(kind: type[Representation]) -> bool:
    """Return whether a representation's command writes a mesh. Otherwise it writes a picture."""
    return all(hasattr(kind, each) for each in ("through", "opacity", "depth", "density"))


def suffixes(kind: type[Representation]) -> tuple[str, ...]:
    """Return the suffixes of the files that a representation's command can write, the default first."""
    suffix = getattr(kind, "suffix", "")
    return (".glb" if is_solid(kind) else ".png", *([suffix] if suffix else []))


def of_command(command: str) -> list[type[Representation]]:
    """Return the representations that a command samples, the default first."""
    return [each for each in representations().values() if each.command == command]


def commands() -> list[str]:
    """Return the commands that sample, each once."""
    return list(dict.fromkeys(each.command for each in representations().values()))


def chosen(command: str, choice: str) -> type[Representation]:
    """Return a representation by command and choice.

    Args:
        command: The command that samples it.
        choice: The `choice` of the representation, or "" for the command's default.

    Raises:
        ValueError: If the command has no such choice.
    """
    kinds = of_command(command)
    for each in kinds:
        if choice in ("", each.choice):
            return each
    names = [each.choice for each in kinds]
    if len(names) == 1:
        raise ValueError(f"{command} has one kind of field: leave out {kinds[0].option} {choice!r:.60}")
    raise ValueError(f"the {kinds[0].option} is {choice!r:.60}; it must be {', '.join(names[:-1])} or {names[-1]}")
