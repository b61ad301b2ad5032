"""The interface of differentiable representations.

A representation is a frozen dataclass in one file in `diffreps/`, whose attributes are stored in field files. It renders views
of a field, `diffrep(theta, view) -> (B, C, H, W)`, creates initial parameters, `init(generator) -> theta`, and declares its
name, its settings and how it is sampled. The command line, the worker, the schema of field files, ComfyUI's nodes and Blender's
panel are generated from these declarations; none of them mentions a representation by name. What can be made from a field
depends on the protocols that its representation implements (`Flat`, `Solid`, `Placed`, `OwnFile`), never on its class.
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
from .types import Model, Params, Scales

Crop = tuple[int, int, int, int]
"""A part of a picture in pixels: top, left, height, width."""
Value = int | float | str
"""The value of a setting."""


TOP = 80.0
"""The noise level at which sampling starts, unless the model's highest is lower. It exceeds the distances between pictures."""


def _nothing() -> None:
    """Do nothing; the default for `tick`."""


@dataclass(frozen=True)
class Setting:
    """A setting that users may change, with everything that interfaces show about it.

    Args:
        name: Its name, in lower case with underscores.
        default: The default, whose type is the type of the setting.
        help: What it does, in one sentence.
        low: The smallest value, if it is a number.
        high: The largest value, if it is a number.
        step: The increment in interfaces, if it is a number.
        unit: "", "pixels" or "degrees".
        choices: The values to choose from, if it is a text.
        unset: A phrase that says what happens if the setting is left out, for settings where that differs from the default,
            or where the default is 0 and stands for leaving it out. Otherwise "".
        node: Its name in ComfyUI's node, if released workflows use a different one.
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
        """Check a value that a user gave.

        Args:
            value: The value, of any type. Whole numbers are accepted as floats, since JSON does not tell them apart.
            title: The setting's name in error messages; by default `name`.

        Returns:
            The value in the type of the setting's default.

        Raises:
            ValueError: If the value has the wrong type, is out of range, or is not one of the choices.

        Example:
            >>> Setting("fov", 65.0, "Angle of a view.", 20.0, 120.0).check(90)
            90.0
        """
        title = title or self.name
        if isinstance(self.default, str):
            if value not in self.choices:
                raise ValueError(f"{title} is {value!r:.60}; it must be one of {', '.join(self.choices)}")
            return str(value)
        types = (int,) if isinstance(self.default, int) else (int, float)
        if type(value) not in types or not abs(value) < math.inf:
            what = "a whole number" if isinstance(self.default, int) else "a number"
            raise ValueError(f"{title} is {value!r:.60}; it must be {what}")
        if not self.low <= value <= self.high:
            raise ValueError(f"{title} is {plain(value)}; it must be between {plain(self.low)} and {plain(self.high)}")
        return type(self.default)(value)


def plain(number: float) -> str:
    """Format a number for messages: whole numbers with all their digits, other numbers with six, infinity as "inf"."""
    if abs(number) == math.inf or number != int(number):
        return f"{number:g}"
    return str(int(number))


def of_field(kind: type, name: str, help: str, called: str = "", **more: Any) -> Setting:
    """Return the setting of a dataclass's field, with the field's default and bounds.

    Args:
        kind: The dataclass.
        name: The name of the field.
        help: As in `Setting`.
        called: The name of the setting, if it differs from the name of the field.
        **more: `step`, `unit`, `unset` or `node` as in `Setting`; `low` and `high` if interfaces allow a narrower range than
            files.
    """
    default = next(field.default for field in fields(kind) if field.name == name)
    assert default is not MISSING
    low, high = bounds(get_type_hints(kind, include_extras=True)[name])
    return Setting(called or name, default, help, **{"low": low, "high": high, **more})


def bounds(annotation: Any) -> tuple[float, float]:
    """Return the bounds of `Annotated[..., Meta(ge=..., le=...)]`, infinite where there are none."""
    low, high = -math.inf, math.inf
    for meta in (each for each in get_args(annotation) if isinstance(each, Meta)):
        low = max(low, next((b for b in (meta.ge, meta.gt) if b is not None), low))
        high = min(high, next((b for b in (meta.le, meta.lt) if b is not None), high))
    return low, high


@dataclass(frozen=True)
class Recipe:
    """How a field is sampled from a model.

    Args:
        diffrep: The representation.
        views: The views of a step.
        solver: The inner solver.
        sigma: The smallest noise level above 0, and the largest noise level.
        gamma: The fraction of the residual that is carried, in [0, 1].
        fit, last_views: As in `Pull`.
    """

    diffrep: Any
    views: Views
    solver: Solver
    sigma: tuple[float, float]
    gamma: float
    fit: Fit | None = field(default=None, compare=False)
    last_views: Views | None = None


class Representation:
    """Base of the representations that users can choose.

    Attributes:
        name: Its name in field files and as an entry point.
        title: Its name in interfaces.
        sentence: What it is good for, in one sentence.
        command: The command that samples it. Several representations may share one.
        noun: The kind of the worker's job and the default file name, if these differ from the command.
        choice: Its name among the representations of its command, "" if it is the only one.
        option: The command's option whose value is `choice`.
        means: A phrase that explains `choice`.
        views: The default number of views per step, or 0 if users cannot choose it.
        looks: A sentence that describes these views.
        guidance: The default guidance.
        example: An example of a prompt.
        side: The command's option for the width of the written picture, if the representation is flat.
        pixels_wide: The default of this width, in pixels.
        least_wide: The smallest value of this width, in pixels.
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
        """Return the name of the task in run files. A run is continued only by the same task."""
        return f"{cls.command} {cls.choice}".strip()

    @classmethod
    def settings(cls) -> tuple[Setting, ...]:
        """Return its settings, in the order in which interfaces show them."""
        return ()

    @classmethod
    def suited(cls, model: Model, **settings: Any) -> Any:
        """Return an instance for a model.

        Args:
            model: The model.
            **settings: The settings that were given, already checked.

        Raises:
            ValueError: If the settings do not suit the model or each other.
        """
        raise NotImplementedError

    def recipe(self, model: Model, views: int, seed: int, **settings: Any) -> Recipe:
        """Return how a field of this representation is sampled from a model.

        Args:
            model: The model.
            views: Views per step.
            seed: The seed of the run, which chooses the views that stay the same throughout the run.
            **settings: As in `suited`.
        """
        raise NotImplementedError

    def brief(self, recipe: Recipe) -> Recipe:
        """Return a variant of the recipe for large models, for which one evaluation costs more than a fit."""
        return recipe

    def init(self, generator: Generator) -> Params:
        """Return the initial parameters."""
        raise NotImplementedError

    def canonical(self, params: Params) -> Tensor:
        """Return the signals (B, C, h, w) of a few representative views, at the size that the model sees."""
        raise NotImplementedError


