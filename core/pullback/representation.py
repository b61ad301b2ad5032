"""Representation: what a differentiable representation declares about itself, once.

A representation is a frozen dataclass, one file in `diffreps/`. Its fields are what a field file keeps; it renders,
`diffrep(theta, view) -> (B, C, H, W)`, it starts, `init(generator) -> theta`, and it declares, as class variables, how it
is called, what users may set, and how it is sampled. The command line, the worker, the field file's schema, ComfyUI's
nodes and Blender's panel are made from that; none of them names a representation. What can be made of a field is asked
for by capability (`Flat`, `Solid`), never by class.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, Protocol, get_args, get_type_hints, runtime_checkable

from msgspec import Meta
from torch import Generator, Tensor

from .geometry.cameras import Cameras
from .noise import Views
from .pull import Fit
from .solvers import Solver
from .types import Model, Params

Crop = tuple[int, int, int, int]
"""A part of a picture in pixels: top, left, height, width."""
Value = int | float | str
"""What a setting may be."""


TOP = 80.0
"""Noise level at which sampling starts, where the model reaches so far: above the distances between its pictures."""


def _nothing() -> None:
    """The tick of those who never stop."""


@dataclass(frozen=True)
class Setting:
    """One thing that a user may set, as every door shows it.

    Args:
        name: in the interfaces, in lower case with underscores.
        default: its type is the setting's.
        help: one sentence.
        low: the least value of a number.
        high: the greatest.
        step: what interfaces count in.
        unit: "" , "pixels" or "degrees".
        choices: the words that a text may be.
        unset: what it is where it is left out, or 0 if that is the default; "" where that is the default itself.
        node: what ComfyUI's node calls it, where that is another name: released nodes keep theirs.
    """

    name: str
    default: Value
    help: str
    low: float = -math.inf
    high: float = math.inf
    step: float = 1
    unit: str = ""
    choices: tuple[str, ...] = ()
    unset: str = ""
    node: str = ""

    def check(self, value: Any, title: str = "") -> Value:
        """The value in the setting's type. ValueError names what is wrong; `title` is what the user calls the setting."""
        title = title or self.name
        if isinstance(self.default, str):
            if value not in self.choices:
                raise ValueError(f"{title} is {value!r:.60}; it must be one of {', '.join(self.choices)}")
            return str(value)
        kinds = (int,) if isinstance(self.default, int) else (int, float)
        if type(value) not in kinds or not math.isfinite(value):
            what = "a whole number" if isinstance(self.default, int) else "a number"
            raise ValueError(f"{title} is {value!r:.60}; it must be {what}")
        if not self.low <= value <= self.high:
            raise ValueError(f"{title} is {plain(value)}; it must be between {plain(self.low)} and {plain(self.high)}")
        return type(self.default)(value)


def plain(number: float) -> str:
    """A number as people write it: whole ones with all their digits."""
    return str(int(number)) if number == int(number) else f"{number:g}"


def of_field(kind: type, name: str, help: str, called: str = "", **more: Any) -> Setting:
    """The setting of a dataclass's field: its default and its bounds stand where the field does.

    Args:
        kind: the dataclass.
        name: of the field.
        help: see `Setting`.
        called: the setting's name where it is not the field's.
        **more: `step`, `unit`, `unset` or `node`, as of `Setting`; `low` and `high` where interfaces allow less than files.
    """
    default = next(each.default for each in fields(kind) if each.name == name)
    assert default is not MISSING
    low, high = bounds(get_type_hints(kind, include_extras=True)[name])
    return Setting(called or name, default, help, **{"low": low, "high": high, **more})


def bounds(annotation: Any) -> tuple[float, float]:
    """The least and the greatest value of `Annotated[..., Meta(ge=..., le=...)]`, infinite where it has none."""
    low, high = -math.inf, math.inf
    for meta in (each for each in get_args(annotation) if isinstance(each, Meta)):
        low = max(low, next((b for b in (meta.ge, meta.gt) if b is not None), low))
        high = min(high, next((b for b in (meta.le, meta.lt) if b is not None), high))
    return low, high


@dataclass(frozen=True)
class Recipe:
    """How a field is sampled: the diffrep, the views that it is seen through, and the numbers that suit it.

    sigma: the least and the greatest noise level. gamma: the part of the residual that is carried. fit, last_views: as
    in `Pull`.
    """

    diffrep: Any
    views: Views
    solver: Solver
    sigma: tuple[float, float]
    gamma: float
    fit: Fit | None = field(default=None, compare=False)
    last_views: Views | None = None


