"""Directions around a point, their equirectangular picture, and cameras that look outwards.

Azimuth is 0 along +X and grows counter-clockwise as seen from above. Elevation is the angle above the horizon. Both are in
radians. In an equirectangular picture azimuth 0 is the centre column and grows to the left (as Blender maps worlds), the top
row is elevation +pi/2, and the left edge joins the right edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .cameras import Cameras, look_at


def directions(azimuth: Tensor, elevation: Tensor) -> Tensor:
    """Return unit vectors (..., 3) for azimuths and elevations (...) in radians."""
    cos = torch.cos(elevation)
    return torch.stack([cos * torch.cos(azimuth), cos * torch.sin(azimuth), torch.sin(elevation)], dim=-1)


def equirectangular(height: int, width: int, crop: tuple[int, int, int, int] | None = None) -> Tensor:
    """Return the unit directions of the pixel centres of an equirectangular picture, or of a part of it, (h, w, 3).

    Args:
        height: Height of the whole picture in pixels.
        width: Width of the whole picture.
        crop: The part (top, left, h, w), or None for all of it.
    """
    top, left, h, w = crop or (0, 0, height, width)
    azimuth = math.pi - 2 * math.pi * (torch.arange(left, left + w) + 0.5) / width
    elevation = math.pi / 2 - math.pi * (torch.arange(top, top + h) + 0.5) / height
    grid = torch.meshgrid(elevation, azimuth, indexing="ij")
    return directions(grid[1], grid[0])


@dataclass(frozen=True)
class Headings:
    """Perspective views outwards from the centre of a sphere.

    Args:
        cameras: B cameras at the centre.
        pitch: The elevations that they look towards, (B,) in radians.
    """

    cameras: Cameras
    pitch: Tensor

    def __getitem__(self, index: slice | Tensor) -> Headings:
        return Headings(self.cameras[index], self.pitch[index])


def headings(azimuth: Tensor, pitch: Tensor, fov: float) -> Headings:
    """Return views from the centre of a sphere.

    Args:
        azimuth: Azimuths of the directions, (B,) in radians.
        pitch: Elevations of the directions, (B,) in radians.
        fov: Full vertical angle in radians.
    """
    forward = directions(azimuth, pitch)
    return Headings(look_at(torch.zeros_like(forward), forward, fov), pitch)


def lattice(count: int) -> Tensor:
    """Return unit directions (count, 3), evenly spread over the sphere (a Fibonacci lattice)."""
    i = torch.arange(count, dtype=torch.float64) + 0.5
    return directions(
        torch.remainder(i * math.pi * (3 - math.sqrt(5)), 2 * math.pi), torch.asin(1 - 2 * i / count)
    ).float()


def pixels_towards(view: Headings, places: Tensor, size: int) -> Tensor:
    """Return the pixel of each view that looks towards each direction.

    Args:
        view: B square views.
        places: Unit directions (N, 3).
        size: Side of a view in pixels.

    Returns:
        Flat pixel indices (B, N) long in [0, size^2), or -1 where a view does not see the direction.
    """
    local = torch.einsum("bji,nj->bin", view.cameras.pose[:, :3, :3], places)
    depth = -local[:, 2] * torch.tan(view.cameras.fov / 2)[:, None]
    column, row = (local[:, 0] / depth + 1) * size / 2, (-local[:, 1] / depth + 1) * size / 2
    seen = (depth > 0) & (column >= 0) & (column < size) & (row >= 0) & (row < size)
    return torch.where(seen, row.floor().long() * size + column.floor().long(), -1)
