"""Data: the pictures that toybox is trained on, painted anew each time that they are drawn.

A folder holds shards (`pictures.py`): sketches, whose paints are not yet chosen, and landscapes. A sketch serves every
caption of its noun and size, so colours cost no rendering.
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
"""Pictures in a file."""
LIT = 0.6
"""Part of the pictures that are shown in light and shadow."""
NAMELESS, SECOND = 0.25, 0.15
"""Parts of the captions that name no colour, and two."""


@dataclass
class Batch:
    """Pictures (B, 4, H, W) in [-1, 1] and what they show: words (B, LENGTH), cameras (B, 3), lit (B,) in {0, 1}.

    layers (B, LAYERS, H, W) in [0, 1] are what the template is to draw of them.
    """

    x: Tensor
    layers: Tensor
    words: Tensor
    cameras: Tensor
    lit: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(*(getattr(self, each.name).to(device) for each in fields(self)))


class Pictures:
    """All sketches and landscapes that lie in a folder; `refresh` takes in the shards that came since.

    size: pixels of the pictures, a divisor of 64.
    """

    def __init__(self, folder: Path, size: int = 64):
        self.folder, self.size, self.seen = folder, size, set[Path]()
        self.shards: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.refresh()

    def refresh(self) -> None:
        for path in sorted(
            {*self.folder.glob("objects-????.npz"), *self.folder.glob("landscapes-????.npz")} - self.seen
        ):
            with np.load(path) as shard:
                self.shards.append((_shrunk(shard["pictures"], self.size), shard["labels"], shard["cameras"]))
            self.seen.add(path)
        if not self.shards:
            raise FileNotFoundError(f"no objects-*.npz in {self.folder}: run the command `render` first")

    def batch(self, size: int, rng: Generator) -> Batch:
        """Random pictures, painted anew, with conditions dropped at random."""
        drawn = [self._one(*divmod(int(n), SHARD), rng) for n in rng.integers(len(self.shards) * SHARD, size=size)]
        layers, paints, words, cameras, lit = (
            torch.from_numpy(np.stack([each[k] for each in drawn])) for k in range(5)
        )
        words[torch.from_numpy(rng.uniform(size=size) < 0.1)] = torch.tensor([START] + [PAD] * (LENGTH - 1))
        cameras[torch.from_numpy(rng.uniform(size=size) < 0.1)] = torch.tensor([0.0, 0.0, ANY])
        return Batch(painted(layers, paints[:, 0], paints[:, 1]), layers, words, cameras, lit)

    def _one(self, shard: int, place: int, rng: Generator) -> tuple[np.ndarray, ...]:
        """Layers, paints (2, 3), words, camera and light of one picture."""
        pictures, labels, cameras = (part[place] for part in self.shards[shard])
        lit = rng.uniform() < LIT
        if len(pictures) == 3:
            layers, paints, numbers = _opaque(pictures), np.zeros((2, 3)), labels
        else:
            text, paints, own = caption(int(labels[0]), int(labels[1]), rng)
            layers, numbers = _layers(pictures, own, lit), np.array(encode(text))
        return layers, paints.astype(np.float32), numbers.astype(np.int64), cameras, np.array(lit, np.float32)


def caption(noun: int, size: int, rng: Generator) -> tuple[str, np.ndarray, np.ndarray | None]:
    """A random caption of a sketch: its text, the paints (2, 3), and the accent's where the caption does not decide it.

    The accent's own colour (3,) is None where it takes the second paint.
    """
    name, kind = NOUNS[noun], objects.NOUNS[NOUNS[noun]]
    first, other = (str(c) for c in rng.choice(list(COLOURS), 2, replace=False))
    second = rng.uniform() < SECOND
    main, accent = objects.paints(name, first, other if second else None, rng)
    named = f"{first} and {other}" if second else first if rng.uniform() > NAMELESS else ""
    own = None if second or kind.accent == "main" else accent
    return f"{SIZES[size - 1] if size else ''} {named} {name}", np.stack([main, accent]), own


def _layers(sketch: np.ndarray, own: np.ndarray | None, lit: bool) -> np.ndarray:
    """The template's layers (LAYERS, H, W) of a sketch (11, H, W); `own` is the accent's colour where it has one.

    An accent that takes the main paint's colour still has a layer of its own: painted alike, they look alike.
    """
    values = (sketch[:5] if lit else sketch[5:10]).astype(np.float32) / 255
    main, accent, rest = values[:1], values[1:2], values[2:]
    if own is not None:
        rest, accent = rest + accent * own[:, None, None], np.zeros_like(accent)
    return np.concatenate([main, accent, rest, sketch[10:] / 255]).astype(np.float32)


def _opaque(rgb: np.ndarray) -> np.ndarray:
    """The layers of a landscape (3, H, W): all of it in colours of its own."""
    none, all = np.zeros((2, *rgb.shape[1:])), np.ones((1, *rgb.shape[1:]))
    return np.concatenate([none, rgb / 255, all]).astype(np.float32)


def _shrunk(pictures: np.ndarray, size: int) -> np.ndarray:
    """Pictures (N, C, 64, 64) uint8 as means of pixels, (N, C, size, size)."""
    n, c, _, side = pictures.shape
    if size == side:
        return pictures
    blocks = pictures.reshape(n, c, size, side // size, size, side // size)
    return blocks.mean((3, 5), dtype=np.float32).round().astype(np.uint8)
