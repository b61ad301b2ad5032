"""Signals: the signal that a ComfyUI MODEL denoises, and its decoding to pictures, as the core's `Model` defines them.

The signal is the latent as the network sees it, after `process_in`; toybox's are pixels. A field stores the name of its signal:
that of a built-in model ("toybox", "infd", "infty-diff"), the path of a file of ∞-Diff, "pixels", or "comfyui:" and a latent
format. Some image models count frames (Qwen-Image has a video model's latents): what they are given, and what is decoded, is then
a film of one frame. The core never sees that axis.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.model_management
import torch
from torch import Tensor

from .ladder import ladder
from .memory import exhausted

PREFIX = "comfyui:"
CAMERA = "pullback_camera"
"""The transformer option with the cameras (B, 3) for the built-in models, made by the core's `camera_tensor`. Other models
ignore it."""
LAYOUT = "pullback_layout"
"""The transformer option with the core's `Layout` for infd, and the views in which infd needs it."""
UNSEEN = "pullback_unseen"
"""The transformer option that says that the camera is only a default, so that the picture keeps its light and shadow."""
PIXELS = {
    "ChromaRadiance": 1,
    "Flux2": 16,
    "HunyuanImage21": 32,
    "HunyuanVideo15": 16,
    "LTXV": 32,
    "SC_B": 4,
    "Wan22": 16,
}
"""Pixels per latent of the formats that do not declare them in older versions of ComfyUI. For all others it is 8."""

FUNCTIONS = "infty-diff"
"""The name of the built-in ∞-Diff."""
TILES = (32, 16)
"""Sides, in latents, of the smaller tiles that are tried if there is no memory for larger ones."""
NO_PICTURES = {"HunyuanImage21Refiner", "LTXAV", "TripoSplat"}
"""Formats that look like those of pictures but belong to other models: a refiner, video with sound, and splats."""


class ToyboxFormat(comfy.latent_formats.LatentFormat):
    """Toybox's signal: premultiplied RGBA pixels in [-1, 1]."""

    latent_channels = 4
    spacial_downscale_ratio = 1
    latent_rgb_factors = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (-1.0, -1.0, -1.0))
    latent_rgb_factors_bias = (1.0, 1.0, 1.0)  # over white: rgb + (1 - alpha), in [-1, 1]


class InfdFormat(comfy.latent_formats.LatentFormat):
    """Infd's signal: its scaled latents. LATENTs hold the unscaled latents, which its field decoder takes."""

    latent_channels = 4
    spacial_downscale_ratio = 4

    def process_in(self, latent: Tensor) -> Tensor:
        return _infd()[1].scaled(latent)

    def process_out(self, latent: Tensor) -> Tensor:
        return _infd()[1].latents(latent)


class FunctionFormat(comfy.latent_formats.LatentFormat):
    """The signal of ∞-Diff: pictures of any size in [-1, 1], premultiplied RGBA or RGB.

    Args:
        name: The name of the model, or the path of its file.
        channels: Channels of the pictures, 4 or 3.
    """

    spacial_downscale_ratio = 1

    def __init__(self, name: str = FUNCTIONS, channels: int = 4):
        self.name, self.latent_channels = name, channels
        rgb, over_white = ToyboxFormat.latent_rgb_factors, ToyboxFormat.latent_rgb_factors_bias
        self.latent_rgb_factors, self.latent_rgb_factors_bias = rgb[:channels], over_white if channels == 4 else None
        self.latent_rgb_factors_reshape = lambda host: host * spread(*host.shape[-2:])


def spread(height: int, width: int) -> float:
    """Return by what factor ∞-Diff's noise levels on a picture of a size exceed those on a picture of 64 pixels.

    White noise hides less of a larger picture. In ComfyUI a noise level is chosen before the size is known: it is that of a
    picture of 64 pixels, and ComfyUI's samplers see the noisy picture divided by this factor (`builtin_infty_diff.Base`).
    """
    return max(1.0, min(height, width) / BUILT_IN[FUNCTIONS][1])


def _infd() -> Any:
    from ..core.pullback.generative.infd.model import network

    with torch.inference_mode(False):
        return network()


BUILT_IN: dict[str, tuple[Any, int]] = {
    "toybox": (ToyboxFormat, 64), "infd": (InfdFormat, 16), FUNCTIONS: (FunctionFormat, 64), "pixels": (ToyboxFormat, 64),
}  # fmt: skip
"""The formats and the sides of the signals of the models that come with the pack. The core decodes them. "pixels" is for
fields that are made from photographs, without a MODEL."""