class Representation:
    """Base of the representations that users choose.

    Attributes:
        name: in field files.
        title: in interfaces.
        sentence: what it is good for.
        command: the command that samples it.
        noun: kind of the worker's job and default name of the file; the command's name where it is empty.
        choice: its name among the representations of one command; "" where it is the only one.
        option: what the command calls that choice; means: one phrase that explains this one.
        task: what a run file calls a run; runs of another task are not continued.
        views: views that a step looks at, where there is a choice; else 0. looks: what they are.
        guidance: what suits it.
        example: a prompt.
        side: for flat ones, the command's option for the width of the written picture; pixels_wide: its default;
            least_wide: its minimum.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    sentence: ClassVar[str]
    command: ClassVar[str]
    noun: ClassVar[str] = ""
    choice: ClassVar[str] = ""
    option: ClassVar[str] = "field"
    means: ClassVar[str] = ""
    views: ClassVar[int] = 0
    looks: ClassVar[str] = "Views that each sampling step looks at."
    guidance: ClassVar[float] = 1.0
    example: ClassVar[str] = "a red mushroom"
    side: ClassVar[str] = "width"
    pixels_wide: ClassVar[int] = 2048
    least_wide: ClassVar[int] = 8

    @classmethod
    def task(cls) -> str:
        """What a run file calls a run."""
        return f"{cls.command} {cls.choice}".strip()

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        """What users may set of it, in the order in which interfaces show it."""
        return ()

    @classmethod
    def suited(cls, model: Model, **settings: Any) -> Any:
        """An instance for a model, with those of its `settings` that were given."""
        raise NotImplementedError

    def recipe(self, model: Model, views: int, seed: int, **settings: Any) -> Recipe:
        """How it is sampled through `views` views a step; `seed` chooses views that stay. settings: as in `suited`."""
        raise NotImplementedError

    def brief(self, recipe: Recipe) -> Recipe:
        """The recipe beside a large model, one evaluation of which costs more than a fit."""
        return recipe

    def init(self, generator: Generator) -> Params:
        """The parameters at the start."""
        raise NotImplementedError

    def canonical(self, params: Params) -> Tensor:
        """Signals (B, C, h, w) of the views that say most, at the size that the model sees."""
        raise NotImplementedError


@runtime_checkable
class Flat(Protocol):
    """What has a picture at every size."""

    @property
    def aspect(self) -> float:
        """Width over height of the whole picture."""
        ...

    @property
    def closed(self) -> tuple[bool, bool]:
        """Whether the lower edge goes on at the upper one, and the right edge at the left one."""
        ...

    @property
    def opaque(self) -> bool:
        """Whether the picture hides what lies behind it, so that alpha is not kept."""
        ...

    def picture(self, params: Params, height: int, width: int, crop: Crop | None = None) -> Tensor:
        """Signals (1, C, h, w) at any size, or a part of it; crops of a closed picture may reach over its edges."""
        ...


@runtime_checkable
class Placed(Protocol):
    """What starts from a given picture, and keeps a part of it (`known.py`)."""

    def at(self, params: Params, places: Tensor) -> Tensor:
        """Values (..., C) at places (..., D) of its own kind."""
        ...

    def places(self, height: int, width: int, crop: Crop | None = None) -> Tensor:
        """The places (h, w, D) of the pixels of a whole picture, or of a part of it."""
        ...

    def lookup(self, view: Any) -> Tensor | None:
        """Where in the whole picture the pixels of views are, (B, H, W, 2): to the right and downwards, 0 to 1; None where
        the one view is the whole picture."""
        ...


@runtime_checkable
class Solid(Protocol):
    """What is seen through cameras and has a surface."""

    @property
    def elevations(self) -> tuple[float, float]:
        """Of the cameras that it was sampled through, lowest and highest, in degrees."""
        ...

    def through(
        self,
        params: Params,
        cameras: Cameras,
        height: int,
        width: int,
        crop: Crop | None = None,
        tick: Callable[[], None] = _nothing,
    ) -> Tensor:
        """Signals (B, C, h, w) through cameras, or a part of them. `tick` is called often and may raise, to stop."""
        ...

    def opacity(
        self, params: Params, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = _nothing
    ) -> Tensor:
        """How much of each pixel the field hides, (B, 1, height, width) in [0, 1]."""
        ...

    def depth(
        self, params: Params, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = _nothing
    ) -> Tensor:
        """Distance from the eye to what hides each pixel, (B, 1, height, width), infinite where nothing does."""
        ...

    def density(self, params: Params, points: Tensor) -> Tensor:
        """Density (N,) per unit of length at points (N, 3), for a surface."""
        ...


@runtime_checkable
class OwnFile(Protocol):
    """What has a file format of its own beside meshes and pictures. suffix: of the file, with its dot; a class variable."""

    suffix: ClassVar[str]

    def write(self, path: Path, params: Params, colours: Callable[[Tensor], Tensor]) -> None:
        """Write the file. colours: signals (N, C) to display RGB (N, 3) in [0, 1]."""
        ...


def values(settings: tuple[Setting, ...], given: Mapping[str, Any]) -> dict[str, Value]:
    """Every setting's value: the given ones, checked, and the defaults of the others. ValueError names an unknown one."""
    known = {each.name: each for each in settings}
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise ValueError(f"the setting {unknown[0]!r:.60} is unknown; known are {', '.join(known)}")
    return {name: each.check(given[name]) if name in given else each.default for name, each in known.items()}


def noise_range(model: Model, low: float) -> tuple[float, float]:
    """The noise levels from `low` to TOP, as far as the model knows them."""
    return max(low, model.sigma_min), min(TOP, model.sigma_max)
