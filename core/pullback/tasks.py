"""Tasks: what users ask for, as functions. The command line, the nodes and the worker all call these.

A task takes a `Model` and `Settings`, and returns a `Field`; from a field come pictures of any size (`picture`)
and textured meshes (`textured_mesh`). Progress, cancelling and saving enter as callbacks (types.py, pull.py).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate
from trimesh import Trimesh

from .adapters import diffusers
from .diffreps.image import Crop, SirenImage
from .diffreps.panorama import SirenCylinder, SirenSphere
from .diffreps.radiance import VoxelRadiance
from .fields.voxels import Voxels
from .files import is_utf8
from .generative.toybox.model import ToyboxModel
from .geometry.cameras import DISTANCE, FOV, Cameras, orbit, turntable
from .geometry.sphere import Headings, headings, lattice, pixels_towards
from .mesh.bake import bake
from .mesh.surface import LEVEL, extract
from .mesh.unwrap import unwrap
from .noise import AnchoredViews, CanvasViews, FixedViews, Views, WorldViews, leading
from .pull import Fit, Pull, State, start
from .resample import BLOCK, interpolated
from .schedules import evaluations, log_linear, repaint
from .solvers import Adam, GaussNewton, Solver, paper_adam
from .storage import Diffrep, Field, generator
from .types import Model, Progress

SOLVERS = ("adam", "paper", "gauss-newton")
TILE = 1 << 14
"""Pixels that are rendered at a time: bounds the memory of pictures of any size; larger is no faster on a processor."""
ELEVATIONS = (-15.0, 60.0)
"""Of the cameras around an object, in degrees: what image models know objects from."""
SMOOTH = 1 << 20
"""Pixels from which on a picture is interpolated."""
TOLERANCE = 2 / 512
"""Greatest error of an interpolated signal, whose range is 2."""
LAST_CAMERAS, LAST_HEADINGS = 32, 36
"""Views that the last fit of an object and of a sphere sees, at least: a step's do not cover them."""
TOP = 80.0
"""Noise level at which sampling starts, where the model reaches so far: above the distances between its pictures."""
SPHERE_FOV = math.radians(65.0)
CELLS = 6
"""Cells of a world's noise to a pixel in the middle of a view; those at its corners are 2.4 times smaller."""
MARGIN, FADE = 8, 6
"""Latents around a tile that are decoded with it, and those of them in which it fades into its neighbours."""


@dataclass(frozen=True)
class Settings:
    """What a user may set for any task. ValueError names what is out of range.

    guidance: 0 unconditional, 1 conditional (`guidance.py`). eta: DDIM's stochasticity. repaint: (jump, repeats);
    (1, 1) is none. views: views per diffusion step, for fields that have more than one.
    """

    prompt: str
    negative: str = ""
    seed: int = 0
    steps: int = 30
    guidance: float = 3.0
    eta: float = 0.0
    repaint: tuple[int, int] = (1, 1)
    solver: str = "adam"
    views: int = 8

    def __post_init__(self) -> None:
        if not self.prompt.strip():
            raise ValueError('the prompt is empty: say what to draw, for example "a red mushroom"')
        for what, text in (("prompt", self.prompt), ("negative prompt", self.negative)):
            if len(text) > 2000:
                raise ValueError(f"the {what} has {len(text)} characters; it may have 2000: shorten it")
            if not is_utf8(text):
                raise ValueError(f"the {what} is not UTF-8: type it again, or convert what it was copied from")
        if not (math.isfinite(self.guidance) and 0 <= self.guidance <= 100):
            raise ValueError(f"guidance is {self.guidance}; it must be between 0 and 100")
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta is {self.eta}; it must be between 0 and 1")
        if self.repaint[1] > 1 and self.eta == 0:
            raise ValueError("repaint needs fresh noise to do anything: give an eta above 0 with it, for example 0.75")
        if not 1 <= self.views <= 64:
            raise ValueError(f"views is {self.views}; it must be between 1 and 64")
        if not 0 <= self.seed < 2**63:
            raise ValueError(f"the seed is {self.seed}; it must be between 0 and 2^63 - 1")
        if self.solver not in SOLVERS:
            raise ValueError(f"the solver is {self.solver!r}; it must be one of {', '.join(SOLVERS)}")
        repaint(self.steps, *self.repaint)

    @property
    def walk(self) -> list[tuple[int, int]]:
        """The moves between noise levels."""
        return repaint(self.steps, *self.repaint)

    @property
    def evaluations(self) -> int:
        """Network evaluations per view (twice that with guidance)."""
        return evaluations(self.walk)


