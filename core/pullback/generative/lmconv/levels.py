"""Pictures of files as levels of a head, and levels as pictures."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .heads import Head, signal
from .network import Config


def levels_of(pixels: np.ndarray, config: Config, size: int = 0) -> Tensor:
    """Return a picture as levels.

    Args:
        pixels: RGB (H, W, 3), as uint8. It becomes grey by luminance for a grey or a binary head; there white begins at 128.
        config: What the levels are.
        size: Scale the largest square in the middle of the picture to this side in pixels; 0 keeps the picture.

    Returns:
        (channels, H, W), as uint8.
    """
    picture = Image.fromarray(pixels)
    if config.head != "colour":
        picture = picture.convert("L")
    if size and picture.size != (size, size):
        side = min(picture.size)
        left, top = ((length - side) // 2 for length in picture.size)
        square = picture.crop((left, top, left + side, top + side))
        picture = square.resize((size, size), Image.Resampling.LANCZOS)
    values = torch.from_numpy(np.array(picture)).reshape(picture.height, picture.width, -1).movedim(-1, 0)
    return values >> (7 if config.head == "binary" else 8 - config.bits)


def shown(values: Tensor, head: Head) -> Tensor:
    """Return levels (..., channels, H, W) as RGB (..., 3, H, W) in [0, 1]."""
    picture = signal(values, head.levels) / 2 + 0.5
    return picture.expand(*picture.shape[:-3], 3, *picture.shape[-2:])
