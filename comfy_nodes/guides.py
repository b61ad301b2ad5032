"""Guides: the core's guidance by regions, for Field Sampler and for ComfyUI's samplers.

A guide compares pictures with sentences, so it needs a decoder for the latents: the model's VAE or a field decoder. Its gradients
pass through the decoder and, if possible, through the diffusion model (`gradients.py`).
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
    """A picture-text model of the core, whose weights ComfyUI moves between devices.

    Args:
        clip: The model, which computes on ComfyUI's device.
        patcher: The patcher that holds its weights.
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
    """What a DECODER socket carries: a field decoder of the core, whose weights ComfyUI moves between devices."""

    decoder: Any
    patcher: Any


@dataclass(frozen=True)
class GuideValue:
    """What a GUIDE socket carries.

    Args:
        clip: The picture-text model.
        regions: The regions.
        strength: The factor by which the guidance is scaled.
        through_model: Whether gradients pass through the diffusion model.
        vae: The VAE that decodes the latents, unless the sampler has one.
        decoder: The field decoder that decodes the latents instead of a VAE.
    """

    clip: HostedCLIP
    regions: tuple[RegionValue, ...]
    strength: float = 1.0
    through_model: bool = True
    vae: Any = None
    decoder: DecoderValue | None = None

    @property
    def active(self) -> bool:
        """Whether the guide changes anything."""
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
    """Stands for the representation if the sample is a plain picture."""

    closed: tuple[bool, bool] = (False, False)

    def lookup(self, view: object) -> None:
        """Return None: the only view is the whole picture."""


@dataclass(frozen=True)
class ByVae:
    """Decodes signals by a VAE, differentiably."""

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
    """Decodes parts of signals by a field decoder, at any resolution."""

    signal: Signal
    value: DecoderValue

    def parts(self, signal: Tensor) -> Callable[[tuple[float, float, float, float], int], Tensor]:
        """Return a function of a box and a size that draws the box in a signal (1, C, h, w).

        It returns a picture (1, 3 or 4, size, size) in [0, 1].
        """
        weights = [self.value.patcher.model]
        with gradients.swapped(weights):
            draw = self.value.decoder.parts(flat(self.signal.latents(signal)))

        def drawn(box: tuple[float, float, float, float], size: int) -> Tensor:
            with gradients.swapped(weights):
                return draw(box, size)

        return drawn


def decoder_for(signal: Signal, guide: GuideValue) -> Any:
    """Return the decoder by which a guide sees the latents of a model.

    Raises:
        ValueError: If no decoder is connected, or it is for another model.
    """
    if guide.decoder is not None:
        check_decoder(guide.decoder, signal)
        return ByDecoder(signal, guide.decoder)
    if signal.kind in BUILT_IN:
        return core_model(signal.kind)
    if signal.vae is None:
        raise ValueError(
            "a guide must see what the latents show: connect the model's VAE or a field decoder to the guide"
        )
    return ByVae(signal)


def check_decoder(value: DecoderValue, signal: Signal) -> None:
    """Raise a ValueError if a field decoder is for the latents of another model."""
    decoder = value.decoder
    if (decoder.channels, decoder.scale) != (signal.channels, signal.scale):
        raise ValueError(
            f"{decoder.name} decodes latents of {decoder.channels} channels, {decoder.scale} pixels each, and this model's "
            f"({type(signal.format).__name__}) have {signal.channels}, {signal.scale} pixels each: choose the field decoder of "
            "this model"
        )


def helpers(guide: GuideValue, signal: Signal) -> list[Any]:
    """Return the patchers that ComfyUI must load together with the guided model."""
    shows = guide.decoder.patcher if guide.decoder is not None else getattr(signal.vae, "patcher", None)
    return [guide.clip.patcher, *([] if shows is None else [shows])]


