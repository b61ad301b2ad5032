"""Pretrained models by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .adapters import diffusers
from .generative.ddpm import convert as ddpm_folders
from .generative.ddpm import model as ddpm
from .generative.dpf import model as dpf
from .generative.infd.model import InfdModel
from .generative.infty_diff import model as infty_diff
from .generative.toybox.model import ToyboxModel
from .generative.weights import format_of
from .types import Denoiser, Model

AUTO = ("cuda", "mps")
"""The devices that "auto" tries before it falls back to the CPU."""


PIXELS = "pixels"
"""The name of the model for fields that were fitted to photographs instead of sampled from a diffusion model."""


@dataclass(frozen=True)
class Pixels:
    """A `Model` for fields that were fitted to photographs: it decodes their signals, but cannot sample."""

    device: str = "cpu"
    name: str = PIXELS
    channels: int = 4
    size: int = 64
    scale: int = 1
    sigma_min: float = 0.02
    sigma_max: float = 80.0
    elevations: tuple[float, float] = (-90.0, 90.0)

    def denoiser(self, prompt: str, negative: str, guidance: float) -> Denoiser:
        """Raise ValueError, because this model cannot sample."""
        raise ValueError(
            f"the model {PIXELS} only shows fields that were made from photographs: choose another one, such as toybox"
        )

    def decode(self, signal: Tensor) -> Tensor:
        """Convert signals (B, 3 or 4, h, w) to display RGB or premultiplied RGBA in [0, 1]."""
        shown = (signal.float() / 2 + 0.5).clamp(0, 1)
        return torch.cat([torch.minimum(shown[:, :3], shown[:, 3:]), shown[:, 3:]], 1) if shown.shape[1] == 4 else shown


def load_model(name: str = "toybox", device: str = "cpu") -> Model:
    """Load a pretrained model.

    Args:
        name: "toybox", "infd", "ddpm", "infty-diff", "pixels" (`Pixels`), or the path of a diffusers folder, of a .safetensors
            checkpoint, or of a model that `pullback train ddpm` or `pullback train infty-diff` wrote.
        device: Where the model runs, and where everything is computed that is sampled from it. "auto" takes the first of CUDA,
            MPS and the CPU that is available.

    Raises:
        ValueError: If the model or the device is not available.
        ImportError: If diffusers is needed and not installed.
    """
    if not name.strip():
        raise ValueError("the model's name is empty: give toybox, a diffusers folder or a .safetensors checkpoint")
    device = device_of(device)
    if name == "toybox":
        return ToyboxModel(device=device)
    if name == PIXELS:
        return Pixels(device)
    if name == "infd":
        return InfdModel(device=device)
    if name == "ddpm":
        return ddpm.load_model(ddpm.WEIGHTS, device, name)
    if infty_diff.is_named(name):
        return infty_diff.named(name, device)
    path = Path(name).expanduser()
    if name in dpf.SHIPPED or format_of(path) == dpf.FORMAT:
        raise ValueError(
            f"{name} draws functions, not pictures of views: use it with `pullback shape` or `pullback panorama`"
        )
    if format_of(path) == ddpm.FORMAT:
        return ddpm.load_model(path, device)
    if ddpm_folders.pipeline_of(path) in ddpm_folders.PIPELINES:
        return ddpm_folders.load_folder(path, device)
    return diffusers.load(path, device=device, dtype=torch.float16 if device.startswith("cuda") else torch.float32)


def device_of(name: str) -> str:
    """Check that a device is available and return its name; "auto" stands for the first of CUDA, MPS and the CPU that is.

    Raises:
        ValueError: If the device is not available.
    """
    if name == "auto":
        return next((device for device in AUTO if _available(device)), "cpu")
    if name != "cpu" and not _available(name):
        raise ValueError(f"the device {name!r} is not available here; use cpu")
    return name


def _available(device: str) -> bool:
    try:
        return torch.ones(1, device=device).item() == 1
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
