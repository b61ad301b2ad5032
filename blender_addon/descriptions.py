"""Descriptions: what the representations declare. The panel, the batch and the server's workflows are made from them.

Pullback's own are in `descriptions.json`, which `python tests/test_blender_descriptions.py` writes from the core. Those of
other packages come from the worker in the user's Python. Standard library only; does not import Blender.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, fields, replace
from enum import Enum
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_name("descriptions.json")
DERIVED = {"mesh": ".glb", "picture": ".png"}
"""The kinds of jobs that make something from an existing field, and the suffixes of their files."""
RECONSTRUCTION, RECONSTRUCTED = "reconstruct", ".glb"
"""The kind of jobs that make an object from photographs, and the suffix of their files."""
SHAPE, DRAFTED = "shape", ".glb"
"""The kind of jobs that draft a shape, and the suffix of their files."""
SHAPES, SPHERE = "dpf-shapes", "dpf-sphere"
"""The names of the models that draw shapes, and panoramas of the whole sphere, in one go."""
OF_SHAPE = ("faces", "texture")
"""The settings of a mesh that those of a shape are, too."""
SAMPLED, PIXELS = "pullback", "pixels"
"""The method that samples what no photograph shows, and the name of the model for methods that use photographs alone."""
PICTURES = "pictures_"
"""The prefix of the properties of a reconstruction."""
RELEASED = {"object_views": "views", "object_guidance": "guidance", "panorama_guidance": "guidance"}
"""Properties that keep the names of earlier releases, which files and scripts use."""


class Makes(str, Enum):
    """What a field is turned into in Blender."""

    OBJECT = "object"
    WORLD = "world"
    IMAGE = "image"
    MATERIAL = "material"


@dataclass(frozen=True)
class Setting:
    """One setting, as the core declares it (`core/pullback/representation.py`)."""

    name: str
    default: int | float | str
    help: str
    low: float = -math.inf
    high: float = math.inf
    step: float = 1
    unit: str = ""
    choices: tuple[str, ...] = ()
    unset: str = ""
    node: str = ""

    @classmethod
    def of(cls, declared: dict[str, Any]) -> Setting:
        """Create a setting from JSON values. Raise TypeError, ValueError or AttributeError if they are invalid."""
        made = cls(**_known(cls, declared))
        number = type(made.default) in (int, float) and made.low <= made.default <= made.high
        if not (made.name.isidentifier() and made.help and (number or made.default in made.choices)):
            raise ValueError(f"{made} is not a setting")
        return replace(made, choices=tuple(made.choices))

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").title()

    @property
    def tooltip(self) -> str:
        """The help text without a full stop at the end, which Blender adds."""
        text = self.help.removesuffix(".")
        return f"{text}. {'0' if self.default == 0 else 'Not set'}: {self.unset}" if self.unset else text


@dataclass(frozen=True)
class Representation:
    """What one representation declares. The attributes are as in the core; `made` holds the settings of the written file."""

    name: str
    title: str
    sentence: str
    command: str
    noun: str
    suffixes: tuple[str, ...]
    settings: tuple[Setting, ...]
    made: tuple[Setting, ...]
    option: str = "field"
    choice: str = ""
    means: str = ""
    views: int = 0
    looks: str = ""
    guidance: float = 1.0
    closed: tuple[bool, bool] | None = None
    aspect: float | None = None

    @classmethod
    def of(cls, declared: dict[str, Any]) -> Representation:
        """Create a representation from JSON values.

        Raises:
            TypeError, ValueError, LookupError, AttributeError: If the values are invalid.
        """
        made = cls(**_known(cls, declared))
        texts = (made.name, made.title, made.sentence, made.command, made.option, made.choice, *made.suffixes)
        if not all(isinstance(each, str) for each in texts) or not made.suffixes or made.noun in DERIVED:
            raise ValueError(f"{made} is not a representation")
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", made.noun):
            raise ValueError(f"{made.noun!r} is not a valid kind of job")
        settings, of_made = (tuple(map(Setting.of, each)) for each in (made.settings, made.made))
        closed = tuple(made.closed) if made.closed else None
        return replace(made, settings=settings, made=of_made, suffixes=tuple(made.suffixes), closed=closed)

    @property
    def makes(self) -> Makes:
        """Objects have a mesh, materials a picture that tiles, worlds an equirectangular picture, and images any other."""
        if self.suffixes[0] == ".glb":
            return Makes.OBJECT
        if self.closed == (True, True):
            return Makes.MATERIAL
        around = self.closed == (False, True) and self.aspect == 2.0  # equirectangular
        return Makes.WORLD if around else Makes.IMAGE


@dataclass(frozen=True)
class Kind:
    """A kind of job: those representations of one command that are turned into the same thing in Blender."""

    noun: str
    choices: tuple[Representation, ...]

    @property
    def usual(self) -> Representation:
        return self.choices[0]

    @property
    def makes(self) -> Makes:
        return self.usual.makes

    @property
    def suffix(self) -> str:
        return self.usual.suffixes[0]

    @property
    def identifier(self) -> str:
        """The noun as a part of names in Blender."""
        return re.sub(r"\W", "_", self.noun)

    @property
    def of_run(self) -> dict[str, Setting]:
        """Settings of every run whose default and help depend on the kind."""
        made = {"guidance": replace(RUN["guidance"], default=self.usual.guidance)}
        if self.usual.views:
            made["views"] = replace(RUN["views"], default=self.usual.views, help=self.usual.looks)
        return made

    @property
    def own(self) -> dict[str, Setting]:
        """The settings of the kind's representations, by name."""
        found: dict[str, Setting] = {}
        for each in (each for choice in self.choices for each in choice.settings):
            found.setdefault(each.name, each)
        return found

    @property
    def made(self) -> dict[str, Setting]:
        """The settings of the written file, by name."""
        return {each.name: each for each in self.usual.made}

    def prop(self, name: str) -> str:
        """Return the name of Blender's property for a setting. All meshes share the same properties."""
        if self.makes is Makes.OBJECT and name in self.made:
            return name
        return RELEASED.get(f"{self.identifier}_{name}", f"{self.identifier}_{name}")

    @property
    def words(self) -> dict[str, Representation]:
        """The kind's representations by the values of the option that chooses among them."""
        return {each.choice or each.name: each for each in self.choices}


