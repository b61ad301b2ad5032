"""Where a step of a run looks from: cameras around an object, or views from the centre of a sphere."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from .geometry.cameras import DISTANCE, FOV, Cameras, orbit
from .geometry.sphere import Headings, headings, lattice, pixels_towards
from .noise import AnchoredViews, Views, WorldViews, leading

ELEVATIONS = (-15.0, 60.0)
"""Lowest and highest elevation of cameras around an object, in degrees: the range in which image models know objects."""
LAST_CAMERAS = 32
"""The least number of cameras of the final fit of an object. The cameras of one step do not cover the object."""
LAST_HEADINGS = 36
"""The least number of views of the final fit of a sphere. The views of one step do not cover the sphere."""
SPHERE_FOV = math.radians(65.0)
"""Full vertical angle of a view from the centre of a sphere, in radians."""
CELLS = 6
"""Cells of noise per pixel in the middle of a view. Pixels at the corners cover a 2.4 times smaller part of the sphere."""
STEEPEST = 1.2
"""Largest pitch of a view from the centre of a sphere, in radians."""


def orbiting(
    count: int,
    generator: Generator,
    elevations: tuple[float, float] = ELEVATIONS,
    distance: float = DISTANCE,
    fov: float = FOV,
) -> Cameras:
    """Draw cameras around an object, with evenly spaced azimuths that start at random, and stratified elevations.

    Args:
        count: The number of cameras.
        generator: Draws azimuth and elevations.
        elevations: Lowest and highest elevation in degrees. If both lie within `ELEVATIONS`, cameras are uniform in elevation.
            Otherwise they are uniform in area, so that few look straight down or up.
        distance: Distance from the middle of the object.
        fov: Full vertical angle in radians.
    """
    azimuth = (torch.arange(count) + torch.rand(1, generator=generator)) * (2 * math.pi / count)
    height = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return orbit(azimuth, _elevation(height, elevations), distance, fov)


def _elevation(height: Tensor, elevations: tuple[float, float]) -> Tensor:
    """Return elevations in radians for heights in [0, 1]; see `orbiting`."""
    low, high = (math.radians(each) for each in elevations)
    if ELEVATIONS[0] <= elevations[0] and elevations[1] <= ELEVATIONS[1]:
        return low + (high - low) * height
    return torch.asin(math.sin(low) + (math.sin(high) - math.sin(low)) * height)


def around(count: int, generator: Generator, fov: float = SPHERE_FOV) -> Headings:
    """Draw views from the centre of a sphere, with evenly spaced azimuths that start at random, and uniform in area.

    Args:
        count: The number of views.
        generator: Draws azimuth and pitches.
        fov: Full vertical angle in radians.
    """
    azimuth = (torch.arange(count) + torch.rand(1, generator=generator)) * (2 * math.pi / count)
    height = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return headings(azimuth, torch.asin((2 * height - 1) * math.sin(STEEPEST)), fov)


def orbiting_views(
    signal: tuple[int, int],
    count: int,
    seed: int,
    elevations: tuple[float, float] = ELEVATIONS,
    distance: float = DISTANCE,
    fov: float = FOV,
) -> tuple[Views, Views]:
    """Return the views of an object: an anchor camera, which the seed chooses, and fresh cameras around the object.

    Args:
        signal: Channels and side of a view.
        count: Views per step, the anchor included.
        seed: The seed of the run.
        elevations: Lowest and highest elevation in degrees. The anchor lies within `ELEVATIONS` if possible, where models
            draw best.
        distance: Distance of the cameras from the middle of the object.
        fov: Full vertical angle in radians.

    Returns:
        The views of a step, and those of the final fit.
    """
    draw = functools.partial(orbiting, elevations=elevations, distance=distance, fov=fov)
    usual = max(elevations[0], ELEVATIONS[0]), min(elevations[1], ELEVATIONS[1])
    chosen = torch.Generator().manual_seed(seed)
    anchor = orbiting(1, chosen, usual if usual[0] < usual[1] else elevations, distance, fov)

    def views(number: int) -> Views:
        shape = (number, signal[0], signal[1], signal[1])
        return AnchoredViews(
            functools.partial(_with_anchor, anchor, draw, number), shape, anchor, functools.partial(leading, number)
        )

    return views(count), views(max(LAST_CAMERAS, count))


def _with_anchor(anchor: Cameras, draw: Callable[[int, Generator], Cameras], count: int, random: Generator) -> Cameras:
    """Return the anchor and `count` - 1 fresh cameras."""
    if count == 1:
        return anchor
    others = draw(count - 1, random)
    return Cameras(torch.cat([anchor.pose, others.pose]), torch.cat([anchor.fov, others.fov]))


def outward_views(signal: tuple[int, int], count: int, fov: float = SPHERE_FOV) -> tuple[Views, Views]:
    """Return the views of a sphere, whose noise is fixed in space.

    Args:
        signal: Channels and side of a view.
        count: Views per step.
        fov: Full vertical angle in radians.

    Returns:
        The views of a step, and those of the final fit.
    """
    pixel = (2 * math.tan(fov / 2) / signal[1]) ** 2
    cells = lattice(round(CELLS * 4 * math.pi / pixel))
    pixels = functools.partial(pixels_towards, places=cells, size=signal[1])

    def views(number: int) -> Views:
        shape = (number, signal[0], signal[1], signal[1])
        return WorldViews(functools.partial(around, number, fov=fov), shape, pixels, len(cells))

    return views(count), views(max(LAST_HEADINGS, count))