@runtime_checkable
class Flat(Protocol):
    """A representation that can be drawn as one flat picture of any size."""

    @property
    def aspect(self) -> float:
        """Width divided by height of the whole picture."""
        ...

    @property
    def closed(self) -> tuple[bool, bool]:
        """Whether the lower edge joins the upper one, and the right edge the left one."""
        ...

    @property
    def opaque(self) -> bool:
        """Whether the picture hides what lies behind it, so that it needs no alpha."""
        ...

    def picture(self, params: Params, height: int, width: int, crop: Crop | None = None) -> Tensor:
        """Return the picture, or its part `crop`, as signals (1, C, h, w).

        Args:
            params: The parameters.
            height: Height of the whole picture in pixels.
            width: Width of the whole picture.
            crop: The part (top, left, h, w). In a closed picture it may extend beyond the edges.
        """
        ...


@runtime_checkable
class Placed(Protocol):
    """A representation that can start from a given picture and keep a part of it (`known.py`)."""

    def at(self, params: Params, places: Tensor) -> Tensor:
        """Return values (..., C) at places (..., D), in the representation's own coordinates."""
        ...

    def places(self, height: int, width: int, crop: Crop | None = None) -> Tensor:
        """Return the places (h, w, D) of the pixels of a whole picture, or of its part `crop`."""
        ...

    def lookup(self, view: Any) -> Tensor | None:
        """Return where in the whole picture the pixels of B views are, (B, H, W, 2) as x (right) and y (down) in [0, 1].

        None means that there is one view, and that it is the whole picture.
        """
        ...


