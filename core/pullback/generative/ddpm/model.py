"""Files of weights, and what users and samplers ask of a model: the denoiser D(x, sigma), likelihoods and samples."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...schedules import time_in_table
from ...schema import parsed
from ...types import Denoiser
from ..weights import expect, read
from .design import Design
from .network import UNet
from .reverse import Reverse

FORMAT = "pullback-ddpm-1"
WEIGHTS = Path(__file__).with_name("ddpm.safetensors")


def signal_of(pixels: np.ndarray, channels: int, size: int) -> Tensor:
    """Return a picture as a model sees it.

    Args:
        pixels: RGB (H, W, 3), as uint8.
        channels: 1 for grey, by luminance, or 3.
        size: The largest square in the middle is scaled to this side, in pixels.

    Returns:
        (channels, size, size) in [-1, 1], one of 256 levels.
    """
    picture = Image.fromarray(pixels)
    if channels == 1:
        picture = picture.convert("L")
    if picture.size != (size, size):
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        square = picture.crop((left, top, left + side, top + side))
        picture = square.resize((size, size), Image.Resampling.LANCZOS)
    values = torch.from_numpy(np.array(picture)).reshape(size, size, channels).movedim(-1, 0)
    return values.float() / 127.5 - 1


def display(signal: Tensor) -> Tensor:
    """Convert signals (..., channels, H, W) to display RGB (..., 3, H, W) in [0, 1]."""
    shown = (signal.float() / 2 + 0.5).clamp(0, 1)
    return shown.expand(*shown.shape[:-3], 3, *shown.shape[-2:])


@dataclass(frozen=True, eq=False)
class DDPMModel:
    """A trained network as a `Model`, whose attributes types.py explains. It knows no words, and has one channel if it is grey.

    Args:
        network: The network.
        design: Its design.
        name: What error messages and field files call it.
        card: What its file says of its training.
        device: Where it runs.
    """

    network: UNet
    design: Design
    name: str
    card: dict[str, str]
    device: str = "cpu"
    scale: int = 1
    elevations: tuple[float, float] = (-90.0, 90.0)

    @property
    def channels(self) -> int:
        return self.design.network.channels

    @property
    def size(self) -> int:
        return self.design.network.size

    @cached_property
    def reverse(self) -> Reverse:
        """The reverse process, for `sampling.py`, `coding.py` and `bound.py`."""
        return self.design.reverse(self.network)

    @property
    def sigma_min(self) -> float:
        return float(self.reverse.process.sigma[1])

    @property
    def sigma_max(self) -> float:
        return float(self.reverse.process.sigma[-1])

    def denoiser(self, prompt: str, negative: str = "", guidance: float = 0.0) -> Denoiser:
        """Return the denoiser D(x, sigma, view), the same for all views; its estimates are clamped to [-1, 1].

        Args:
            prompt: Must be empty: the model knows no words.
            negative: Must be empty too.
            guidance: Changes nothing.

        Raises:
            ValueError: If there is a prompt.
        """
        if said := (prompt.strip() or negative.strip()):
            raise ValueError(f'{self.name} knows no words, and cannot draw {said!r}: give an empty prompt, ""')
        reverse = self.reverse
        process, factor = reverse.process, self.design.network.factor

        def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            if x.shape[-1] % factor or x.shape[-2] % factor:
                raise ValueError(
                    f"{self.name} takes pictures whose sides are multiples of {factor} pixels, "
                    f"not {x.shape[-1]} x {x.shape[-2]}: choose another size"
                )
            given = x.float().to(self.device)
            level = torch.as_tensor(sigma).double().cpu().expand(len(x))
            column = level.reshape(-1, 1, 1, 1).to(given)
            time = time_in_table(process.sigma[1:], level)
            x_t = given / (1 + column**2).sqrt()
            out = self.network(x_t, time)[:, : self.channels]
            whole = time.round().long() + 1  # the mean is that of a whole step
            x0 = given - column * out if reverse.predicted == "eps" else reverse.expected(x_t, whole, out)
            return x0.clamp(-1, 1).to(x)

        return denoise

    def decode(self, signal: Tensor) -> Tensor:
        """Convert signals (B, channels, h, w) to display RGB (B, 3, h, w) in [0, 1]."""
        return display(signal)


def load_model(path: Path, device: str = "cpu", name: str = "") -> DDPMModel:
    """Load a file of weights that `pullback train ddpm` wrote.

    Args:
        path: The file.
        device: Where it runs.
        name: What error messages and field files call it; by default the path.

    Raises:
        ValueError: If the file is missing, truncated, of another format, or does not fit its own design.
    """
    tensors, metadata = read(path, "a model that `pullback train ddpm` wrote")
    expect(metadata, path, "ddpm model", FORMAT, "pullback train ddpm")
    try:
        design = parsed(metadata["design"], Design)
        network = UNet(design.network)
        network.load_state_dict(tensors)
    except (KeyError, ValueError, RuntimeError) as error:
        raise ValueError(f"{path} does not hold a ddpm model of this version: train it again") from error
    card = {key: value for key, value in metadata.items() if key != "design"}
    return ready(network, design, name or str(path.resolve()), card, device)


def ready(network: UNet, design: Design, name: str, card: dict[str, str], device: str) -> DDPMModel:
    """Return a network with its weights as a model; the arguments are those of `DDPMModel`."""
    network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return DDPMModel(network, design, name, card, device)
