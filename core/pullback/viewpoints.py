"""Viewpoints: where a step of a run looks from: cameras around an object, and views from the centre of a sphere."""

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
"""Of the cameras around an object, in degrees: what image models know objects from."""
LAST_CAMERAS, LAST_HEADINGS = 32, 36
"""Views that the last fit of an object and of a sphere sees, at least: a step's do not cover them."""
SPHERE_FOV = math.radians(65.0)
CELLS = 6
"""Cells of a world's noise to a pixel in the middle of a view; those at its corners are 2.4 times smaller."""
STEEPEST = 1.2
"""Greatest pitch in radians of views out of a sphere's middle."""


def orbiting(
    count: int,
    generator: Generator,
    elevations: tuple[float, float] = ELEVATIONS,
    distance: float = DISTANCE,
    fov: float = FOV,
) -> Cameras:
    """Cameras around an object: azimuths evenly spaced from a random one, heights stratified.

    Args:
        count: of the cameras.
        generator: draws both.
        elevations: lowest and highest, in degrees. Cameras are uniform in elevation between the usual ones, and uniform
            in area where these reach further, so that few look from straight above or below.
        distance: from the middle of the object.
        fov: full vertical angle in radians.
    """
    azimuth = (torch.arange(count) + torch.rand(1, generator=generator)) * (2 * math.pi / count)
    height = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
    return orbit(azimuth, _elevation(height, elevations), distance, fov)


def _elevation(height: Tensor, elevations: tuple[float, float]) -> Tensor:
    """Radians of heights in [0, 1], see `orbiting`."""
    low, high = (math.radians(each) for each in elevations)
    if ELEVATIONS[0] <= elevations[0] and elevations[1] <= ELEVATIONS[1]:
        return low + (high - low) * height
    return torch.asin(math.sin(low) + (math.sin(high) - math.sin(low)) * height)


def around(count: int, generator: Generator, fov: float = SPHERE_FOV) -> Headings:
    """Views from the centre: azimuths evenly spaced from a random one; sines of the pitch stratified, uniform in area."""
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
    """`count` cameras around an object, one of them an anchor that `seed` chooses: for a step, and for the last fit.

    Args:
        signal: channels and side of a view.
        count: views per step, the anchor among them.
        seed: of the run.
        elevations: of the cameras, in degrees. The anchor is one of the usual ones: from there models draw best.
        distance: of the cameras from the middle of the object.
        fov: full vertical angle in radians.
    """
    law = functools.partial(orbiting, elevations=elevations, distance=distance, fov=fov)
    usual = max(elevations[0], ELEVATIONS[0]), min(elevations[1], ELEVATIONS[1])
    chosen = torch.Generator().manual_seed(seed)
    anchor = orbiting(1, chosen, usual if usual[0] < usual[1] else elevations, distance, fov)

    def views(number: int) -> Views:
        shape = (number, signal[0], signal[1], signal[1])
        return AnchoredViews(
            functools.partial(_beside, anchor, law, number), shape, anchor, functools.partial(leading, number)
        )

    return views(count), views(max(LAST_CAMERAS, count))


def _beside(anchor: Cameras, law: Callable[[int, Generator], Cameras], count: int, random: Generator) -> Cameras:
    """The anchor and `count` - 1 others."""
    if count == 1:
        return anchor
    others = law(count - 1, random)
    return Cameras(torch.cat([anchor.pose, others.pose]), torch.cat([anchor.fov, others.fov]))


def outward_views(signal: tuple[int, int], count: int, fov: float = SPHERE_FOV) -> tuple[Views, Views]:
    """`count` views from the centre of a sphere whose noise lives in the world: for a step, and for the last fit.

    signal: channels and side of a view. fov: full vertical angle in radians.
    """
    pixel = (2 * math.tan(fov / 2) / signal[1]) ** 2
    cells = lattice(round(CELLS * 4 * math.pi / pixel))
    pixels = functools.partial(pixels_towards, places=cells, size=signal[1])

    def views(number: int) -> Views:
        shape = (number, signal[0], signal[1], signal[1])
        return WorldViews(functools.partial(around, number, fov=fov), shape, pixels, len(cells))

    return views(count), views(max(LAST_HEADINGS, count))
