"""UV unwrapping: flat charts of a surface, packed into one square texture.

uv is in [0, 1]^2 with the origin at the bottom left and v up (as in trimesh, OpenGL and Blender): row r of a picture with
`size` rows, counted from the top, is centred on v = 1 - (r + 1/2) / size. In glTF v points down; the exporter flips it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import trimesh

from .atlas import charts_apart

CHARTS = 64
"""The least number of charts that the surface is cut into. xatlas is three times as fast with small charts."""


def unwrap(mesh: trimesh.Trimesh, size: int = 1024, tick: Callable[[], None] = lambda: None) -> trimesh.Trimesh:
    """Return the same surface with texture coordinates in `visual.uv`, (V, 2).

    Vertices are repeated along seams, so their number grows by about a quarter. Faces keep their number, order and winding,
    and vertex normals are those of the seamless mesh. Charts do not overlap; they lie about three pixels apart.

    Args:
        mesh: The mesh.
        size: Side of the texture in pixels.
        tick: Called often; it may raise to stop.

    Raises:
        ValueError: If the mesh has no faces, or xatlas fails.
    """
    if not len(mesh.faces):
        raise ValueError("the mesh to unwrap has no faces")

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
    """Return the texture coordinates of an unwrapped mesh, (V, 2) float64. Raise ValueError if it has none."""
    uv = getattr(mesh.visual, "uv", None)
    if uv is None or uv.shape != (len(mesh.vertices), 2):
        raise ValueError(f"the mesh needs one uv per vertex, ({len(mesh.vertices)}, 2); unwrap it first")
    return np.asarray(uv, dtype=np.float64)
