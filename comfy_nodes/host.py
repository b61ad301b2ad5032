"""Runs the core inside ComfyUI: any MODEL serves as the core's denoiser, and the core's jobs run as a ComfyUI sampler.

The core runs inside `guider.sample`, as a `comfy.samplers.Sampler`. ComfyUI therefore handles conditioning, ControlNet, LoRA,
hooks and offloading. Fields are fitted in float32 and outside of inference mode: on ComfyUI's device if there is enough memory,
else on the CPU. Results are on the CPU.
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

from . import guides, memory, notes
from .denoiser import Denoiser, side_key
from .guides import GuideValue
from .jobs import Climbing as Climbing
from .jobs import Remembered, Run, Sampling
from .known import known
from .ladder import Ladder, host_sigmas, ladder
from .memory import Footprint, exhausted
from .plans import Plan, same_model, shape_of
from .progress import Progress, Unseen
from .rescue import rescued
from .signals import BUILT_IN, Signal, framed, signal_of
from .sockets import FieldValue, rough_colours, to_image


@dataclass(frozen=True)
class Request:
    """The inputs of a node that runs a job.

    Args:
        value: The field, unsampled or to continue from.
        vae: The VAE that decodes the returned pictures. Without one, their colours are approximated from latents.
        sides: The connected conditionings of sides, by the names in `schema.SIDES`.
        views: The number of views per step; 0 takes the field's default.
        knows_view: Whether the model is given the view: its camera, or the conditioning of the side that it shows.
        latent_image: A picture to start from. It is ignored if the sigmas start at pure noise and there is no mask.
        mask: A mask of the picture, 1 where it is replaced.
        guide: The guide, or None.
    """

    value: FieldValue
    vae: Any = None
    sides: Mapping[str, Any] = field(default_factory=dict)
    views: int = 0
    knows_view: bool = True
    latent_image: dict[str, Any] | None = None
    mask: Tensor | None = None
    guide: GuideValue | None = None


@dataclass(eq=False)
class FieldSampler(comfy.samplers.Sampler):
    """A job as a ComfyUI sampler. It returns the field's canonical views.

    Args:
        job: The job.
        recipe: The core's recipe of the field.
        request: The inputs of the node.
        store: The initial noise of views that return at every step, or None.
        seed: The seed of all other random numbers.
        progress: The progress bar.
        render: The renderer of the field.
        known: The core's `Known` of the request's picture, or None.
        takes: The memory that the field needs on the device.
        guidance: Turns the denoiser into a guided one, or None.
        layout: The core's layout of regions for the built-in model infd, or None.
        spread: The signal's `spread`.

    Attributes:
        params: The parameters of the sampled field.
        seen: The field's canonical views, (B, C, h, w).
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
    guidance: Any = None
    layout: Any = None
    spread: Callable[[int, int], float] = lambda height, width: 1.0
    params: dict[str, Tensor] = field(default_factory=dict, init=False)
    seen: Tensor = field(default_factory=lambda: torch.empty(0), init=False)

    def sample(
        self, model_wrap: Any, sigmas: Tensor, extra_args: dict[str, Any], callback: Any, noise: Tensor,
        latent_image: Tensor | None = None, denoise_mask: Tensor | None = None, disable_pbar: bool = False,
    ) -> Tensor:  # fmt: skip
        """Run the job. The guider calls this. The length of `noise` is the largest number of views in one evaluation."""
        from ..core.pullback.storage import generator

        full = self.max_denoise(model_wrap, sigmas)
        spread = self.spread(*shape_of(self.recipe.views)[-2:])
        rungs = ladder(model_wrap.inner_model.model_sampling, sigmas, full, spread)
        known = self.known if not full or getattr(self.known, "mask", None) is not None else None
        sides = {side for side, cond in self.request.sides.items() if cond is not None}
        with torch.inference_mode(False), torch.enable_grad():
            denoise = Denoiser(
                model_wrap,
                extra_args,
                rungs,
                self.request.knows_view,
                sides,
                len(noise),
                self.progress.add,
                self.layout,
            )
            value = self.request.value
            random = generator((self.seed + value.plan.start) % (1 << 63))
            params = value.field.params if value.field else self.recipe.diffrep.init(random)
            store = None if self.store is None else self.store.float().clone() * rungs.excess
            run = Run(
                self.recipe, denoise, rungs, params, store, random, self.render, self.progress, known,
                guidance=self.guidance,
            )  # fmt: skip
            self.params, self.seen = self._sampled(run, memory.chosen(model_wrap.model_patcher, self.takes))
        seen = self.seen / self.spread(*self.seen.shape[-2:])  # the guider multiplies by it
        return framed(model_wrap.model_patcher.get_model_object("latent_format"), seen).to(noise.device)

    def _sampled(self, run: Run, device: torch.device) -> tuple[dict[str, Tensor], Tensor]:
        """Return the field and its canonical views, on the CPU.

        If the device fails, the run continues on the CPU from the last completed step.
        """
        drawn, run = run.random.get_state(), run.to(device)
        try:
            return self._done(run)
        except RuntimeError as error:
            if device.type == "cpu" or (run.denoise.evaluating and not exhausted(error)):
                raise
            why = f"{device} ran out of memory" if exhausted(error) else f"it failed on {device} ({_line(error)})"
        comfy.model_management.soft_empty_cache()
        notes.say(f"The field is fitted on the processor from here on: {why}.")
        run.random.set_state(drawn)
        return self._done(run.to(torch.device("cpu")))

    def _done(self, run: Run) -> tuple[dict[str, Tensor], Tensor]:
        params = self.job(run)
        seen = canonical(self.recipe.diffrep, params, self.render).cpu()
        return {name: p.cpu() for name, p in params.items()}, seen


