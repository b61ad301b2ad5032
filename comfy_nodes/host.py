"""Host: any ComfyUI MODEL as the core's denoiser, and the core's samplers as a ComfyUI sampler.

The core runs inside `guider.sample`, as one of `comfy.samplers.Sampler`: so conditioning, ControlNet, LoRA, hooks and
offloading are ComfyUI's own. Fields are fitted on the processor, in float32, outside of inference mode.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.samplers
import torch
from PIL import Image
from torch import Generator, Tensor

from .known import known
from .ladder import Ladder, host_sigmas, ladder
from .memory import fitting, planned
from .plans import Plan, same_model, shape_of
from .progress import Progress
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

    def __call__(self, x: Tensor, sigma: Tensor, view: Any) -> Tensor:
        """x0_hat (B, C, H, W) like x. `view` is a batch of views of the core, or None."""
        tick()
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
                except comfy.model_management.OOM_EXCEPTION:
                    if size == 1:
                        raise
                    self.limit, rest = size // 2, part  # the estimate was too low
                    comfy.model_management.soft_empty_cache()
                part = rest
        return clean

    def _size(self, x: Tensor) -> int:
        """How many of the views are evaluated at once."""
        x = framed(self.format, x[: self.limit])
        return fitting(self.guider.model_patcher, self.guider.conds, x.shape)

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


@dataclass(frozen=True)
class Run:
    """What a job works with: the recipe, its renderer and the denoiser, a start, and where to report.

    known: the core's `Known` of a picture to start from, if there is one.
    """

    recipe: Any
    denoise: Denoiser
    ladder: Ladder
    params: dict[str, Tensor]
    store: Tensor | None
    random: Generator
    render: Remembered
    progress: Progress
    known: Any = None


@dataclass(frozen=True)
class Sampling:
    """The pulled-back sampler as a job."""

    eta: float = 0.0
    repaint: tuple[int, int] = (1, 1)
    solver: str = "adam"

    def check(self, recipe: Any, steps: int) -> None:
        """ValueError where the settings do not fit each other or the field."""
        self._pulled(recipe, steps)

    def __call__(self, run: Run) -> dict[str, Tensor]:
        from ..core.pullback.pull import Pull, start

        views = run.recipe.views
        recipe, settings, solver = self._pulled(run.recipe, len(run.ladder.sigmas) - 1)
        denoise, params = run.denoise, run.params
        run.progress.begin(_units(recipe, solver, settings.walk, run.known))
        if run.known is not None:
            params = run.known.drawn(params, recipe.solver, run.random, run.progress.tick)
            denoise = run.known.keeping(denoise)
            run.progress.ended(params)
        pull = Pull(
            run.render, denoise, views, solver, run.ladder.sigmas, settings.walk, self.eta, recipe.gamma,
            recipe.fit, recipe.last_views, run.progress.tick,
        )  # fmt: skip
        state = start(params, views, solver, run.random, run.store)
        if run.known is not None:
            state = run.known.carried(state, pull, run.random)
        return pull(state, run.random, lambda _, __, now: run.progress.ended(now.params)).params

    def _pulled(self, recipe: Any, steps: int) -> tuple[Any, Any, Any]:
        from ..core.pullback.tasks import Settings, solver_of

        settings = Settings("as conditioned", steps=steps, eta=self.eta, repaint=self.repaint, solver=self.solver)
        if self.solver == "adam" and hasattr(recipe.diffrep, "brief"):
            recipe = recipe.diffrep.brief(recipe)  # the other solvers want every pixel at every pass
        return recipe, settings, solver_of(recipe, settings)


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


class FieldSampler(comfy.samplers.Sampler):
    """A job as a ComfyUI sampler. Its samples are the field's canonical views, as in `seen`; the field is in `params`."""

    def __init__(self, job: Any, recipe: Any, value: FieldValue, store: Tensor | None, seed: int, told: bool,
                 sides: set[str], progress: Progress, render: Remembered, known: Any = None):  # fmt: skip
        self.job, self.recipe, self.value, self.store, self.seed = job, recipe, value, store, seed
        self.told, self.sides, self.progress, self.render, self.known = told, sides, progress, render, known
        self.params: dict[str, Tensor] = {}
        self.seen = torch.empty(0)

    def sample(
        self, model_wrap: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor,
        latent_image: Tensor | None = None, denoise_mask: Tensor | None = None, disable_pbar: bool = False,
    ) -> Tensor:  # fmt: skip
        """Called by the guider; `noise` only says how large a batch may be."""
        from ..core.pullback.storage import generator

        full = self.max_denoise(model_wrap, sigmas)
        rungs = ladder(model_wrap.inner_model.model_sampling, sigmas, full)
        given = self.known if not full or getattr(self.known, "mask", None) is not None else None
        with torch.inference_mode(False), torch.enable_grad():
            limit, looked = len(noise), self.progress.add
            denoise = Denoiser(model_wrap, extra_args, rungs, self.told, self.sides, limit, looked)
            random = generator((self.seed + self.value.plan.start) % (1 << 63))
            field = self.value.field
            params = {k: p.clone() for k, p in field.params.items()} if field else self.recipe.diffrep.init(random)
            store = None if self.store is None else self.store.float().clone() * rungs.excess
            self.params = self.job(
                Run(self.recipe, denoise, rungs, params, store, random, self.render, self.progress, given)
            )
        with torch.no_grad():
            self.seen = canonical(self.recipe.diffrep, self.params, self.render)
        return framed(model_wrap.model_patcher.get_model_object("latent_format"), self.seen).to(noise.device)


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
    job: Any, noise: Any, guider: Any, sigmas: Tensor, value: FieldValue, views: int, told: bool, sides: dict[str, Any],
    vae: Any, latent_image: dict[str, Any] | None = None, mask: Tensor | None = None,
) -> tuple[FieldValue, dict[str, Tensor], Tensor]:  # fmt: skip
    """Run a job on a field: the new field, its canonical views as LATENT, and as IMAGE.

    latent_image: a picture to start from, unless the sigmas start at pure noise; mask: 1 where it is drawn anew.
    """
    signal = signal_of(guider.model_patcher, vae)
    if value.field is not None:
        same_model(value.field, signal.name)
    recipe = value.plan.recipe(signal, views)
    given = known(latent_image, mask, signal, recipe.diffrep)
    if len(sigmas) < 2:
        return _unsampled(value, recipe, signal)
    job.check(recipe, len(sigmas) - 1)
    signal.check()
    guider = _sided(guider, sides)
    connected = {side for side, cond in sides.items() if cond is not None}
    render = Remembered(recipe.diffrep)

    def picture(params: dict[str, Tensor]) -> Image.Image:
        with torch.no_grad():
            return _preview(signal, glance(recipe.diffrep, params, render))

    store = _store(noise, recipe.views)
    sampler = FieldSampler(job, recipe, value, store, noise.seed, told, connected, Progress(picture), render, given)
    batch = framed(signal.format, torch.zeros(shape_of(recipe.views)))
    batch = batch[: planned(guider.model_patcher, guider.original_conds, batch.shape)]
    seen = guider.sample(batch, torch.zeros_like(batch), sampler, sigmas, disable_pbar=True, seed=noise.seed)
    latents = {"samples": seen.to(comfy.model_management.intermediate_device())}
    field = _finished(recipe, sampler.params, value.plan, signal, noise.seed)
    return FieldValue(value.plan, field), latents, to_image(_pictures(signal, sampler.seen))


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
    model: Any, positive: Any, negative: Any, value: FieldValue, seed: int, steps: int, cfg: float,
    sides: dict[str, Any], vae: Any, latent_image: dict[str, Any] | None = None, mask: Tensor | None = None,
    denoise: float = 1.0,
) -> tuple[FieldValue, dict[str, Tensor], Tensor]:  # fmt: skip
    """`run` with what KSampler takes, and with the core's own noise levels.

    denoise: the part of the way, in ln sigma, that is gone; at 1 nothing is left of a picture that has no mask.
    """
    from ..core.pullback.schedules import log_linear

    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    recipe = value.plan.recipe(signal_of(model, vae), 0)
    low, high = recipe.sigma
    sigmas = log_linear(steps, low, high**denoise * low ** (1 - denoise))
    sigmas = host_sigmas(model.get_model_object("model_sampling"), sigmas)
    if denoise == 1 and mask is None and latent_image is not None and "noise_mask" not in latent_image:
        latent_image = None
    return run(Sampling(), Seeded(seed), guider, sigmas, value, 0, True, sides, vae, latent_image, mask)


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
