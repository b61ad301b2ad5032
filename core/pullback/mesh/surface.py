"""Surface extraction: the closed triangle mesh of a density field.

A density sigma is in 1/length, as in volume rendering: along a length d, light keeps exp(-sigma d) of its intensity. A sampled
field that looks solid may still be fog: deep, thin, and full of holes that no view shows. So a point counts as inside if the
density reaches a level there, or if little light arrives there from any direction. Meshes are in the field's world
coordinates (right-handed, Z up) and closed, and their normals point outwards.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import fast_simplification
import numpy as np
import torch
import trimesh
from scipy import ndimage
from skimage.measure import marching_cubes
from torch import Tensor

LEVEL = 10.0
"""Density of the surface. Half of the light is lost within log(2) / LEVEL = 0.07, a thirtieth of the object's cube."""
HIDDEN = 0.3
"""Points are inside if at least this fraction of the light is lost on the way to them, even from the clearest direction."""
CHUNK = 1 << 16
"""The number of points at which the density is evaluated at a time."""
BLUR_CELLS = 0.7
"""Standard deviation of the blur before the surface is extracted, in cells."""
NUDGE = 5e-3
"""The smallest magnitude of the values, which keeps the surface away from the corners of the grid."""


def extract(
    density: Callable[[Tensor], Tensor],
    resolution: int = 128,
    level: float = LEVEL,
    faces: int = 20_000,
    bound: float = 1.0,
    device: torch.device | str = "cpu",
    tick: Callable[[], None] = lambda: None,
) -> trimesh.Trimesh:
    """Extract the outer surface of the largest body in [-bound, bound]^3.

    Smaller bodies and enclosed cavities are dropped. No random numbers are used.

    Args:
        density: Maps world points (N, 3) float32 on `device` to densities (N,) in 1/length. Negative values count as
            empty, +inf as opaque. It is called without gradients.
        resolution: Cells along each side of the cube; the density is read at their centres.
        level: The density of the surface.
        faces: The largest number of triangles. In rare cases a few more are needed to keep a tangled body closed.
        bound: Half the side of the cube.
        device: The device of the points.
        tick: Called often; it may raise to stop.

    Returns:
        A watertight mesh whose normals point outwards.

    Raises:
        ValueError: If the field is empty, its density is NaN somewhere, or an argument is out of range.
    """
    if resolution < 2 or faces < 4 or not level > 0 or not bound > 0:
        raise ValueError(
            "extract needs resolution >= 2, faces >= 4, level > 0 and bound > 0, "
            f"got {resolution}, {faces}, {level} and {bound}"
        )
    sigma = _sample(density, resolution, bound, device, tick)
    signed = _signed(sigma, level, 2 * bound / resolution, tick)
    if not signed.max() > 0:
        reached = f"exceeds {level:g} only in specks smaller than a cell of the grid"
        if sigma.max() <= level:
            reached = f"reaches only {sigma.max():.3g}, not the level of {level:g}, and it hides nothing"
        raise ValueError(f"the field is empty: its density {reached}; sample with more steps or another seed")
    tick()
    vertices, triangles, _, _ = marching_cubes(signed, 0.0, gradient_direction="ascent")
    cells = vertices - 1.5  # two layers of padding, and the centre of the first cell lies half a cell inside
    mesh = _largest(trimesh.Trimesh((2 * cells / resolution - 1) * bound, triangles, process=False))
    return _largest(_decimated(mesh, faces, tick))


