"""Meshing: the textured mesh of a field that has a surface."""

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
) -> tuple[Trimesh, np.ndarray]:
    """The surface of a radiance field as a mesh with UVs, and its texture (texture, texture, 3) uint8.

    `tick` is called often and may raise, to stop.
    """
    mesh = surface(field, faces, texture, resolution, tick=tick)
    return mesh, baked(field, model, mesh, texture, views, view_size, tick)


def surface(
    field: Field,
    faces: int = 20_000,
    texture: int = 1024,
    resolution: int = 128,
    level: float = LEVEL,
    tick: Callable[[], None] = lambda: None,
) -> Trimesh:
    """The surface of a radiance field, at the density `level`, as a mesh with UVs for a texture of that size."""
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
    """The texture (texture, texture, 3) uint8 that makes a mesh with UVs look like a radiance field."""
    diffrep = solid(field, "surface", "becomes a mesh")
    cameras = bake_cameras(views, diffrep.elevations)
    pictures = views_of(field, cameras, max(view_size, model.size * model.scale), model, tick)
    if pictures.shape[1] == 3:  # a model without alpha: the field itself knows where it is
        height, width = pictures.shape[-2:]
        with torch.no_grad():
            opacity = diffrep.opacity(field.params, cameras, height, width, tick).cpu()
        pictures = torch.cat([pictures * opacity, opacity], 1)
    return bake(mesh, cameras, pictures, texture, tick)


def bake_cameras(count: int, elevations: tuple[float, float] = (-90.0, 90.0)) -> Cameras:
    """Cameras all around an object between two elevations in degrees, evenly spread by area (a Fibonacci lattice)."""
    i = torch.arange(count) + 0.5
    low, high = (math.sin(math.radians(angle)) for angle in elevations)
    return orbit(i * math.pi * (3 - math.sqrt(5)), torch.asin(high - (high - low) * i / count))