@dataclass
class Guidance:
    """Turns denoisers into guided denoisers.

    Args:
        guide: The core's guide.
        show: A function that decodes parts of signals, from the core's `shown_by`.
        locate: A function that returns where regions are in views, from the core's `locator`.
        separate: Whether the signals of a batch are separate pictures, and not views of one field.

    Attributes:
        decoder_only: The same guide with gradients through the decoder only.
        through: Whether gradients pass through the model. It becomes False if they turn out not to.
    """

    guide: Any
    show: Any
    locate: Any
    separate: bool = False

    def __post_init__(self) -> None:
        self.decoder_only = replace(self.guide, through_model=False)
        self.through = self.guide.through_model

    def __call__(self, denoise: Denoise) -> Denoise:
        """Return the guided denoiser.

        If gradients do not pass through the model, a note says so, and from then on they pass through the decoder only.
        """
        how = self.show, self.locate, self.separate
        decoder_only = self.decoder_only.guiding(denoise, *how)
        through = self.guide.guiding(_differentiable(denoise), *how)

        def guided(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            if self.through:
                try:
                    return through(x, sigma, cond)
                except RuntimeError as error:
                    self.through, why = False, str(error).strip().partition("\n")[0][:120]
                comfy.model_management.soft_empty_cache()
                notes.say(f"The guide's gradients do not pass through the model ({why}): it continues without them.")
            return decoder_only(x, sigma, cond)

        return guided


def _differentiable(denoise: Denoise) -> Denoise:
    """Return a denoiser that raises a RuntimeError if its result is not differentiable."""

    def checked(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        clean = denoise(x, sigma, cond)
        if x.requires_grad and not clean.requires_grad:
            raise RuntimeError("its result has none")
        return clean

    return checked


def guidance(value: GuideValue | None, diffrep: Any, signal: Signal) -> Guidance | None:
    """Return the guidance of a field, or None if the guide changes nothing.

    Raises:
        ValueError: If a region does not suit the field, or no decoder is connected.
    """
    from ..core.pullback.regions import locator, shown_by

    if value is None:
        return None
    guide = value.of(diffrep)
    return Guidance(guide, shown_by(decoder_for(signal, value)), locator(diffrep)) if value.active else None


def layout_for(value: GuideValue | None, diffrep: Any, signal: Signal, aspect: float) -> Any:
    """Return the core's layout of a guide's boxes for the built-in model infd, or None for other models.

    Args:
        value: The guide, or None.
        diffrep: The representation that is sampled.
        signal: The model's signal.
        aspect: The width of the picture divided by its height.
    """
    if value is None or not value.active or signal.name != "infd":
        return None
    from ..core.pullback.generative.infd.model import layout_of

    regions = regions_of(value.regions, diffrep)
    things = [(region.text, region.box) for region in regions if region.box is not None and region.weight > 0]
    with torch.inference_mode(False):
        return layout_of(things, diffrep.lookup, aspect, diffrep.closed) if things else None


def with_layout(options: dict[str, Any], layout: Any, view: Any) -> dict[str, Any]:
    """Return model options with a layout and the views in which the model needs it."""
    if layout is None:
        return options
    return {**options, "transformer_options": {**options.get("transformer_options", {}), LAYOUT: (layout, view)}}


def with_helpers(patcher: Any, value: GuideValue, signal: Signal) -> Any:
    """Return a copy of a model that ComfyUI loads together with the guide's own models."""
    patcher = patcher.clone()
    patcher.set_additional_models(KEY, helpers(value, signal))
    return patcher


def is_guided(patcher: Any) -> bool:
    """Return whether a model is guided by `patched`."""
    return bool(patcher.get_wrappers(WRAPPED, KEY))


def patched(model: Any, value: GuideValue) -> Any:
    """Return a MODEL whose estimates are guided in every sampler. It is the same MODEL if the guide changes nothing.

    Raises:
        ValueError: If the model is guided already or does not draw pictures, or no decoder is connected.
    """
    from ..core.pullback.regions import shown_by, whole

    if is_guided(model):
        raise ValueError("this model is guided already: chain all regions and connect them to one guide")
    signal = signal_of(model, value.vae)
    guide = value.of(_Picture())
    if not value.active:
        return model
    guided = Guidance(guide, shown_by(decoder_for(signal, value)), whole, separate=True)

    def predicted(
        executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: Any = None
    ) -> Tensor:
        if x.ndim not in (4, 5) or (x.ndim == 5 and x.shape[2] > 1):
            raise ValueError(
                "a guide needs a picture, and this latent is a video or something else: disconnect the guide"
            )
        layout = layout_for(value, _Picture(), signal, x.shape[-1] / x.shape[-2])
        model_options = with_layout(model_options or {}, layout, None)
        with torch.inference_mode(False):
            x, timestep, sampling = x.clone(), timestep.clone(), executor.class_obj.inner_model.model_sampling
            alpha, sigma = at(sampling, timestep[:1])
            spread = signal.spread(*x.shape[-2:])
            alpha, sigma = alpha / spread, sigma * spread

            def denoise(noisy: Tensor, _: Tensor, __: Any) -> Tensor:
                with gradients.estimating(executor.class_obj, noisy) as differentiable:
                    options = gradients.options_of(model_options) if differentiable else model_options
                    clean = executor(framed(signal.format, noisy * alpha), timestep, options, seed)
                return spread * (flat(clean) if differentiable else flat(clean).clone())

            clean = guided(denoise)(flat(x) / alpha, torch.tensor(sigma), None)
            return framed(signal.format, clean / spread)

    model = with_helpers(model, value, signal)
    model.add_wrapper_with_key(WRAPPED, KEY, predicted)
    return model
