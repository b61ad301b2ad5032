"""Host: any ComfyUI MODEL as the core's denoiser, and the core's samplers as a ComfyUI sampler.

The core runs inside `guider.sample`, as one of `comfy.samplers.Sampler`: so conditioning, ControlNet, LoRA, hooks and
offloading are ComfyUI's own. Fields are fitted on ComfyUI's device where there is room, else on the processor, in float32,
outside of inference mode; what comes out lies on the processor.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.model_management
import comfy.samplers
import torch
from PIL import Image
from torch import Generator, Tensor

from . import memory, notes
from .known import known
from .ladder import Ladder, host_sigmas, ladder
from .memory import Footprint, exhausted
from .plans import Plan, same_model, shape_of
from .progress import Progress, Unseen
from .rescue import rescued
from .signals import CAMERA, Signal, flat, framed, signal_of
from .sockets import FieldValue, rough_colours, to_image


class Denoiser:
    """A guider in the midst of sampling as the core's D(x, sigma, view).

    It is shown `limit` views at a time, and fewer where the device has no memory for so many; `looked` is told how many.
    """

    def __init__(self, guider: Any, extra: dict[str, Any], ladder: Ladder, told: bool, sides: set[str], limit: int,
                 looked: Callable[[int], None] = lambda _: None):  # fmt: skip
        self.guider, self.extra, self.ladder, self.told, self.limit = guider, extra, ladder, told, limit
        self.sides, self.device = sides, guider.model_patcher.load_device
        self.format, self.looked = guider.model_patcher.get_model_object("latent_format"), looked
        self.evaluating = False
        """Whether the model is at work: then what fails is the model."""

    def __call__(self, x: Tensor, sigma: Tensor, view: Any) -> Tensor:
        """x0_hat (B, C, H, W) like x. `view` is a batch of views of the core, or None."""
        tick()
        self.evaluating = True
        index = self.ladder.find(sigma)
        seen = x * float(self.ladder.alphas[index])
        clean = torch.empty_like(x)
        for side, part in self._parts(view, len(x)):
            while len(part):
                size = self._size(seen[part])
                some, rest = part[:size], part[size:]
                try:
                    clean[some] = self._evaluated(seen[some], self.ladder.host[index], _picked(view, some), side)
                    self.looked(size)
                except RuntimeError as error:
                    if size == 1 or not exhausted(error):
                        raise
                    self.limit, rest = size // 2, part  # the estimate was too low
                    comfy.model_management.soft_empty_cache()
                part = rest
        self.evaluating = False
        return clean

    def masked(self, sigma: Tensor, mask: Tensor) -> Tensor:
        """A mask at a noise level: another one where the model was given a function for that (Differential Diffusion)."""
        own = self.extra["model_options"].get("denoise_mask_function")
        if own is None:
            return mask
        sigmas, at = self.ladder.host.to(self.device), self.ladder.find(sigma)
        more = {"model": self.guider, "sigmas": sigmas}
        return own(sigmas[at : at + 1], mask.to(self.device), extra_options=more).to(mask)

    def _size(self, x: Tensor) -> int:
        """How many of the views are evaluated at once."""
        x = framed(self.format, x[: self.limit])
        return memory.fitting(self.guider.model_patcher, self.guider.conds, x.shape)

    def _parts(self, view: Any, count: int) -> list[tuple[str, Tensor]]:
        """Which of `count` views are told the same: (side or "", their indices)."""
        from ..core.pullback.adapters.view_words import view_words
        from ..core.pullback.geometry.cameras import Cameras

        everything = torch.arange(count)
        if not (self.told and self.sides and isinstance(view, Cameras)):
            return [("", everything)]
        words = [word.split()[0] for word in view_words(view.azimuth, view.elevation)]
        names = [word if word in self.sides else "" for word in words]
        return [(name, everything[[each == name for each in names]]) for name in dict.fromkeys(names)]

    def _evaluated(self, x: Tensor, sigma: Tensor, view: Any, side: str) -> Tensor:
        from ..core.pullback.generative.toybox.model import camera_tensor

        options = dict(self.extra["model_options"])
        if self.told and view is not None:
            camera = camera_tensor(view, len(x)).float().clone()
            options["transformer_options"] = {**options.get("transformer_options", {}), CAMERA: camera}
        conds = self.guider.conds
        if side:
            self.guider.conds = {**conds, "positive": conds[_key(side)]}
        try:
            with torch.inference_mode():
                clean = self.guider(
                    framed(self.format, x).to(self.device), sigma.to(self.device).expand(len(x)), model_options=options,
                    seed=self.extra.get("seed"),
                )  # fmt: skip
        finally:
            self.guider.conds = conds
        return flat(clean).to(x).clone()  # a tensor of inference mode could take part in no derivative


class Remembered:
    """A renderer that knows its last picture: a step ends with the one that the next step and the preview begin with."""

    def __init__(self, render: Callable[[dict[str, Tensor], Any], Tensor]):
        self.render = render
        self.last: tuple[dict[str, Tensor], Any, Tensor] | None = None

    def __call__(self, params: dict[str, Tensor], view: Any) -> Tensor:
        """What `render` returns. Parameters are told by their identity: nobody changes them in place."""
        if torch.is_grad_enabled():
            return self.render(params, view)
        if self.last is None or self.last[0] is not params or self.last[1] is not view:
            self.last = params, view, self.render(params, view)
        return self.last[2]


def _picked(view: Any, some: Tensor) -> Any:
    """A part of a batch of views."""
    return view[some] if hasattr(view, "__getitem__") else view


def _key(side: str) -> str:
    return f"pullback_{side}"


def tick() -> None:
    """Stop here if the user pressed Cancel."""
    comfy.model_management.throw_exception_if_processing_interrupted()


@dataclass
class Run:
    """What a job works with: the recipe, its renderer and the denoiser, a start, and where to report.

    known: the core's `Known` of a picture to start from, if there is one. state: the core's, after the last whole move, to go
    on from. first: the noise that the run began with, as the views' store, without ComfyUI's stretch.
    """

    recipe: Any
    denoise: Any
    ladder: Ladder
    params: dict[str, Tensor]
    store: Tensor | None
    random: Generator
    render: Remembered
    progress: Any
    known: Any = None
    state: Any = None
    first: Tensor | None = None

    def to(self, device: torch.device) -> Run:
        """The same run on another device."""
        known, state, first = (
            each if each is None else each.to(device) for each in (self.known, self.state, self.first)
        )
        params = {name: p.to(device, copy=True) for name, p in self.params.items()}
        return replace(self, params=params, known=known, state=state, first=first)


@dataclass(frozen=True)
class Sampling:
    """The pulled-back sampler as a job. short: with one pass in each fit, to see what it takes."""

    eta: float = 0.0
    repaint: tuple[int, int] = (1, 1)
    solver: str = "adam"
    short: bool = False

    def check(self, recipe: Any, steps: int) -> None:
        """ValueError where the settings do not fit each other or the field."""
        self._pulled(recipe, steps)

    def once(self) -> Sampling:
        """The job in its shortest form, which takes as much memory."""
        return replace(self, repaint=(1, 1), short=True)

    def __call__(self, run: Run) -> dict[str, Tensor]:
        """The sampled parameters. A run that has a state is gone on with from there."""
        from ..core.pullback.pull import Pull
        from ..core.pullback.storage import generator

        recipe, settings, solver = self._pulled(run.recipe, len(run.ladder.sigmas) - 1)
        denoise = run.denoise
        if run.known is not None:

            def noise(view: Any) -> Tensor:
                return recipe.views.gather(run.first, view, generator(0))

            denoise = run.known.keeping(denoise, noise, denoise.masked)
        pull = Pull(
            run.render, denoise, recipe.views, solver, run.ladder.sigmas, settings.walk, self.eta, recipe.gamma,
            recipe.fit, recipe.last_views, run.progress.tick,
        )  # fmt: skip
        if run.state is None:
            self._begin(run, pull)

        def ended(_: int, __: int, now: Any) -> None:
            run.state = now
            run.progress.ended(now.params)

        return pull(run.state, run.random, ended).params

    def _begin(self, run: Run, pull: Any) -> None:
        from ..core.pullback.pull import start

        run.progress.begin(_units(run.recipe, pull.solver, pull.walk, run.known))
        params = run.params
        if run.known is not None:
            params = run.known.drawn(params, run.recipe.solver, run.random, run.progress.tick)
            run.progress.ended(params)
        state = start(params, pull.views, pull.solver, run.random, run.store)
        run.first = state.noise if run.store is None else state.noise / run.ladder.excess
        run.state = state if run.known is None else run.known.carried(state, pull, run.random)

    def _pulled(self, recipe: Any, steps: int) -> tuple[Any, Any, Any]:
        from ..core.pullback.tasks import Settings, solver_of

        settings = Settings("as conditioned", steps=steps, eta=self.eta, repaint=self.repaint, solver=self.solver)
        if self.solver == "adam" and hasattr(recipe.diffrep, "brief"):
            recipe = recipe.diffrep.brief(recipe)  # the other solvers want every pixel at every pass
        solver = solver_of(recipe, settings)
        if self.short and hasattr(solver, "last_steps"):
            solver = replace(solver, last_steps=1)
        return recipe, settings, solver


def _units(recipe: Any, solver: Any, walk: list[tuple[int, int]], known: Any) -> list[int]:
    """What there is to count in each move of a walk, and before it in the fit to a known picture."""
    from ..core.pullback.known import STEPS

    views, last = (shape_of(each)[0] for each in (recipe.views, recipe.last_views or recipe.views))
    passes = getattr(solver, "steps", 12)  # of Gauss-Newton about so many
    units = [views + passes if to > start else 0 for start, to in walk]
    units[-1] = last + getattr(solver, "last_steps", 3 * passes)
    return units if known is None else [STEPS, *units]


@dataclass(frozen=True)
class Climbing:
    """SJC and SDS as a job."""

    rule: str
    iterations: int
    rate: float

    def check(self, recipe: Any, steps: int) -> None:
        """Nothing can be wrong with it."""

    def once(self) -> Climbing:
        """The job in its shortest form, which takes as much memory."""
        return replace(self, iterations=1)

    def __call__(self, run: Run) -> dict[str, Tensor]:
        from ..core.pullback.baselines import ascend

        own = getattr(run.recipe.solver, "lr", 1e-3)
        rates = {k: self.rate * (own if isinstance(own, float) else own[k]) for k in run.params}
        sigmas = run.ladder.sigmas[run.ladder.sigmas > 0]
        run.progress.begin([shape_of(run.recipe.views)[0]] * self.iterations)
        return ascend(
            self.rule, run.recipe.diffrep, run.denoise, run.recipe.views, run.params, sigmas, self.iterations, rates,
            run.random, lambda _, __, params: run.progress.ended(params), tick,
        )  # fmt: skip


@dataclass(frozen=True)
class Request:
    """What is asked of a run, whichever node asks.

    Args:
        value: the field, fresh or to go on from.
        vae: decodes the pictures that are given back; None gives rough colours.
        sides: the conditionings of the sides that are connected, by `schema.SIDES`.
        views: that a step looks at; 0 takes the field's own.
        told: whether views are told apart.
        latent_image: a picture to start from, unless the sigmas start at pure noise.
        mask: of that picture, 1 where it is drawn anew.
    """

    value: FieldValue
    vae: Any = None
    sides: Mapping[str, Any] = field(default_factory=dict)
    views: int = 0
    told: bool = True
    latent_image: dict[str, Any] | None = None
    mask: Tensor | None = None


@dataclass(eq=False)
class FieldSampler(comfy.samplers.Sampler):
    """A job as a ComfyUI sampler. Its samples are the field's canonical views, as in `seen`; the field is in `params`.

    known: the core's `Known` of the request's picture. takes: what the field takes on the device.
    """

    job: Any
    recipe: Any
    request: Request
    store: Tensor | None
    seed: int
    progress: Progress
    render: Remembered
    known: Any = None
    takes: Footprint = Footprint()
    params: dict[str, Tensor] = field(default_factory=dict, init=False)
    seen: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def sample(
        self, model_wrap: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor,
        latent_image: Tensor | None = None, denoise_mask: Tensor | None = None, disable_pbar: bool = False,
    ) -> Tensor:  # fmt: skip
        """Called by the guider; `noise` only says how large a batch may be."""
        from ..core.pullback.storage import generator

        full = self.max_denoise(model_wrap, sigmas)
        rungs = ladder(model_wrap.inner_model.model_sampling, sigmas, full)
        known = self.known if not full or getattr(self.known, "mask", None) is not None else None
        sides = {side for side, cond in self.request.sides.items() if cond is not None}
        with torch.inference_mode(False), torch.enable_grad():
            limit, looked = len(noise), self.progress.add
            denoise = Denoiser(model_wrap, extra_args, rungs, self.request.told, sides, limit, looked)
            value = self.request.value
            random = generator((self.seed + value.plan.start) % (1 << 63))
            params = value.field.params if value.field else self.recipe.diffrep.init(random)
            store = None if self.store is None else self.store.float().clone() * rungs.excess
            run = Run(self.recipe, denoise, rungs, params, store, random, self.render, self.progress, known)
            self.params, self.seen = self._sampled(run, memory.chosen(model_wrap.model_patcher, self.takes))
        return framed(model_wrap.model_patcher.get_model_object("latent_format"), self.seen).to(noise.device)

    def _sampled(self, run: Run, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
        """The field and its canonical views, on the processor; where the device fails, from the last whole step on there."""
        drawn, run = run.random.get_state(), run.to(device)
        try:
            return self._done(run)
        except RuntimeError as error:
            if device.type == "cpu" or (run.denoise.evaluating and not exhausted(error)):
                raise
            why = f"{device} ran out of memory" if exhausted(error) else f"on {device} it fails ({_line(error)})"
        comfy.model_management.soft_empty_cache()
        notes.say(f"The field is fitted on the processor from here on: {why}.")
        run.random.set_state(drawn)
        return self._done(run.to(torch.device("cpu")))

    def _done(self, run: Run) -> tuple[dict[str, Tensor], Tensor]:
        params = self.job(run)
        seen = canonical(self.recipe.diffrep, params, self.render).cpu()
        return {name: p.cpu() for name, p in params.items()}, seen


def _line(error: Exception) -> str:
    """The first line of what an error says."""
    return str(error).strip().partition("\n")[0][:120]


def rehearsed(job: Any, recipe: Any) -> Footprint:
    """What a field takes on the device: its last step, the largest, on tensors without values."""

    def step() -> Any:
        random = Generator()
        params = {name: p.to("meta") for name, p in recipe.diffrep.init(random).items()}
        ends = torch.tensor([1.0, 0.0])
        run = Run(
            recipe, lambda x, *_: torch.zeros_like(x), Ladder(ends, ends, ends, 1.0), params, None, random,
            Remembered(recipe.diffrep), Unseen(),
        )  # fmt: skip
        return job.once()(run), run

    return memory.counted(step)


def canonical(diffrep: Any, params: dict[str, Tensor], render: Remembered) -> Tensor:
    """A field's signal in the views that say most: (B, C, h, w). render: the diffrep's."""
    last = render.last  # what a step ended with, where that is all there is to see
    if last is not None and last[0] is params and last[1] is None:
        return last[2]
    with torch.no_grad():
        return diffrep.canonical(params)


def glance(diffrep: Any, params: dict[str, Tensor], render: Remembered) -> Tensor:
    """A field's signal as one small picture (1, C, h, w), for previews."""
    seen = canonical(diffrep, params, render)
    if hasattr(diffrep, "picture") and len(seen) > 1:
        height = seen.shape[-2]
        return diffrep.picture(params, height, round(height * diffrep.aspect))
    return torch.cat(list(seen), -1)[None]


