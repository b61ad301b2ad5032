"""Unwrap: a flat chart for every part of a surface, packed into one square picture.

uv is in [0, 1]^2 with the origin at the bottom left, v up (trimesh, OpenGL, Blender): row r of a picture with
`size` rows, counted from the top, is centred on v = 1 - (r + 1/2)/size. glTF's v is down; its writer turns it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh

from .atlas import charts_apart

CHARTS = 64


def unwrap(mesh: trimesh.Trimesh, size: int = 1024, tick: Callable[[], None] = lambda: None) -> trimesh.Trimesh:
    """The same surface with texture coordinates for a picture of size x size, in `visual.uv` (V, 2).

    Vertices are repeated along seams, so V grows by a quarter or so; faces keep their number, order and winding,
    and vertex normals are those of the seamless mesh. Charts do not overlap and lie about three pixels of that picture apart.
    `tick` is called often and may raise, to stop. Raises ValueError for a mesh without faces.
    """
    if not len(mesh.faces):
        raise ValueError("the mesh to unwrap has no faces")
    # xatlas takes time that grows faster than linearly with the faces in a chart. Small charts make it 3 times as fast.
    source, faces, uv = charts_apart(
        mesh.vertices.astype(np.float32), mesh.faces.astype(np.uint32), mesh.area / CHARTS, size, tick
    )
    return trimesh.Trimesh(
        mesh.vertices[source],
        faces.astype(np.int64),
        vertex_normals=mesh.vertex_normals[source],
        visual=trimesh.visual.TextureVisuals(uv=uv.astype(np.float64)),
        process=False,
    )


def coordinates(mesh: trimesh.Trimesh) -> np.ndarray:
    """The texture coordinates (V, 2) float64 of an unwrapped mesh. Raises ValueError where it has none."""
    uv = getattr(mesh.visual, "uv", None)
    if uv is None or uv.shape != (len(mesh.vertices), 2):
        raise ValueError(f"the mesh needs one uv per vertex, ({len(mesh.vertices)}, 2); unwrap it first")
    return np.asarray(uv, dtype=np.float64)
