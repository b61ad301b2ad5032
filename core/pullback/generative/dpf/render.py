"""Making of training data: `python -m pullback.generative.dpf.render COMMAND`. Needs the extra `train`.

`shapes` writes occupancies of toybox's objects, unpainted, so that one shape serves every colour. `spheres` writes its landscapes
over the whole sphere. Several processes may write into one folder if their `--seed`s keep them from writing the same files.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import typer
from numpy.random import Generator

from ...files import atomic
from ..toybox import landscapes, objects
from ..toybox.pictures import SIZED
from ..toybox.words import LANDSCAPES, NOUNS, SIZES, TIMES, encode
from .data import FINE, PALETTE, SIDE, SPHERE_SIDE
from .occupancy import nearest_faces, occupied

SHAPES = 10
"""Shapes of each noun per file."""
SPHERES = 256
"""Landscapes per file."""
SUPERSAMPLING = 4
"""Directions per side of a cell of the sphere's grid that are averaged."""

app = typer.Typer(add_completion=False, help="Make the data that Diffusion Probabilistic Fields are trained on.")


@app.command()
def shapes(folder: Path, shards: int = 16, seed: int = 0) -> None:
    """Write `shards` files of 240 shapes, 10 of each noun.

    `--seed` is the number of the first file; the number of a file is also the seed of its shapes. Files that exist already are
    not made again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(seed, seed + shards):
        path = folder / f"shapes-{number:04d}.npz"
        if not path.exists():
            rng = np.random.default_rng((number, 1))
            columns = zip(*(shape(noun, rng) for noun in range(len(NOUNS)) for _ in range(SHAPES)), strict=True)
            cells, paints, palettes, labels = (np.stack(column) for column in columns)
            with atomic(path) as part:
                np.savez_compressed(part, cells=np.packbits(cells, -1), paints=paints, palettes=palettes, labels=labels)


def shape(noun: int, rng: Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Make one random shape.

    Returns:
        The cells that it fills, (FINE, FINE, FINE) bool; the number of the material that is nearest to each of the coarser
        cells, (SIDE, SIDE, SIDE) uint8; the materials (PALETTE, 5) float32 (`objects.solid`); and the number of the noun and one
        plus that of its size word, or 0 if it has none, (2,) uint8.
    """
    size = int(rng.integers(len(SIZES))) + 1 if rng.uniform() < SIZED else 0
    mesh, material = objects.solid(NOUNS[noun], SIZES[size - 1] if size else None, rng)
    kinds, kind = np.unique(material, axis=0, return_inverse=True)
    palette = np.zeros((PALETTE, 5), np.float32)
    palette[: len(kinds)] = kinds
    paints = kind.reshape(-1)[nearest_faces(mesh, SIDE, rng)].astype(np.uint8)
    return occupied(mesh, FINE), paints, palette, np.array((noun, size), np.uint8)


@app.command()
def spheres(folder: Path, shards: int = 8, seed: int = 0) -> None:
    """Write `shards` files of 256 landscapes; the options are those of `shapes`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(seed, seed + shards):
        path = folder / f"spheres-{number:04d}.npz"
        if not path.exists():
            rng = np.random.default_rng((number, 2))
            pictures, words = (
                np.stack(column) for column in zip(*(landscape(rng) for _ in range(SPHERES)), strict=True)
            )
            with atomic(path) as part:
                np.savez_compressed(part, pictures=pictures, words=words)


def landscape(rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Paint one random landscape on a Driscoll-Healy grid, (SPHERE_SIDE, SPHERE_SIDE, 3) uint8, and return its words."""
    place, time = str(rng.choice(LANDSCAPES)), str(rng.choice(TIMES))
    fine = SPHERE_SIDE * SUPERSAMPLING
    step = (np.arange(fine) + 0.5) / SUPERSAMPLING - 0.5  # cells are centred on the nodes of the grid
    colatitude, longitude = np.meshgrid(np.pi * step / SPHERE_SIDE, 2 * np.pi * step / SPHERE_SIDE, indexing="ij")
    elevation = np.pi / 2 - np.abs(colatitude)  # the first cells reach beyond the pole
    azimuth = np.where(colatitude < 0, longitude + np.pi, longitude)
    azimuth = (azimuth + np.pi) % (2 * np.pi) - np.pi
    rgb = landscapes.paint(place, time, azimuth.astype(np.float32), elevation.astype(np.float32), rng)
    rgb = rgb.reshape(SPHERE_SIDE, SUPERSAMPLING, SPHERE_SIDE, SUPERSAMPLING, 3).mean((1, 3))
    return np.round(255 * rgb).astype(np.uint8), np.array(encode(f"{place} {time}"), np.uint8)


if __name__ == "__main__":
    app()