@dataclass(frozen=True)
class Signal:
    """A signal. The core's `Model` (types.py) explains channels, size, scale and the range of sigma."""

    name: str
    format: Any
    size: int
    sigma_min: float = 0.03
    sigma_max: float = 20.0
    vae: Any = None
    device: str = "cpu"

    @property
    def elevations(self) -> tuple[float, float]:
        """The default range of the cameras' elevations, the same for all models because workflows save the nodes' values."""
        from ..core.pullback.viewpoints import ELEVATIONS

        return ELEVATIONS

    @property
    def kind(self) -> str:
        """The name, or for a model of functions from a file the name of the built-in one."""
        return FUNCTIONS if isinstance(self.format, FunctionFormat) else self.name

    def spread(self, height: int, width: int) -> float:
        """Return the factor between noise levels of signals of a size and ComfyUI's, as in the function `spread`."""
        return 1.0

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
        """Whether pictures can be made from the signal."""
        return self.kind in BUILT_IN or self.vae is not None

    @torch.no_grad()
    def decode(self, signal: Tensor) -> Tensor:
        """Decode signals (B, channels, h, w) to display pictures (B, 3 or 4, H, W) in [0, 1] on the CPU."""
        if self.kind in BUILT_IN:
            return core_model(self.kind).decode(signal)
        if self.vae is None:
            raise ValueError("this field is made of latents: connect the VAE of the model that sampled it")
        pictures = []
        for latent in self.latents(signal).split(1):
            comfy.model_management.throw_exception_if_processing_interrupted()
            picture = _decoded(self.vae, latent).float().cpu()
            pictures.append(picture.flatten(0, -4).movedim(-1, 1))  # the frames of a video are pictures
        return torch.cat(pictures)[:, :3].clamp(0, 1)

    def check(self) -> None:
        """Raise ValueError if the VAE cannot decode a small empty signal. Called before anything is sampled."""
        if self.vae is None:
            return
        try:
            picture = self.decode(torch.zeros(1, self.channels, 8, 8))
        except comfy.model_management.InterruptProcessingException:
            raise
        except Exception as error:
            raise ValueError(f"the VAE cannot decode {_other(self.format)} ({error})".replace("\n", " ")) from error
        if picture.shape != (1, 3, 8 * self.scale, 8 * self.scale):
            raise ValueError(f"the VAE does not make pictures from {_other(self.format)}")

    def latents(self, signal: Tensor) -> Tensor:
        """Convert signals (B, channels, h, w) to the latents of ComfyUI's other nodes."""
        return self.format.process_out(framed(self.format, signal))


@dataclass(frozen=True)
class InfdSignal(Signal):
    """Infd's signal, which can be drawn at any size."""

    def any_size(self, *how: Any, **more: Any) -> Iterator[Tensor]:
        """Draw a picture, as `InfdModel.any_size` does."""
        return core_model(self.name).any_size(*how, **more)


@dataclass(frozen=True)
class FunctionSignal(Signal):
    """The signal of ∞-Diff, at any size."""

    def spread(self, height: int, width: int) -> float:
        return spread(height, width)

    def sigma_range(self, height: int, width: int) -> tuple[float, float]:
        """Return the lowest and highest noise level for signals of a size."""
        return self.sigma_min, self.sigma_max * spread(height, width)


def core_model(name: str) -> Any:
    """Return the core's model for a name in `BUILT_IN`. Pixels decode themselves, without weights."""
    from ..core.pullback.generative.infd.model import InfdModel, network
    from ..core.pullback.generative.infd.model import decoder as decoder_of_infd
    from ..core.pullback.generative.toybox.model import ToyboxModel
    from ..core.pullback.models import Pixels

    if name == "infd":
        with torch.inference_mode(False):  # autograd cannot use weights that were loaded in inference mode
            network(), decoder_of_infd()
    return {"toybox": ToyboxModel, "infd": InfdModel, FUNCTIONS: Pixels, "pixels": Pixels}[name]()


def _decoded(vae: Any, latent: Tensor) -> Tensor:
    """Decode a latent by a VAE. If memory runs out, use smaller tiles than those that ComfyUI falls back to."""
    for side in (None, *TILES):
        try:
            return vae.decode(latent) if side is None else vae.decode_tiled(latent, tile_x=side, tile_y=side)
        except (RuntimeError, MemoryError) as error:
            if side == TILES[-1] or not hasattr(vae, "decode_tiled") or not exhausted(error):
                raise
        comfy.model_management.soft_empty_cache()
    raise AssertionError("the last tile is returned or raises")