def _line(error: Exception) -> str:
    """Return the first line of an error message."""
    return str(error).strip().partition("\n")[0][:120]


def rehearsed(job: Any, recipe: Any) -> Footprint:
    """Return the memory that a field needs on the device, by running its last and largest step on meta tensors."""

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
    """Return a field's signals (B, C, h, w) in its canonical views. `render` is the diffrep's renderer."""
    last = render.last  # if its view was None, it is the canonical view
    if last is not None and last[0] is params and last[1] is None:
        return last[2]
    with torch.no_grad():
        return diffrep.canonical(params)


def glance(diffrep: Any, params: dict[str, Tensor], render: Remembered) -> Tensor:
    """Return a field's signal as one small picture (1, C, h, w), for previews."""
    seen = canonical(diffrep, params, render)
    if hasattr(diffrep, "picture") and len(seen) > 1:
        height = seen.shape[-2]
        return diffrep.picture(params, height, round(height * diffrep.aspect))
    return torch.cat(list(seen), -1)[None]


def run(
    job: Any, noise: Any, guider: Any, sigmas: Tensor, request: Request
) -> tuple[FieldValue, dict[str, Tensor], Tensor]:
    """Run a job on a field, and return the new field, its canonical views as LATENT, and as IMAGE."""
    value, patcher = request.value, guider.model_patcher
    signal = signal_of(patcher, request.vae)
    if guides.is_guided(patcher):
        raise ValueError(
            "this model is guided for other samplers: connect the guide to Field Sampler, and the plain model"
        )
    if value.field is not None:
        same_model(value.field, signal.name)
    recipe = value.plan.recipe(signal, request.views)
    given = known(request.latent_image, request.mask, signal, recipe.diffrep)
    if len(sigmas) < 2:
        return _unsampled(value, recipe, signal)
    job.check(recipe, len(sigmas) - 1)
    signal.check()
    guidance, guider = _guidance(request, recipe.diffrep, signal, _sided(guider, request.sides))
    takes = Footprint() if memory.processor() else rehearsed(job, recipe)
    guider.model_options = memory.making_room(guider.model_options, takes)
    render = Remembered(recipe.diffrep)

    def picture(params: dict[str, Tensor]) -> Image.Image:
        with torch.no_grad():
            return _preview(signal, glance(recipe.diffrep, params, render).cpu())

    store = _store(noise, recipe.views)
    layout = guides.layout_for(request.guide, recipe.diffrep, signal, getattr(recipe.diffrep, "aspect", 1.0))
    sampler = FieldSampler(
        job,
        recipe,
        request,
        store,
        noise.seed,
        Progress(picture),
        render,
        given,
        takes,
        guidance,
        layout,
        signal.spread,
    )
    batch = framed(signal.format, torch.zeros(shape_of(recipe.views)))
    batch = batch[: memory.planned(patcher, guider.original_conds, batch.shape, takes)]
    seen = guider.sample(batch, torch.zeros_like(batch), sampler, sigmas, disable_pbar=True, seed=noise.seed)
    latents = {"samples": seen.to(comfy.model_management.intermediate_device())}
    sampled = FieldValue(value.plan, _finished(recipe, sampler.params, value.plan, signal, noise.seed))
    with rescued(sampled, latents):
        return sampled, latents, to_image(_pictures(signal, sampler.seen))


