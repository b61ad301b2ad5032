"""Procedural landscapes seen from a point, as a colour for every direction.

A landscape is a function of azimuth and elevation in radians, periodic in azimuth, so that any perspective view can be rendered.
Colours are display RGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

Array = np.ndarray


@dataclass(frozen=True)
class Light:
    """The light at a time of day.

    Args:
        zenith: Colour of the sky at the zenith.
        horizon: Colour of the sky at the horizon.
        ground: The tint that the ground's colours are multiplied by.
        disc: Colour of the sun or the moon.
        height: Mean elevation of the sun or the moon in radians.
    """

    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]
    ground: tuple[float, float, float]
    disc: tuple[float, float, float]
    height: float


LIGHTS = {
    "dawn": Light((0.45, 0.55, 0.80), (0.98, 0.80, 0.72), (0.85, 0.72, 0.72), (1.0, 0.93, 0.80), 0.08),
    "noon": Light((0.18, 0.42, 0.86), (0.70, 0.85, 0.97), (1.0, 1.0, 0.97), (1.0, 1.0, 0.92), 0.75),
    "sunset": Light((0.28, 0.20, 0.46), (0.98, 0.48, 0.18), (0.78, 0.46, 0.36), (1.0, 0.78, 0.36), 0.05),
    "night": Light((0.02, 0.03, 0.10), (0.08, 0.11, 0.26), (0.15, 0.18, 0.32), (0.92, 0.93, 0.98), 0.55),
}


def ridge(azimuth: Array, rng: Generator, roughness: int, decay: float = 0.9) -> Array:
    """Return the heights of a random skyline: a Fourier series of `roughness` harmonics with about unit variance."""
    k = np.arange(1, roughness + 1)
    amplitude = rng.normal(size=(2, roughness)) * k**-decay / np.sqrt((k ** (-2 * decay)).sum())
    table = np.linspace(-np.pi, np.pi, 2048)  # interpolating a table is 20 times cheaper than summing per pixel
    wave = np.outer(table, k)
    return np.interp(azimuth, table, np.cos(wave) @ amplitude[0] + np.sin(wave) @ amplitude[1], period=2 * np.pi)


def clouds(direction: Array, rng: Generator, scale: float, octaves: int = 4) -> Array:
    """Return smooth noise in [0, 1] for unit directions (..., 3): octaves of random plane waves."""
    total, weight = 0.0, 0.0
    for octave in range(octaves):
        waves = (rng.normal(size=(3, 6)) * scale * 2**octave).astype(direction.dtype)
        phases = rng.uniform(0, 2 * np.pi, 6).astype(direction.dtype)
        total = total + 0.6**octave * np.sin(direction @ waves + phases).sum(-1) / 6**0.5
        weight += 0.36**octave
    return 1 / (1 + np.exp(-2.2 * total / weight**0.5))


Rgb = tuple[float, float, float]


def _mix(a: Array, b: Array | Rgb, t: Array) -> Array:
    return a + (np.asarray(b) - a) * t[..., None]


def _direction(azimuth: Array, elevation: Array) -> Array:
    cos = np.cos(elevation)
    return np.stack([cos * np.cos(azimuth), cos * np.sin(azimuth), np.sin(elevation)], -1)


def _sky(azimuth: Array, elevation: Array, light: Light, time: str, rng: Generator, cover: float) -> Array:
    """Return the sky with the sun or the moon, with stars at night, and with more clouds the larger `cover` in [0, 1] is."""
    direction = _direction(azimuth, elevation)
    height = np.clip(elevation / (0.45 * np.pi), 0, 1) ** 0.6
    rgb = _mix(np.broadcast_to(light.horizon, direction.shape), light.zenith, height)
    disc = _direction(np.array(rng.uniform(-np.pi, np.pi)), np.array(light.height * rng.uniform(0.8, 1.2)))
    near = direction @ disc
    glow = 0.0 if time == "night" else 0.5
    rgb = _mix(rgb, light.disc, glow * np.clip(near, 0, 1) ** 24)
    if time == "night":
        stars = rng.normal(size=(160, 3))
        stars /= np.linalg.norm(stars, axis=1, keepdims=True)
        rgb = _mix(
            rgb, (0.95, 0.95, 1.0), (direction @ stars.T.astype(direction.dtype) > 0.99988).any(-1).astype(float)
        )
    rgb = _mix(rgb, light.disc, np.clip((near - 0.9955) / 0.0015, 0, 1))
    flat = direction / np.maximum(np.abs(direction[..., 2:]), 0.25)
    veil = np.clip((clouds(flat, rng, 1.3) - 1 + cover) / 0.25, 0, 1) * np.clip(elevation / 0.12, 0, 1)
    white = 0.25 * np.array(light.horizon) + 0.75 * np.array(light.ground)
    return _mix(rgb, white, 0.85 * veil)


def _haze(rgb: Array, light: Light, distance: float) -> Array:
    return _mix(rgb * np.array(light.ground), light.horizon, np.full(rgb.shape[:-1], distance))


def _solid(like: Array, rgb: tuple[float, float, float]) -> Array:
    return np.broadcast_to(rgb, (*like.shape, 3))


def _below(picture: Array, elevation: Array, skyline: Array, colour: Array) -> Array:
    """Paint `colour` below the skyline, with an edge that is soft over a fraction of a degree."""
    return _mix(picture, colour, np.clip((skyline - elevation) / 0.006, 0, 1))


def _mountains(rgb: Array, a: Array, e: Array, light: Light, rng: Generator) -> Array:
    for i, (base, height) in enumerate(((0.20, 0.20), (0.12, 0.11), (0.02, 0.05))):
        # A folded ridge has sharp peaks and round valleys, as mountains do.
        skyline = base + height * (0.9 - np.abs(ridge(a, rng, 9, 0.7))) + 0.15 * height * ridge(a, rng, 40, 0.8)
        rock = _solid(a, ((0.42, 0.45, 0.55), (0.34, 0.40, 0.42), (0.26, 0.42, 0.24))[i])
        slope = ridge(a + 0.6 * (skyline - e), rng, 30, 0.6)  # lit and shaded slopes
        rock = _mix(rock, (0.16, 0.18, 0.26), 0.35 * np.clip(slope, 0, 1))
        if i == 0:
            line = 0.2 + 0.02 * ridge(a, rng, 30, 0.5)
            rock = _mix(rock, (0.96, 0.97, 1.0), np.clip((e - line) / 0.02, 0, 1) * np.clip(1 - 0.3 * slope, 0, 1))
        rgb = _below(rgb, e, skyline, _haze(rock, light, 0.4 - 0.18 * i))
    meadow = _mix(_solid(a, (0.30, 0.52, 0.24)), (0.20, 0.36, 0.16), clouds(_direction(a, 3 * e), rng, 4))
    return _below(rgb, e, -0.05 + 0.01 * ridge(a, rng, 10), _haze(meadow, light, 0.0))


def _desert(rgb: Array, a: Array, e: Array, light: Light, rng: Generator) -> Array:
    for i, base in enumerate((0.07, -0.03, -0.16, -0.36)):
        skyline = base + 0.035 * (1 + 0.5 * i) * ridge(a, rng, 5, 1.2)
        slope = np.clip((skyline - e) / 0.16, 0, 1)
        shade = np.clip(0.5 + 0.9 * ridge(a, rng, 6, 1.0), 0, 1) * (1 - slope)
        sand = _mix(_solid(a, (0.93, 0.73, 0.42)), (0.66, 0.43, 0.24), shade)
        rgb = _below(rgb, e, skyline, _haze(sand, light, 0.24 - 0.08 * i))
    return rgb


def _sea(rgb: Array, a: Array, e: Array, light: Light, rng: Generator) -> Array:
    depth = np.clip(-e / 1.2, 0, 1)
    water = _mix(0.55 * np.array(light.horizon) + 0.45 * _solid(a, (0.10, 0.34, 0.50)), (0.03, 0.20, 0.34), depth**0.5)
    distance = 1 / np.maximum(-e, 0.03)
    waves = np.sin(distance * 5 + 3 * ridge(a, rng, 20, 0.5)) * np.clip(-e / 0.3, 0.15, 1)
    water = _mix(water, light.horizon, 0.22 * np.clip(waves, 0, 1))
    rgb = _below(rgb, e, np.zeros_like(a), _haze(water, light, 0.05))
    if rng.uniform() < 0.5:
        island = 0.07 * ridge(a, rng, 6, 1.0) - 0.06
        rgb = np.where(
            (e > 0)[..., None], _below(rgb, e, island, _haze(_solid(a, (0.22, 0.36, 0.24)), light, 0.3)), rgb
        )
    return rgb


def _forest(rgb: Array, a: Array, e: Array, light: Light, rng: Generator) -> Array:
    for i in range(3):
        count = (70, 44, 26)[i]
        phase = (a / (2 * np.pi) * count + rng.uniform()) % count
        tree = np.floor(phase).astype(int) % count
        size = rng.uniform(0.6, 1.15, count)[tree] * (0.20, 0.30, 0.46)[i]
        across = np.abs(phase % 1 - 0.5) * 2
        jag = 0.12 * np.abs((8 * e / size) % 1 - 0.5)
        skyline = (0.02, -0.05, -0.16)[i] + size * (1 - across - jag) + 0.02
        tint = rng.uniform(-0.05, 0.05, count)[tree][..., None]
        leaf = _solid(a, (0.16, 0.36, 0.18)) * (0.8, 1.0, 1.25)[i] + tint
        rgb = _below(rgb, e, skyline, _haze(np.clip(leaf, 0, 1), light, 0.3 - 0.14 * i))
    moss = _mix(_solid(a, (0.28, 0.36, 0.16)), (0.36, 0.28, 0.16), clouds(_direction(a, 3 * e), rng, 5))
    return _below(rgb, e, -0.13 + 0.01 * ridge(a, rng, 12), _haze(moss, light, 0.0))


def _town(rgb: Array, a: Array, e: Array, light: Light, rng: Generator) -> Array:
    night = light is LIGHTS["night"]
    for i in range(2):
        count = (46, 30)[i]
        phase = (a / (2 * np.pi) * count + rng.uniform()) % count
        house = np.floor(phase).astype(int) % count
        height = rng.uniform(0.1, 0.34, count)[house] * (1.25, 0.9)[i]
        wall = rng.uniform(0.35, 0.85, (count, 1)) * np.array([1, 0.93, 0.85]) + rng.normal(0, 0.05, (count, 3))
        colour = np.clip(wall, 0, 1)[house] * (0.85, 1.0)[i]
        column, row = (phase % 1) * 4 % 1, (e - 0.5) * 22 % 1
        pane = (np.abs(column - 0.5) < 0.26) & (np.abs(row - 0.5) < 0.28)
        lit = (
            rng.uniform(size=(count, 4, 64))[house, ((phase % 1) * 4).astype(int), ((e + 2) * 22).astype(int) % 64]
            < 0.5
        )
        body = _haze(colour, light, 0.2 - 0.15 * i)
        glass = np.array((1.0, 0.83, 0.42)) if night else 0.35 * np.array(light.zenith) + 0.25
        body = np.where((pane & (lit | (not night)))[..., None], glass, body)
        rgb = _below(rgb, e, (0.0, -0.06)[i] + height, body)
    street = _solid(a, (0.42, 0.41, 0.42))
    return _below(rgb, e, np.full_like(a, -0.1), _haze(street, light, 0.0))


GROUNDS: dict[str, Callable[[Array, Array, Array, Light, Generator], Array]] = {
    "desert": _desert, "forest": _forest, "mountains": _mountains, "sea": _sea, "town": _town,
}  # fmt: skip


def paint(landscape: str, time: str, azimuth: Array, elevation: Array, rng: Generator) -> Array:
    """Return the colours (..., 3) of a random landscape in directions `azimuth`, `elevation` (...) in radians."""
    light = LIGHTS[time]
    cover = rng.uniform(0.45, 0.75) if landscape == "sky" else rng.uniform(0.1, 0.5)
    rgb = _sky(azimuth, elevation, light, time, rng, cover)
    if landscape == "sky":
        deep = _haze(
            _mix(_solid(azimuth, (0.75, 0.80, 0.88)), (1, 1, 1), clouds(_direction(azimuth, elevation), rng, 3)),
            light,
            0.3,
        )
        return np.clip(_below(rgb, elevation, np.full_like(azimuth, -0.12), deep), 0, 1)
    return np.clip(GROUNDS[landscape](rgb, azimuth, elevation, light, rng), 0, 1)
