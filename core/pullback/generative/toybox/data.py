"""The training data of toybox: rendered pictures, coloured at random whenever they are used.

A folder holds shards of landscapes and of sketches (`pictures.py`). A sketch has no colours yet: it serves every caption with its
noun and size, so that new colours need no new rendering.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from . import objects
from .network import ANY, painted
from .words import COLOURS, LENGTH, NOUNS, PAD, SIZES, START, encode

SHARD = 2048
"""The number of pictures per file."""
LIT = 0.6
"""Fraction of pictures that are shown with light and shadow."""
NAMELESS = 0.25
"""Fraction of captions of one-coloured objects that do not name the colour."""
SECOND = 0.15
"""Fraction of captions that name two colours."""


@dataclass
class Batch:
    """A batch of pictures and their conditions.

    Attributes:
        x: The pictures, (B, 4, H, W) in [-1, 1].
        layers: The layers that the template should predict for them, (B, LAYERS, H, W) in [0, 1].
        words: Word numbers (B, LENGTH).
        cameras: Azimuth and elevation in radians, and the kind of view, (B, 3).
        lit: 1 for pictures with light and shadow, else 0, (B,).
    """

    x: Tensor
    layers: Tensor
    words: Tensor
    cameras: Tensor
    lit: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, field.name).to(device) for field in fields(self)))


class Pictures:
    """All sketches and landscapes in a folder.

    Args:
        folder: The folder.
        size: Side of the pictures in pixels, a divisor of their sides, or 0 to keep those of the files.
    """

    def __init__(self, folder: Path, size: int = 64):
        self.folder, self.size, self.loaded = folder, size, set[Path]()
        self.shards: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.refresh()

    def refresh(self) -> None:
        """Load the shards that were added to the folder since the last call."""
        for path in sorted(
            {*self.folder.glob("objects-????.npz"), *self.folder.glob("landscapes-????.npz")} - self.loaded
        ):
            with np.load(path) as shard:
                self.shards.append((_shrunk(shard["pictures"], self.size), shard["labels"], shard["cameras"]))
            self.loaded.add(path)
        if not self.shards:
            raise FileNotFoundError(f"no objects-*.npz in {self.folder}: run the command `render` first")

    def batch(self, size: int, rng: Generator, dropped: float = 0.1, side: int = 0) -> Batch:
        """Return random pictures in random colours.

        Args:
            size: The number of pictures.
            rng: Draws pictures, captions and colours.
            dropped: Fraction of captions that are replaced by the empty caption and, independently, fraction of cameras that
                are replaced by the unknown camera.
            side: Side in pixels to which all pictures are reduced, or 0 to leave them as they are. Files with smaller pictures
                are passed over.

        Raises:
            ValueError: If no file has pictures of this side.
        """
        usable = [n for n, (pictures, _, _) in enumerate(self.shards) if pictures.shape[-1] >= side]
        if not usable:
            raise ValueError(f"{self.folder} holds no pictures of {side} pixels: render some with --side {side}")
        ends = np.cumsum([len(self.shards[n][1]) for n in usable])
        drawn = []
        for number in rng.integers(ends[-1], size=size):
            which = int(np.searchsorted(ends, number, "right"))
            index = int(number - (ends[which - 1] if which else 0))
            drawn.append(self._coloured(usable[which], index, rng, side))
        layers, paints, words, cameras, lit = (
            torch.from_numpy(np.stack(column)) for column in zip(*drawn, strict=True)
        )
        words[torch.from_numpy(rng.uniform(size=size) < dropped)] = torch.tensor([START] + [PAD] * (LENGTH - 1))
        cameras[torch.from_numpy(rng.uniform(size=size) < dropped)] = torch.tensor([0.0, 0.0, ANY])
        return Batch(painted(layers, paints[:, 0], paints[:, 1]), layers, words, cameras, lit)

    def _coloured(self, shard: int, index: int, rng: Generator, side: int = 0) -> tuple[np.ndarray, ...]:
        """Return the layers, paints (2, 3), word numbers, camera and light of one picture of a shard."""
        picture, label, camera = (array[index] for array in self.shards[shard])
        picture = _shrunk(picture[None], side or picture.shape[-1])[0]
        lit = rng.uniform() < LIT
        if len(picture) == 3:
            layers, paints, words = _landscape_layers(picture), np.zeros((2, 3)), label
        else:
            text, paints, fixed_accent = caption(int(label[0]), int(label[1]), rng)
            layers, words = _sketch_layers(picture, fixed_accent, lit), np.array(encode(text))
        return layers, paints.astype(np.float32), words.astype(np.int64), camera, np.array(lit, np.float32)


def caption(noun: int, size: int, rng: Generator) -> tuple[str, np.ndarray, np.ndarray | None]:
    """Draw a caption and colours for a sketch.

    Args:
        noun: The number of the sketch's noun in NOUNS.
        size: One plus the number of its size word in SIZES, or 0 if it has none.
        rng: Draws colours and words.

    Returns:
        The caption; the colours of the main paint and the accent, (2, 3); and the accent's colour (3,) if it is fixed by the
        noun, or None if it depends on the caption.
    """
    name, kind = NOUNS[noun], objects.NOUNS[NOUNS[noun]]
    first, other = (str(c) for c in rng.choice(list(COLOURS), 2, replace=False))
    second = rng.uniform() < SECOND
    main, accent = objects.paints(name, first, other if second else None, rng)
    colours = f"{first} and {other}" if second else first if rng.uniform() > NAMELESS else ""
    fixed_accent = None if second or kind.accent == "main" else accent
    return f"{SIZES[size - 1] if size else ''} {colours} {name}", np.stack([main, accent]), fixed_accent


def _sketch_layers(sketch: np.ndarray, fixed_accent: np.ndarray | None, lit: bool) -> np.ndarray:
    """Return the template's layers (LAYERS, H, W) of a sketch (11, H, W). A fixed accent becomes part of the fixed colours.

    Without one, the accent keeps a layer of its own, to be painted in the caption's second colour or in the main paint.
    """
    values = (sketch[:5] if lit else sketch[5:10]).astype(np.float32) / 255
    main, accent, rest = values[:1], values[1:2], values[2:]
    if fixed_accent is not None:
        rest, accent = rest + accent * fixed_accent[:, None, None], np.zeros_like(accent)
    return np.concatenate([main, accent, rest, sketch[10:] / 255]).astype(np.float32)


def _landscape_layers(rgb: np.ndarray) -> np.ndarray:
    """Return the layers of a landscape (3, H, W), all of whose colours are fixed."""
    paints, alpha = np.zeros((2, *rgb.shape[1:])), np.ones((1, *rgb.shape[1:]))
    return np.concatenate([paints, rgb / 255, alpha]).astype(np.float32)


def _shrunk(pictures: np.ndarray, size: int) -> np.ndarray:
    """Reduce pictures (N, C, S, S) uint8 to (N, C, size, size) by averaging pixels; a size of 0 leaves them."""
    n, c, _, side = pictures.shape
    if size in (0, side):
        return pictures
    blocks = pictures.reshape(n, c, size, side // size, size, side // size)
    return blocks.mean((3, 5), dtype=np.float32).round().astype(np.uint8)