def run(
    job: Any, noise: Any, guider: Any, sigmas: Tensor, request: Request
) -> tuple[FieldValue, dict[str, Tensor], Tensor]:
    """Run a job on a field: the new field, its canonical views as LATENT, and as IMAGE."""
    value, patcher = request.value, guider.model_patcher
    signal = signal_of(patcher, request.vae)
    if value.field is not None:
        same_model(value.field, signal.name)
    recipe = value.plan.recipe(signal, request.views)
    given = known(request.latent_image, request.mask, signal, recipe.diffrep)
    if len(sigmas) < 2:
        return _unsampled(value, recipe, signal)
    job.check(recipe, len(sigmas) - 1)
    signal.check()
    guider = _sided(guider, request.sides)
    takes = Footprint() if memory.processor() else rehearsed(job, recipe)
    guider.model_options = memory.making_room(guider.model_options, takes)
    render = Remembered(recipe.diffrep)

    def picture(params: dict[str, Tensor]) -> Image.Image:
        with torch.no_grad():
            return _preview(signal, glance(recipe.diffrep, params, render).cpu())

    store = _store(noise, recipe.views)
    sampler = FieldSampler(job, recipe, request, store, noise.seed, Progress(picture), render, given, takes)
    batch = framed(signal.format, torch.zeros(shape_of(recipe.views)))
    batch = batch[: memory.planned(patcher, guider.original_conds, batch.shape, takes)]
    seen = guider.sample(batch, torch.zeros_like(batch), sampler, sigmas, disable_pbar=True, seed=noise.seed)
    latents = {"samples": seen.to(comfy.model_management.intermediate_device())}
    sampled = FieldValue(value.plan, _finished(recipe, sampler.params, value.plan, signal, noise.seed))
    with rescued(sampled, latents):
        return sampled, latents, to_image(_pictures(signal, sampler.seen))


