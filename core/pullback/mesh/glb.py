"""GLB files: a textured mesh as one binary glTF 2.0 file, which Blender, game engines and browsers open."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import numpy as np
import trimesh
from PIL import Image

from ..files import atomic
from ..version import VERSION
from .unwrap import coordinates

Y_UP = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
"""Rotation from the world (right-handed, Z up, objects face -Y) to glTF (right-handed, Y up, objects face +Z)."""


def write_glb(
    path: str | os.PathLike[str],
    mesh_with_uv: trimesh.Trimesh,
    texture: np.ndarray,
    name: str = "object",
    embedded: Mapping[str, str] | None = None,
) -> None:
    """Write a mesh with its texture, whole or not at all.

    The file holds positions, normals and uv, and one rough, non-metallic material. The material's `extras.mean_color` is
    the mean colour of the surface (linear), for viewers that show one colour instead of the texture.

    Args:
        path: Where to write.
        mesh_with_uv: The mesh in world coordinates, with `visual.uv` (V, 2) in [0, 1] and v up.
        texture: The texture, (H, W, 3) uint8 in sRGB with row 0 on top. It is embedded as PNG.
        name: The name of the node, the mesh and the material.
        embedded: Texts for the file's `asset.extras`, such as the graph of a host.

    Raises:
        ValueError: If the mesh has no uv, or the texture has another shape or type.
        OSError: If the file cannot be written.
    """
    uv = coordinates(mesh_with_uv)
    if texture.dtype != np.uint8 or texture.ndim != 3 or texture.shape[2] != 3:
        raise ValueError(f"the texture must be (H, W, 3) uint8, got {texture.shape} {texture.dtype}")
    mean = _mean_colour(mesh_with_uv, texture)
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

    def describe(tree: dict[str, Any]) -> None:
        tree["materials"][0]["extras"] = {"mean_color": mean}
        tree["asset"]["generator"] = f"pullback {VERSION}"
        if embedded:
            tree["asset"]["extras"] = dict(embedded)

    data = scene.export(file_type="glb", include_normals=True, unitize_normals=True, tree_postprocessor=describe)
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def _mean_colour(mesh_with_uv: trimesh.Trimesh, texture: np.ndarray) -> list[float]:
    """Return the mean linear colour of the surface: the texture in the middle of every face, weighted by area.

    The mean of the texture itself would include the margins between the charts.
    """
    height, width = texture.shape[:2]
    column, row = (coordinates(mesh_with_uv)[mesh_with_uv.faces].mean(axis=1) * (width, -height) + (0, height)).T
    shown = texture[row.astype(int).clip(0, height - 1), column.astype(int).clip(0, width - 1)] / 255.0
    linear = np.where(shown <= 0.04045, shown / 12.92, ((shown + 0.055) / 1.055) ** 2.4)
    areas = mesh_with_uv.area_faces
    mean = np.average(linear, axis=0, weights=areas if areas.sum() > 0 else None)
    return [round(float(value), 4) for value in mean]