@runtime_checkable
class Solid(Protocol):
    """A representation that is seen through cameras and has a surface."""

    @property
    def elevations(self) -> tuple[float, float]:
        """Lowest and highest elevation of the cameras that it was sampled through, in degrees."""
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
        """Render signals (B, C, h, w) through B cameras.

        Args:
            params: The parameters.
            cameras: The cameras.
            height: Height of the whole picture in pixels.
            width: Width of the whole picture.
            crop: The part (top, left, h, w) that is wanted, or None for all of it.
            tick: Called often; it may raise to stop.
        """
        ...

    def opacity(
        self, params: Params, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = _nothing
    ) -> Tensor:
        """Return the opacity of each pixel, (B, 1, height, width) in [0, 1]. Arguments are as in `through`."""
        ...

    def depth(
        self, params: Params, cameras: Cameras, height: int, width: int, tick: Callable[[], None] = _nothing
    ) -> Tensor:
        """Return the distance from the camera to the surface in each pixel, (B, 1, height, width), infinite if there is none."""
        ...

    def density(self, params: Params, points: Tensor) -> Tensor:
        """Return the density (N,) per unit of length at points (N, 3), from which a surface is extracted."""
        ...


@runtime_checkable
class Shaped(Protocol):
    """A representation of objects that can begin as a given shape."""

    def shaped(self, volume: Tensor) -> Params:
        """Return the parameters of a shape.

        Args:
            volume: Opacity and display RGB in the cells of the cube, (4, X, Y, Z) in [0, 1]. The colours are those of the nearest
                surface.
        """
        ...


@runtime_checkable
class OwnFile(Protocol):
    """A representation that has a file format of its own. `suffix` is the suffix of the file, including the dot."""

    suffix: ClassVar[str]

    def write(self, path: Path, params: Params, colours: Callable[[Tensor], Tensor]) -> None:
        """Write the file.

        Args:
            path: Where to write.
            params: The parameters.
            colours: Maps signals (N, C) to display RGB (N, 3) in [0, 1].
        """
        ...


def values(settings: tuple[Setting, ...], given: Mapping[str, Any]) -> dict[str, Value]:
    """Return the value of every setting.

    Args:
        settings: The settings.
        given: The values that were given, by name.

    Returns:
        The given values, checked, and the defaults of the other settings.

    Raises:
        ValueError: If a value is wrong or its name is unknown.
    """
    known = {each.name: each for each in settings}
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise ValueError(f"the setting {unknown[0]!r:.60} is unknown; known are {', '.join(known)}")
    return {name: each.check(given[name]) if name in given else each.default for name, each in known.items()}


def noise_range(model: Model, low: float, view: tuple[int, int] | None = None) -> tuple[float, float]:
    """Return the lowest and highest noise level of a run: `low` and `TOP`, limited to the model's training range.

    Args:
        model: The model.
        low: The lowest level.
        view: Height and width of the views, for models whose levels depend on them (`types.Scales`).
    """
    if view is not None and isinstance(model, Scales):
        lowest, highest = model.sigma_range(*view)
        return max(low, lowest), highest
    return max(low, model.sigma_min), min(TOP, model.sigma_max)