def _unsampled(value: FieldValue, recipe: Any, signal: Signal) -> tuple[FieldValue, dict[str, Tensor], Tensor]:
    """Return the given field if there are no steps (denoise is 0), just as ComfyUI's samplers return the given latent."""
    if value.field is None:
        raise ValueError(
            "there are no steps to sample (denoise is 0) and the field was never sampled: set denoise above 0"
        )
    with torch.no_grad():
        seen = canonical(recipe.diffrep, value.field.params, Remembered(recipe.diffrep))
        return value, {"samples": signal.latents(seen)}, to_image(_pictures(signal, seen))


def simple(
    guider: Any, request: Request, seed: int, steps: int, denoise: float = 1.0
) -> tuple[FieldValue, dict[str, Tensor], Tensor]:
    """Sample a field as `run` does, but from a seed instead of a NOISE, and with the core's own noise levels.

    `denoise` is the fraction of the range of ln sigma that is sampled. At 1, a picture without a mask has no effect.
    """
    from ..core.pullback.schedules import log_linear

    patcher, latent = guider.model_patcher, request.latent_image
    signal = signal_of(patcher, request.vae)
    recipe = request.value.plan.recipe(signal, 0)
    low, high = recipe.sigma
    sigmas = log_linear(steps, low, high**denoise * low ** (1 - denoise)) / signal.spread(*shape_of(recipe.views)[-2:])
    sigmas = host_sigmas(patcher.get_model_object("model_sampling"), sigmas)
    if denoise == 1 and request.mask is None and latent is not None and "noise_mask" not in latent:
        request = replace(request, latent_image=None)
    return run(Sampling(), Seeded(seed), guider, sigmas, request)


def guided(model: Any, positive: Any, negative: Any, cfg: float) -> Any:
    """Return the guider that KSampler makes from its inputs."""
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(positive, negative)
    guider.set_cfg(cfg)
    return guider


@dataclass(frozen=True)
class Seeded:
    """The NOISE of a seed, the same as that of the node RandomNoise."""

    seed: int

    def generate_noise(self, latent: dict[str, Tensor]) -> Tensor:
        """Return standard normal noise in the shape of latent["samples"]."""
        import comfy.sample

        return comfy.sample.prepare_noise(latent["samples"], self.seed)


def _store(noise: Any, views: Any) -> Tensor | None:
    """Return noise from the NOISE socket for views that return at every step, in the shape of their store.

    Return None for views that are new at every step. Their noise is drawn from the seed of the NOISE.
    """
    like = getattr(views, "picture", None)
    if like is None:
        return None
    drawn = noise.generate_noise({"samples": torch.zeros(1, *like) if len(like) == 3 else torch.zeros(like)})
    return drawn.reshape(like)


def _sided(guider: Any, sides: dict[str, Any]) -> Any:
    """Return a copy of the guider that also has the conditionings of the sides."""
    guider = copy.copy(guider)
    guider.original_conds = dict(guider.original_conds)
    guider.inner_set_conds({side_key(side): cond for side, cond in sides.items() if cond is not None})
    return guider


def _guidance(request: Request, diffrep: Any, signal: Signal, guider: Any) -> tuple[Any, Any]:
    """Return the guidance of a run, or None, and the guider. Its model is replaced by one with the guide's helpers."""
    if request.guide is None:
        return None, guider
    if signal.vae is None and request.guide.vae is not None:
        signal = signal_of(guider.model_patcher, request.guide.vae)
    found = guides.guidance(request.guide, diffrep, signal)
    if found is not None:
        guider.model_patcher = guides.with_helpers(guider.model_patcher, request.guide, signal)
    return found, guider


def _finished(recipe: Any, params: dict[str, Tensor], plan: Plan, signal: Signal, seed: int) -> Any:
    from ..core.pullback.storage import Field

    return Field(recipe.diffrep, params, "", signal.name, seed % (1 << 63))


def _pictures(signal: Signal, seen: Tensor) -> Tensor:
    """Return signals as display pictures, from the decoder if there is one, else in approximate colours."""
    return signal.decode(seen) if signal.decodes else _rough(signal, seen)


def _rough(signal: Signal, seen: Tensor) -> Tensor:
    fmt = signal.format
    unfolded = getattr(fmt, "latent_rgb_factors_reshape", None)  # for latents that each hold several pixels
    seen = unfolded(seen) if unfolded else seen
    return rough_colours(seen, fmt.latent_rgb_factors, getattr(fmt, "latent_rgb_factors_bias", None))


def _preview(signal: Signal, seen: Tensor) -> Image.Image:
    """Return a picture for the progress bar. Latents are shown in approximate colours, because decoding takes too long."""
    pictures = signal.decode(seen) if signal.kind in BUILT_IN else _rough(signal, seen)
    pixels = (to_image(pictures)[0] * 255).round().to(torch.uint8).numpy()
    image = Image.fromarray(pixels)
    enlarge = max(1, 256 // image.height)
    return image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.BILINEAR)
