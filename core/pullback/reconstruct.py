"""Reconstruction: an object's radiance field from a few photographs with poses.

There are three methods, and each minimises the squared error of the photographs along random rays:

- "nerf" does nothing else (Mildenhall et al. 2020);
- "diet" also compares what the field shows from random poses with the photographs, in the features of a picture-text model
  (semantic consistency, DietNeRF, Jain et al. 2021), and does without that in its last steps;
- "pullback" samples all other views from a diffusion model (`pull.py`), while the photographs are targets that stay: what they
  do not show becomes a sample of the model, given the words. Its last steps fit the photographs, and hold on to the sampled views
  only so much that what no photograph shows remains.

All of them walk from `State` to `State`, so that a run can be stopped after any step and continues to the same bytes.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from . import tasks
from .diffreps.nerf import NerfRadiance
from .diffreps.radiance import RATES, Marched, VoxelRadiance
from .fields.nerf import Network
from .fields.voxels import FILL, Voxels
from .files import is_utf8
from .geometry.cameras import Cameras, orbit, rays
from .noise import FreshViews
from .photographs import Photographs, covered
from .pull import Fit, State
from .render.march import chords
from .representation import Recipe, Setting, noise_range
from .schedules import MAX_STEPS
from .settings import LONGEST_PROMPT, Settings
from .solvers import Adam, Residual
from .types import CLIP, Model, Params, Progress
from .viewpoints import orbiting

METHODS = ("nerf", "diet", "pullback")
FIELDS = ("voxels", "nerf", "simplified", "paper")
PASSES = 10
"""Solver passes of a step on photographs."""
SHARE = 0.5
"""Share of the photographs in the fit, beside the views that a model samples."""
SMOOTH = 1e-2
"""Weight of the total variation of a voxel field, beside the squared error of signals in [-1, 1]."""
SLICES = 8
"""Layers of grid points whose total variation a pass sees."""
RAYS = 1024
"""Rays of the photographs in a pass."""
LAST_VIEWS = 24
"""Views that the last fit of a sampled object sees beside the photographs, and that the steps after it hold on to."""
HELD_WEIGHT = 0.0025
"""Weight of these in the last steps, each relative to a photograph: what photographs show outweighs them by far."""
AT_ONCE = 8
"""Views that are rendered at once."""
RECONSTRUCT = {
    each.name: each
    for each in (
        Setting("method", "", "How: nerf (the photographs alone), diet (and what they mean), or pullback (the rest is "
                "sampled).", choices=("", *METHODS), unset="pullback if there is a prompt, else nerf"),
        Setting("field", "voxels", "What the object is made of: voxels, nerf (a small network), simplified or paper (the "
                "networks of the papers, for GPUs).", choices=FIELDS),
        Setting("seed", 0, "The same seed gives the same result.", 0, (1 << 63) - 1),
        Setting("steps", 0, "Steps of ten passes; of the method pullback, noise levels.", 0, 1 << 17, unset="150, pullback 30"),
        Setting("finetune", -1, "Last steps, mostly on photographs; beside --steps in pullback, among them in diet.",
                -1, 1 << 17, unset="40, pullback 150"),
        Setting("size", 128, "Side of the photographs in pixels; larger ones are reduced.", 16, 2048, unit="pixels"),
        Setting("grid", 64, "Grid points along each side of a voxel field.", 16, 160, 8),
        Setting("front", 0.0, "Azimuth of the object's front; 0 is -Y. Only models that know sides need it.", -360.0, 360.0,
                unit="degrees"),
        Setting("guidance", 1.0, "How strictly to follow the prompt: 0 not at all, 1 as trained.", 0.0, 100.0, 0.5),
        Setting("views", 8, "Views that the model samples in each step.", 1, 64),
    )
}  # fmt: skip
"""The settings of a reconstruction that are numbers or choices, by name."""


@dataclass(frozen=True)
class Plan:
    """The settings of a reconstruction; those that are numbers or choices are explained in `RECONSTRUCT`.

    Args:
        prompt: What the photographs show, for the method pullback.
        negative: What to avoid.

    Raises:
        ValueError: If a setting is out of range, or they do not fit together.
    """

    method: str = ""
    prompt: str = ""
    negative: str = ""
    field: str = "voxels"
    seed: int = 0
    steps: int = 0
    finetune: int = -1
    size: int = 128
    grid: int = 64
    front: float = 0.0
    guidance: float = 1.0
    views: int = 8

    def __post_init__(self) -> None:
        for name, setting in RECONSTRUCT.items():
            setting.check(getattr(self, name))
        for text in (self.prompt, self.negative):
            if len(text) > LONGEST_PROMPT or not is_utf8(text):
                raise ValueError(
                    f"the prompt must be text of at most {LONGEST_PROMPT} characters in UTF-8: type it again"
                )
        if self.way == "pullback" and not self.prompt.strip():
            raise ValueError(
                "the method pullback needs a prompt: say what the photographs show, or choose nerf or diet"
            )
        if self.way == "pullback" and self.steps > MAX_STEPS:
            raise ValueError(f"steps is {self.steps}; of the method pullback it must be at most {MAX_STEPS}")
        if self.way != "pullback" and self.alone > self.moves:
            raise ValueError(f"finetune is {self.finetune}; it must be at most the steps, {self.moves}")

    @property
    def way(self) -> str:
        """The method, chosen if it was left out."""
        return self.method or ("pullback" if self.prompt.strip() else "nerf")

    @property
    def alone(self) -> int:
        """The last steps, which see no features and sample nothing."""
        return self.finetune if self.finetune >= 0 else min(40, self.moves) if self.way != "pullback" else 150

    @property
    def moves(self) -> int:
        """The steps before these or, if they are among the steps, all."""
        return self.steps or (30 if self.way == "pullback" else 150)

    @property
    def walk(self) -> list[tuple[int, int]]:
        """One pair for each step, as in `Settings.walk`."""
        total = self.moves + (self.alone if self.way == "pullback" else 0)
        return [(n, n + 1) for n in range(total)]

    def agreed(self, photographs: Photographs, model: Model) -> dict[str, Any]:
        """Return what a run file records, and what must be the same for the run to continue."""
        return {"task": "reconstruct", "model": model.name, "photographs": photographs.fingerprint, **asdict(self)}


@dataclass(frozen=True)
class Consistency:
    """Semantic consistency: what the field shows from a random pose should mean what a random photograph means.

    The features are unit vectors, so half of their squared distance is one minus their cosine (eqs. 4.4 and 4.5): the loss is a
    sum of squares, like the error of the photographs.

    Args:
        clip: The picture-text model.
        known: The features of the photographs, (B, D).
        cameras: Draws a camera.
        size: Side of a render in pixels.
        weight: The weight lambda of the loss, for pictures in [0, 1]; 0.1 in the paper.
        every: Passes from one comparison to the next; 10 in the paper.
        stride: The rays of a render are every so many pixels of a picture, from a random one on.
    """

    clip: CLIP
    known: Tensor
    cameras: Callable[[Generator], Cameras]
    size: int = 64
    weight: float = 0.1
    every: int = PASSES
    stride: int = 2

    @classmethod
    def of(cls, photographs: Photographs, clip: CLIP, **more: Any) -> Consistency:
        """Return the consistency with photographs. The arguments are theirs, the model's and those of the class."""
        with torch.no_grad():
            known = clip.encode_image(shown(photographs.signals))
        return cls(clip, known, functools.partial(anywhere, photographs.cameras), size=min(clip.size, 112), **more)

    def missed(self, diffrep: Marched, march: Any, params: Params, random: Generator) -> Tensor:
        """Return the difference (D,) between the features of a random render and of a random photograph."""
        device = next(iter(params.values())).device
        side, (top, left) = self.size * self.stride, torch.randint(self.stride, (2,), generator=random).tolist()
        whole = rays(self.cameras(random), side, side)
        o, d = (each[0, top :: self.stride, left :: self.stride].reshape(-1, 3).to(device) for each in whole)
        seen = march(params, o, d, random)[-1][:, : diffrep.channels]
        picture = shown(seen.T.reshape(1, -1, self.size, self.size))
        wanted = self.known[torch.randint(len(self.known), (1,), generator=random)]
        return (self.clip.encode_image(picture) - wanted.to(picture))[0]


