"""Descriptions: what the representations declare, from which the panel, the batch and the server's workflows are made.

Ours are in `descriptions.json`, as `python tests/test_blender_descriptions.py` has the core tell them; other packages' are
what the worker of the user's Python says when it is ready. Pure standard library; knows nothing of Blender.
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
"""The kinds of jobs that make something new of a field, and what their files end in."""
RECONSTRUCTION, RECONSTRUCTED = "reconstruct", ".glb"
"""The kind of jobs that make an object from photographs, and what their files end in."""
SAMPLED, PIXELS = "pullback", "pixels"
"""The method that samples what no photograph shows, and the model of what nothing but photographs made."""
PICTURES = "pictures_"
"""What the properties of a reconstruction begin with."""
RELEASED = {"object_views": "views", "object_guidance": "guidance", "panorama_guidance": "guidance"}
"""Properties that older files and scripts know by another name than new ones are given."""


class Makes(str, Enum):
    """What becomes of a field in Blender."""

    OBJECT = "object"
    WORLD = "world"
    IMAGE = "image"
    MATERIAL = "material"


@dataclass(frozen=True)
class Setting:
    """One thing that a user may set, as the core declares it (`core/pullback/representation.py`)."""

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
        """From JSON values. TypeError, ValueError or AttributeError where they are none of a setting."""
        made = cls(**_known(cls, declared))
        number = type(made.default) in (int, float) and made.low <= made.default <= made.high
        if not (made.name.isidentifier() and made.help and (number or made.default in made.choices)):
            raise ValueError(f"{made} is no setting")
        return replace(made, choices=tuple(made.choices))

    @property
    def label(self) -> str:
        return self.name.replace("_", " ").title()

    @property
    def tooltip(self) -> str:
        """As Blender shows it: the full stop is Blender's."""
        text = self.help.removesuffix(".")
        return f"{text}. {'0' if self.default == 0 else 'Not set'}: {self.unset}" if self.unset else text


@dataclass(frozen=True)
class Representation:
    """What one representation declares. made: the settings of what is written; the others are as in the core."""

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
        """From JSON values. TypeError, ValueError, LookupError or AttributeError where they are none."""
        made = cls(**_known(cls, declared))
        texts = (made.name, made.title, made.sentence, made.command, made.option, made.choice, *made.suffixes)
        if not all(isinstance(each, str) for each in texts) or not made.suffixes or made.noun in DERIVED:
            raise ValueError(f"{made} is no representation")
        if not re.fullmatch(r"[a-z][a-z0-9_-]{0,30}", made.noun):
            raise ValueError(f"{made.noun!r} is no kind of job")
        settings, of_made = (tuple(map(Setting.of, each)) for each in (made.settings, made.made))
        closed = tuple(made.closed) if made.closed else None
        return replace(made, settings=settings, made=of_made, suffixes=tuple(made.suffixes), closed=closed)

    @property
    def makes(self) -> Makes:
        """By what it has: a surface; a picture without any edge; one that goes all around; or any other picture."""
        if self.suffixes[0] == ".glb":
            return Makes.OBJECT
        if self.closed == (True, True):
            return Makes.MATERIAL
        around = self.closed == (False, True) and self.aspect == 2.0  # equirectangular: else it has no up and down
        return Makes.WORLD if around else Makes.IMAGE


@dataclass(frozen=True)
class Kind:
    """A kind of job: the representations that one command samples, less those that would become something else here."""

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
        """What names in Blender begin or end with."""
        return re.sub(r"\W", "_", self.noun)

    @property
    def of_run(self) -> dict[str, Setting]:
        """The settings of every run whose default, and help, are this kind's."""
        made = {"guidance": replace(RUN["guidance"], default=self.usual.guidance)}
        if self.usual.views:
            made["views"] = replace(RUN["views"], default=self.usual.views, help=self.usual.looks)
        return made

    @property
    def own(self) -> dict[str, Setting]:
        """The settings of its representations."""
        found: dict[str, Setting] = {}
        for each in (each for choice in self.choices for each in choice.settings):
            found.setdefault(each.name, each)
        return found

    @property
    def made(self) -> dict[str, Setting]:
        """The settings of what is written."""
        return {each.name: each for each in self.usual.made}

    def prop(self, name: str) -> str:
        """What Blender's property of a setting is called. All meshes share theirs."""
        if self.makes is Makes.OBJECT and name in self.made:
            return name
        return RELEASED.get(f"{self.identifier}_{name}", f"{self.identifier}_{name}")

    @property
    def words(self) -> dict[str, Representation]:
        """Its representations by what a choice among them calls them."""
        return {each.choice or each.name: each for each in self.choices}


def _known(cls: type, declared: dict[str, Any]) -> dict[str, Any]:
    """The values of a dataclass's fields; what is null, or new, is left out."""
    names = {each.name for each in fields(cls)}
    return {name: value for name, value in declared.items() if name in names and value is not None}


def _read() -> tuple[dict[str, Setting], dict[str, Setting], tuple[Representation, ...]]:
    declared = json.loads(FILE.read_text(encoding="utf-8"))
    run, photographs = (
        {each["name"]: Setting.of(each) for each in declared[name]} for name in ("settings", RECONSTRUCTION)
    )
    return run, photographs, tuple(map(Representation.of, declared["representations"]))


RUN, RECONSTRUCT, OURS = _read()
"""The settings of every run and those of a reconstruction by name, and the representations that Pullback brings along."""
_others: tuple[Representation, ...] = ()


def learn(declared: Any) -> bool:
    """Take in what a worker says that there is; whether that is news. What makes no sense is left out."""
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
    """All representations, ours first."""
    return *OURS, *_others


def kinds() -> dict[str, Kind]:
    """The kinds of jobs that sample, by name, in the order of what they make, ours first."""
    groups: dict[str, list[Representation]] = {}
    for each in known():
        groups.setdefault(each.command, []).append(each)
    made = [Kind(group[0].noun, tuple(e for e in group if e.makes is group[0].makes)) for group in groups.values()]
    return {kind.noun: kind for kind in sorted(made, key=lambda kind: list(Makes).index(kind.makes))}


def first(makes: Makes) -> Kind:
    """The first kind of which something is made: the one that the face calls by what it makes."""
    return next(kind for kind in kinds().values() if kind.makes is makes)


def pictures() -> dict[str, Setting]:
    """The settings of a reconstruction by the names of Blender's properties. The seed is that of all runs, and an empty choice
    cannot be shown: the first of the others stands for it."""
    found = {}
    for name, each in RECONSTRUCT.items():
        words = tuple(filter(None, each.choices))
        if words != each.choices:
            each = replace(each, choices=words, default=words[0], unset="")
        if name != "seed":
            found[PICTURES + name] = each
    return found


def makes(kind: str) -> Makes | None:
    """What becomes of a job; None for those that make something new of a field. KeyError for an unknown kind."""
    if kind in DERIVED:
        return None
    return Makes.OBJECT if kind == RECONSTRUCTION else kinds()[kind].makes


def mesh() -> dict[str, Setting]:
    """The settings of a mesh."""
    return first(Makes.OBJECT).made


def suffix(kind: str) -> str:
    """What the file of a job ends in. KeyError for an unknown kind."""
    known = {**DERIVED, RECONSTRUCTION: RECONSTRUCTED}
    return known[kind] if kind in known else kinds()[kind].suffix
