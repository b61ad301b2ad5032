"""Folders of pictures in the layout of Hugging Face's `imagefolder`, with captions in `metadata.jsonl`.

Pictures may have any size and may lie in subfolders. A picture is decoded when it is first drawn, and then kept in memory if
there is room.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
from numpy.random import Generator
from PIL import Image, UnidentifiedImageError

SUFFIXES = frozenset((".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"))
CACHE_BYTES = 4 << 30
"""The most memory that decoded pictures may take, in bytes."""
MOST_PIXELS = 1 << 28
"""The largest number of pixels of a picture. Larger pictures are skipped."""


class PictureFolder:
    """The pictures in a folder.

    Args:
        folder: The folder.
        channels: 3 for RGB (transparent pictures are put on white), or 4 for premultiplied RGBA.
        smallest: Pictures with a shorter side, in pixels, are skipped.

    Raises:
        ValueError: If the folder is missing or holds no picture.
    """

    def __init__(self, folder: Path, channels: int = 3, smallest: int = 1):
        if not folder.is_dir():
            raise ValueError(f"{folder} is not a folder: give a folder of pictures")
        self.channels, self.smallest = channels, smallest
        self.paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        if not self.paths:
            raise ValueError(f"{folder} holds no pictures: expected {', '.join(sorted(SUFFIXES))}")
        self.folder, self.captions = folder, _captions(folder)
        self._kept: dict[Path, np.ndarray] = {}
        self._useless: set[Path] = set()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self.paths)

    def draw(self, random: Generator) -> tuple[np.ndarray, str]:
        """Return a random picture (H, W, channels) uint8 and its caption, "" if it has none.

        Pictures that cannot be read, or are too small, are skipped from then on, with a warning that names them.

        Raises:
            ValueError: If no picture is left.
        """
        while len(self._useless) < len(self.paths):
            path = self.paths[int(random.integers(len(self.paths)))]
            if path in self._useless:  # the list is not shortened, so that a resumed training draws the same pictures
                continue
            try:
                return self.read(path), self.captions.get(path, "")
            except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
                warnings.warn(f"{path} is skipped: {error}", stacklevel=2)
                self._useless.add(path)
        raise ValueError(f"no picture in {self.folder} can be used; see the warnings above")

    def read(self, path: Path) -> np.ndarray:
        """Return a picture (H, W, channels) uint8.

        Raises:
            OSError, ValueError: If it cannot be read, or is too small or too large.
        """
        if path not in self._kept:
            pixels = _opened(path, self.channels, self.smallest)
            if self._bytes + pixels.nbytes > CACHE_BYTES:
                return pixels
            self._kept[path] = pixels
            self._bytes += pixels.nbytes
        return self._kept[path]


def read_picture(path: Path, channels: int) -> np.ndarray:
    """Return the pixels (H, W, channels) uint8 of a picture, where `channels` is as in `PictureFolder`.

    Raises:
        ValueError: If the file is missing or cannot be read.
    """
    try:
        return _opened(path, channels, 1)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture: give a PNG, JPEG or WebP file ({error})") from error


def read_straight(path: Path) -> np.ndarray:
    """Return a picture as straight RGBA (H, W, 4) uint8, with the file's own colours. Errors are those of `read_picture`."""
    read_picture(path, 4)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGBA"))


def _opened(path: Path, channels: int, smallest: int) -> np.ndarray:
    with Image.open(path) as picture:
        if picture.width * picture.height > MOST_PIXELS:
            raise ValueError(f"it has {picture.width} x {picture.height} pixels, more than {MOST_PIXELS}")
        if min(picture.size) < smallest:
            size = f"{picture.width} x {picture.height} pixels"
            raise ValueError(f"it has {size}, and its shorter side is below {smallest} pixels")
        return _pixels(picture, channels)


def _pixels(picture: Image.Image, channels: int) -> np.ndarray:
    """Return the pixels (H, W, channels) uint8 of a picture: premultiplied RGBA, or RGB on white."""
    rgba = np.asarray(picture.convert("RGBA"))
    if channels == 3 and (rgba[..., 3] == 255).all():
        return np.ascontiguousarray(rgba[..., :3])
    colour = rgba[..., :3].astype(np.uint16) * rgba[..., 3:] + (channels == 3) * 255 * (
        255 - rgba[..., 3:].astype(np.uint16)
    )
    colour = ((colour + 127) // 255).astype(np.uint8)
    return colour if channels == 3 else np.concatenate([colour, rgba[..., 3:]], -1)


def _captions(folder: Path) -> dict[Path, str]:
    """Return the captions from every `metadata.jsonl` in a folder. Raise ValueError naming a line that cannot be read."""
    captions = {}
    for listing in sorted(folder.rglob("metadata.jsonl")):
        for number, line in enumerate(listing.read_text("utf-8").splitlines(), 1):
            try:
                entry = json.loads(line)
                captions[listing.parent / entry["file_name"]] = str(entry.get("text", ""))
            except (ValueError, KeyError, TypeError) as error:
                form = '{"file_name": …, "text": …}'
                raise ValueError(f"line {number} of {listing} does not have the form {form}: correct it") from error
    return captions
