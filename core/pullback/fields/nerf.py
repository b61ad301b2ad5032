"""The neural network of NeRF (Mildenhall et al. 2020): density and features at points of [-1, 1]^3.

Positions and directions are given to it as themselves and as sines and cosines of frequencies 2^0, 2^1, ... (times pi for
positions, whose range is [-1, 1]). It starts as DietNeRF's code does: Xavier-uniform weights for ReLUs, and zero biases.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from msgspec import Meta
from torch import Generator, Tensor

from ..schema import Count
from ..types import Params
from .siren import fourier

Frequencies = Annotated[int, Meta(ge=0, le=16)]


@dataclass(frozen=True)
class Network:
    """The sizes of the network.

    Args:
        features: Values per point beside the density.
        frequencies: Frequencies of positions: the largest is 2^(frequencies - 1). 10 in the paper.
        turning: Frequencies of directions, 4 in the paper. At 0 the features do not depend on the direction.
        width: Neurons of a hidden layer.
        depth: Hidden layers before the density.
        skip: The position enters again after so many of them.
    """

    features: Count = 3
    frequencies: Frequencies = 10
    turning: Frequencies = 4
    width: Annotated[int, Meta(ge=2, le=4096)] = 256
    depth: Annotated[int, Meta(ge=1, le=64)] = 8
    skip: Annotated[int, Meta(ge=1, le=64)] = 5

    def layers(self) -> Iterator[tuple[str, int, int]]:
        """Yield the name, the inputs and the outputs of every layer."""
        place, towards = 3 + 6 * self.frequencies, 3 + 6 * self.turning
        for n in range(self.depth):
            before = self.width if n else 0
            yield f"{n}", before + (place if n == 0 or n == self.skip else 0), self.width
        yield "density", self.width, 1
        if self.turning:
            yield "between", self.width, self.width
            yield "turned", self.width + towards, self.width // 2
        yield "features", self.width // 2 if self.turning else self.width, self.features

    def init(self, generator: Generator, name: str) -> Params:
        """Return the parameters of a network of some name."""
        params = {}
        for layer, inputs, outputs in self.layers():
            bound = math.sqrt(2) * math.sqrt(6 / (inputs + outputs))
            params[f"{name}.{layer}.w"] = (2 * torch.rand(outputs, inputs, generator=generator) - 1) * bound
            params[f"{name}.{layer}.b"] = torch.zeros(outputs)
        return params

    def __call__(self, params: Params, name: str, points: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the density (N,), at least 0, and the features (N, features). Differentiable in params.

        Args:
            params: The parameters.
            name: The name of the network.
            points: Points (N, 3).
            directions: Unit directions (N, 3) of the rays that look at them.
        """

        def linear(layer: str, h: Tensor) -> Tensor:
            return F.linear(h, params[f"{name}.{layer}.w"], params[f"{name}.{layer}.b"])

        place = embedded(points, self.frequencies, math.pi)
        h = place
        for n in range(self.depth):
            h = F.relu(linear(f"{n}", torch.cat([place, h], -1) if n == self.skip else h))
        # The paper has a ReLU here: places where it is 0 have no gradient, and an empty field stays empty.
        density = F.softplus(linear("density", h)[:, 0] - 1)
        if self.turning:
            h = torch.cat([linear("between", h), embedded(directions, self.turning, 1.0)], -1)
            h = F.relu(linear("turned", h))
        return density, linear("features", h)


def embedded(coordinates: Tensor, count: int, scale: float) -> Tensor:
    """Return coordinates (N, 3) beside the sines and cosines of scale 2^k of them, k < count: (N, 3 + 6 count)."""
    octaves = scale * 2.0 ** torch.arange(count, dtype=coordinates.dtype, device=coordinates.device)
    axes = torch.eye(3, dtype=coordinates.dtype, device=coordinates.device)
    return torch.cat([coordinates, fourier(coordinates, (octaves[:, None, None] * axes).reshape(-1, 3))], -1)
