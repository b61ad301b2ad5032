"""Do objects come back from six pictures? Toybox's objects, photographed with light by cameras with long lenses on the six sides.

`python benchmarks/pictures.py write FOLDER` writes NOUN/transforms.json and pictures. Any door then makes meshes of them, such as
`pullback reconstruct FOLDER/NOUN/transforms.json -o FOLDER/NOUN.glb`, or Blender without a window:
`python -m blender_addon.batch --pictures FOLDER/NOUN/transforms.json … -o "FOLDER/{prompt}.glb"`.
`python benchmarks/pictures.py table FOLDER` compares the meshes that are there with the true objects: the largest difference of
their bounds, relative to the longest side, and the part of the volume that both share of what either fills (IoU).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
import trimesh
import typer
from pullback.generative.toybox.objects import build
from pullback.generative.toybox.pictures import photograph
from pullback.geometry.cameras import orbit
from pullback.photographs import write_transforms

app = typer.Typer()
NOUNS = ("house", "mushroom", "car", "robot", "duck", "snowman", "cube", "chair")
CAMERAS = orbit(
    torch.tensor([0.0, 0.5, 1.0, 1.5, 0.0, 0.0]) * math.pi, torch.deg2rad(torch.tensor([0.0, 0, 0, 0, 88, -88])),
    distance=20.0, fov=math.radians(6),
)  # fmt: skip
"""Far away, with long lenses: the object itself hides what lies just beyond its sides from cameras that are near."""
CELLS = 96
"""Of the grid in which volumes are compared, along each side."""


def true(noun: str) -> tuple[Any, np.ndarray]:
    """The mesh of an object and the colours of its faces."""
    return build(noun, "red", None, None, np.random.default_rng(0))


@app.command()
def write(folder: Path, size: int = 128, nouns: str = ",".join(NOUNS)) -> None:
    """Write pictures and poses of the objects."""
    for noun in nouns.split(","):
        (folder / noun).mkdir(parents=True, exist_ok=True)
        layers = torch.from_numpy(photograph(*true(noun), CAMERAS, size)).float() / 255
        print(write_transforms(folder / noun, CAMERAS, torch.cat([layers[:, :3], layers[:, -1:]], 1)))


@app.command()
def table(folder: Path, nouns: str = ",".join(NOUNS)) -> None:
    """Print how close the meshes come."""
    print("| object | bounds off by | IoU |\n| --- | --- | --- |")
    for noun in nouns.split(","):
        if (path := folder / f"{noun}.glb").exists():
            off, iou = compared(trimesh.load(path, force="mesh"), true(noun)[0])
            print(f"| {noun} | {100 * off:.1f} % | {iou:.2f} |", flush=True)


def compared(mesh: Any, truth: Any) -> tuple[float, float]:
    """The largest difference of the bounds, relative to the longest side, and the IoU. `mesh` is Y up, `truth` Z up."""
    mesh.apply_transform(trimesh.transformations.rotation_matrix(math.pi / 2, (1, 0, 0)))
    bounds = np.stack([mesh.bounds, truth.bounds])
    low, high = bounds[:, 0].min(0) - 0.01, bounds[:, 1].max(0) + 0.01
    a, b = (filled(each.triangles, low, (high - low) / CELLS) for each in (mesh, truth))
    return float(np.abs(bounds[0] - bounds[1]).max() / np.ptp(truth.bounds, axis=0).max()), (a & b).sum() / (
        a | b
    ).sum()


def filled(triangles: np.ndarray, low: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Which cells of a grid lie inside closed surfaces, which may overlap: those around which they wind, (N, N, N)."""
    crossings = np.zeros((CELLS, CELLS, CELLS + 1), int)
    for a, b, c in (triangles - low) / cell - 0.5:  # cells have whole numbers at their middles
        area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
        first = np.maximum(np.ceil(np.min([a, b, c], 0)[:2]), 0).astype(int)
        last = np.minimum(np.ceil(np.max([a, b, c], 0)[:2]), CELLS).astype(int)
        if abs(area) < 1e-12 or (last <= first).any():
            continue
        x, y = np.meshgrid(np.arange(first[0], last[0]), np.arange(first[1], last[1]), indexing="ij")
        u = ((b[0] - x) * (c[1] - y) - (b[1] - y) * (c[0] - x)) / area
        v = ((c[0] - x) * (a[1] - y) - (c[1] - y) * (a[0] - x)) / area
        hit = (u >= 0) & (v >= 0) & (u + v <= 1)
        height = u * a[2] + v * b[2] + (1 - u - v) * c[2]
        above = np.clip(np.ceil(height[hit]), 0, CELLS).astype(int)
        np.add.at(crossings, (x[hit], y[hit], above), -1 if area > 0 else 1)
    return np.cumsum(crossings, -1)[..., :CELLS] > 0


if __name__ == "__main__":
    app()
