"""Which cells of a grid a mesh fills, and which part of its surface is nearest to each. Needs `trimesh` with `embreex`.

A grid of `side` cells along each side of the cube [-1, 1]^3 is indexed as x, y, z; a cell is read at its centre.
"""

from __future__ import annotations

import numpy as np
import trimesh
from numpy.random import Generator
from scipy.spatial import cKDTree
from trimesh import Trimesh

ASIDE = 1e-4
"""Rays pass this far beside the centres of the cells, so that they miss the edges of symmetric meshes."""
SURFACE_POINTS = 6000
"""Points on the surface among which the nearest one is searched."""
OUTSIDE = 4e-3
"""A point on the surface is visible if this far above it no other body is. Buried faces are not."""


def centres(side: int) -> np.ndarray:
    """Return the coordinates of the centres of cells along one axis, (side,)."""
    return (2 * np.arange(side) + 1) / side - 1


def occupied(mesh: Trimesh, side: int) -> np.ndarray:
    """Return the cells whose centres a mesh encloses, (side, side, side) bool.

    The mesh may consist of overlapping bodies, each of them closed. All surfaces that are not closed count as one body. A centre
    is inside a body if, on rays along at least two of the three axes, it lies behind an odd number of surfaces.

    Args:
        mesh: The mesh, within the cube.
        side: Cells along each side.
    """
    inside = np.zeros((side,) * 3, bool)
    for body in bodies(mesh):
        inside |= sum(_behind_odd(body, side, axis).astype(np.int8) for axis in range(3)) >= 2
    return inside


def bodies(mesh: Trimesh) -> list[Trimesh]:
    """Split a mesh into its closed parts, and one part of everything that is not closed."""
    count = len(mesh.faces)
    labels = trimesh.graph.connected_component_labels(mesh.face_adjacency, count)
    faces = np.bincount(labels)
    neighbours = np.bincount(labels[mesh.face_adjacency[:, 0]], minlength=len(faces))
    closed = 2 * neighbours == 3 * faces
    groups = [labels == label for label in np.flatnonzero(closed)]
    if not closed.all():
        groups.append(~closed[labels])
    return [Trimesh(mesh.vertices, mesh.faces[group], process=False) for group in groups]


def _behind_odd(body: Trimesh, side: int, axis: int) -> np.ndarray:
    """Return the cells that lie behind an odd number of faces along an axis, (side, side, side) bool."""
    line = centres(side)
    across = np.stack(np.meshgrid(line + 0.7 * ASIDE, line + ASIDE, indexing="ij"), -1).reshape(-1, 2)
    origins = np.insert(across, axis, -2.0, axis=1)
    places, ray, _ = body.ray.intersects_location(origins, np.tile(np.eye(3)[axis], (len(origins), 1)))
    crossed = np.zeros((side * side, side + 1), np.int32)
    np.add.at(crossed, (ray, np.searchsorted(line, places[:, axis])), 1)
    odd = (crossed.cumsum(1) % 2 == 1)[:, :side]
    return np.moveaxis(odd.reshape((side,) * 3), 2, axis)


def nearest_faces(mesh: Trimesh, side: int, rng: Generator) -> np.ndarray:
    """Return, for every cell, a face whose visible surface is near its centre, (side, side, side) long.

    Args:
        mesh: The mesh, as in `occupied`.
        side: Cells along each side.
        rng: Draws the points of the surface among which the nearest one is found.
    """
    points, face = trimesh.sample.sample_surface(mesh, SURFACE_POINTS, seed=rng)
    above = points + OUTSIDE * mesh.face_normals[face]
    below = points - OUTSIDE * mesh.face_normals[face]
    visible = ~(_enclosed(mesh, above) & _enclosed(mesh, below))
    if visible.any():
        points, face = points[visible], face[visible]
    line = centres(side)
    grid = np.stack(np.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
    return face[cKDTree(points).query(grid)[1]].reshape((side,) * 3)


def _enclosed(mesh: Trimesh, points: np.ndarray) -> np.ndarray:
    """Return whether some body of the mesh encloses each point, (n,) bool."""
    inside = np.zeros(len(points), bool)
    for body in bodies(mesh):
        odd = np.zeros(len(points), np.int8)
        for axis in range(3):
            _, ray, _ = body.ray.intersects_location(points, np.tile(np.eye(3)[axis], (len(points), 1)))
            odd += np.bincount(ray, minlength=len(points)) % 2 == 1
        inside |= odd >= 2
    return inside