def _unsampled(value: FieldValue, recipe: Any, signal: Signal) -> tuple[FieldValue, dict[str, Tensor], Tensor]:
    """What comes of no steps, a denoise of 0: the field that was given, as core's samplers give the latent back."""
    if value.field is None:
        raise ValueError(
            "there are no steps to sample (denoise is 0) and the field was never sampled: give a denoise above 0"
        )
    with torch.no_grad():
        seen = canonical(recipe.diffrep, value.field.params, Remembered(recipe.diffrep))
        return value, {"samples": signal.latents(seen)}, to_image(_pictures(signal, seen))


def simple(
    guider: Any, request: Request, seed: int, steps: int, denoise: float = 1.0
) -> tuple[FieldValue, dict[str, Tensor], Tensor]:
    """`run` with a seed for the noise, and with the core's own noise levels.

    denoise: the part of the way, in ln sigma, that is gone; at 1 nothing is left of a picture that has no mask.
    """
    from ..core.pullback.schedules import log_linear

    patcher, latent = guider.model_patcher, request.latent_image
    low, high = request.value.plan.recipe(signal_of(patcher, request.vae), 0).sigma
    sigmas = log_linear(steps, low, high**denoise * low ** (1 - denoise))
    sigmas = host_sigmas(patcher.get_model_object("model_sampling"), sigmas)
    if denoise == 1 and request.mask is None and latent is not None and "noise_mask" not in latent:
        request = replace(request, latent_image=None)
    return run(Sampling(), Seeded(seed), guider, sigmas, request)


