"""Textured meshes of fields that have a surface."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from trimesh import Trimesh

from .decoding import solid, views_of
from .geometry.cameras import Cameras, orbit
from .mesh.bake import bake
from .mesh.surface import LEVEL, extract
from .mesh.unwrap import unwrap
from .storage import Field
from .types import Model


def textured_mesh(
    field: Field,
    model: Model,
    faces: int = 20_000,
    texture: int = 1024,
    resolution: int = 128,
    views: int = 24,
    view_size: int = 256,
    tick: Callable[[], None] = lambda: None,
    level: float = LEVEL,
) -> tuple[Trimesh, np.ndarray]:
    """Make a textured mesh of a field.

    Args:
        field: A field that has a surface.
        model: Decodes its colours.
        faces: The largest number of triangles.
        texture: Side of the texture in pixels.
        resolution: Cells along each side of the grid in which the surface is found.
        views: The number of views that the texture is baked from.
        view_size: The smallest side of these views in pixels.
        tick: Called often; it may raise to stop.
        level: As in `surface`.

    Returns:
        The mesh with UVs, and its texture, (texture, texture, 3) uint8.

    Raises:
        ValueError: If the field has no surface, or is empty.
    """
    mesh = surface(field, faces, texture, resolution, level, tick)
    return mesh, baked(field, model, mesh, texture, views, view_size, tick)


def surface(
    field: Field,
    faces: int = 20_000,
    texture: int = 1024,
    resolution: int = 128,
    level: float = LEVEL,
    tick: Callable[[], None] = lambda: None,
) -> Trimesh:
    """Make a mesh with UVs of a field's surface, without a texture.

    Args:
        field, faces, texture, resolution, tick: As in `textured_mesh`.
        level: The density at which the surface lies, per unit of length.
    """
    diffrep, params = solid(field, "surface", "becomes a mesh"), field.params
    with torch.no_grad():
        device = next(iter(params.values())).device
        mesh = extract(
            lambda points: diffrep.density(params, points), resolution, level, faces, device=device, tick=tick
        )
    return unwrap(mesh, texture, tick)


def baked(
    field: Field,
    model: Model,
    mesh: Trimesh,
    texture: int = 1024,
    views: int = 24,
    view_size: int = 256,
    tick: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Make the texture of a mesh of a field.

    Args:
        field, model, texture, views, view_size, tick: As in `textured_mesh`.
        mesh: A mesh with UVs in the coordinates of the field.

    Returns:
        The texture, (texture, texture, 3) uint8.
    """
    diffrep = solid(field, "surface", "becomes a mesh")
    cameras = bake_cameras(views, diffrep.elevations)
    pictures = views_of(field, cameras, max(view_size, model.size * model.scale), model, tick)
    if pictures.shape[1] == 3:  # the model has no alpha, so it comes from the field
        height, width = pictures.shape[-2:]
        with torch.no_grad():
            opacity = diffrep.opacity(field.params, cameras, height, width, tick).cpu()
        pictures = torch.cat([pictures * opacity, opacity], 1)
    return bake(mesh, cameras, pictures, texture, tick)


def bake_cameras(count: int, elevations: tuple[float, float] = (-90.0, 90.0)) -> Cameras:
    """Return `count` cameras around an object, evenly spread by area between two elevations in degrees."""
    i = torch.arange(count) + 0.5  # a Fibonacci lattice
    low, high = (math.sin(math.radians(angle)) for angle in elevations)
    return orbit(i * math.pi * (3 - math.sqrt(5)), torch.asin(high - (high - low) * i / count))