def _sample(
    density: Callable[[Tensor], Tensor],
    resolution: int,
    bound: float,
    device: torch.device | str,
    tick: Callable[[], None],
) -> np.ndarray:
    """Return the density at the centres of the cells, (R, R, R) float32 as x, y, z."""
    axis = ((2 * torch.arange(resolution) + 1) / resolution - 1) * bound
    slabs = []
    with torch.no_grad():
        for part in axis.split(max(1, CHUNK // resolution**2)):
            tick()
            points = torch.cartesian_prod(part, axis, axis).to(device)
            value = density(points)
            if value.shape != points.shape[:1]:
                raise ValueError(
                    f"density must map ({len(points)}, 3) points to ({len(points)},), got {tuple(value.shape)}"
                )
            slabs.append(value.float().cpu().reshape(len(part), resolution, resolution))
    sigma = torch.cat(slabs).numpy()
    if np.isnan(sigma).any():
        raise ValueError(
            f"the density is NaN at {np.isnan(sigma).sum()} of {sigma.size} points, so the field diverged; "
            "sample again with another seed or a lower learning rate"
        )
    return sigma


def _signed(sigma: np.ndarray, level: float, cell: float, tick: Callable[[], None]) -> np.ndarray:
    """Return a bounded function that is zero at the surface, padded with empty layers that close the surface."""
    # Based on opacity, not density: a density of 1000 next to a density of 0 would pull the zero to the empty side.
    sigma = np.maximum(sigma, 0.0)
    opaque = _smoothed(sigma / level)
    hidden = _smoothed(_depth(sigma, cell, tick) / -np.log(1 - HIDDEN))
    signed = np.maximum(opaque, hidden)
    # If the surface went through a corner of the grid, several vertices would coincide there, and triangles would collapse.
    return np.where(np.abs(signed) < NUDGE, np.copysign(NUDGE, signed), signed)


def _smoothed(halvings: np.ndarray) -> np.ndarray:
    """Return 1/2 - 2^-halvings, padded and blurred.

    Saturated fields are nearly binary and would give stair steps. The blur halves the error of their normals, but leaves a
    sheet that is one cell thick above zero.
    """
    opacity = np.pad(1 - np.exp2(-halvings.astype(np.float64)), 2)
    return ndimage.gaussian_filter(opacity, BLUR_CELLS, mode="constant") - 0.5


def _depth(sigma: np.ndarray, cell: float, tick: Callable[[], None] = lambda: None) -> np.ndarray:
    """Return the optical depth between each cell's centre and the outside, (R, R, R), in the clearest of 26 directions."""
    least = np.full_like(sigma, np.inf)
    for direction in product((-1, 0, 1), repeat=3):
        if any(direction):
            axis = next(i for i in range(3) if direction[i])
            flipped = slice(None, None, direction[axis])
            half = 0.5 * cell * np.sqrt(np.abs(direction).sum())
            a, b = (direction[i] for i in range(3) if i != axis)
            slabs, nearest = (np.moveaxis(grid, axis, 0)[flipped] for grid in (sigma, least))
            depth = np.zeros_like(slabs[0])  # of everything before the current slab
            for slab, shallowest in zip(slabs, nearest, strict=True):
                tick()
                depth = np.pad(depth, 1)[1 - a : len(depth) + 1 - a, 1 - b : len(depth) + 1 - b] + half * slab
                np.minimum(shallowest, depth, out=shallowest)
                depth = depth + half * slab
    return least


def _largest(mesh: trimesh.Trimesh) -> trimesh.Trimesh:
    """Return the connected part that encloses the largest volume. The volume of a cavity is negative."""
    labels = trimesh.graph.connected_component_labels(mesh.face_adjacency, len(mesh.faces))
    a, b, c = mesh.triangles.transpose(1, 0, 2)
    volumes = np.bincount(labels, weights=np.einsum("ni,ni->n", a, np.cross(b, c)))
    return _compact(mesh.vertices, mesh.faces[labels == volumes.argmax()])


def _compact(vertices: np.ndarray, faces: np.ndarray) -> trimesh.Trimesh:
    """Return a mesh of the given faces, with only the vertices that they use."""
    used, index = np.unique(faces, return_inverse=True)
    return trimesh.Trimesh(vertices[used], index.reshape(-1, 3), process=False)


def _decimated(mesh: trimesh.Trimesh, faces: int, tick: Callable[[], None]) -> trimesh.Trimesh:
    """Return a closed mesh with at most `faces` triangles. Mending adds a few, so each round has a lower target."""
    target = faces
    for _ in range(6):
        tick()
        if len(mesh.faces) <= faces:
            break
        vertices, triangles = fast_simplification.simplify(mesh.vertices, mesh.faces, target_count=max(target, 4))
        mesh = _compact(*_mended(vertices, triangles))
        target -= max(0, len(mesh.faces) - faces)
    return mesh


def _mended(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mend a mesh so that every edge belongs to exactly two triangles again.

    Collapsing edges can fold a thin part flat or close a narrow ring. Both leave edges with four or six triangles.
    """
    faces = faces[(faces != np.roll(faces, 1, axis=1)).all(axis=1)]
    _, group, count = np.unique(np.sort(faces, axis=1), axis=0, return_inverse=True, return_counts=True)
    faces = faces[count[group.reshape(-1)] == 1]  # a folded flap is two opposite triangles that enclose nothing
    edges, count = np.unique(np.sort(_edges(faces), axis=1), axis=0, return_counts=True)
    for a, b in edges[count > 2]:
        vertices, faces = _split(vertices, faces, a, b)
    return vertices, faces


def _edges(faces: np.ndarray) -> np.ndarray:
    """Return the directed edges (3 F, 2). Edge k of face f is row k F + f."""
    return np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])


def _split(vertices: np.ndarray, faces: np.ndarray, a: int, b: int) -> tuple[np.ndarray, np.ndarray]:
    """Separate the sheets that meet in edge ab: all but the first get a midpoint of their own. The shape stays the same."""
    edges = _edges(faces)
    there = np.flatnonzero((edges == (a, b)).all(axis=1)) % len(faces)
    back = np.flatnonzero((edges == (b, a)).all(axis=1)) % len(faces)
    for pair in zip(there[1:], back[1:], strict=False):
        rows, middle = list(pair), len(vertices)
        vertices = np.concatenate([vertices, vertices[[a, b]].mean(axis=0, keepdims=True)])
        halves = [np.where(faces[rows] == end, middle, faces[rows]) for end in (a, b)]
        faces[rows] = halves[0]
        faces = np.concatenate([faces, halves[1]])
    return vertices, faces
