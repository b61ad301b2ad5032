"""Training pairs: a whole picture at the encoder's size, and a patch of it at a random scale (INFD, section 3.3)."""

from __future__ import annotations

import numpy as np
import torch
from numpy.random import Generator
from PIL import Image
from torch import Tensor

from .renderers import places

ATTEMPTS = 4
"""The number of patches that are cut at random if they are to be `busy`. The one with the most contrast is taken."""


def patch(
    picture: np.ndarray,
    base: int,
    side: int,
    largest: int,
    random: Generator,
    busy: bool = False,
    octaves: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Draw a training pair from a picture.

    The picture is scaled to a random side between `base` and its own, at most `largest`, and a patch is cut from that. A picture
    that is not square is cropped at random first.

    Args:
        picture: The picture, (H, W, C) uint8.
        base: Side of the picture that the encoder sees.
        side: Side of the patch, at most `base`.
        largest: The largest side that pictures are scaled to.
        random: Draws the scale and the position of the patch.
        busy: Whether to prefer patches with contrast.
        octaves: Whether to draw the logarithm of the scaled side uniformly; the paper draws the side itself uniformly. Pictures
            are then scaled down more, and patches show a larger part of them, so that the latents are learnt sooner.

    Returns:
        The whole picture (C, base, base) and the patch (C, side, side) in [-1, 1]; the places of the patch's pixels
        (side, side, 2), and the height and width of a pixel (2,), both as in `renderers.py`.
    """
    height, width = picture.shape[:2]
    full = min(height, width)
    top, left = int(random.integers(height - full + 1)), int(random.integers(width - full + 1))
    square = picture[top : top + full, left : left + full]
    most = max(base, min(full, largest))
    scaled = round(base * (most / base) ** random.uniform()) if octaves else int(random.integers(base, most + 1))
    tries = []
    for _ in range(ATTEMPTS if busy else 1):
        y, x = (int(random.integers(scaled - side + 1)) for _ in "yx")
        unit = full / scaled
        box = (x * unit, y * unit, (x + side) * unit, (y + side) * unit)
        tries.append((resized(square, side, box), y, x))
    pixels, y, x = max(tries, key=lambda attempt: float(attempt[0].std()))
    at = places(scaled, scaled, (y, x, side, side))
    return _signal(resized(square, base)), _signal(pixels), at, torch.full((2,), 2 / scaled)


def resized(picture: np.ndarray, side: int, box: tuple[float, float, float, float] | None = None) -> np.ndarray:
    """Scale a square picture, or a box (left, top, right, bottom) in it, to side x side pixels, averaging over each pixel."""
    if picture.shape[0] == side and box is None:
        return picture
    return np.stack(
        [
            np.asarray(Image.fromarray(channel).resize((side, side), Image.Resampling.BOX, box))
            for channel in np.moveaxis(picture, -1, 0)
        ],
        -1,
    )


def _signal(pixels: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(pixels)).movedim(-1, 0).float() / 127.5 - 1
