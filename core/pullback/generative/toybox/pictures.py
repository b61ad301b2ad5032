"""Rendering of toybox's training pictures. Needs `trimesh` with `embreex` (the extra `train`).

A *photograph* of a mesh with D values per face is (2 D + 1, 64, 64) uint8: the values with light, the values without light, and
alpha, by which both are premultiplied. With RGB on the faces it has 7 channels. A *sketch* is a photograph of the five values of
an object's materials (`objects.solid`), with 11 channels. It can be coloured later (`network.painted`), so that one rendering
serves every caption. A camera is given by azimuth and elevation in radians, and its kind: ORBIT around an object, or PITCH in a
landscape, where the azimuth means nothing and is 0.
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
from .words import COLOURS, LANDSCAPES, NOUNS, SIZES, START, TIMES, VOCABULARY, encode

SIZE = 64
SUPERSAMPLING = 2
SIZED = 0.15
"""Fraction of captions that have a size word."""
SUN = np.array((-0.35, -0.5, 0.79))
ELEVATION = (math.radians(-20.0), math.radians(65.0))
"""Lowest and highest elevation of most cameras around an object, in radians."""
LANDSCAPE_EVERY = 5
"""On average, one in this many scenes is a landscape."""
LIT_SCENES = 0.75
"""Fraction of the scenes of objects that are shown with light and shadow."""
STEEP = 0.25
"""Fraction of cameras whose elevation is drawn from a wider range, up to `STEEPEST` above or below the object."""
STEEPEST = math.radians(88.0)
"""Largest elevation of these cameras, up or down, in radians."""


def shade(normals: np.ndarray) -> np.ndarray:
    """Return the brightness (n,) in [0, 1] of unit normals (n, 3): sun at the front left, sky brighter than the ground."""
    return 0.45 + 0.12 * normals[:, 2] + 0.43 * np.clip(normals @ SUN, 0, 1)


def photograph(mesh: Trimesh, values: np.ndarray, cameras: Cameras, size: int = SIZE) -> np.ndarray:
    """Render photographs of a mesh.

    Args:
        mesh: The mesh.
        values: The values of its faces, (faces, D) in [0, 1], such as RGB.
        cameras: B cameras.
        size: Side of a photograph in pixels.

    Returns:
        Photographs (B, 2 D + 1, size, size) uint8.
    """
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
    """Draw a caption, and return it with its noun, colour, second colour or None, and size word or None."""
    noun = str(rng.choice(NOUNS))
    colour, other = (str(c) for c in rng.choice(list(COLOURS), 2, replace=False))
    second = other if rng.uniform() < 0.15 else None
    size = str(rng.choice(SIZES)) if rng.uniform() < SIZED else None
    named = rng.uniform() > 0.06 or second is not None
    text = f"{size or ''} {colour if named else ''} {f'and {second}' if second else ''} {noun}"
    return " ".join(text.split()), noun, colour, second, size


def sketches(count: int, rng: Generator, views: int = 4, size: int = SIZE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render sketches of random objects.

    Args:
        count: The number of objects.
        rng: Draws objects and cameras.
        views: Sketches per object.
        size: Side of a sketch in pixels.

    Returns:
        Sketches (N, 11, size, size) uint8; labels (N, 2) uint8: the number of the noun, and one plus that of the size word, or
        0 if there is none; and cameras (N, 3).
    """
    pictures, labels, cameras = [], [], []
    for _ in range(count):
        noun, word = rng.integers(len(NOUNS)), rng.integers(len(SIZES)) + 1 if rng.uniform() < SIZED else 0
        camera, angles = _around(views, rng)
        mesh, material = solid(NOUNS[noun], SIZES[word - 1] if word else None, rng)
        pictures.append(photograph(mesh, material, camera, size))
        labels += [(noun, word)] * views
        cameras.append(angles)
    return np.concatenate(pictures), np.array(labels, np.uint8), np.concatenate(cameras).astype(np.float32)


def _around(views: int, rng: Generator) -> tuple[Cameras, np.ndarray]:
    """Draw cameras around an object, and return them with their conditions for the model, (views, 3)."""
    azimuth, elevation = rng.uniform(-np.pi, np.pi, views), rng.uniform(*ELEVATION, views)
    elevation = np.where(rng.uniform(size=views) < STEEP, rng.uniform(-STEEPEST, STEEPEST, views), elevation)
    camera = orbit(torch.from_numpy(azimuth), torch.from_numpy(elevation))
    return camera, np.stack([azimuth, elevation, np.full(views, ORBIT)], 1)


def objects(count: int, rng: Generator, views: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render photographs of random objects in random colours.

    Args:
        count: The number of objects.
        rng: Draws objects, colours and cameras.
        views: Photographs per object.

    Returns:
        Photographs (N, 7, 64, 64) uint8, word numbers (N, LENGTH), and cameras (N, 3).
    """
    pictures, words, cameras = [], [], []
    for _ in range(count):
        text, noun, colour, second, size = caption(rng)
        camera, angles = _around(views, rng)
        pictures.append(photograph(*build(noun, colour, second, size, rng), camera))
        words.append(np.tile(encode(text), (views, 1)))
        cameras.append(angles)
    return np.concatenate(pictures), np.concatenate(words).astype(np.uint8), np.concatenate(cameras).astype(np.float32)


def scene(size: int, rng: Generator) -> tuple[np.ndarray, str]:
    """Render one picture of an object or, one time in `LANDSCAPE_EVERY`, of a landscape.

    Args:
        size: Side of the picture in pixels.
        rng: Draws the caption, what it shows, the camera and the light.

    Returns:
        Premultiplied RGBA (4, size, size) uint8, and its caption.
    """
    if rng.integers(LANDSCAPE_EVERY) == 0:
        pixels, words, _ = landscapes(1, rng, 1, size)
        return pixels[0, 3:], " ".join(VOCABULARY[number] for number in words[0] if number > START)
    text, noun, colour, second, word = caption(rng)
    pixels = photograph(*build(noun, colour, second, word, rng), _around(1, rng)[0], size)[0]
    return pixels[[0, 1, 2, 6] if rng.uniform() < LIT_SCENES else [3, 4, 5, 6]], text


def landscapes(
    count: int, rng: Generator, views: int = 4, size: int = SIZE
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render perspective views of random landscapes.

    Arguments and results are those of `objects`, with `size` the side of a picture in pixels. The values with light and those
    without are the same, and alpha is 1.
    """
    pictures, words, cameras = [], [], []
    fine = size * SUPERSAMPLING
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
        rgb = rgb.reshape(views, size, SUPERSAMPLING, size, SUPERSAMPLING, 3).mean((2, 4)).transpose(0, 3, 1, 2)
        pictures.append(np.round(255 * np.concatenate([rgb, rgb, np.ones_like(rgb[:, :1])], 1)).astype(np.uint8))
        words.append(np.tile(encode(f"{place} {time}"), (views, 1)))
        cameras.append(np.stack([np.zeros(views), pitch, np.full(views, PITCH)], 1))
    return np.concatenate(pictures), np.concatenate(words).astype(np.uint8), np.concatenate(cameras).astype(np.float32)
