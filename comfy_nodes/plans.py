"""Plans: fields before they are sampled, and the core's recipes that a plan becomes once the model is known.

Sizes are in picture pixels; 0 stands for what suits the model. Angles are in degrees, as the nodes have them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..core.pullback.storage import Field
    from ..core.pullback.tasks import Recipe


@dataclass(frozen=True)
class Plan:
    """How a field is made and looked at. `model` below is the core's `Model`, as far as sizes go."""

    @property
    def start(self) -> int:
        """The seed of the field's own random start and of its views."""
        return getattr(self, "seed", 0)

    def recipe(self, model: Any, views: int) -> Recipe:
        """The core's recipe for a model, with `views` per step (0: the plan's own)."""
        raise NotImplementedError


@dataclass(frozen=True)
class Pixels(Plan):
    """The identity field."""

    width: int = 0
    height: int = 0

    def recipe(self, model: Any, views: int) -> Recipe:
        from ..core.pullback.diffreps.image import PixelGrid
        from ..core.pullback.diffreps.siren import signal_size
        from ..core.pullback.noise import FixedViews
        from ..core.pullback.tasks import recipe

        shape = (1, model.channels, signal_size(model, self.height), signal_size(model, self.width))
        return replace(recipe("image", model, _settings()), diffrep=PixelGrid(shape), views=FixedViews(None, shape))


@dataclass(frozen=True)
class Fresh(Plan):
    """A representation of the core, by its name, with its own settings, the views that a step looks at, and a seed.

    Settings that the representation does not have are left out: nodes of several have those of all.
    """

    name: str
    settings: tuple[tuple[str, Any], ...] = ()
    views: int = 0
    seed: int = 0

    @classmethod
    def of(cls, name: str, views: int = 0, seed: int = 0, **settings: Any) -> Fresh:
        """ValueError names a setting that is out of range."""
        from ..core.pullback.representations import representations

        known = {each.name: each for each in representations()[name].settings()}
        mine = {key: known[key].check(value, known[key].node) for key, value in settings.items() if key in known}
        return cls(name, tuple(mine.items()), views, seed)

    def recipe(self, model: Any, views: int) -> Recipe:
        from ..core.pullback.representations import representations

        kind, own = representations()[self.name], dict(self.settings)
        diffrep = kind.suited(model, **own)
        return diffrep.recipe(model, views or self.views or kind.views or 1, _small(self.seed), **own)


@dataclass(frozen=True)
class Again(Plan):
    """A field that was loaded: sampled on from where it is, through the views of its kind."""

    field: Field

    def recipe(self, model: Any, views: int) -> Recipe:
        diffrep: Any = self.field.diffrep
        same_model(self.field, model.name)
        return diffrep.recipe(model, views or diffrep.views or 1, 0)


def same_model(field: Field, name: str) -> None:
    """ValueError where a field was sampled by another kind of model, whose signals are others."""
    if field.model != name:
        raise ValueError(
            f"this field was sampled by {field.model} and this model is {name}, whose signals are others: "
            "sample it on with the kind of model that made it"
        )


def shape_of(views: Any) -> tuple[int, int, int, int]:
    """(B, C, h, w) of what one step looks at."""
    return getattr(views, "shape", None) or (views.count, views.channels, views.height, views.height)


def _settings() -> Any:
    from ..core.pullback.tasks import Settings

    return Settings("as conditioned")


def _small(seed: int) -> int:
    return seed % (1 << 63)  # what fits a field file and every generator
