"""Guides: the core's guidance by regions, for fields and for core's own samplers.

A guide judges what the latents show, so it needs their decoder: the model's VAE or a field decoder. Its gradients pass through
that and, if they can, through the diffusion model (`gradients.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import torch
from torch import Tensor

from . import gradients, notes, weights
from .ladder import at
from .layout import RegionValue, regions_of
from .signals import BUILT_IN, LAYOUT, Signal, core_model, flat, framed, signal_of

KEY = "pullback_guide"
WRAPPED = comfy.patcher_extension.WrappersMP.PREDICT_NOISE
Denoise = Callable[[Tensor, Tensor, Any], Tensor]


@dataclass(frozen=True)
class HostedCLIP:
    """A picture-text model of the core, whose weights ComfyUI moves.

    Args:
        clip: The model, which computes on ComfyUI's device.
        patcher: Its weights, in ComfyUI's care.
    """

    clip: Any
    patcher: Any

    @property
    def size(self) -> int:
        return self.clip.size

    @property
    def temperature(self) -> float:
        return self.clip.temperature

    def encode_image(self, pictures: Tensor) -> Tensor:
        with gradients.swapped([self.patcher.model]):
            return self.clip.encode_image(pictures)

    def encode_text(self, texts: list[str]) -> Tensor:
        weights.load(self.patcher)
        with torch.inference_mode(False), torch.no_grad():
            return self.clip.encode_text(texts)


@dataclass(frozen=True)
class DecoderValue:
    """What a DECODER socket carries: a field decoder of the core, whose weights ComfyUI moves."""

    decoder: Any
    patcher: Any


@dataclass(frozen=True)
class GuideValue:
    """What a GUIDE socket carries.

    Args:
        clip: The picture-text model.
        regions: The regions.
        strength: Scales the guidance.
        through_model: Whether gradients pass through the diffusion model.
        vae: Shows what latents are, unless the sampler has a VAE.
        decoder: Shows what latents are, in the place of a VAE.
    """

    clip: HostedCLIP
    regions: tuple[RegionValue, ...]
    strength: float = 1.0
    through_model: bool = True
    vae: Any = None
    decoder: DecoderValue | None = None

    @property
    def active(self) -> bool:
        """Whether it changes anything."""
        return self.strength > 0 and any(region.weight > 0 for region in self.regions)

    def of(self, diffrep: Any) -> Any:
        """Return the core's guide for a field.

        Raises:
            ValueError: If a region does not suit the field, or there are too many.
        """
        from ..core.pullback.regions import Guide

        return Guide(self.clip, regions_of(self.regions, diffrep), self.strength, self.through_model)


@dataclass(frozen=True)
class _Picture:
    """What a picture is to regions, of which nothing else is known."""

    closed: tuple[bool, bool] = (False, False)

    def lookup(self, view: object) -> None:
        """Return None: the one view is the whole picture."""


@dataclass(frozen=True)
class ByVae:
    """Shows signals by a VAE, differentiably."""

    signal: Signal

    @property
    def scale(self) -> int:
        return self.signal.scale

    def decode(self, signal: Tensor) -> Tensor:
        """Return pictures (B, 3, H, W) in [0, 1], on the device of the signals (B, C, h, w)."""
        vae = self.signal.vae
        with gradients.swapped([vae.first_stage_model]):
            latents = self.signal.latents(signal).to(vae.device, vae.vae_dtype)
            latents = flat(latents) if getattr(vae, "latent_dim", 2) == 2 else latents
            shown = vae.process_output(vae.first_stage_model.decode(latents).to(signal.device, torch.float32).clone())
        return flat(shown)[:, :3].clamp(0, 1)


@dataclass(frozen=True)
class ByDecoder:
    """Shows signals by a field decoder, at the resolution that is asked for."""

    signal: Signal
    value: DecoderValue

    def parts(self, signal: Tensor) -> Callable[[tuple[float, float, float, float], int], Tensor]:
        """Return what draws parts (1, 3 or 4, size, size) in [0, 1] of a picture (1, C, h, w)."""
        weights = [self.value.patcher.model]
        with gradients.swapped(weights):
            draw = self.value.decoder.parts(flat(self.signal.latents(signal)))

        def drawn(box: tuple[float, float, float, float], size: int) -> Tensor:
            with gradients.swapped(weights):
                return draw(box, size)

        return drawn


def shower(signal: Signal, guide: GuideValue) -> Any:
    """Return what shows the latents of a model.

    Raises:
        ValueError: If nothing that is connected does.
    """
    if guide.decoder is not None:
        fits(guide.decoder, signal)
        return ByDecoder(signal, guide.decoder)
    if signal.name in BUILT_IN:
        return core_model(signal.name)
    if signal.vae is None:
        raise ValueError("a guide must see what the latents show: connect the model's VAE, or a field decoder, to it")
    return ByVae(signal)


def fits(value: DecoderValue, signal: Signal) -> None:
    """Raise a ValueError if a field decoder is for the latents of another model."""
    decoder = value.decoder
    if (decoder.channels, decoder.scale) != (signal.channels, signal.scale):
        raise ValueError(
            f"{decoder.name} decodes latents of {decoder.channels} channels, {decoder.scale} pixels each, and this model's "
            f"({type(signal.format).__name__}) have {signal.channels}, {signal.scale} pixels each: choose the field decoder of "
            "this model"
        )


def helpers(guide: GuideValue, signal: Signal) -> list[Any]:
    """Return what ComfyUI must load beside the model while a guide is at work."""
    shows = guide.decoder.patcher if guide.decoder is not None else getattr(signal.vae, "patcher", None)
    return [guide.clip.patcher, *([] if shows is None else [shows])]


@dataclass
class Guidance:
    """A guide for what is sampled, that makes guided denoisers.

    Args:
        guide: The core's guide.
        show: How parts of signals are shown.
        locate: Where regions lie in views.
        separate: Whether the signals are pictures of their own.

    Attributes:
        beside: The same guide, whose gradients pass through the decoder only.
        through: Whether they pass through the model, as far as is known.
    """

    guide: Any
    show: Any
    locate: Any
    separate: bool = False

    def __post_init__(self) -> None:
        self.beside = replace(self.guide, through_model=False)
        self.through = self.guide.through_model

    def __call__(self, denoise: Denoise) -> Denoise:
        """Return the guided denoiser.

        If gradients do not pass through the model, a note says so, and from there on they pass through the decoder only.
        """
        how = self.show, self.locate, self.separate
        beside = self.beside.guiding(denoise, *how)
        through = self.guide.guiding(_followable(denoise), *how)

        def guided(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            if self.through:
                try:
                    return through(x, sigma, cond)
                except RuntimeError as error:
                    self.through, why = False, str(error).strip().partition("\n")[0][:120]
                comfy.model_management.soft_empty_cache()
                notes.say(f"The guide's gradients do not pass through the model ({why}): it goes on without that.")
            return beside(x, sigma, cond)

        return guided


def _followable(denoise: Denoise) -> Denoise:
    """A denoiser that raises a RuntimeError if autograd cannot follow it."""

    def checked(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        clean = denoise(x, sigma, cond)
        if x.requires_grad and not clean.requires_grad:
            raise RuntimeError("it lets none through")
        return clean

    return checked


def guidance(value: GuideValue | None, diffrep: Any, signal: Signal) -> Guidance | None:
    """Return the guidance of a field, or None if nothing is changed.

    Raises:
        ValueError: If a region does not suit the field, or nothing shows what the signals are.
    """
    from ..core.pullback.regions import locator, shown_by

    if value is None:
        return None
    guide = value.of(diffrep)
    return Guidance(guide, shown_by(shower(signal, value)), locator(diffrep)) if value.active else None


def told(value: GuideValue | None, diffrep: Any, signal: Signal, aspect: float) -> Any:
    """Return the core's layout that the built-in model infd is told, beside the guide; None for other models.

    Args:
        value: The guide.
        diffrep: What is sampled.
        signal: The model's signal.
        aspect: Width of the picture divided by its height.
    """
    if value is None or not value.active or signal.name != "infd":
        return None
    from ..core.pullback.generative.infd.model import layout_of

    regions = regions_of(value.regions, diffrep)
    things = [(region.text, region.box) for region in regions if region.box is not None and region.weight > 0]
    with torch.inference_mode(False):
        return layout_of(things, diffrep.lookup, aspect, diffrep.closed) if things else None


def with_layout(options: dict[str, Any], layout: Any, view: Any) -> dict[str, Any]:
    """Return model options with a layout, and the views that it is drawn into."""
    if layout is None:
        return options
    return {**options, "transformer_options": {**options.get("transformer_options", {}), LAYOUT: (layout, view)}}


def beside(patcher: Any, value: GuideValue, signal: Signal) -> Any:
    """Return a copy of a model that is loaded together with what a guide needs."""
    patcher = patcher.clone()
    patcher.set_additional_models(KEY, helpers(value, signal))
    return patcher


def is_guided(patcher: Any) -> bool:
    """Whether a model was guided by `patched`."""
    return bool(patcher.get_wrappers(WRAPPED, KEY))


def patched(model: Any, value: GuideValue) -> Any:
    """Return a MODEL whose estimates are guided in every sampler. It is the same MODEL if the guide changes nothing.

    Raises:
        ValueError: If the model is guided already, draws no pictures, or nothing shows what its latents are.
    """
    from ..core.pullback.regions import shown_by, whole

    if is_guided(model):
        raise ValueError("this model is guided already: chain all regions and connect them to one guide")
    signal = signal_of(model, value.vae)
    guide = value.of(_Picture())
    if not value.active:
        return model
    guided = Guidance(guide, shown_by(shower(signal, value)), whole, separate=True)

    def predicted(
        executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: Any = None
    ) -> Tensor:
        if x.ndim not in (4, 5) or (x.ndim == 5 and x.shape[2] > 1):
            raise ValueError("a guide sees pictures, and this latent is a film or something else: disconnect the guide")
        layout = told(value, _Picture(), signal, x.shape[-1] / x.shape[-2])
        model_options = with_layout(model_options or {}, layout, None)
        with torch.inference_mode(False):
            x, timestep, sampling = x.clone(), timestep.clone(), executor.class_obj.inner_model.model_sampling
            alpha, sigma = at(sampling, timestep[:1])

            def denoise(seen: Tensor, _: Tensor, __: Any) -> Tensor:
                with gradients.estimating(executor.class_obj, seen) as followed:
                    options = gradients.options_of(model_options) if followed else model_options
                    clean = executor(framed(signal.format, seen * alpha), timestep, options, seed)
                return flat(clean) if followed else flat(clean).clone()

            clean = guided(denoise)(flat(x) / alpha, torch.tensor(sigma), None)
            return framed(signal.format, clean)

    model = beside(model, value, signal)
    model.add_wrapper_with_key(WRAPPED, KEY, predicted)
    return model
