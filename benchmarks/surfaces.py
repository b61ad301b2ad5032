"""Are objects smooth, hollow where they should be, and free of shading? Measured on meshes, compared with rendered solids.

`python benchmarks/surfaces.py [NOUN ...] [--seed 0] [--steps 30]` samples each noun, meshes it, and prints

- light: how much of the luminance the normals alone explain (R^2 of a fit by the nine spherical harmonics up to degree 2,
  weighted by area), because a texture should hold colours without shading;
- undersides: the mean colour difference of neighbouring faces that look down (z of the normal below -0.5), divided by that of
  faces at the sides (z between -0.5 and 0.5);
- roughness: the mean angle between neighbouring faces, in degrees;
- hollow: how far vertical rays near the middle get into the object, as a fraction of its height: from below for an umbrella, and
  else from above.

A second row shows the same for a solid of that noun from toybox's renderer, meshed as fields are.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import trimesh
import typer
from pullback import tasks
from pullback.generative.toybox import objects
from pullback.mesh.surface import extract
from pullback.tasks import Settings
from scipy.spatial import cKDTree
from trimesh import Trimesh

NOUNS = ("duck", "umbrella", "donut", "mug", "chair", "bottle")
COLOURS = ("yellow", "red", "pink", "blue", "green", "orange")
FROM_BELOW = ("umbrella",)


def harmonics(n: np.ndarray) -> np.ndarray:
    """Return the nine real spherical harmonics up to degree 2, not normalised, of unit vectors (N, 3)."""
    x, y, z = n.T
    return np.stack([np.ones_like(x), x, y, z, x * y, y * z, x * z, x * x - y * y, 3 * z * z - 1], 1)


def explained(normals: np.ndarray, luminance: np.ndarray, area: np.ndarray) -> float:
    """Return the R^2 of luminance (N,), fitted by harmonics of normals (N, 3) and weighted by area (N,)."""
    root = np.sqrt(area)
    terms = harmonics(normals)
    fitted = terms @ np.linalg.lstsq(terms * root[:, None], luminance * root, rcond=None)[0]
    mean = np.average(luminance, weights=area)
    total = np.average((luminance - mean) ** 2, weights=area)
    return 1 - float(np.average((luminance - fitted) ** 2, weights=area)) / max(total, 1e-6)


def contrast(mesh: Trimesh, rgb: np.ndarray, chosen: np.ndarray) -> float:
    """Return the mean RGB distance between neighbouring faces, if both are among the `chosen` ones, (faces,) bool."""
    pairs = mesh.face_adjacency[chosen[mesh.face_adjacency].all(1)]
    return float(np.linalg.norm(rgb[pairs[:, 0]] - rgb[pairs[:, 1]], axis=1).mean()) if len(pairs) else float("nan")


def hollow(mesh: Trimesh, below: bool) -> float:
    """Return how far vertical rays get into an object, as a fraction of its height: the median over a circle around its axis."""
    low, high = mesh.bounds
    around = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    middle = (low + high) / 2
    radius = 0.35 * (high - low)[:2].min() / 2
    start = np.stack([middle[0] + radius * np.cos(around), middle[1] + radius * np.sin(around), np.full(12, 0.0)], 1)
    start[:, 2] = low[2] - 1 if below else high[2] + 1
    direction = np.tile((0, 0, 1.0 if below else -1.0), (12, 1))
    places, rays, _ = mesh.ray.intersects_location(start, direction, multiple_hits=False)
    depth = np.full(12, (high - low)[2])
    depth[rays] = np.abs(places[:, 2] - (low[2] if below else high[2]))
    return float(np.median(depth) / (high - low)[2])


def texels(mesh: Any, texture: np.ndarray) -> np.ndarray:
    """Return the texture's display RGB (faces, 3) at the middle of every face."""
    u, v = mesh.visual.uv[mesh.faces].mean(1).T
    size = len(texture) - 1
    return texture[((1 - v) * size).round().astype(int), (u * size).round().astype(int)] / 255.0


def figures(mesh: Trimesh, rgb: np.ndarray, noun: str) -> str:
    """Return the four cells of a row of the table."""
    luminance = rgb @ (0.299, 0.587, 0.114)
    undersides, sides = mesh.face_normals[:, 2] < -0.5, np.abs(mesh.face_normals[:, 2]) < 0.5
    ratio = contrast(mesh, rgb, undersides) / max(contrast(mesh, rgb, sides), 1e-9)
    rough = np.degrees(np.average(mesh.face_adjacency_angles, weights=mesh.area_faces[mesh.face_adjacency].sum(1)))
    light = explained(mesh.face_normals, luminance, mesh.area_faces)
    return f"{light:.2f} | {ratio:.2f} | {rough:.1f} | {hollow(mesh, noun in FROM_BELOW):.2f}"


def true_solid(noun: str, colour: str, resolution: int = 128, faces: int = 20_000) -> tuple[Trimesh, np.ndarray]:
    """Build a solid with toybox's renderer, mesh it as fields are meshed, and return it with its display RGB (faces, 3)."""
    solid, rgb = objects.build(noun, colour, None, None, np.random.default_rng(3))
    bodies = [part for part in solid.split(only_watertight=False) if len(part.faces) > 3]

    def density(points: torch.Tensor) -> torch.Tensor:
        inside = np.any([body.contains(points.numpy()) for body in bodies], 0)
        return torch.from_numpy(40.0 * inside)

    mesh = extract(density, resolution, faces=faces)
    points, face = trimesh.sample.sample_surface(solid, 100_000, seed=0)
    return mesh, rgb[face[cKDTree(points).query(mesh.triangles_center)[1]]]


def main(nouns: list[str] = typer.Argument(None), seed: int = 0, steps: int = 30, dark_below: float = 0.0) -> None:
    model: Any = tasks.load_model()
    if dark_below:
        model = type(model)(dark_below=dark_below)
    print("| object | light | undersides | roughness | hollow |\n| --- | --- | --- | --- | --- |")
    for noun in nouns or NOUNS:
        colour = COLOURS[NOUNS.index(noun) if noun in NOUNS else 0]
        settings = Settings(f"{colour} {noun}", seed=seed, guidance=1.0, steps=steps)
        recipe = tasks.recipe("generate", model, settings)
        field = tasks.field_of(recipe, settings, model, tasks.sample(tasks.prepare(model, recipe, settings), seed))
        mesh, texture = tasks.textured_mesh(field, model)
        print(f"| {settings.prompt} | {figures(mesh, texels(mesh, texture), noun)} |", flush=True)
        print(f"| exact {noun} | {figures(*true_solid(noun, colour), noun)} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