@dataclass(frozen=True)
class Targets:
    """Pictures as a fitting problem: random rays among those that can hit the ball.

    Args:
        cameras: B cameras.
        signals: What they see, (B, C, h, w) in [-1, 1].
        seen: The pixels that are compared, (B, 1, h, w), or None for all.
        count: Rays per pass.
    """

    cameras: Cameras
    signals: Tensor
    seen: Tensor | None = None
    count: int = RAYS

    @classmethod
    def of(cls, photographs: Photographs) -> Targets:
        """Return the targets that photographs are."""
        return cls(photographs.cameras, photographs.signals, photographs.seen)

    @functools.cached_property
    def _rays(self) -> tuple[Tensor, Tensor, Tensor]:
        """Origins, directions and signals of all useful rays. ValueError if there are none."""
        signals = self.signals.to(self.cameras.pose.device)
        o, d = (each.reshape(-1, 3) for each in rays(self.cameras, *signals.shape[-2:]))
        near, far = chords(o, d)
        hits = far > near
        useful = (hits if self.seen is None else hits & self.seen.flatten()).nonzero()[:, 0]
        if len(useful) == 0:
            raise ValueError("no photograph shows the object's ball: the poses are wrong, or give the ball")
        return o[useful], d[useful], signals.permute(0, 2, 3, 1).reshape(-1, signals.shape[1])[useful]

    def missed(self, march: Any, params: Params, random: Generator) -> Tensor:
        """Return the difference between a field and random rays of the pictures."""
        device = next(iter(params.values())).device
        o, d, wanted = self._rays
        pick = torch.randint(len(wanted), (self.count,), generator=random)
        o, d, wanted = (each[pick].to(device) for each in (o, d, wanted))
        return torch.cat([each[:, : wanted.shape[1]] - wanted for each in march(params, o, d, random)])


