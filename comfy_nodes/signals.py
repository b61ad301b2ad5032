"""Signals: what a ComfyUI MODEL denoises and how it becomes a picture, as far as the core's tasks ask (its `Model`).

The signal is the latent as the network sees it, after `process_in`; toybox's are pixels. A field remembers its signal by name:
that of a built-in model ("toybox", "infd"), "pixels", or "comfyui:" and a latent format. Some image models count frames
(Qwen-Image has a video model's latents): what they are given, and what is decoded, is then a film of one frame. The core never
sees that axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import comfy.latent_formats
import comfy.model_management
import torch
from torch import Tensor

from .ladder import ladder
from .memory import exhausted

PREFIX = "comfyui:"
CAMERA = "pullback_camera"
"""Where toybox finds its cameras (B, 3), as the core's `camera_tensor` makes them, among the transformer options of a call.
Other models do not look there."""
LAYOUT = "pullback_layout"
"""Where infd finds the core's `Layout` and the views that it is drawn into."""
UNSEEN = "pullback_unseen"
"""Beside it: that the camera was not asked for, so that a picture keeps its light and shadow."""
PIXELS = {
    "ChromaRadiance": 1,
    "Flux2": 16,
    "HunyuanImage21": 32,
    "HunyuanVideo15": 16,
    "LTXV": 32,
    "SC_B": 4,
    "Wan22": 16,
}
"""Pixels per latent of formats that do not say so themselves in older versions and are not 8."""

TILES = (32, 16)
"""Sides in latents of the tiles that a latent is decoded in where there is no memory for larger ones."""
NO_PICTURES = {"HunyuanImage21Refiner", "LTXAV", "TripoSplat"}
"""Formats that look like pictures and are none: of a model that refines a picture, of film and sound, and of splats."""


class ToyboxFormat(comfy.latent_formats.LatentFormat):
    """Toybox's signal: premultiplied RGBA pixels in [-1, 1]."""

    latent_channels = 4
    spacial_downscale_ratio = 1
    latent_rgb_factors = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (-1.0, -1.0, -1.0))
    latent_rgb_factors_bias = (1.0, 1.0, 1.0)  # over white: rgb + (1 - alpha), in [-1, 1]


class InfdFormat(comfy.latent_formats.LatentFormat):
    """Infd's signal: its latents, scaled. LATENTs are those that its field decoder takes."""

    latent_channels = 4
    spacial_downscale_ratio = 4

    def process_in(self, latent: Tensor) -> Tensor:
        return _infd()[1].scaled(latent)

    def process_out(self, latent: Tensor) -> Tensor:
        return _infd()[1].latents(latent)


def _infd() -> Any:
    from ..core.pullback.generative.infd.model import network

    with torch.inference_mode(False):
        return network()


BUILT_IN = {"toybox": (ToyboxFormat, 64), "infd": (InfdFormat, 16), "pixels": (ToyboxFormat, 64)}
"""The formats and the sides of the signals of the models that come with the pack. The core decodes them. No MODEL is called
"pixels": fields that were made of photographs are."""


@dataclass(frozen=True)
class Signal:
    """A signal; see `Model` in the core's types.py for channels, size, scale and the range of sigma."""

    name: str
    format: Any
    size: int
    sigma_min: float = 0.03
    sigma_max: float = 20.0
    vae: Any = None
    device: str = "cpu"

    @property
    def elevations(self) -> tuple[float, float]:
        """From where models know objects. The node's own elevations stand in saved workflows, for toybox too."""
        from ..core.pullback.viewpoints import ELEVATIONS

        return ELEVATIONS

    @property
    def channels(self) -> int:
        return self.format.latent_channels

    @property
    def scale(self) -> int:
        if self.vae is not None:
            return int(self.vae.spacial_compression_decode())
        return _pixels(self.format)

    @property
    def decodes(self) -> bool:
        """Whether pictures can be made of it."""
        return self.name in BUILT_IN or self.vae is not None

    @torch.no_grad()
    def decode(self, signal: Tensor) -> Tensor:
        """Signals (B, channels, h, w) to display pictures (B, 3 or 4, H, W) in [0, 1] on the processor."""
        if self.name in BUILT_IN:
            return core_model(self.name).decode(signal)
        if self.vae is None:
            raise ValueError("this field is made of latents: connect the VAE of the model that sampled it")
        pictures = []
        for latent in self.latents(signal).split(1):
            comfy.model_management.throw_exception_if_processing_interrupted()
            picture = _decoded(self.vae, latent).float().cpu()
            pictures.append(picture.flatten(0, -4).movedim(-1, 1))  # a film's frames are pictures
        return torch.cat(pictures)[:, :3].clamp(0, 1)

    def check(self) -> None:
        """ValueError where its VAE fails to make pictures of it: of nothing and before anything is sampled."""
        if self.vae is None:
            return
        try:
            picture = self.decode(torch.zeros(1, self.channels, 8, 8))
        except comfy.model_management.InterruptProcessingException:
            raise
        except Exception as error:
            raise ValueError(f"the VAE cannot decode {_other(self.format)} ({error})".replace("\n", " ")) from error
        if picture.shape != (1, 3, 8 * self.scale, 8 * self.scale):
            raise ValueError(f"the VAE makes no pictures of {_other(self.format)}")

    def latents(self, signal: Tensor) -> Tensor:
        """Signals (B, channels, h, w) as the latents of ComfyUI's other nodes."""
        return self.format.process_out(framed(self.format, signal))


