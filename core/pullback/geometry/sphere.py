"""Sphere: directions around a point, their equirectangular picture, and cameras that look outwards.

azimuth is 0 along +X and grows counter-clockwise seen from above; elevation is the angle above the horizon;
radians. In an equirectangular picture azimuth 0 is the centre column and grows to the left (as Blender maps
worlds), the top row is elevation +pi/2, and the left edge is the right edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .cameras import Cameras, look_at


def directions(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Unit vectors (..., 3) of two angles of one shape."""
    cos = torch.cos(elevation)
    return torch.stack([cos * torch.cos(azimuth), cos * torch.sin(azimuth), torch.sin(elevation)], dim=-1)


def equirectangular(height: int, width: int, crop: tuple[int, int, int, int] | None = None) -> Tensor:
    """Directions (h, w, 3) of the pixel centres of a height x width picture, or of its part (top, left, h, w)."""
    top, left, h, w = crop or (0, 0, height, width)
    azimuth = math.pi - 2 * math.pi * (torch.arange(left, left + w) + 0.5) / width
    elevation = math.pi / 2 - math.pi * (torch.arange(top, top + h) + 0.5) / height
    grid = torch.meshgrid(elevation, azimuth, indexing="ij")
    return directions(grid[1], grid[0])


@dataclass(frozen=True)
class Headings:
    """Perspective views from the centre of a sphere, outwards. pitch (B,) is their elevation in radians."""

    cameras: Cameras
    pitch: Tensor

    def __getitem__(self, index: slice | Tensor) -> Headings:
        return Headings(self.cameras[index], self.pitch[index])


def headings(azimuth: Tensor, pitch: Tensor, fov: float) -> Headings:
    """Views in directions `azimuth`, `pitch` (B,) with a full vertical angle `fov`."""
    forward = directions(azimuth, pitch)
    return Headings(look_at(torch.zeros_like(forward), forward, fov), pitch)


def lattice(count: int) -> Tensor:
    """`count` directions (count, 3), evenly spread over the sphere: a Fibonacci lattice."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    return directions(
        torch.remainder(i * math.pi * (3 - math.sqrt(5)), 2 * math.pi), torch.asin(1 - 2 * i / count)
    ).float()


def pixels_towards(view: Headings, places: Tensor, size: int) -> Tensor:
    """(B, N) long: the flat index of the pixel of each size x size view that looks towards places (N, 3), -1 for none."""
    local = torch.einsum("bji,nj->bin", view.cameras.pose[:, :3, :3], places)
    depth = -local[:, 2] * torch.tan(view.cameras.fov / 2)[:, None]
    column, row = ((sign * local[:, k] / depth + 1) * size / 2 for k, sign in ((0, 1), (1, -1)))
    seen = (depth > 0) & (column >= 0) & (column < size) & (row >= 0) & (row < size)
    return torch.where(seen, row.floor().long() * size + column.floor().long(), -1)
