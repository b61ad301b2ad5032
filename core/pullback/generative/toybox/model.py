"""Toybox, the built-in model, as a `Model` that every task and host can use.

Signals are 64 x 64 premultiplied RGBA in [-1, 1]. For `Cameras` the model draws objects without light, so that the texture of a
field holds only colour. It does so at every noise level: shading drawn at a high level would stay, because at lower levels the
model would take it for paint. `Headings` and `Crops` are views of a landscape. Without a view, an object is seen from `STILL`
with light and shadow, and a landscape is seen with a level camera (`LEVEL`).
"""

from __future__ import annotations

import functools
import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...geometry.cameras import Cameras
from ...geometry.sphere import Headings
from ...guidance import guided
from ...noise import Crops
from ...types import Denoiser
from . import words
from .network import ORBIT, PITCH, Config, Toybox

WEIGHTS = Path(__file__).with_name("toybox.safetensors")
FORMAT = "pullback-toybox-3"
STILL = (math.radians(45.0), math.radians(15.0), ORBIT)
"""The camera condition of an object without a view: with an unknown camera, the model would mix all sides in one picture."""
LEVEL = (0.0, 0.0, PITCH)
"""The camera condition of a landscape without a view."""
HINTS = 5
"""The largest number of unknown words that a message names."""


@functools.lru_cache(maxsize=2)
def network(path: Path = WEIGHTS, device: str = "cpu") -> Toybox:
    """Return the network with its weights, in float32 on a device. It is loaded once.

    Raises:
        ValueError: If the file is missing, damaged or of another format.
    """
    if not path.exists():
        raise ValueError(
            f"toybox's weights are missing: {path} does not exist; reinstall pullback or train them (docs/toybox.md)"
        )
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"toybox's weights cannot be read: {path} is truncated or not a safetensors file ({error})"
        ) from error
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path} holds no toybox weights of this version: its format is {metadata.get('format')!r}, expected {FORMAT!r}"
        )
    try:
        net = Toybox(Config(int(metadata["width"]), int(metadata["depth"])))
        net.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold the tensors of a toybox of this version: export it again") from error
    return net.eval().requires_grad_(False).to(device)


def camera_tensor(view: Any, batch: int, default: tuple[float, float, float] = STILL) -> Tensor:
    """Return the camera conditions (B, 3) of views: azimuth and elevation in radians, and kind. Without views: `default`."""
    if isinstance(view, Cameras):
        return torch.stack([view.azimuth, view.elevation, torch.full_like(view.azimuth, ORBIT)], -1)
    if isinstance(view, Headings):
        return torch.stack([torch.zeros_like(view.pitch), view.pitch, torch.full_like(view.pitch, PITCH)], -1)
    return torch.tensor(LEVEL if isinstance(view, Crops) else default).expand(batch, 3)


@dataclass(frozen=True)
class ToyboxModel:
    """Toybox as a `Model`; types.py explains the attributes of models.

    Args:
        dark_below: Noise level below which objects are drawn without light for `Cameras`. By default, they are at all levels.
        path: The file of the weights.
    """

    device: str = "cpu"
    dark_below: float = math.inf
    path: Path = WEIGHTS
    name: str = "toybox"
    channels: int = 4
    size: int = 64
    scale: int = 1
    sigma_min: float = 0.02
    sigma_max: float = 80.0
    elevations: tuple[float, float] = (-75.0, 75.0)

    def denoiser(self, prompt: str, negative: str = "", guidance: float = 3.0) -> Denoiser:
        """Return the denoiser D(x, sigma, view) for a prompt; its estimates are clamped to [-1, 1].

        Args:
            prompt: The prompt. Unknown words are left out, with a warning that names similar known ones.
            negative: The negative prompt, which may be empty.
            guidance: 0 is unconditional, 1 is conditional, and larger values exaggerate (`guidance.py`).

        Raises:
            ValueError: If the model knows no word of the prompt.
        """
        warn_unknown(negative)
        default_camera = LEVEL if words.is_landscape(prompt) else STILL
        avoided = self._branch(negative, default_camera, "negative prompt")
        denoise = guided(self._branch(check(prompt), default_camera, "prompt"), avoided, guidance)
        return lambda x, sigma, cond: denoise(x, sigma, cond).clamp(-1, 1)

    def _branch(self, prompt: str, default: tuple[float, float, float], name: str) -> Denoiser:
        net = network(self.path, self.device)
        with torch.no_grad():
            context = net.encode(torch.tensor([words.encode(prompt, name)], device=self.device))

        def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            batch = len(x)
            sigmas = torch.as_tensor(sigma, dtype=torch.float32).expand(batch).to(self.device)
            lit = (sigmas >= (self.dark_below if isinstance(cond, Cameras) else 0.0)).float()
            camera = camera_tensor(cond, batch, default).float().to(self.device)
            return net(x.float().to(self.device), sigmas, context.expand(batch, -1, -1), camera, lit).to(x)

        return denoise

    def decode(self, signal: Tensor) -> Tensor:
        """Convert signals (B, 4, h, w) to premultiplied display RGBA in [0, 1]."""
        rgba = (signal.float() / 2 + 0.5).clamp(0, 1)
        return torch.cat([torch.minimum(rgba[:, :3], rgba[:, 3:]), rgba[:, 3:]], 1)


def check(prompt: str, listed: str = "`pullback words`") -> str:
    """Return the prompt, after a warning if it has unknown words.

    Args:
        prompt: The prompt.
        listed: The place where the error message says that known words are listed.

    Raises:
        ValueError: If all words are unknown.
    """
    known, unknown = words.split(prompt)
    if not known:
        said = f"it does not know {_hints(unknown)}" if unknown else "the prompt is empty"
        raise ValueError(f"toybox cannot draw this: {said}; {listed} lists what it knows")
    return warn_unknown(prompt)


def warn_unknown(prompt: str) -> str:
    """Return the prompt. If it has unknown words, issue a warning that names similar known ones."""
    unknown = words.split(prompt)[1]
    if unknown:
        warnings.warn(f"toybox does not know {_hints(unknown)}: left out", stacklevel=2)
    return prompt


def _hints(unknown: list[str]) -> str:
    distinct = list(dict.fromkeys(unknown))
    hints = [f"{w!r} (near: {', '.join(words.closest(w)) or 'nothing'})" for w in distinct[:HINTS]]
    return "; ".join(hints + [f"and {len(distinct) - HINTS} more"] * (len(distinct) > HINTS))
