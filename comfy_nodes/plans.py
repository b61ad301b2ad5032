"""Plans: fields before they are sampled, and the core's recipes that a plan becomes once the model is known.

Sizes are in picture pixels; 0 stands for what suits the model. Angles are in degrees, as the nodes have them.
"""

from __future__ import annotations

import math
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
        from ..core.pullback.noise import FixedViews
        from ..core.pullback.tasks import Recipe, image_recipe

        shape = (1, model.channels, _signal(self.height, model), _signal(self.width, model))
        like = image_recipe(model, _settings())
        return Recipe(PixelGrid(shape), FixedViews(None, shape), like.adam, like.sigma, 1.0)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Image(Plan):
    """A SIREN over the plane."""

    width: int = 0
    height: int = 0
    neurons: int = 256
    depth: int = 3
    detail: float = 10.0
    seed: int = 0

    def recipe(self, model: Any, views: int) -> Recipe:
        from ..core.pullback.diffreps.image import SirenImage
        from ..core.pullback.noise import FixedViews
        from ..core.pullback.tasks import BRIEF, image_recipe

        size = _signal(self.height, model), _signal(self.width, model)
        siren = SirenImage(
            model.channels, size, self.neurons, self.depth, bandwidth=self.detail, seed=_small(self.seed)
        )
        only = FixedViews(None, (1, model.channels, *size))
        # Beside a large model's step the fit should cost little, however large its latents are.
        return replace(image_recipe(model, _settings()), diffrep=siren, views=only, adam=BRIEF, fit=siren.fit)


@dataclass(frozen=True)
class Panorama(Plan):
    """A SIREN over the sphere or around a cylinder."""

    projection: str = "sphere"
    view_size: int = 0
    views: int = 12
    fov: float = 65.0
    neurons: int = 256
    depth: int = 3
    detail: float = 16.0
    seed: int = 0

    def recipe(self, model: Any, views: int) -> Recipe:
        from ..core.pullback import tasks

        count, sized = views or self.views, _Sized(model, _signal(self.view_size, model))
        recipe = tasks.panorama_recipe(sized, _settings(count), self.projection)
        own = {"width": self.neurons, "depth": self.depth, "bandwidth": self.detail, "seed": _small(self.seed)}
        diffrep: Any = replace(recipe.diffrep, **own)
        recipe = replace(recipe, diffrep=diffrep, fit=diffrep.fit)
        if self.projection == "cylinder":
            return recipe
        some, every = tasks.outward_views(sized, count, math.radians(self.fov))
        return replace(recipe, views=some, last_views=every)


@dataclass(frozen=True)
class Nerf(Plan):
    """A voxel radiance field among cameras."""

    resolution: int = 48
    view_size: int = 0
    views: int = 8
    lowest: float = -15.0
    highest: float = 60.0
    distance: float = 3.2
    fov: float = 40.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.lowest >= self.highest:
            raise ValueError(
                f"the lowest elevation ({self.lowest:g}) must be below the highest ({self.highest:g}): change one of them"
            )

    def recipe(self, model: Any, views: int) -> Recipe:
        from ..core.pullback import tasks

        count, sized = views or self.views, _Sized(model, _signal(self.view_size, model))
        recipe = tasks.object_recipe(sized, _settings(count))
        elevations = self.lowest, self.highest
        voxels = replace(recipe.diffrep.voxels, resolution=self.resolution)
        diffrep: Any = replace(recipe.diffrep, voxels=voxels, elevations=elevations)
        some, more = tasks.orbiting_views(
            sized, count, _small(self.seed), elevations, self.distance, math.radians(self.fov)
        )
        return replace(recipe, diffrep=diffrep, fit=diffrep.fit, views=some, last_views=more)


@dataclass(frozen=True)
class Again(Plan):
    """A field that was loaded: sampled on from where it is, through the views of its kind."""

    field: Field

    def recipe(self, model: Any, views: int) -> Recipe:
        diffrep: Any = self.field.diffrep
        same_model(self.field, model.name)
        size = getattr(diffrep, "size", None) or diffrep.height
        plans: dict[str, Plan] = {
            "siren-image": Image(), "siren-sphere": Panorama(), "siren-cylinder": Panorama("cylinder"),
            "voxel-radiance": Nerf(),
        }  # fmt: skip
        like = plans[self.field.kind].recipe(_Sized(model, size if isinstance(size, int) else size[0]), views)
        if self.field.kind == "siren-image":
            like = replace(like, views=replace(like.views, shape=(1, diffrep.channels, *diffrep.size)))  # type: ignore[type-var]
        return replace(like, diffrep=diffrep, fit=diffrep.fit)


def same_model(field: Field, name: str) -> None:
    """ValueError where a field was sampled by another kind of model, whose signals are others."""
    if field.model != name:
        raise ValueError(
            f"this field was sampled by {field.model} and this model is {name}, whose signals are others: "
            "sample it on with the kind of model that made it"
        )


@dataclass(frozen=True)
class _Sized:
    """A model whose views have another size, in signal pixels."""

    model: Any
    size: int

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)


def shape_of(views: Any) -> tuple[int, int, int, int]:
    """(B, C, h, w) of what one step looks at."""
    return getattr(views, "shape", None) or (views.count, views.channels, views.height, views.height)


def _signal(pixels: int, model: Any) -> int:
    """Picture pixels to signal pixels; 0 is the model's own size."""
    if pixels % model.scale:
        raise ValueError(
            f"a size of {pixels} is not a multiple of {model.scale}, this model's pixels per latent: round it"
        )
    return pixels // model.scale or model.size


def _settings(views: int = 8) -> Any:
    from ..core.pullback.tasks import Settings

    return Settings("as conditioned", views=views)


def _small(seed: int) -> int:
    return seed % (1 << 63)  # what fits a field file and every generator
