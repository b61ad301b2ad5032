"""SIREN: a small network with sine activations, from coordinates to signal values (Sitzmann et al. 2020).

Coordinates first pass through a sinusoidal embedding. Its frequencies are fixed numbers, not parameters; they take the
place of the factor of 30 in that paper's sines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..types import Params


@dataclass(frozen=True)
class Siren:
    """The network: sine layers and a linear read-out. Its parameters are `w0`, `b0`, ..., `out` and `bias`.

    Args:
        inputs: Values of the embedding per point.
        channels: Signal values per point.
        width: Width of the sine layers.
        depth: The number of sine layers.
    """

    inputs: int
    channels: int
    width: int = 256
    depth: int = 3

    def init(self, generator: Generator) -> Params:
        """Return random sine layers and a zero read-out.

        The weights are uniform with variance 2 / fan-in, which keeps the variance of the sines' inputs near 1. The biases of
        the sine layers are uniform in [-pi, pi].
        """
        params: Params = {}
        fan = self.inputs
        for layer in range(self.depth):
            bound = math.sqrt(6 / fan)
            params[f"w{layer}"] = (2 * torch.rand(self.width, fan, generator=generator) - 1) * bound
            params[f"b{layer}"] = (2 * torch.rand(self.width, generator=generator) - 1) * math.pi
            fan = self.width
        params["out"], params["bias"] = torch.zeros(self.channels, fan), torch.zeros(self.channels)
        return params

    def __call__(self, params: Params, embedded: Tensor) -> Tensor:
        """Return values (..., channels) at embedded coordinates (..., inputs). Differentiable in both."""
        h = embedded
        for layer in range(self.depth):
            h = torch.sin(torch.nn.functional.linear(h, params[f"w{layer}"], params[f"b{layer}"]))
        return torch.nn.functional.linear(h, params["out"], params["bias"])


def fourier(coordinates: Tensor, frequencies: Tensor) -> Tensor:
    """Return the sinusoidal embedding of coordinates.

    Args:
        coordinates: Points (..., D).
        frequencies: Frequencies (F, D), in radians per unit of the coordinates.

    Returns:
        Sines and cosines, (..., 2 F).
    """
    phase = coordinates @ frequencies.T
    return torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1)


def gaussian_frequencies(count: int, dimensions: int, scale: float, seed: int) -> Tensor:
    """Return random frequencies for `fourier` (Tancik et al. 2020), which are always the same for the same seed.

    Args:
        count: The number of frequencies F.
        dimensions: The number of coordinates D.
        scale: Their standard deviation, in radians per unit.
        seed: The seed of the random numbers.

    Returns:
        Frequencies (F, D) on the current default device.
    """
    return scale * torch.randn(count, dimensions, generator=Generator().manual_seed(seed))
