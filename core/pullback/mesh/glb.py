"""GLB: a textured mesh as one binary glTF 2.0 file, which Blender, game engines and browsers open."""

from __future__ import annotations

import os

import numpy as np
import trimesh
from PIL import Image

from ..files import atomic
from .unwrap import coordinates

Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""World (right-handed, Z up, objects face -Y) to glTF (right-handed, Y up, objects face +Z)."""


def write_glb(
    path: str | os.PathLike[str], mesh_with_uv: trimesh.Trimesh, texture: np.ndarray, name: str = "object"
) -> None:
    """Writes the mesh with its texture to `path`, whole or not at all.

    mesh_with_uv: world coordinates, `visual.uv` (V, 2) in [0, 1], v up. texture: (H, W, 3) uint8, sRGB, row 0 on
    top; it is embedded as PNG. The file holds positions, normals and uv, one rough non-metallic material, and a
    node, mesh and material called `name`. Raises ValueError for a mesh without uv or another texture, OSError
    where the file cannot be written.
    """
    uv = coordinates(mesh_with_uv)
    if texture.dtype != np.uint8 or texture.ndim != 3 or texture.shape[2] != 3:
        raise ValueError(f"the texture must be (H, W, 3) uint8, got {texture.shape} {texture.dtype}")
    material = trimesh.visual.material.PBRMaterial(
        name=name, baseColorTexture=Image.fromarray(texture), metallicFactor=0.0, roughnessFactor=0.9
    )
    turned = trimesh.Trimesh(
        mesh_with_uv.vertices @ Y_UP.T,
        mesh_with_uv.faces,
        vertex_normals=mesh_with_uv.vertex_normals @ Y_UP.T,
        visual=trimesh.visual.TextureVisuals(uv=uv, material=material),
        process=False,
    )
    scene = trimesh.Scene()
    scene.add_geometry(turned, node_name=name, geom_name=name)
    data = scene.export(file_type="glb", include_normals=True, unitize_normals=True)
    with atomic(path) as temporary:
        temporary.write_bytes(data)