@dataclass(frozen=True)
class InfdSignal(Signal):
    """Infd's signal, which is drawn at any size."""

    def any_size(self, *how: Any, **more: Any) -> Iterator[Tensor]:
        """Draw a picture, as `InfdModel.any_size` does."""
        return core_model(self.name).any_size(*how, **more)


def core_model(name: str) -> Any:
    """Return the core's model of one of the names in `BUILT_IN`."""
    from ..core.pullback.generative.infd.model import InfdModel, network
    from ..core.pullback.generative.infd.model import decoder as decoder_of_infd
    from ..core.pullback.generative.toybox.model import ToyboxModel
    from ..core.pullback.models import Pixels

    if name == "infd":
        with torch.inference_mode(False):  # or autograd could not take the weights that the core keeps
            network(), decoder_of_infd()
    return {"toybox": ToyboxModel, "infd": InfdModel, "pixels": Pixels}[name]()


def _decoded(vae: Any, latent: Tensor) -> Tensor:
    """What a VAE makes of a latent; where memory runs out, in smaller and smaller tiles than those ComfyUI falls back to."""
    for side in (None, *TILES):
        try:
            return vae.decode(latent) if side is None else vae.decode_tiled(latent, tile_x=side, tile_y=side)
        except (RuntimeError, MemoryError) as error:
            if side == TILES[-1] or not hasattr(vae, "decode_tiled") or not exhausted(error):
                raise
        comfy.model_management.soft_empty_cache()
    raise AssertionError("the last tile is returned or raises")


def framed(fmt: Any, signal: Tensor) -> Tensor:
    """Signals (B, C, h, w) as a model of that latent format takes them: (B, C, 1, h, w) where it counts frames."""
    return signal[:, :, None] if getattr(fmt, "latent_dimensions", 2) == 3 else signal


def flat(signal: Tensor) -> Tensor:
    """The inverse of `framed`."""
    return signal[:, :, 0] if signal.ndim == 5 else signal


def signal_of(patcher: Any, vae: Any) -> Signal:
    """The signal of a MODEL. ValueError where it does not draw pictures, or the VAE is of another model."""
    fmt = patcher.get_model_object("latent_format")
    name = type(fmt).__name__
    if getattr(fmt, "latent_dimensions", 2) not in (2, 3) or "Audio" in name or name in NO_PICTURES:
        raise ValueError(
            f"this model's latents ({name}) are no flat pictures: fields are sampled from image models only"
        )
    sampling = patcher.get_model_object("model_sampling")
    low, high = _range(sampling)
    for known, (kind, side) in BUILT_IN.items():
        if isinstance(fmt, kind):
            return _built_in(known, side, low, high)
    signal = Signal(PREFIX + name, fmt, 64, low, high, _fitting(vae, fmt))
    size = (512 if name in ("SD15", "SD_X4") else 1024) // signal.scale
    return Signal(signal.name, fmt, size, low, high, signal.vae)


def _built_in(name: str, size: int, *sigmas: float) -> Signal:
    return (InfdSignal if name == "infd" else Signal)(name, BUILT_IN[name][0](), size, *sigmas)


def decoder(field: Any, vae: Any) -> Signal:
    """The signal that a sampled field is made of, ready to decode. ValueError says what is missing."""
    size = getattr(field.diffrep, "size", None) or getattr(field.diffrep, "height", 64)
    size = size if isinstance(size, int) else max(size)
    if field.model in BUILT_IN:
        return _built_in(field.model, size)
    kind = getattr(comfy.latent_formats, field.model.removeprefix(PREFIX), None)
    known = isinstance(kind, type) and issubclass(kind, comfy.latent_formats.LatentFormat)
    if not (field.model.startswith(PREFIX) and known):
        raise ValueError(
            f"this field was sampled by {field.model!r}, whose latents ComfyUI does not know: decode it with `pullback render`"
        )
    return Signal(field.model, kind(), size, vae=_fitting(vae, kind()))


def _fitting(vae: Any, fmt: Any) -> Any:
    """The VAE, or None. ValueError where it is of another model, as far as can be told without decoding anything."""
    if vae is None:
        return None
    if getattr(vae, "first_stage_model", vae) is None:
        raise ValueError("the VAE is empty, as the checkpoint holds none: connect one from Load VAE")
    if vae.latent_channels != fmt.latent_channels:
        raise ValueError(
            f"the VAE decodes {vae.latent_channels} channels and not the {fmt.latent_channels} of {_other(fmt)}"
        )
    if vae.spacial_compression_decode() != _pixels(fmt):
        raise ValueError(
            f"the VAE makes {vae.spacial_compression_decode():g} pixels of a latent and not {_pixels(fmt)}, as for {_other(fmt)}"
        )
    return vae


def _other(fmt: Any) -> str:
    return f"this model's latents ({type(fmt).__name__}): connect the VAE of the model that samples the field"


def _pixels(fmt: Any) -> int:
    """Picture pixels per latent."""
    kind = type(fmt)
    return int(getattr(kind, "spacial_downscale_ratio", PIXELS.get(kind.__name__, 8)))


def _range(sampling: Any) -> tuple[float, float]:
    """The least and the greatest sigma of a model, in the core's form."""
    ends = torch.tensor([float(sampling.sigma_max), float(sampling.sigma_min)])
    high, low = ladder(sampling, ends).sigmas.tolist()
    return low, high