def framed(fmt: Any, signal: Tensor) -> Tensor:
    """Add the axis of frames to signals (B, C, h, w), giving (B, C, 1, h, w), if the latent format has one."""
    return signal[:, :, None] if getattr(fmt, "latent_dimensions", 2) == 3 else signal


def flat(signal: Tensor) -> Tensor:
    """Remove the axis of frames, if there is one: the inverse of `framed`."""
    return signal[:, :, 0] if signal.ndim == 5 else signal


def signal_of(patcher: Any, vae: Any) -> Signal:
    """Return the signal of a MODEL. Raise ValueError if it does not draw pictures, or the VAE belongs to another model."""
    fmt = patcher.get_model_object("latent_format")
    name = type(fmt).__name__
    if getattr(fmt, "latent_dimensions", 2) not in (2, 3) or "Audio" in name or name in NO_PICTURES:
        raise ValueError(
            f"this model's latents ({name}) are not flat pictures: fields are sampled from image models only"
        )
    sampling = patcher.get_model_object("model_sampling")
    low, high = _range(sampling)
    if isinstance(fmt, FunctionFormat):
        return FunctionSignal(fmt.name, fmt, BUILT_IN[FUNCTIONS][1], low, high)
    for known, (kind, side) in BUILT_IN.items():
        if isinstance(fmt, kind):
            return _built_in(known, side, low, high)
    signal = Signal(PREFIX + name, fmt, 64, low, high, _fitting(vae, fmt))
    size = (512 if name in ("SD15", "SD_X4") else 1024) // signal.scale
    return Signal(signal.name, fmt, size, low, high, signal.vae)


def _built_in(name: str, size: int, *sigmas: float) -> Signal:
    kinds: dict[str, type[Signal]] = {"infd": InfdSignal, FUNCTIONS: FunctionSignal}
    return kinds.get(name, Signal)(name, BUILT_IN[name][0](), size, *sigmas)


def decoder(field: Any, vae: Any) -> Signal:
    """Return the signal of a sampled field, with the VAE that decodes it. Raise ValueError if it cannot be decoded."""
    size = getattr(field.diffrep, "size", None) or getattr(field.diffrep, "height", 64)
    size = size if isinstance(size, int) else max(size)
    if field.model in BUILT_IN:
        return _built_in(field.model, size)
    if _draws_functions(field.model):
        return FunctionSignal(field.model, FunctionFormat(field.model), size)
    kind = getattr(comfy.latent_formats, field.model.removeprefix(PREFIX), None)
    known = isinstance(kind, type) and issubclass(kind, comfy.latent_formats.LatentFormat)
    if not (field.model.startswith(PREFIX) and known):
        raise ValueError(
            f"this field was sampled by {field.model!r}, whose latents ComfyUI does not know: decode it with `pullback render`"
        )
    return Signal(field.model, kind(), size, vae=_fitting(vae, kind()))


def _draws_functions(name: str) -> bool:
    """Return whether a field's model is a file of ∞-Diff."""
    from ..core.pullback.generative.infty_diff.model import FORMAT
    from ..core.pullback.generative.weights import format_of

    return name.endswith(".safetensors") and format_of(Path(name)) == FORMAT


def _fitting(vae: Any, fmt: Any) -> Any:
    """Return the VAE, or None. Raise ValueError if its channels or its scale show that it belongs to another model."""
    if vae is None:
        return None
    if getattr(vae, "first_stage_model", vae) is None:
        raise ValueError("the VAE is empty because the checkpoint does not contain one: connect one from Load VAE")
    if vae.latent_channels != fmt.latent_channels:
        raise ValueError(
            f"the VAE decodes {vae.latent_channels} channels instead of the {fmt.latent_channels} of {_other(fmt)}"
        )
    if vae.spacial_compression_decode() != _pixels(fmt):
        raise ValueError(
            f"the VAE makes {vae.spacial_compression_decode():g} pixels per latent instead of the {_pixels(fmt)} of {_other(fmt)}"
        )
    return vae


def _other(fmt: Any) -> str:
    return f"this model's latents ({type(fmt).__name__}): connect the VAE of the model that samples the field"


def _pixels(fmt: Any) -> int:
    """Return the number of picture pixels per latent along each side."""
    kind = type(fmt)
    return int(getattr(kind, "spacial_downscale_ratio", PIXELS.get(kind.__name__, 8)))


def _range(sampling: Any) -> tuple[float, float]:
    """Return the least and the greatest sigma of a model, in the core's form."""
    ends = torch.tensor([float(sampling.sigma_max), float(sampling.sigma_min)])
    high, low = ladder(sampling, ends).sigmas.tolist()
    return low, high