@dataclass(frozen=True)
class Recipe:
    """How one kind of field is sampled: the diffrep, its views, and the numbers that suit it."""

    diffrep: Diffrep
    views: Views
    adam: Adam
    sigma: tuple[float, float]
    gamma: float
    fit: Fit | None = field(default=None, compare=False)
    last_views: Views | None = None


def load_model(name: str = "toybox", device: str = "cpu") -> Model:
    """ "toybox", or the path of a diffusers folder or a .safetensors checkpoint. ValueError says what is missing."""
    if not name.strip():
        raise ValueError("the model's name is empty: give toybox, a diffusers folder or a .safetensors checkpoint")
    if device != "cpu" and not _available(device):
        raise ValueError(f"the device {device!r} is not available here; use cpu")
    if name == "toybox":
        return ToyboxModel(device=device)
    return diffusers.load(
        Path(name), device=device, dtype=torch.float16 if device.startswith("cuda") else torch.float32
    )


def _available(device: str) -> bool:
    try:
        return torch.ones(1, device=device).item() == 1
    except (RuntimeError, AssertionError, NotImplementedError):
        return False


BRIEF = Adam(3, 100, 4e-3)
"""For images beside a large model, with `SirenImage.fit`: what it costs is little beside one evaluation of the model."""


def image_recipe(model: Model, settings: Settings) -> Recipe:
    """A SIREN over the plane, sampled through its one view."""
    shape = (1, model.channels, model.size, model.size)
    diffrep = SirenImage(channels=model.channels, size=(model.size, model.size))
    return Recipe(diffrep, FixedViews(None, shape), Adam(10, 100, 4e-3), _range(model, TOP, 0.03), 1.0)


def panorama_recipe(model: Model, settings: Settings, projection: str = "sphere") -> Recipe:
    """A SIREN over the sphere, or around a cylinder 8 views wide, sampled through `settings.views` views a step.

    A cylinder takes 8 at least, so that every step sees all of it.
    """
    if projection == "cylinder":
        strip = SirenCylinder(model.channels, model.size, 8 * model.size)
        views = CanvasViews(model.channels, model.size, 8 * model.size, max(8, settings.views))
        return Recipe(strip, views, Adam(20, 100, 3e-3), _range(model, TOP, 0.05), 0.5, strip.fit)
    if projection != "sphere":
        raise ValueError(f"the projection is {projection!r}; it must be sphere or cylinder")
    sphere = SirenSphere(model.channels, model.size)
    outward, everywhere = outward_views(model, settings.views)
    return Recipe(sphere, outward, Adam(20, 100, 3e-3), _range(model, TOP, 0.05), 0.5, sphere.fit, everywhere)


def object_recipe(model: Model, settings: Settings) -> Recipe:
    """A voxel radiance field, sampled through an anchor camera, which the seed chooses, and new cameras at every step."""
    kind = "rgba" if model.scale == 1 and model.channels == 4 else "rgb" if model.scale == 1 else "latent"
    voxels = Voxels(features=model.channels - (kind == "rgba"))
    diffrep = VoxelRadiance(kind, model.channels, model.size, voxels=voxels, elevations=ELEVATIONS)
    some, more = orbiting_views(model, settings.views, settings.seed)
    rates = {"density": 0.15, "features": 0.08, "background": 0.01}
    solver = Adam(20, 60, rates, betas=(0.9, 0.95), last_rate=0.25)
    return Recipe(diffrep, some, solver, _range(model, TOP, 0.05), 1.0, diffrep.fit, more)


