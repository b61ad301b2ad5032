"""View words: what a text-to-image model is told about the side of the object that a camera sees.

A model that was trained without cameras still knows "front view" from "back view". DreamFusion (section 3.2) blends the
embeddings of these words by azimuth; here only the nearest one is used. Angles are as in `geometry/cameras.py`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..geometry.cameras import Cameras

QUARTER = math.radians(45.0) + 1e-4
"""Half the width of the front and of the back, in radians. The small excess keeps views at exactly 45 degrees symmetric."""
OVERHEAD = math.radians(60.0) + 1e-4
"""Elevation above which a view is from overhead, in radians."""


def view_words(azimuth: Tensor, elevation: Tensor) -> list[str]:
    """Return "front view", "side view", "back view" or "overhead view" for each camera.

    Front and back reach 45 degrees to either side. Above an elevation of 60 degrees every view is overhead.

    Args:
        azimuth: Azimuths (B,) in radians.
        elevation: Elevations (B,) in radians.

    Example:
        >>> view_words(torch.tensor([0.0, 3.14]), torch.tensor([0.0, 0.0]))
        ['front view', 'back view']
    """
    turn = torch.atan2(azimuth.sin(), azimuth.cos()).abs()
    side = torch.full_like(turn, 1).long()
    side[turn <= QUARTER] = 0
    side[turn >= math.pi - QUARTER] = 2
    side[elevation > OVERHEAD] = 3
    return [("front view", "side view", "back view", "overhead view")[index] for index in side.tolist()]


def with_view(prompt: str, views: object, count: int) -> list[str]:
    """Return the prompt of each view.

    Args:
        prompt: The prompt of all views.
        views: `Cameras` append their view words to the prompt; other views do not change it.
        count: The number of views.

    Raises:
        ValueError: If there are not as many cameras as views.
    """
    if not isinstance(views, Cameras):
        return [prompt] * count
    if len(views) != count:
        raise ValueError(f"there are {len(views)} cameras for {count} pictures; give one camera per picture")
    return [f"{prompt}, {words}" for words in view_words(views.azimuth, views.elevation)]
