"""SIREN: a small network with sine activations, from coordinates to signal values (Sitzmann et al. 2020).

Parameters are a dict of tensors: `w0, b0, ...` of `depth` layers of `width`, and a linear read-out. The
coordinates first pass through a sinusoidal embedding, whose frequencies are fixed numbers and not parameters; it takes
the place of that paper's factor of 30 in the sines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..types import Params


@dataclass(frozen=True)
class Siren:
    """Sizes of the network: `inputs` embedded values to `channels` values, `depth` sine layers of `width`."""

    inputs: int
    channels: int
    width: int = 256
    depth: int = 3

    def init(self, generator: Generator) -> Params:
        """Uniform weights of variance 2 / fan-in, which keep the sines' inputs of unit size; the read-out starts at 0."""
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
        """Values (..., channels) at embedded coordinates (..., inputs). Differentiable in both."""
        h = embedded
        for layer in range(self.depth):
            h = torch.sin(torch.nn.functional.linear(h, params[f"w{layer}"], params[f"b{layer}"]))
        return torch.nn.functional.linear(h, params["out"], params["bias"])


def fourier(coordinates: Tensor, frequencies: Tensor) -> Tensor:
    """Sinusoidal embedding: coordinates (..., D), frequencies (F, D) in radians per unit -> (..., 2 F), in [-1, 1]."""
    phase = coordinates @ frequencies.T
    return torch.cat([torch.sin(phase), torch.cos(phase)], dim=-1)


def gaussian_frequencies(count: int, dimensions: int, scale: float, seed: int) -> Tensor:
    """(count, dimensions) random frequencies of deviation `scale` (Tancik et al. 2020); a pure function of its seed."""
    return scale * torch.randn(count, dimensions, generator=Generator().manual_seed(seed))
