"""Plans: descriptions of fields before they are sampled. A plan becomes one of the core's recipes when the model is known.

Sizes are in picture pixels; 0 takes the size that suits the model. Angles are in degrees, as in the nodes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..core.pullback.storage import Field
    from ..core.pullback.tasks import Recipe


@dataclass(frozen=True)
class Plan:
    """Describes how a field is sampled."""

    @property
    def start(self) -> int:
        """The seed of the field's initial parameters and of its views."""
        return getattr(self, "seed", 0)

    def recipe(self, model: Any, views: int) -> Recipe:
        """Return the core's recipe for a model.

        Args:
            model: The core's `Model`, or anything with its attributes for sizes.
            views: The number of views per step; 0 takes the plan's own.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class Pixels(Plan):
    """A field that is its own pixels."""

    width: int = 0
    height: int = 0

    def recipe(self, model: Any, views: int) -> Recipe:
        from ..core.pullback.diffreps.image import PixelGrid
        from ..core.pullback.diffreps.siren import signal_size
        from ..core.pullback.noise import FixedViews
        from ..core.pullback.representation import noise_range
        from ..core.pullback.tasks import recipe

        shape = (1, model.channels, signal_size(model, self.height), signal_size(model, self.width))
        base = recipe("image", model, _settings())
        sigma = noise_range(model, base.sigma[0], shape[2:])
        return replace(base, diffrep=PixelGrid(shape), views=FixedViews(None, shape), sigma=sigma)


@dataclass(frozen=True)
class Fresh(Plan):
    """A new field with one of the core's representations.

    Args:
        name: The name of the representation.
        settings: The names and values of its settings.
        views: The number of views per step; 0 takes the representation's default.
        seed: The seed of the initial parameters and of the views.
    """

    name: str
    settings: tuple[tuple[str, Any], ...] = ()
    views: int = 0
    seed: int = 0

    @classmethod
    def of(cls, name: str, views: int = 0, seed: int = 0, **settings: Any) -> Fresh:
        """Create a plan from checked settings.

        Settings of other representations are ignored, because a node for several representations passes the settings of all.

        Raises:
            ValueError: If a setting is out of range.
        """
        from ..core.pullback.representations import representations

        known = {setting.name: setting for setting in representations()[name].settings()}
        checked = {key: known[key].check(value, known[key].node) for key, value in settings.items() if key in known}
        return cls(name, tuple(checked.items()), views, seed)

    def recipe(self, model: Any, views: int) -> Recipe:
        from ..core.pullback.representations import representations

        kind, settings = representations()[self.name], dict(self.settings)
        diffrep = kind.suited(model, **settings)
        return diffrep.recipe(model, views or self.views or kind.views or 1, _small(self.seed), **settings)


@dataclass(frozen=True)
class Again(Plan):
    """An existing field, from which sampling continues with the views of its representation."""

    field: Field

    def recipe(self, model: Any, views: int) -> Recipe:
        diffrep: Any = self.field.diffrep
        same_model(self.field, model.name)
        return diffrep.recipe(model, views or diffrep.views or 1, 0)


def same_model(field: Field, name: str) -> None:
    """Raise ValueError if a field was sampled by another kind of model, whose signals differ."""
    if field.model != name:
        raise ValueError(
            f"this field was sampled by {field.model} and this model is {name}, whose signals differ: "
            "continue with the kind of model that sampled the field"
        )


def shape_of(views: Any) -> tuple[int, int, int, int]:
    """Return the shape (B, C, h, w) of the signals of one step."""
    return getattr(views, "shape", None) or (views.count, views.channels, views.height, views.height)


def _settings() -> Any:
    from ..core.pullback.tasks import Settings

    return Settings("unused: the guider has the conditioning")


def _small(seed: int) -> int:
    return seed % (1 << 63)  # field files and generators cannot hold larger seeds
