"""Training data: functions, each read at random points.

A folder holds shards of shapes or of landscapes (`render.py`), or pictures. A shape has no colours yet: it gets random ones,
and a caption, whenever it is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor

from ...training.folder import PictureFolder
from ..toybox.data import caption
from ..toybox.words import LENGTH, PAD, START, encode
from .domains import SPHERE, Domain

FINE = 64
"""Cells along each side of the grid in which shapes are stored."""
SIDE = 32
"""Cells along each side of the grid that is learned from; each is the mean of eight of the finer cells."""
PALETTE = 8
"""The largest number of materials of a shape."""
SPHERE_SIDE = 64
"""Colatitudes, and longitudes, of the grid in which landscapes are stored: twice the bandwidth."""
EDGE = 0.5
"""Fraction of the query points of a shape that are drawn from cells at its surface, which are few and decide how it looks."""
DROPPED = 0.1
"""Fraction of captions that are replaced by the empty one, for guidance."""
EMPTY = np.array([START] + [PAD] * (LENGTH - 1))
"""The word numbers of the empty caption."""


@dataclass
class Batch:
    """Functions, each known at points of its own.

    Attributes:
        coordinates: The points, (B, N, D).
        values: The functions there, (B, N, C) in [-1, 1].
        words: Word numbers (B, LENGTH).
    """

    coordinates: Tensor
    values: Tensor
    words: Tensor

    def to(self, device: torch.device) -> Batch:
        return Batch(self.coordinates.to(device), self.values.to(device), self.words.to(device))


class Functions(Protocol):
    """A set of functions to learn from.

    Attributes:
        domain: What they are functions of.
        side: The points along each side of the grid on which they are known.
    """

    @property
    def domain(self) -> Domain: ...
    @property
    def side(self) -> int: ...

    def __len__(self) -> int: ...

    def draw(self, points: Callable[[np.ndarray | None], np.ndarray], rng: Generator) -> tuple[np.ndarray, ...]:
        """Draw a function.

        Args:
            points: Takes the numbers of the grid's points that matter most, or None, and returns those to read (n,).
            rng: Draws the function, its colours and its caption.

        Returns:
            The numbers of the points (n,), the values there (n, C) in [-1, 1], and the word numbers (LENGTH,).
        """
        ...


class Shapes:
    """The shapes in a folder: occupancy, -1 outside and 1 inside, and the display RGB of the nearest surface, in [-1, 1]."""

    side = SIDE

    def __init__(self, folder: Path, domain: Domain):
        self.domain = domain
        self.cells, self.paints, self.palettes, self.labels = _shards(
            folder, "shapes", ("cells", "paints", "palettes", "labels"), _filled
        )

    def __len__(self) -> int:
        return len(self.cells)

    def draw(self, points: Callable[[np.ndarray | None], np.ndarray], rng: Generator) -> tuple[np.ndarray, ...]:
        n = int(rng.integers(len(self)))
        text, paints, _ = caption(int(self.labels[n, 0]), int(self.labels[n, 1]), rng)
        cells = self.cells[n]
        index = points(np.flatnonzero((cells > 0) & (cells < 8)))
        return index, self.values(n, index, paints), np.array(encode(text))

    def values(self, n: int, index: np.ndarray, paints: np.ndarray) -> np.ndarray:
        """Return the values (len(index), 4) of shape n at points of the grid, painted with two colours (2, 3) in [0, 1]."""
        palette = self.palettes[n]
        colours = palette[:, :1] * paints[0] + palette[:, 1:2] * paints[1] + palette[:, 2:]
        filled = self.cells[n][index].astype(np.float32) / 4 - 1
        return np.concatenate([filled[:, None], 2 * colours[self.paints[n].reshape(-1)[index]] - 1], 1)


class Landscapes:
    """The landscapes in a folder: display RGB over the sphere, in [-1, 1]."""

    domain, side = SPHERE, SPHERE_SIDE

    def __init__(self, folder: Path):
        self.pictures, self.words = _shards(folder, "spheres", ("pictures", "words"))

    def __len__(self) -> int:
        return len(self.pictures)

    def draw(self, points: Callable[[np.ndarray | None], np.ndarray], rng: Generator) -> tuple[np.ndarray, ...]:
        n, index = int(rng.integers(len(self))), points(None)
        return index, self.pictures[n].reshape(-1, 3)[index] / 127.5 - 1, self.words[n].astype(np.int64)


class Pictures:
    """The pictures in a folder, scaled to a square, in [-1, 1]. Their captions are not used."""

    def __init__(self, folder: Path, domain: Domain, side: int):
        self.domain, self.side, self.folder = domain, side, PictureFolder(folder)

    def __len__(self) -> int:
        return len(self.folder)

    def draw(self, points: Callable[[np.ndarray | None], np.ndarray], rng: Generator) -> tuple[np.ndarray, ...]:
        picture, index = self.folder.draw(rng)[0], points(None)
        return index, self.domain.read(picture, self.side)[index], EMPTY


class Points:
    """Draws the points at which functions are read: some for the context, then the queries.

    Some queries are context points as well, as most of a small context is in sampling.

    Args:
        functions: The functions.
        context: Points of the context.
        queries: Query points.
    """

    def __init__(self, functions: Functions, context: int, queries: int):
        self.functions, total = functions, len(functions.domain.grid(functions.side))
        self.context, self.queries = min(context, total), min(queries, total)
        self.shared = max(self.queries // 8, self.context + self.queries - total)

    @cached_property
    def coordinates(self) -> Tensor:
        """The points of the grid, (N, D)."""
        return self.functions.domain.grid(self.functions.side)

    @cached_property
    def areas(self) -> np.ndarray:
        """Their shares in the area or the volume, (N,)."""
        return self.functions.domain.areas(self.functions.side).double().numpy()

    def batch(self, size: int, rng: Generator, dropped: float = DROPPED) -> Batch:
        """Draw functions.

        Args:
            size: The number of functions.
            rng: Draws functions, points and dropped captions.
            dropped: The fraction of captions that are dropped.
        """

        def points(edge: np.ndarray | None) -> np.ndarray:
            wanted = self.context + self.queries - self.shared
            even = chosen(self.areas, wanted, rng)
            if edge is not None and len(edge):
                count = round(EDGE * (wanted - self.context))
                even[wanted - count :] = rng.choice(edge, count)
            return even

        drawn = [self.functions.draw(points, rng) for _ in range(size)]
        index, values, words = (np.stack(column) for column in zip(*drawn, strict=True))
        words[rng.uniform(size=size) < dropped] = EMPTY
        return Batch(
            self.coordinates[torch.from_numpy(index)],
            torch.from_numpy(values.astype(np.float32)),
            torch.from_numpy(words.astype(np.int64)),
        )

    def split(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """Split what belongs to the points of a batch, (B, N, ...), into context and queries."""
        return values[:, : self.context], values[:, self.context - self.shared :]


def chosen(areas: np.ndarray, count: int, rng: Generator) -> np.ndarray:
    """Draw `count` different points in random order, each with odds in proportion to its share of the area, (N,)."""
    keys = rng.exponential(size=len(areas)) / areas  # the order in which points ring that wait for an exponential time
    first = np.argpartition(keys, count - 1)[:count]
    return first[np.argsort(keys[first])]


def _filled(cells: np.ndarray) -> np.ndarray:
    """Count the filled ones of the eight finer cells in each cell: packed (N, 64, 64, 8) -> (N, 32^3) uint8 in 0 to 8."""
    fine = np.unpackbits(cells, axis=-1)
    blocks = fine.reshape(len(fine), SIDE, 2, SIDE, 2, SIDE, 2)
    return blocks.sum((2, 4, 6), dtype=np.uint8).reshape(len(fine), -1)


def _shards(
    folder: Path, kind: str, columns: tuple[str, ...], first: Callable[[np.ndarray], np.ndarray] = lambda array: array
) -> list[np.ndarray]:
    """Read the columns of all shards of a kind; `first` converts the first column of each."""
    paths = sorted(folder.glob(f"{kind}-????.npz"))
    if not paths:
        raise ValueError(
            f"{folder} holds no {kind}-*.npz: make them with python -m pullback.generative.dpf.render {kind} {folder}"
        )
    parts = []
    for path in paths:
        with np.load(path) as shard:
            parts.append([first(shard[columns[0]]), *(shard[name] for name in columns[1:])])
    return [np.concatenate(column) for column in zip(*parts, strict=True)]