@dataclass(frozen=True)
class Held:
    """Views of a field as it is when a stage begins, which the stage holds on to where photographs say nothing.

    The voxels that no photograph sees are otherwise changed by the total variation alone, and Adam takes steps of full size even
    for a weak force. The pictures are kept in the `noise` of the state, for which a fit to photographs has no use.

    Args:
        cameras: The cameras.
        size: Side of the pictures in pixels.
        share: The share of these pictures in the fit, in [0, 1].
    """

    cameras: Cameras
    size: int
    share: float

    def pictures(self, render: Marched, params: Params) -> Tensor:
        """Return what the cameras see of a field, (B, C, size, size)."""
        with torch.no_grad():
            parts = [render(params, self.cameras[n : n + AT_ONCE]) for n in range(0, len(self.cameras.pose), AT_ONCE)]
        return torch.cat(parts)

    def targets(self, pictures: Tensor) -> Targets:
        """Return these pictures as targets."""
        return Targets(self.cameras, pictures, count=RAYS // 2)


@dataclass(frozen=True)
class SampledViews(FreshViews):
    """Fresh views. Their store, for which they have no use, has room for the pictures of `Held`."""

    held: int = LAST_VIEWS

    def noise(self, generator: Generator) -> Tensor:
        return torch.zeros((self.held, *self.shape[1:]))


@dataclass(frozen=True)
class Descent:
    """Fits a field to photographs, in steps of some solver passes.

    Args:
        render: The representation.
        targets: The photographs.
        solver: The solver. Its rate is that of the first step.
        moves: Steps.
        consistency: None, or the semantic consistency that the first steps add.
        consistent: How many steps that are.
        fall: The last part of the steps, over which the rate falls to zero along a half cosine.
        smooth: Weight of the total variation, for voxel fields: fog that few photographs see would be as rough as their noise.
        carved: None, or photographs: a voxel field then begins as their visual hull. Inside a plain surface photographs say
            nothing, and a field that grows from a ball remains dented there.
        held: None, or the views that the fit holds on to.
        tick: Called before every pass; it may raise `Cancelled`.
    """

    render: Marched
    targets: Targets
    solver: Adam
    moves: int
    consistency: Consistency | None = None
    consistent: int = 0
    fall: float = 0.3
    smooth: float = 0.0
    carved: Photographs | None = None
    held: Held | None = None
    tick: Callable[[], None] = lambda: None

    @property
    def views(self) -> FreshViews:
        """The views of a step: none that a model has to know."""
        return FreshViews(lambda random: None, (0, self.render.channels, 1, 1))

    def __call__(
        self,
        state: State,
        generator: Generator | None = None,
        progress: Progress | None = None,
        save: Callable[[State], None] | None = None,
    ) -> State:
        """Fit from `state` to the end. Arguments are those of `Pull`."""
        random = Generator()
        random.set_state(state.random)
        if state.move == 0 and self.carved:
            state = replace(state, params=state.params | hull(self.carved, state.params["density"]))
        if state.move == 0 and self.held:
            state = replace(state, noise=self.held.pictures(self.render, state.params))
        held = self.held.targets(state.noise) if self.held else None
        for move in range(state.move, self.moves):
            residual = self._residual(state.params, held, move, random)
            params, solver, passes = self._slowed(move)(residual, state.params, state.solver, False)
            with torch.no_grad():
                left = self.targets.missed(self.render.marching(params), params, Generator().manual_seed(move))
            state = replace(
                state, params=params, solver=solver, move=move + 1, random=random.get_state(),
                passes=state.passes + passes, residual=float(left.square().mean().sqrt()),
            )  # fmt: skip
            if save is not None:
                save(state)
            if progress is not None:
                progress(state.move, self.moves, state)
        return state

    def _residual(self, params: Params, held: Targets | None, move: int, random: Generator) -> Residual:
        march, passes = self.render.marching(params), itertools.count()

        def residual(theta: Params) -> Tensor:
            self.tick()
            missed = self.targets.missed(march, theta, random)
            if self.smooth:
                rough = (variation(theta[name], random) for name in ("density", "features"))
                missed = together((missed, 1.0), *((each, self.smooth) for each in rough))
            if held is not None and self.held is not None:
                missed = together((missed, 1 - self.held.share), (held.missed(march, theta, random), self.held.share))
            if self.consistency is None or move >= self.consistent or next(passes) % self.consistency.every:
                return missed
            meant = self.consistency.missed(self.render, march, theta, random)
            # Signals are in [-1, 1], twice the range of pictures: so the weight is times 4.
            return together((missed, 1.0), (meant, 4 * self.consistency.weight / 2 * meant.numel()))

        return residual

    def _slowed(self, move: int) -> Adam:
        """The solver with the rate of a step."""
        begin = 1 - self.fall
        part = max(0.0, (move / self.moves - begin) / self.fall) if self.fall else 0.0
        factor = 0.5 + 0.5 * math.cos(math.pi * part)
        rate = self.solver.lr
        slowed = {k: v * factor for k, v in rate.items()} if isinstance(rate, Mapping) else rate * factor
        return replace(self.solver, lr=slowed)


@dataclass(frozen=True)
class Stages:
    """Samplers one after the other, as one. The state counts the moves of all."""

    samplers: tuple[tuple[Any, int], ...]

    @property
    def render(self) -> Marched:
        return self.samplers[0][0].render

    @property
    def views(self) -> Any:
        return self.samplers[0][0].views

    @property
    def solver(self) -> Adam:
        return self.samplers[0][0].solver

    @property
    def tick(self) -> Callable[[], None]:
        return self.samplers[0][0].tick

    def __call__(
        self,
        state: State,
        generator: Generator | None = None,
        progress: Progress | None = None,
        save: Callable[[State], None] | None = None,
    ) -> State:
        """Walk from `state` to the end. Arguments are those of `Pull`."""
        total, before = sum(moves for _, moves in self.samplers), 0
        for sampler, moves in self.samplers:
            if state.move < before + moves:
                told = None if progress is None else functools.partial(_report, progress, before, total)
                saved = None if save is None else functools.partial(_save, save, before)
                state = _later(before, sampler(_later(-before, state), generator, told, saved))
            before += moves
        return state


def _later(moves: int, state: State) -> State:
    return replace(state, move=state.move + moves)


def _report(progress: Progress, before: int, total: int, move: int, _: int, state: State) -> None:
    progress(before + move, total, _later(before, state))


def _save(save: Callable[[State], None], before: int, state: State) -> None:
    save(_later(before, state))


def hull(photographs: Photographs, density: Tensor) -> Params:
    """Return the raw density (1, 1, R, R, R) of the visual hull of photographs, on the grid of another one."""
    line = torch.linspace(-1, 1, density.shape[-1])
    points = torch.stack(torch.meshgrid(line, line, line, indexing="ij")[::-1], -1).reshape(-1, 3)
    empty, full = FILL
    return {"density": (empty + (full - empty) * covered(photographs, points)).view_as(density).to(density)}


def variation(grid: Tensor, random: Generator, slices: int = SLICES) -> Tensor:
    """Return square roots, whose mean square is the total variation of some layers of a grid (Plenoxels, eq. 3).

    Args:
        grid: Values (1, C, Z, Y, X) with more layers than `slices`.
        random: Draws the layers.
        slices: How many.

    Returns:
        Values (1, C, slices, Y - 1, X - 1).
    """
    first = int(torch.randint(grid.shape[2] - slices, (1,), generator=random))
    part = grid[:, :, first : first + slices + 1]
    here = part[:, :, :-1, :-1, :-1]
    steps = (part[:, :, 1:, :-1, :-1] - here, part[:, :, :-1, 1:, :-1] - here, part[:, :, :-1, :-1, 1:] - here)
    length = sum(each.square() for each in steps)
    assert isinstance(length, Tensor)
    return (length + 1e-8).pow(0.25)  # so that its gradient is finite where nothing varies


def together(*parts: tuple[Tensor, float]) -> Tensor:
    """Return one residual whose mean square is the weighted sum of the mean squares of its parts."""
    total = sum(each.numel() for each, _ in parts)
    return torch.cat([each.flatten() * math.sqrt(weight * total / each.numel()) for each, weight in parts])


def shown(signals: Tensor) -> Tensor:
    """Return signals (B, 3 or 4, h, w) in [-1, 1] as pictures (B, 3, h, w) in [0, 1], on white."""
    pictures = signals / 2 + 0.5
    return pictures if pictures.shape[1] == 3 else pictures[:, :3] + 1 - pictures[:, 3:]


def anywhere(known: Cameras, random: Generator) -> Cameras:
    """Draw a camera on the upper half of a sphere, uniform in area, as far away as the known ones are (paper, section 4.4.3)."""
    turn, height, far = torch.rand(3, generator=random).tolist()
    distance = known.position.norm(dim=-1)
    low, high = float(distance.min()), float(distance.max())
    azimuth, elevation = torch.tensor([2 * math.pi * turn]), torch.tensor([math.asin(height)])
    return orbit(azimuth, elevation, low + far * (high - low), float(known.fov.mean()))


def field_for(photographs: Photographs, plan: Plan, model: Model) -> tuple[Marched, Adam]:
    """Return the representation that a plan names, and the solver that suits it."""
    kind = photographs.kind
    channels, side = photographs.signals.shape[1], photographs.signals.shape[-1]
    size = model.size if plan.way == "pullback" else side
    if plan.field == "voxels":
        voxels = Voxels(plan.grid, channels - (kind == "rgba"))
        solver = Adam(PASSES, 6 * PASSES, RATES, betas=(0.9, 0.95), last_rate=0.25)
        return VoxelRadiance(kind, channels, size, steps=plan.grid, voxels=voxels), solver
    features = channels - (kind == "rgba")
    # DietNeRF's table 7.1: the full NeRF, and the simplified one of most of its scenes; and one for CPUs.
    network, coarse, fine, rate = {
        "nerf": (Network(features, 6, 0, 64, 4, 2), 48, 0, 2e-3),
        "simplified": (Network(features, 6, 0), 128, 0, 5e-5),
        "paper": (Network(features, 10, 4), 64, 128, 5e-4),
    }[plan.field]
    field = NerfRadiance(kind, channels, size, coarse, fine, network=network)
    return field, Adam(PASSES, 6 * PASSES, rate, betas=(0.9, 0.999))


def prepare(
    photographs: Photographs,
    plan: Plan,
    model: Model,
    clip: CLIP | None = None,
    tick: Callable[[], None] = lambda: None,
) -> tuple[Recipe, Stages]:
    """Return how a reconstruction is computed.

    Args:
        photographs: The photographs.
        plan: The settings.
        model: The model that the method pullback samples; for the others, `models.Pixels`.
        clip: The picture-text model of the method diet.
        tick: Called before every pass; it may raise `Cancelled`.

    Returns:
        The recipe, whose `diffrep` is that of the field, and the sampler, which is called like `Pull`.

    Raises:
        ValueError: If the model does not suit the photographs, or lacks.
    """
    diffrep, solver = field_for(photographs, plan, model)
    targets, voxels = Targets.of(photographs), plan.field == "voxels"
    smooth, carved = SMOOTH if voxels else 0.0, photographs if voxels and photographs.kind == "rgba" else None
    if plan.way != "pullback":
        if plan.way == "diet" and clip is None:
            raise ValueError("the method diet needs a picture-text model")
        meaning = Consistency.of(photographs, clip) if plan.way == "diet" and clip is not None else None
        consistent = plan.moves - plan.alone
        descent = Descent(
            diffrep, targets, solver, plan.moves, meaning, consistent, smooth=smooth, carved=carved, tick=tick
        )
        return _recipe(diffrep, descent.views, solver, model, None), Stages(((descent, plan.moves),))
    _check_suits(photographs, model)
    low, high = model.elevations
    law = functools.partial(orbiting, elevations=(low, high))
    views, last = (
        SampledViews(functools.partial(law, count), (count, model.channels, model.size, model.size))
        for count in (plan.views, max(LAST_VIEWS, plan.views))
    )
    recipe = _recipe(diffrep, views, solver, model, beside(targets, diffrep), last)
    settings = Settings(plan.prompt, plan.negative, plan.seed, plan.moves, plan.guidance, views=plan.views)
    pull = tasks.prepare(model, recipe, settings, tick)
    weight = HELD_WEIGHT * LAST_VIEWS
    share = weight / (weight + len(photographs.pictures))
    held = Held(law(LAST_VIEWS, Generator().manual_seed(plan.seed)), model.size, share)
    last_steps = Descent(diffrep, targets, solver, plan.alone, smooth=smooth, held=held, tick=tick)
    return recipe, Stages(((pull, plan.moves), (last_steps, plan.alone)))


def _recipe(diffrep: Any, views: Any, solver: Adam, model: Model, fit: Fit | None, last: Any = None) -> Recipe:
    return Recipe(diffrep, views, solver, noise_range(model, 0.05), 0.0, fit, last)


def _check_suits(photographs: Photographs, model: Model) -> None:
    if model.scale != 1:
        raise ValueError(
            f"{model.name} draws in latent space, where photographs cannot be targets: choose a model of pixels"
        )
    kind = "rgba" if model.channels == 4 else "rgb"
    if kind != photographs.kind:
        first = photographs.names[0]
        have, want = ("no mask", "a mask (an alpha channel)") if kind == "rgba" else ("a mask", "no mask")
        raise ValueError(
            f"{first} has {have}, and {model.name} needs pictures with {want}: add or remove it, or choose diet"
        )


def beside(targets: Targets, diffrep: Marched) -> Fit:
    """Return the fit of sampled views beside photographs that stay: each pass sees random rays of both."""

    def fit(
        params: Params, view: Cameras, target: Tensor, random: Generator, weights: Tensor | None = None
    ) -> Residual:
        sampled, march = diffrep.fit(params, view, target, random, weights), diffrep.marching(params)
        return lambda theta: together((targets.missed(march, theta, random), SHARE), (sampled(theta), 1 - SHARE))

    return fit