def orbiting_views(
    model: Model,
    count: int,
    seed: int,
    elevations: tuple[float, float] = ELEVATIONS,
    distance: float = DISTANCE,
    fov: float = FOV,
) -> tuple[Views, Views]:
    """`count` cameras around an object, one of them an anchor that `seed` chooses: for a step, and for the last fit.

    Args:
        model: sizes the views.
        count: views per step, the anchor among them.
        seed: of the run.
        elevations: of the cameras, in degrees.
        distance: of the cameras from the middle of the object.
        fov: full vertical angle in radians.
    """
    law = functools.partial(orbiting, elevations=elevations, distance=distance, fov=fov)
    anchor = law(1, generator(seed))

    def views(number: int) -> Views:
        shape = (number, model.channels, model.size, model.size)
        return AnchoredViews(
            functools.partial(_beside, anchor, law, number), shape, anchor, functools.partial(leading, number)
        )

    return views(count), views(max(LAST_CAMERAS, count))


def _beside(anchor: Cameras, law: Callable[[int, Generator], Cameras], count: int, random: Generator) -> Cameras:
    """The anchor and `count` - 1 others."""
    if count == 1:
        return anchor
    others = law(count - 1, random)
    return Cameras(torch.cat([anchor.pose, others.pose]), torch.cat([anchor.fov, others.fov]))


def outward_views(model: Model, count: int, fov: float = SPHERE_FOV) -> tuple[Views, Views]:
    """`count` views from the centre of a sphere whose noise lives in the world: for a step, and for the last fit."""
    pixel = (2 * math.tan(fov / 2) / model.size) ** 2
    cells = lattice(round(CELLS * 4 * math.pi / pixel))
    pixels = functools.partial(pixels_towards, places=cells, size=model.size)

    def views(number: int) -> Views:
        shape = (number, model.channels, model.size, model.size)
        return WorldViews(functools.partial(around, number, fov=fov), shape, pixels, len(cells))

    return views(count), views(max(LAST_HEADINGS, count))


def orbiting(
    count: int,
    generator: Generator,
    elevations: tuple[float, float] = ELEVATIONS,
    distance: float = DISTANCE,
    fov: float = FOV,
) -> Cameras:
    """Cameras around an object: azimuths evenly spaced from a random one, elevations (in degrees) stratified."""
    azimuth = (torch.arange(count) + torch.rand(1, generator=generator)) * (2 * math.pi / count)
    height = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    low, high = elevations
    return orbit(azimuth, torch.deg2rad(low + (high - low) * height), distance, fov)


def around(count: int, generator: Generator, fov: float = SPHERE_FOV) -> Headings:
    """Views from the centre: azimuths evenly spaced from a random one; sines of the pitch stratified, uniform in area."""
    azimuth = (torch.arange(count) + torch.rand(1, generator=generator)) * (2 * math.pi / count)
    height = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return headings(azimuth, torch.asin((2 * height - 1) * math.sin(1.2)), fov)


def _range(model: Model, high: float, low: float) -> tuple[float, float]:
    return max(low, model.sigma_min), min(high, model.sigma_max)


def solver_of(recipe: Recipe, settings: Settings) -> Solver:
    """The inner solver that the settings name, with the recipe's rates."""
    if settings.solver == "paper":
        return paper_adam(recipe.adam.lr)
    if settings.solver == "gauss-newton":
        if recipe.fit is not None:
            raise ValueError(
                "gauss-newton needs the same residual at every pass, and this field is fitted through random rays: choose adam"
            )
        return GaussNewton()
    return recipe.adam


def prepare(model: Model, recipe: Recipe, settings: Settings, tick: Callable[[], None] = lambda: None) -> Pull:
    """The sampler that model, recipe and settings describe. All that can be wrong with a prompt is said here."""
    denoise = model.denoiser(settings.prompt, settings.negative, settings.guidance)
    return Pull(
        recipe.diffrep,
        denoise,
        recipe.views,
        solver_of(recipe, settings),
        log_linear(settings.steps, *recipe.sigma),
        settings.walk,
        settings.eta,
        recipe.gamma,
        recipe.fit,
        recipe.last_views,
        tick,
    )


def sample(
    pull: Pull,
    seed: int,
    state: State | None = None,
    progress: Progress | None = None,
    save: Callable[[State], None] | None = None,
) -> State:
    """Run a prepared sampler from its start, or on from `state`; `field_of` makes a field of the result."""
    return pull(state or beginning(pull, seed=seed), generator(seed), progress, save)