def guided(model: Any, positive: Any, negative: Any, cfg: float) -> Any:
    """The guider that KSampler makes of its inputs."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


@dataclass(frozen=True)
class Seeded:
    """A NOISE out of a seed, the same as RandomNoise's."""

    seed: int

    def generate_noise(self, latent: dict[str, Tensor]) -> Tensor:
        """Unit-normal noise of the shape of latent["samples"]."""
        import comfy.sample

        return comfy.sample.prepare_noise(latent["samples"], self.seed)


def _store(noise: Any, views: Any) -> Tensor | None:
    """The noise of views that come back, from the NOISE socket; fresh views draw theirs from its seed."""
    like = getattr(views, "picture", None)
    if like is None:
        return None
    made = noise.generate_noise({"samples": torch.zeros(1, *like) if len(like) == 3 else torch.zeros(like)})
    return made.reshape(like)


def _sided(guider: Any, sides: dict[str, Any]) -> Any:
    """The guider, knowing the conditioning of each side as well. The caller's stays as it was."""
    guider = copy.copy(guider)
    guider.original_conds = dict(guider.original_conds)
    guider.inner_set_conds({_key(side): cond for side, cond in sides.items() if cond is not None})
    return guider


def _finished(recipe: Any, params: dict[str, Tensor], plan: Plan, signal: Signal, seed: int) -> Any:
    from ..core.pullback.storage import Field

    return Field(recipe.diffrep, params, "", signal.name, seed % (1 << 63))


def _pictures(signal: Signal, seen: Tensor) -> Tensor:
    """Signals as display pictures: through the decoder where there is one, else in rough colours."""
    return signal.decode(seen) if signal.decodes else _rough(signal, seen)


def _rough(signal: Signal, seen: Tensor) -> Tensor:
    fmt = signal.format
    unfolded = getattr(fmt, "latent_rgb_factors_reshape", None)  # where a latent holds several pixels
    seen = unfolded(seen) if unfolded else seen
    return rough_colours(seen, fmt.latent_rgb_factors, getattr(fmt, "latent_rgb_factors_bias", None))


def _preview(signal: Signal, seen: Tensor) -> Image.Image:
    """A picture for the progress bar; latents are shown in rough colours, decoding them would take too long."""
    pictures = signal.decode(seen) if signal.name == "toybox" else _rough(signal, seen)
    pixels = (to_image(pictures)[0] * 255).round().to(torch.uint8).numpy()
    image = Image.fromarray(pixels)
    enlarge = max(1, 256 // image.height)
    return image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.BILINEAR)
