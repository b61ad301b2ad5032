"""View words: what a text-conditioned model is told about the side of the object that a camera sees.

A model that was never given cameras still knows "front view" from "back view" (DreamFusion, section 3.2, which blends
their embeddings by azimuth; here the nearest one stands alone).
Angles as in `geometry/cameras.py`, radians: azimuth 0 is the front, elevation 0 the horizon.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..geometry.cameras import Cameras

QUARTER = math.radians(45.0) + 1e-4
"""Half the width of the front and of the back; the excess keeps views at exactly 45 degrees symmetric in float32."""
OVERHEAD = math.radians(60.0) + 1e-4


def view_words(azimuth: Tensor, elevation: Tensor) -> list[str]:
    """One of "front view", "side view", "back view" and "overhead view" for each of the (B,) angles.

    Front and back reach 45 degrees to either side, both ends included; above 60 degrees every view is overhead.
    """
    turn = torch.atan2(azimuth.sin(), azimuth.cos()).abs()
    side = torch.full_like(turn, 1).long()
    side[turn <= QUARTER] = 0
    side[turn >= math.pi - QUARTER] = 2
    side[elevation > OVERHEAD] = 3
    return [("front view", "side view", "back view", "overhead view")[index] for index in side.tolist()]


def with_view(prompt: str, views: object, count: int) -> list[str]:
    """The prompt of each of `count` views: followed by its view words for `Cameras`, bare for anything else."""
    if not isinstance(views, Cameras):
        return [prompt] * count
    if len(views) != count:
        raise ValueError(f"there are {len(views)} cameras for {count} pictures; give one camera per picture")
    return [f"{prompt}, {words}" for words in view_words(views.azimuth, views.elevation)]