def beginning(pull: Pull, device: str = "cpu", seed: int = 0) -> State:
    """The state before the first move, or on the device "meta" its shapes alone."""
    random, diffrep = generator(seed), cast(Any, pull.render)
    with torch.device(device):
        state = start(diffrep.init(random), pull.views, pull.solver, random)
    return state


def field_of(recipe: Recipe, settings: Settings, model: Model, state: State) -> Field:
    """The field in a run's state, finished or not."""
    return Field(recipe.diffrep, state.params, settings.prompt, model.name, settings.seed)


def views_of(
    field: Field, cameras: Cameras, size: int, model: Model, tick: Callable[[], None] = lambda: None
) -> Tensor:
    """Display pictures (B, 3 or 4, size, size) in [0, 1] of an object through cameras; RGBA is premultiplied."""
    if not isinstance(field.diffrep, VoxelRadiance):
        raise ValueError("this field has no sides: only a NeRF field is seen through cameras")
    # A decoder draws well only at the size that it was trained at.
    rendered = size if model.scale == 1 else max(model.size, -(-size // model.scale))
    draw = functools.partial(field.diffrep.picture, field.params, height=rendered, width=rendered, tick=tick)
    with torch.no_grad():
        pictures = [model.decode(draw(cameras[i : i + 1])) for i in range(len(cameras))]
    if pictures[0].shape[-1] != size:
        pictures = [interpolate(picture, (size, size), mode="area") for picture in pictures]
    return torch.cat(pictures)


def bands(
    field: Field,
    height: int,
    width: int,
    model: Model,
    crop: Crop | None = None,
    tile: int | None = None,
    exact: bool = False,
) -> Iterator[Tensor]:
    """A SIREN field's picture, or a part of it, from top to bottom as display bands (C, rows, w); memory is a band's.

    Args:
        field: what is drawn.
        height: of the whole picture in pixels.
        width: of the whole picture.
        model: decodes.
        crop: the part that is wanted, or all of it.
        tile: side of a tile in pixels; by default what suits the model.
        exact: compute every pixel. Else large pictures of a model of pixels are interpolated (`resample.py`) with an
            error of a 512th of the display range at most.
    """
    diffrep = field.diffrep
    if isinstance(diffrep, VoxelRadiance):
        raise ValueError("a NeRF field is seen through cameras: give a view")
    draw = functools.partial(diffrep.picture, field.params)
    if not exact and tile is None and model.scale == 1 and height * width >= SMOOTH:
        return _interpolated(draw, height, width, model, crop)
    return _decoded(draw, height, width, model, crop, not isinstance(diffrep, SirenImage), tile)


@torch.no_grad()
def _interpolated(
    draw: Callable[[int, int, Crop], Tensor], height: int, width: int, model: Model, crop: Crop | None
) -> Iterator[Tensor]:
    """Bands of a large picture, a row of blocks each."""
    top, left, h, w = crop or (0, 0, height, width)
    near = interpolated(draw, TOLERANCE)
    for block in range(top // BLOCK, -(-(top + h) // BLOCK)):
        y, end = max(top, block * BLOCK), min(top + h, (block + 1) * BLOCK)
        yield model.decode(near(height, width, (y, left, end - y, w)))[0]


def view_bands(
    field: Field, camera: Cameras, height: int, width: int, model: Model, crop: Crop | None = None
) -> Iterator[Tensor]:
    """The same for a radiance field through one camera. ValueError where the field has no cameras."""
    if not isinstance(field.diffrep, VoxelRadiance):
        raise ValueError("this field has no sides: only a NeRF field is seen through cameras")
    draw = functools.partial(field.diffrep.picture, field.params, camera)
    return _decoded(draw, height, width, model, crop, False)


@torch.no_grad()
def _decoded(
    draw: Callable[[int, int, Crop], Tensor],
    height: int,
    width: int,
    model: Model,
    crop: Crop | None,
    closed: bool,
    side: int | None = None,
) -> Iterator[Tensor]:
    """Bands of a picture that `draw` (height, width, tile) renders as signals, decoded tile by tile.

    Decoders look around and take means of what they see: tiles of latents overlap by MARGIN on every side, across the seam
    too where a panorama is `closed`, and fade into each other there. They lie where they lie in the whole picture,
    so a part of it equals the same part of the whole.
    """
    top, left, h, w = crop or (0, 0, height, width)
    s = model.scale
    if s == 1:
        tall = max(1, (TILE if side is None else side**2) // w)
        for y in range(top, top + h, tall):
            yield model.decode(draw(height, width, (y, left, min(tall, top + h - y), w)))[0]
        return
    rows, columns = -(-height // s), -(-width // s)
    edge = model.size if side is None else max(1, side // s)
    down, across = _Tiles(rows, edge, False, s), _Tiles(columns, edge, closed, s)

    def strip(row: int) -> Tensor:
        """A row of tiles as (C, rows with their margins, w), faded to the sides and not yet up and down."""
        a, b = down.span(row)
        faded = []
        for column in across.seen(left, left + w):
            c, d = across.span(column)
            tile = model.decode(draw(rows, columns, (a, c, b - a, d - c)))[0]
            faded.append((c * s - left, tile * across.weights(column).to(tile)))
        whole = faded[0][1].new_zeros(*faded[0][1].shape[:2], w)
        for place, tile in faded:
            for start in (place - columns * s, place, place + columns * s) if closed else (place,):
                first, last = max(0, start), min(w, start + tile.shape[2])
                if first < last:
                    whole[:, :, first:last] += tile[:, :, first - start : last - start]
        return whole * down.weights(row)[:, None].to(whole)

    bottom, y = None, top  # what the tiles above leave to the ones below, and the first row that is not yet given
    for row in down.seen(top, top + h):
        band, start = strip(row), down.span(row)[0] * s
        if bottom is not None:
            band[:, : bottom.shape[1]] += bottom
        done = down.span(row + 1)[0] * s if row + 1 < down.count else start + band.shape[1]
        bottom = band[:, done - start :]
        end = min(done, top + h)
        if y < end:
            yield band[:, y - start : end - start]
            y = end


@dataclass(frozen=True)
class _Tiles:
    """One side of a picture of `length` latents, cut evenly into tiles of `edge` at most; `closed`: its ends meet."""

    length: int
    edge: int
    closed: bool
    scale: int

    @property
    def count(self) -> int:
        return -(-self.length // self.edge)

    @property
    def reach(self) -> int:
        """Latents beyond its own that a tile fades over, as many within: no three tiles meet."""
        return min(FADE, self.length // self.count // 2)

    def span(self, i: int) -> tuple[int, int]:
        """The latents that a tile is decoded from, its margins with them."""
        low, high = (j * self.length // self.count for j in (i, i + 1))
        if self.closed:
            return low - MARGIN, high + MARGIN
        return max(0, low - MARGIN), min(self.length, high + MARGIN)

    def seen(self, first: int, last: int) -> list[int]:
        """The tiles that have a part in pixels `first` to `last`."""
        turns = (-self.length, 0, self.length) if self.closed else (0,)
        spans = [(i, *self.span(i)) for i in range(self.count)]
        return [
            i
            for i, a, b in spans
            if any((a + turn) * self.scale < last and (b + turn) * self.scale > first for turn in turns)
        ]

    def weights(self, i: int) -> Tensor:
        """How much each pixel of a tile counts: those of all tiles add up to 1 everywhere."""
        a, b = self.span(i)
        low, high = (j * self.length // self.count for j in (i, i + 1))
        place = torch.arange(a * self.scale, b * self.scale) + 0.5
        weights = torch.ones(len(place))
        if self.closed or i > 0:
            weights *= self._faded(place - low * self.scale)
        if self.closed or i + 1 < self.count:
            weights *= self._faded(high * self.scale - place)
        return weights

    def _faded(self, beyond: Tensor) -> Tensor:
        """From 0 to 1 along a quarter of a sine squared, pixels from `reach` before an edge to `reach` behind it."""
        part = (beyond / max(1, self.reach * self.scale)).clamp(-1, 1)
        return torch.sin(math.pi / 4 * (1 + part)) ** 2


def aspect(field: Field) -> int:
    """Width over height of a field's whole picture."""
    if isinstance(field.diffrep, SirenCylinder):
        return field.diffrep.turn // field.diffrep.height
    return 2 if isinstance(field.diffrep, SirenSphere) else 1


def preview(field: Field, model: Model, size: int = 256) -> Tensor:
    """(3, H, W) display RGB: what the field looks like now, small and quick."""
    if isinstance(field.diffrep, VoxelRadiance):
        return torch.cat(list(on_white(views_of(field, turntable(4), size // 2, model))), -1)
    height, width = size, size * aspect(field)
    return on_white(torch.cat(list(bands(field, height, width, model)), -2))


def textured_mesh(
    field: Field,
    model: Model,
    faces: int = 20_000,
    texture: int = 1024,
    resolution: int = 128,
    views: int = 24,
    view_size: int = 256,
    tick: Callable[[], None] = lambda: None,
) -> tuple[Trimesh, np.ndarray]:
    """The surface of a radiance field as a mesh with UVs, and its texture (texture, texture, 3) uint8.

    `tick` is called often and may raise, to stop.
    """
    mesh = surface(field, faces, texture, resolution, tick=tick)
    return mesh, baked(field, model, mesh, texture, views, view_size, tick)


def surface(
    field: Field,
    faces: int = 20_000,
    texture: int = 1024,
    resolution: int = 128,
    level: float = LEVEL,
    tick: Callable[[], None] = lambda: None,
) -> Trimesh:
    """The surface of a radiance field, at the density `level`, as a mesh with UVs for a texture of that size."""
    if not isinstance(field.diffrep, VoxelRadiance):
        raise ValueError("this field has no surface: only a NeRF field becomes a mesh")
    diffrep, params = field.diffrep, field.params
    with torch.no_grad():
        mesh = extract(lambda points: diffrep.density(params, points), resolution, level, faces, tick=tick)
    return unwrap(mesh, texture, tick)


def baked(
    field: Field,
    model: Model,
    mesh: Trimesh,
    texture: int = 1024,
    views: int = 24,
    view_size: int = 256,
    tick: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """The texture (texture, texture, 3) uint8 that makes a mesh with UVs look like a radiance field."""
    if not isinstance(field.diffrep, VoxelRadiance):
        raise ValueError("this field has no surface: only a NeRF field becomes a mesh")
    cameras = bake_cameras(views, field.diffrep.elevations)
    pictures = views_of(field, cameras, max(view_size, model.size * model.scale), model, tick)
    if pictures.shape[1] == 3:  # a model without alpha: the field itself knows where it is
        height, width = pictures.shape[-2:]
        with torch.no_grad():
            opacity = field.diffrep.opacity(field.params, cameras, height, width, tick)
        pictures = torch.cat([pictures * opacity, opacity], 1)
    return bake(mesh, cameras, pictures, texture, tick)


def bake_cameras(count: int, elevations: tuple[float, float] = (-90.0, 90.0)) -> Cameras:
    """Cameras all around an object between two elevations in degrees, evenly spread by area (a Fibonacci lattice)."""
    i = torch.arange(count) + 0.5
    low, high = (math.sin(math.radians(angle)) for angle in elevations)
    return orbit(i * math.pi * (3 - math.sqrt(5)), torch.asin(high - (high - low) * i / count))


def turntable_picture(field: Field, model: Model, size: int = 256, count: int = 8) -> Tensor:
    """(3, 2 size, count / 2 size) display RGB: an object from `count` sides, on white."""
    pictures = on_white(views_of(field, turntable(count), size, model))
    half = count // 2
    return torch.cat([torch.cat(list(pictures[:half]), -1), torch.cat(list(pictures[half:]), -1)], -2)


def on_white(pictures: Tensor) -> Tensor:
    """Premultiplied RGBA (..., 4, H, W) over white; RGB passes through."""
    if pictures.shape[-3] == 3:
        return pictures
    return (pictures[..., :3, :, :] + 1 - pictures[..., 3:, :, :]).clamp(0, 1)


def settings_of_run(task: str, model: str, settings: Settings, **more: Any) -> dict[str, Any]:
    """What a run file must agree on to be continued."""
    return {"task": task, "model": model, **asdict(settings), **more}
