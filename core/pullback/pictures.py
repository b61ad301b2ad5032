"""PNG files of any size, written band by band."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import png
import torch
from torch import Tensor

from .files import atomic


def straight(premultiplied: Tensor) -> Tensor:
    """Convert premultiplied RGBA (4, H, W) in [0, 1] to straight alpha, as PNG needs it. Transparent pixels are black."""
    alpha = premultiplied[3:]
    return torch.cat([(premultiplied[:3] / alpha.clamp(min=1 / 512)).clamp(0, 1), alpha])


def write_png(path: Path, bands: Iterator[Tensor], width: int, height: int) -> None:
    """Write a PNG file, whole or not at all, with memory for one band at a time.

    Args:
        path: Where to write.
        bands: Display bands (3 or 4, rows, width) in [0, 1] from top to bottom; four channels are premultiplied RGBA.
        width: Width of the picture in pixels.
        height: Height of the picture.

    Raises:
        OSError: If the file cannot be written.
    """
    first = next(bands)
    writer = png.Writer(width, height, greyscale=False, alpha=len(first) == 4, bitdepth=8, compression=4)
    with atomic(path) as part, part.open("wb") as file:
        writer.write_packed(file, _rows(first, bands, width))


def write_straight(path: Path, pixels: np.ndarray) -> None:
    """Write straight RGBA (H, W, 4) uint8 to a PNG file, byte for byte; without alpha if all of it is opaque."""
    shown = pixels if (pixels[..., 3] < 255).any() else pixels[..., :3]
    height, width, channels = shown.shape
    writer = png.Writer(width, height, greyscale=False, alpha=channels == 4, bitdepth=8, compression=4)
    with atomic(path) as part, part.open("wb") as file:
        writer.write_packed(file, (np.ascontiguousarray(row).tobytes() for row in shown))


def _rows(first: Tensor, rest: Iterator[Tensor], width: int) -> Iterator[bytes]:
    band: Tensor | None = first
    while band is not None:
        colours = straight(band) if len(band) == 4 else band
        assert band.shape[-1] == width and len(band) == len(first), "a band of another width"
        pixels = (colours * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()
        yield from (row.tobytes() for row in pixels)
        band = next(rest, None)
