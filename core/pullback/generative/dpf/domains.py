"""What functions are functions of: the plane, the cube and the sphere. Each says where its points lie and how values are shown.

Points have D coordinates in [-1, 1]. A grid of a side has points in a fixed order; values at them are (N, C) in [-1, 1].
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ...geometry.sphere import directions, equirectangular


class Domain(Protocol):
    """A domain.

    Attributes:
        name: Its name in files.
        dimensions: Coordinates D of a point.
        channels: Values C at a point.
    """

    @property
    def name(self) -> str: ...
    @property
    def dimensions(self) -> int: ...
    @property
    def channels(self) -> int: ...

    def grid(self, side: int) -> Tensor:
        """Return the points (N, D) of the grid with `side` points along each side."""
        ...

    def areas(self, side: int) -> Tensor:
        """Return the shares of these points in the area or volume of the domain, (N,), which sum to 1."""
        ...

    def shown(self, side: int) -> Tensor:
        """Return the points (M, D) that a picture shows; `show` takes the values there."""
        ...

    def show(self, values: Tensor, side: int) -> Tensor:
        """Return a picture (3, H, W) in [0, 1] of values (M, C) at the points of `shown`."""
        ...

    def read(self, picture: np.ndarray, side: int) -> np.ndarray:
        """Return the values (N, C) of a picture (H, W, 3) uint8 at the points of the grid. ValueError if it has no meaning."""
        ...


@dataclass(frozen=True)
class Plane:
    """Pictures: x to the right and y down; the centres of the pixels of a square.

    Args:
        channels: 1 for grey, or 3.
    """

    channels: int = 3
    name: str = "plane"
    dimensions: int = 2

    def grid(self, side: int) -> Tensor:
        line = _centres(side)
        y, x = torch.meshgrid(line, line, indexing="ij")
        return torch.stack([x, y], -1).reshape(-1, 2)

    def areas(self, side: int) -> Tensor:
        return torch.full((side * side,), 1 / (side * side))

    def shown(self, side: int) -> Tensor:
        return self.grid(side)

    def show(self, values: Tensor, side: int) -> Tensor:
        picture = (values.float() / 2 + 0.5).clamp(0, 1).reshape(side, side, -1).permute(2, 0, 1)
        return picture.expand(3, side, side)

    def read(self, picture: np.ndarray, side: int) -> np.ndarray:
        image = Image.fromarray(picture)
        if self.channels == 1:
            image = image.convert("L")
        if image.size != (side, side):
            image = image.resize((side, side), Image.Resampling.LANCZOS)
        return np.asarray(image, np.float32).reshape(-1, self.channels) / 127.5 - 1


@dataclass(frozen=True)
class Cube:
    """Shapes: points x, y, z in the world's cube [-1, 1]^3, at the centres of cells.

    The first value is the occupancy, -1 outside and 1 inside. If there are four, the others are the display RGB, in [-1, 1], of
    the nearest surface.
    """

    channels: int = 4
    name: str = "cube"
    dimensions: int = 3

    def grid(self, side: int) -> Tensor:
        line = _centres(side)
        return torch.cartesian_prod(line, line, line)

    def areas(self, side: int) -> Tensor:
        return torch.full((side**3,), 1 / side**3)

    def shown(self, side: int) -> Tensor:
        return self.grid(side)

    def show(self, values: Tensor, side: int) -> Tensor:
        """Return the view from the front, along +Y, on white: what is in front hides what is behind, lit by its depth."""
        grid = values.float().reshape(side, side, side, -1).permute(3, 1, 2, 0).flip(2)  # C, y, z down, x
        alpha = (grid[0] / 2 + 0.5).clamp(0, 1)
        clear = torch.cumprod(1 - alpha, 0)
        weight = alpha * torch.cat([torch.ones_like(clear[:1]), clear[:-1]])
        colour = (grid[1:] / 2 + 0.5).clamp(0, 1) if len(grid) > 1 else torch.full_like(grid[:1], 0.7)
        light = torch.linspace(1.0, 0.4, side).to(grid)[:, None, None]
        return ((weight * light * colour).sum(1) + clear[-1]).expand(3, side, side)

    def read(self, picture: np.ndarray, side: int) -> np.ndarray:
        raise ValueError(
            "a picture is no shape: give a folder of shapes (python -m pullback.generative.dpf.render shapes)"
        )


@dataclass(frozen=True)
class Sphere:
    """Panoramas: unit vectors, and the display RGB towards them.

    The grid is that of Driscoll and Healy (1994) with the bandwidth b = side / 2: colatitudes pi j / side and longitudes
    2 pi k / side, for j and k from 0 to side - 1. Pictures are equirectangular, twice as wide as high (`geometry/sphere.py`).
    """

    channels: int = 3
    name: str = "sphere"
    dimensions: int = 3

    def grid(self, side: int) -> Tensor:
        step = torch.arange(side, dtype=torch.float64) / side
        colatitude, longitude = torch.meshgrid(math.pi * step, 2 * math.pi * step, indexing="ij")
        return directions(longitude, math.pi / 2 - colatitude).reshape(-1, 3).float()

    def areas(self, side: int) -> Tensor:
        """Return shares by the area of the rings between half the steps to the next colatitudes; the last ends at the pole."""
        step = torch.arange(side, dtype=torch.float64)
        low, high = ((step + end).clamp(0, side) * math.pi / side for end in (-0.5, 0.5))
        high[-1] = math.pi
        rings = (torch.cos(low) - torch.cos(high)) / 2
        return (rings / side).repeat_interleave(side).float()

    def shown(self, side: int) -> Tensor:
        return equirectangular(side, 2 * side).reshape(-1, 3)

    def show(self, values: Tensor, side: int) -> Tensor:
        return (values.float() / 2 + 0.5).clamp(0, 1).reshape(side, 2 * side, 3).permute(2, 0, 1)

    def read(self, picture: np.ndarray, side: int) -> np.ndarray:
        """Return an equirectangular picture at the points of the grid, interpolated."""
        image = torch.from_numpy(picture).float().permute(2, 0, 1)[None] / 127.5 - 1
        height, width = image.shape[2:]
        step = torch.arange(side) / side
        row = (height * step - 0.5).clamp(0, height - 1)
        column = torch.remainder(width * (0.5 - step) - 0.5, width)
        wrapped = torch.cat([image, image[..., :1]], -1)  # the left edge joins the right edge
        y, x = torch.meshgrid(2 * row / (height - 1) - 1, 2 * column / width - 1, indexing="ij")
        read = torch.nn.functional.grid_sample(wrapped, torch.stack([x, y], -1)[None], align_corners=True)
        return read[0].permute(1, 2, 0).reshape(-1, 3).numpy()


SPHERE = Sphere()


def domain_of(name: str, channels: int) -> Domain:
    """Return the domain of a name, "plane", "cube" or "sphere".

    Raises:
        ValueError: If it does not exist, or has other channels.
    """
    if name == "plane" and channels in (1, 3):
        return Plane(channels)
    if name == "cube" and channels in (1, 4):
        return Cube(channels)
    if name == "sphere" and channels == 3:
        return SPHERE
    raise ValueError(f"there is no domain {name!r} with {channels} values at a point")


def _centres(side: int) -> Tensor:
    return (2 * torch.arange(side) + 1) / side - 1