def _known(cls: type, declared: dict[str, Any]) -> dict[str, Any]:
    """Return the declared values of a dataclass's fields, without unknown names and null values."""
    names = {each.name for each in fields(cls)}
    return {name: value for name, value in declared.items() if name in names and value is not None}


def _read() -> tuple[dict[str, Setting], dict[str, Setting], tuple[Representation, ...]]:
    declared = json.loads(FILE.read_text(encoding="utf-8"))
    run, photographs = (
        {each["name"]: Setting.of(each) for each in declared[name]} for name in ("settings", RECONSTRUCTION)
    )
    return run, photographs, tuple(map(Representation.of, declared["representations"]))


RUN, RECONSTRUCT, OURS = _read()
"""The settings of every run and those of a reconstruction, by name, and Pullback's own representations."""
_others: tuple[Representation, ...] = ()


def learn(declared: Any) -> bool:
    """Store the representations that a worker declares, without invalid ones. Return whether anything has changed."""
    global _others
    names, found = {each.name for each in OURS}, []
    for each in declared if isinstance(declared, list) else ():
        try:
            one = Representation.of(each)
        except (TypeError, ValueError, LookupError, AttributeError):
            continue
        if one.name not in names:
            names.add(one.name)
            found.append(one)
    before, _others = _others, tuple(found)
    return _others != before


def known() -> tuple[Representation, ...]:
    """Return all representations, Pullback's own first."""
    return *OURS, *_others


def kinds() -> dict[str, Kind]:
    """Return the kinds of jobs that sample, by name: sorted by what they make, Pullback's own first."""
    groups: dict[str, list[Representation]] = {}
    for each in known():
        groups.setdefault(each.command, []).append(each)
    made = [Kind(group[0].noun, tuple(e for e in group if e.makes is group[0].makes)) for group in groups.values()]
    return {kind.noun: kind for kind in sorted(made, key=lambda kind: list(Makes).index(kind.makes))}


def first(makes: Makes) -> Kind:
    """Return the first kind that makes something. The interface calls it by what it makes, for example "Object"."""
    return next(kind for kind in kinds().values() if kind.makes is makes)


def pictures() -> dict[str, Setting]:
    """Return the settings of a reconstruction by the names of Blender's properties.

    The seed is left out because all jobs share it. Blender cannot show an empty choice, so the first other one replaces it.
    """
    found = {}
    for name, each in RECONSTRUCT.items():
        words = tuple(filter(None, each.choices))
        if words != each.choices:
            each = replace(each, choices=words, default=words[0], unset="")
        if name != "seed":
            found[PICTURES + name] = each
    return found


def makes(kind: str) -> Makes | None:
    """Return what a kind of job makes, or None if it makes something from an existing field. KeyError if it is unknown."""
    if kind in DERIVED:
        return None
    return Makes.OBJECT if kind in (RECONSTRUCTION, SHAPE) else kinds()[kind].makes


def mesh() -> dict[str, Setting]:
    """Return the settings of a mesh, by name."""
    return first(Makes.OBJECT).made


def suffix(kind: str) -> str:
    """Return the suffix of the file that a kind of job writes. Raise KeyError for an unknown kind."""
    known = {**DERIVED, RECONSTRUCTION: RECONSTRUCTED, SHAPE: DRAFTED}
    return known[kind] if kind in known else kinds()[kind].suffix
