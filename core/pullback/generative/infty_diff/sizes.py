"""Pictures of any size as signals."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate


def signal_of(pixels: np.ndarray) -> Tensor:
    """Return pixels (H, W, C) uint8 as a signal (C, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1).float() / 127.5 - 1


def picture_at(pixels: np.ndarray, size: int) -> Tensor:
    """Return the largest square in the middle of pixels (H, W, C) uint8, scaled to a signal (C, size, size) in [-1, 1]."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = signal_of(pixels[top : top + side, left : left + side])
    if side == size:
        return square
    return interpolate(square[None], (size, size), mode="bicubic", antialias=True)[0].clamp(-1, 1)
