"""Pretrained models by name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from .adapters import diffusers
from .generative.ddpm import convert as ddpm_folders
from .generative.ddpm import model as ddpm
from .generative.infd.model import InfdModel
from .generative.toybox.model import ToyboxModel
from .generative.weights import format_of
from .types import Denoiser, Model

AUTO = ("cuda", "mps")
"""The devices that "auto" tries before it takes the CPU."""


PIXELS = "pixels"
"""The name of the model of fields that no model has sampled."""


@dataclass(frozen=True)
class Pixels:
    """A `Model` that decodes pictures and draws none, for fields that were fitted to photographs."""

    device: str = "cpu"
    name: str = PIXELS
    channels: int = 4
    size: int = 64
    scale: int = 1
    sigma_min: float = 0.02
    sigma_max: float = 80.0
    elevations: tuple[float, float] = (-90.0, 90.0)

    def denoiser(self, prompt: str, negative: str, guidance: float) -> Denoiser:
        """Raise ValueError: it has learnt nothing."""
        raise ValueError(
            f"the model {PIXELS} only shows fields that were made of photographs: choose another, as toybox"
        )

    def decode(self, signal: Tensor) -> Tensor:
        """Convert signals (B, 3 or 4, h, w) to display RGB or premultiplied RGBA in [0, 1]."""
        shown = (signal.float() / 2 + 0.5).clamp(0, 1)
        return torch.cat([torch.minimum(shown[:, :3], shown[:, 3:]), shown[:, 3:]], 1) if shown.shape[1] == 4 else shown


def load_model(name: str = "toybox", device: str = "cpu") -> Model:
    """Load a pretrained model.

    Args:
        name: "toybox", "infd", "ddpm", "pixels" (`Pixels`), or the path of a diffusers folder, of a .safetensors checkpoint, or
            of a model that `pullback train ddpm` wrote.
        device: Where the model runs, and with it everything that is sampled from it. "auto" takes CUDA, then MPS, then
            the CPU.

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
    path = Path(name).expanduser()
    if format_of(path) == ddpm.FORMAT:
        return ddpm.load_model(path, device)
    if ddpm_folders.pipeline_of(path) in ddpm_folders.PIPELINES:
        return ddpm_folders.load_folder(path, device)
    return diffusers.load(path, device=device, dtype=torch.float16 if device.startswith("cuda") else torch.float32)


def device_of(name: str) -> str:
    """Return the device of a name; "auto" tries CUDA, then MPS, then takes the CPU.

    Raises:
        ValueError: If it is not available.
    """
    if name == "auto":
        return next((each for each in AUTO if _available(each)), "cpu")
    if name != "cpu" and not _available(name):
        raise ValueError(f"the device {name!r} is not available here; use cpu")
    return name


def _available(device: str) -> bool:
    try:
        return torch.ones(1, device=device).item() == 1
    except (RuntimeError, AssertionError, NotImplementedError):
        return False
