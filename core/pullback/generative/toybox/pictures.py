"""Pictures: what toybox is trained on, rendered here from nothing.

A photograph is (2 D + 1, 64, 64) uint8 of a mesh with D values on each face: the values in light, the values
flat (unlit), both premultiplied by the last channel, alpha. With RGB on the faces that makes 7 channels. A *sketch*
has the five values of an object's materials instead (`objects.solid`), 11 channels, and can be painted in any
colours afterwards (`paint`), so that one rendering serves every caption.
A camera is azimuth, elevation in radians, and its kind: ORBIT around an object or PITCH in a landscape, where azimuth
means nothing and is 0.
Needs `trimesh` with `embreex` (the extra `train`).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.random import Generator
from trimesh import Trimesh

from ...geometry.cameras import Cameras, orbit, rays
from . import landscapes as places
from .network import ORBIT, PITCH
from .objects import build, solid
from .words import COLOURS, LANDSCAPES, NOUNS, SIZES, TIMES, encode

SIZE = 64
SUPERSAMPLING = 2
SIZED = 0.15
"""Part of the captions with a size word."""
SUN = np.array((-0.35, -0.5, 0.79))
ELEVATION = (math.radians(-20.0), math.radians(65.0))
"""Of most cameras around an object, lowest and highest."""
STEEP, STEEPEST = 0.25, math.radians(88.0)
"""Part of the cameras that may look from anywhere, undersides included, and how far up or down they go."""


def shade(normals: np.ndarray) -> np.ndarray:
    """Brightness (n,) in [0, 1] of unit normals (n, 3): a sun at the front left, and a sky brighter than the ground."""
    return 0.45 + 0.12 * normals[:, 2] + 0.43 * np.clip(normals @ SUN, 0, 1)


def photograph(mesh: Trimesh, values: np.ndarray, cameras: Cameras, size: int = SIZE) -> np.ndarray:
    """Photographs (B, 2 D + 1, size, size) uint8 of a mesh with `values` (faces, D) in [0, 1], RGB for example."""
    fine = size * SUPERSAMPLING
    origins, directions = (r.reshape(-1, 3).double().numpy() for r in rays(cameras, fine, fine))
    face = mesh.ray.intersects_first(origins, directions)
    hit = face >= 0
    normals = mesh.face_normals[face]
    facing = (normals * directions).sum(-1, keepdims=True)
    light = shade(np.where(facing > 0, -normals, normals))[:, None]
    flat = values[face]
    layers = np.concatenate([light * flat, flat, np.ones_like(light)], 1) * hit[:, None]
    layers = layers.reshape(len(cameras), size, SUPERSAMPLING, size, SUPERSAMPLING, -1).mean((2, 4))
    return np.round(255 * layers.transpose(0, 3, 1, 2)).astype(np.uint8)


def caption(rng: Generator) -> tuple[str, str, str, str | None, str | None]:
    """A random caption and what it stands for: (caption, noun, colour, second colour, size)."""
    noun = str(rng.choice(NOUNS))
    colour, other = (str(c) for c in rng.choice(list(COLOURS), 2, replace=False))
    second = other if rng.uniform() < 0.15 else None
    size = str(rng.choice(SIZES)) if rng.uniform() < SIZED else None
    named = rng.uniform() > 0.06 or second is not None
    text = f"{size or ''} {colour if named else ''} {f'and {second}' if second else ''} {noun}"
    return " ".join(text.split()), noun, colour, second, size


def sketches(count: int, rng: Generator, views: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photographs of `count` x `views` unpainted objects of random kinds and proportions.

    Returns:
        Sketches (N, 11, 64, 64) uint8; (N, 2) uint8 numbers of their noun, and of their size word plus one, 0 where
        they have none; cameras (N, 3).
    """
    pictures, labels, cameras = [], [], []
    for _ in range(count):
        noun, size = rng.integers(len(NOUNS)), rng.integers(len(SIZES)) + 1 if rng.uniform() < SIZED else 0
        camera, angles = _around(views, rng)
        mesh, material = solid(NOUNS[noun], SIZES[size - 1] if size else None, rng)
        pictures.append(photograph(mesh, material, camera))
        labels += [(noun, size)] * views
        cameras.append(angles)
    return np.concatenate(pictures), np.array(labels, np.uint8), np.concatenate(cameras).astype(np.float32)


def _around(views: int, rng: Generator) -> tuple[Cameras, np.ndarray]:
    """Random cameras around an object, and what the model is told of them (views, 3)."""
    azimuth, elevation = rng.uniform(-np.pi, np.pi, views), rng.uniform(*ELEVATION, views)
    elevation = np.where(rng.uniform(size=views) < STEEP, rng.uniform(-STEEPEST, STEEPEST, views), elevation)
    camera = orbit(torch.from_numpy(azimuth), torch.from_numpy(elevation))
    return camera, np.stack([azimuth, elevation, np.full(views, ORBIT)], 1)


def objects(count: int, rng: Generator, views: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pictures, word numbers and cameras of `count` x `views` photographs of random objects."""
    pictures, words, cameras = [], [], []
    for _ in range(count):
        text, noun, colour, second, size = caption(rng)
        camera, angles = _around(views, rng)
        pictures.append(photograph(*build(noun, colour, second, size, rng), camera))
        words.append(np.tile(encode(text), (views, 1)))
        cameras.append(angles)
    return np.concatenate(pictures), np.concatenate(words).astype(np.uint8), np.concatenate(cameras).astype(np.float32)


def landscapes(count: int, rng: Generator, views: int = 4) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same for `count` x `views` perspective crops of random landscapes (lit = flat, alpha 1)."""
    pictures, words, cameras = [], [], []
    fine = SIZE * SUPERSAMPLING
    for _ in range(count):
        place, time = str(rng.choice(LANDSCAPES)), str(rng.choice(TIMES))
        heading = torch.from_numpy(rng.uniform(-np.pi, np.pi, views))
        level = rng.uniform(size=views) < 0.6
        pitch = np.where(level, 0.0, rng.uniform(-1.2, 1.2, views))
        # An orbiting camera that looks inwards from below the horizon looks upwards: pitch is minus its elevation.
        _, direction = rays(orbit(heading, torch.from_numpy(-pitch), fov=math.radians(rng.uniform(45, 70))), fine, fine)
        x, y, z = direction.unbind(-1)
        azimuth, elevation = torch.atan2(y, x), torch.asin(z.clamp(-1, 1))
        rgb = places.paint(place, time, azimuth.float().numpy(), elevation.float().numpy(), rng)
        rgb = rgb.reshape(views, SIZE, SUPERSAMPLING, SIZE, SUPERSAMPLING, 3).mean((2, 4)).transpose(0, 3, 1, 2)
        pictures.append(np.round(255 * np.concatenate([rgb, rgb, np.ones_like(rgb[:, :1])], 1)).astype(np.uint8))
        words.append(np.tile(encode(f"{place} {time}"), (views, 1)))
        cameras.append(np.stack([np.zeros(views), pitch, np.full(views, PITCH)], 1))
    return np.concatenate(pictures), np.concatenate(words).astype(np.uint8), np.concatenate(cameras).astype(np.float32)
