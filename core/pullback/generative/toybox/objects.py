"""The objects that toybox was trained on, built from solids with random proportions.

An object stands upright along +Z and faces -Y. Each of its parts is a mesh with a paint: "main" (the colour that the caption
names), "accent" (the second colour of the caption, or the noun's own), a fixed RGB colour, or all five values of a material
(`solid`). The insides of hollow objects have a darker shade of their paint, since nothing else would tell a mug from a solid
cylinder in an unlit picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import trimesh
from numpy.random import Generator
from trimesh import Trimesh, creation
from trimesh.transformations import rotation_matrix

from .words import COLOURS

Paint = str | tuple[float, float, float] | tuple[float, float, float, float, float]
Parts = list[tuple[Trimesh, Paint]]

CREAM, WOOD, STEEL, RUBBER, GLASS, LEAF, BEAK, COFFEE = (
    (0.93, 0.89, 0.80), (0.45, 0.28, 0.14), (0.55, 0.56, 0.60), (0.13, 0.13, 0.15),
    (0.62, 0.80, 0.92), (0.20, 0.55, 0.22), (0.97, 0.60, 0.10), (0.30, 0.17, 0.09),
)  # fmt: skip
INSIDE: Paint = (0.6, 0.0, 0.0, 0.0, 0.0)
"""The main paint, darkened for the inside of a hollow object."""


def _at(mesh: Trimesh, x: float = 0.0, y: float = 0.0, z: float = 0.0) -> Trimesh:
    mesh.apply_translation((x, y, z))
    return mesh


def _turn(mesh: Trimesh, degrees: float, axis: tuple[float, float, float]) -> Trimesh:
    mesh.apply_transform(rotation_matrix(np.radians(degrees), axis))
    return mesh


def _box(x: float, y: float, z: float) -> Trimesh:
    return creation.box((x, y, z))


def _tube(radius: float, height: float) -> Trimesh:
    return creation.cylinder(radius, height, sections=24)


def _egg(x: float, y: float, z: float) -> Trimesh:
    """Return an ellipsoid with the radii x, y and z."""
    mesh = creation.icosphere(3)
    mesh.apply_scale((x, y, z))
    return mesh


def _cone(radius: float, height: float, sections: int = 24) -> Trimesh:
    """Return a cone that stands on z = 0."""
    return creation.cone(radius, height, sections=sections)


def _lathe(*profile: tuple[float, float]) -> Trimesh:
    """Return the surface that a profile of points (radius, z) sweeps when it turns around Z."""
    return creation.revolve(np.array(profile), sections=28)


def _mushroom(u: Callable[[float, float], float]) -> Parts:
    radius, height, dome = u(0.5, 0.72), u(0.5, 0.8), u(0.7, 1.0)
    cap = creation.icosphere(3)
    z = cap.vertices[:, 2]
    cap.vertices[:, 2] = np.where(z < 0, 0.12, dome) * z
    cap.apply_scale(radius)
    parts: Parts = [(_at(cap, z=height / 2), "main"), (_tube(u(0.15, 0.24), height), "accent")]
    return parts


def _chair(u: Callable[[float, float], float]) -> Parts:
    half, leg, back, t = u(0.4, 0.5), u(0.4, 0.55), u(0.6, 0.85), 0.12
    parts: Parts = [
        (_box(2 * half, 2 * half, t), "accent"),
        (_at(_box(2 * half, t, back), 0, half - t / 2, back / 2), "main"),
    ]
    for x in (-1, 1):
        for y in (-1, 1):
            parts.append((_at(_box(t, t, leg), x * (half - t / 2), y * (half - t / 2), -leg / 2), "main"))
    return parts


def _table(u: Callable[[float, float], float]) -> Parts:
    half, depth, leg, t = u(0.65, 0.8), u(0.45, 0.65), u(0.5, 0.65), 0.13
    top = _tube(half, t) if u(0, 1) < 0.4 else _box(2 * half, 2 * depth, t)
    reach = 0.62 if top.vertices.shape[0] > 8 else 0.85
    parts: Parts = [(top, "main")]
    for x in (-1, 1):
        for y in (-1, 1):
            parts.append((_at(_box(t, t, leg), x * half * reach, y * depth * reach, -leg / 2), "accent"))
    return parts


def _house(u: Callable[[float, float], float]) -> Parts:
    width, depth, height = u(0.45, 0.6), u(0.42, 0.55), u(0.5, 0.65)
    roof = _turn(_cone(1.0, u(0.4, 0.6), sections=4), 45, (0, 0, 1))
    roof.apply_scale((1.65 * width, 1.65 * depth, 1))
    parts: Parts = [(_box(2 * width, 2 * depth, height), "accent"), (_at(roof, z=height / 2), "main")]
    parts.append((_at(_box(0.2, 0.06, 0.34), 0, -depth, -height / 2 + 0.17), WOOD))
    for x in (-1, 1):
        parts.append((_at(_box(0.16, 0.06, 0.16), x * width * 0.62, -depth, 0.06), GLASS))
    return parts


def _rocket(u: Callable[[float, float], float]) -> Parts:
    radius, height, nose = u(0.24, 0.3), u(0.85, 1.1), u(0.4, 0.55)
    parts: Parts = [(_tube(radius, height), "accent"), (_at(_cone(radius, nose), z=height / 2), "main")]
    parts.append((_at(_turn(_tube(0.11, 0.06), 90, (1, 0, 0)), 0, -radius, height * 0.2), GLASS))
    for degrees in (30, 150, 270):
        fin = _at(_box(0.3, 0.08, 0.38), radius + 0.1, 0, -height / 2 + 0.1)
        parts.append((_turn(fin, degrees, (0, 0, 1)), "main"))
    return parts


def _tree(u: Callable[[float, float], float]) -> Parts:
    parts: Parts = [(_at(_tube(u(0.1, 0.14), 0.5), z=-0.6), "accent")]
    width, step = u(0.5, 0.62), u(0.3, 0.36)
    for i in range(3):
        parts.append((_at(_cone(width * (1 - 0.22 * i), 0.6), z=-0.42 + step * i), "main"))
    return parts


def _snowman(u: Callable[[float, float], float]) -> Parts:
    low, mid, top = u(0.42, 0.48), u(0.3, 0.35), u(0.21, 0.25)
    z1 = 0.8 * (low + mid)
    z2 = z1 + 0.8 * (mid + top)
    parts: Parts = [(_egg(low, low, low), "main"), (_at(_egg(mid, mid, mid), z=z1), "main")]
    parts.append((_at(_egg(top, top, top), z=z2), "main"))
    parts.append((_at(_tube(0.8 * top, 0.26), z=z2 + top + 0.06), "accent"))
    parts.append((_at(_tube(1.35 * top, 0.06), z=z2 + 0.8 * top), "accent"))
    parts.append((_at(_turn(_cone(0.07, 0.26), 90, (1, 0, 0)), 0, -top * 0.9, z2), BEAK))
    return parts


def _mug(u: Callable[[float, float], float]) -> Parts:
    radius, height, wall = u(0.42, 0.5), u(0.85, 1.05), 0.08
    inner, level = radius - wall, height * u(0.5, 0.7)
    cup = _lathe((0, 0), (radius, 0), (radius, height), (inner, height))
    hollow, coffee = _lathe((inner, height), (inner, level)), _lathe((inner, level), (0, level))
    handle = _turn(creation.torus(0.26, 0.075), 90, (1, 0, 0))
    return [(cup, "main"), (hollow, INSIDE), (coffee, COFFEE), (_at(handle, radius + 0.1, 0, height / 2), "accent")]


def _car(u: Callable[[float, float], float]) -> Parts:
    length, cabin = u(1.4, 1.6), u(0.6, 0.8)
    parts: Parts = [(_box(0.74, length, 0.34), "main"), (_at(_box(0.64, cabin, 0.32), 0, 0.1, 0.32), "accent")]
    parts.append((_at(_box(0.66, cabin * 0.82, 0.17), 0, 0.1, 0.34), GLASS))
    parts.append((_at(_box(0.52, cabin + 0.02, 0.17), 0, 0.1, 0.34), GLASS))
    for x in (-0.36, 0.36):
        for y in (-0.31, 0.31):
            parts.append((_at(_turn(_tube(0.2, 0.14), 90, (0, 1, 0)), x, y * length, -0.17), RUBBER))
    return parts


def _donut(u: Callable[[float, float], float]) -> Parts:
    major, minor = u(0.5, 0.58), u(0.22, 0.3)
    icing = creation.torus(major, minor * 1.04)
    icing.vertices[:, 2] = np.maximum(icing.vertices[:, 2], -0.15 * minor)
    return [(creation.torus(major, minor), "accent"), (icing, "main")]


def _cube(u: Callable[[float, float], float]) -> Parts:
    side = u(0.9, 1.1)
    return [(_box(side, side, side), "main"), (_box(side * 1.02, side * 1.02, side * 0.3), "accent")]


def _ball(u: Callable[[float, float], float]) -> Parts:
    band = _lathe((0.9, -0.16), (0.995, -0.16), (1.02, 0), (0.995, 0.16), (0.9, 0.16))
    parts: Parts = [(_egg(1, 1, 1), "main"), (band, "accent")]
    tilt = u(-30, 30)
    return [(_turn(mesh, tilt, (0, 1, 0)), paint) for mesh, paint in parts]


def _lamp(u: Callable[[float, float], float]) -> Parts:
    low, top, height, pole = u(0.42, 0.52), u(0.2, 0.28), u(0.45, 0.6), u(0.6, 0.8)
    shade = _lathe((0, 0), (low, 0), (top, height), (0, height))
    base = _lathe((0, 0), (0.32, 0), (0.32, 0.06), (0.1, 0.14), (0, 0.14))
    return [(_at(shade, z=pole), "main"), (_at(_tube(0.07, pole), z=pole / 2), "accent"), (base, "accent")]


def _bottle(u: Callable[[float, float], float]) -> Parts:
    radius, body, neck, top = u(0.28, 0.36), u(0.7, 0.95), u(0.1, 0.14), u(0.3, 0.4)
    glass = _lathe((0, 0), (radius, 0), (radius, body), (neck, body + 0.25), (neck, body + top), (0, body + top))
    cap = _at(_tube(neck + 0.03, 0.14), z=body + top + 0.03)
    label = _at(_tube(radius * 1.02, body * 0.36), z=body * 0.5)
    return [(glass, "main"), (cap, "accent"), (label, "accent")]


def _boat(u: Callable[[float, float], float]) -> Parts:
    length, mast, sail = u(1.3, 1.5), u(1.0, 1.2), u(0.5, 0.62)
    hull = _box(0.6, length, 0.36)
    v = hull.vertices
    low = v[:, 2] < 0
    v[:, 0] *= np.where(low, 0.55, 1)
    v[:, 1] *= np.where(low, 0.72, 1)
    hull.vertices = v
    sheet = creation.extrude_triangulation(np.array([[0, 0], [sail, 0], [0, mast * 0.85]]), np.array([[0, 1, 2]]), 0.07)
    sheet.vertices = sheet.vertices[:, [2, 0, 1]] * (1, 1, 1) + (-0.035, 0.06, 0.28)
    sheet.fix_normals()
    return [(hull, "main"), (_at(_tube(0.05, mast), z=0.18 + mast / 2), WOOD), (sheet, "accent")]


def _airplane(u: Callable[[float, float], float]) -> Parts:
    length, span, chord, thick = u(0.72, 0.85), u(1.5, 1.8), u(0.34, 0.42), 0.09
    parts: Parts = [(_egg(0.19, length, 0.19), "main"), (_at(_box(span, chord, thick), 0, -0.08, 0), "accent")]
    parts.append((_at(_box(0.62, 0.24, thick), 0, length * 0.8, 0.04), "accent"))
    parts.append((_at(_box(thick, 0.26, 0.4), 0, length * 0.8, 0.2), "main"))
    parts.append((_at(_egg(0.12, 0.2, 0.12), 0, -length * 0.55, 0.1), GLASS))
    return parts


def _cactus(u: Callable[[float, float], float]) -> Parts:
    radius, height = u(0.19, 0.25), u(0.8, 1.0)
    parts: Parts = [(_at(creation.capsule(height, radius, count=(16, 16)), z=0.1), "main")]
    parts.append((_lathe((0, -0.3), (0.3, -0.3), (0.38, 0.12), (0, 0.12)), "accent"))
    for side in (-1, 1):
        z, arm = u(0.4, 0.65), u(0.2, 0.35)
        parts.append((_at(_turn(_tube(0.1, 0.36), 90, (0, 1, 0)), side * (radius + 0.12), 0, z), "main"))
        parts.append((_at(creation.capsule(arm, 0.1, count=(12, 12)), side * (radius + 0.3), 0, z + 0.2), "main"))
    return parts


def _flower(u: Callable[[float, float], float]) -> Parts:
    petals, reach, stem = int(u(5, 8)), u(0.34, 0.4), u(0.8, 1.0)
    parts: Parts = [(_at(_tube(0.06, stem), z=-stem / 2), LEAF), (_at(_egg(0.3, 0.07, 0.1), 0.2, 0, -stem * 0.6), LEAF)]
    head: Parts = [(_egg(0.2, 0.2, 0.12), "accent")]
    for i in range(petals):
        petal = _at(_egg(0.22, 0.62 * reach, 0.07), 0, reach, 0)
        head.append((_turn(petal, 360 * i / petals, (0, 0, 1)), "main"))
    tilt = u(30, 60)
    return parts + [(_turn(mesh, tilt, (1, 0, 0)), paint) for mesh, paint in head]


def _tower(u: Callable[[float, float], float]) -> Parts:
    radius, height = u(0.34, 0.42), u(1.1, 1.4)
    parts: Parts = [(_tube(radius, height), "main"), (_at(_tube(radius * 1.25, 0.2), z=height / 2), "main")]
    for i in range(6):
        merlon = _at(_box(0.2, 0.2, 0.2), radius * 1.08, 0, height / 2 + 0.18)
        parts.append((_turn(merlon, 60 * i + 30, (0, 0, 1)), "accent"))
    parts.append((_at(_box(0.24, 0.1, 0.4), 0, -radius, -height / 2 + 0.2), WOOD))
    parts.append((_at(_box(0.14, 0.08, 0.22), 0, -radius, height * 0.18), RUBBER))
    return parts


def _sofa(u: Callable[[float, float], float]) -> Parts:
    width, depth, back = u(1.4, 1.65), u(0.6, 0.7), u(0.65, 0.8)
    parts: Parts = [
        (_box(width, depth, 0.3), "main"),
        (_at(_box(width, 0.2, back), 0, depth / 2, back / 2 - 0.15), "main"),
    ]
    for side in (-1, 1):
        parts.append((_at(_box(0.2, depth + 0.1, 0.52), side * width / 2, 0, 0.1), "main"))
        parts.append((_at(_box(width * 0.42, depth * 0.8, 0.14), side * width * 0.22, -0.04, 0.2), "accent"))
    return parts


def _fish(u: Callable[[float, float], float]) -> Parts:
    length, height = u(0.66, 0.78), u(0.34, 0.44)
    body = _egg(0.2, length, height)
    tail = _cone(height * 1.0, 0.5, sections=24)
    tail.apply_scale((0.22, 1, 1))
    tail = _turn(tail, 90, (1, 0, 0))
    fin = _cone(0.3, 0.34)
    fin.apply_scale((0.25, 1, 1))
    parts: Parts = [
        (body, "main"),
        (_at(tail, 0, length + 0.32, 0), "accent"),
        (_at(fin, 0, 0, height * 0.85), "accent"),
    ]
    for side in (-1, 1):
        parts.append((_at(_egg(0.07, 0.09, 0.09), side * 0.13, -length * 0.6, 0.1), RUBBER))
    return parts


def _robot(u: Callable[[float, float], float]) -> Parts:
    width, body, head, leg = u(0.6, 0.72), u(0.6, 0.72), u(0.34, 0.42), u(0.36, 0.46)
    top = body / 2 + 0.06
    parts: Parts = [(_box(width, 0.42, body), "main"), (_at(_box(head, 0.36, 0.34), 0, 0, top + 0.17), "main")]
    parts.append((_at(_tube(0.04, 0.24), z=top + 0.42), STEEL))
    for side in (-1, 1):
        parts.append((_at(_box(0.16, 0.24, body * 0.9), side * (width / 2 + 0.1), 0, 0), "accent"))
        parts.append((_at(_box(0.2, 0.26, leg), side * width * 0.26, 0, -body / 2 - leg / 2), "accent"))
        parts.append((_at(_box(0.1, 0.05, 0.1), side * 0.09, -0.19, top + 0.2), RUBBER))
    return parts


def _umbrella(u: Callable[[float, float], float]) -> Parts:
    radius, dome, pole = u(0.75, 0.85), u(0.42, 0.55), u(1.0, 1.2)
    rim = np.linspace(0, np.pi / 2, 7)
    outer = [(radius * np.cos(a), dome * np.sin(a)) for a in rim]
    canopy = _lathe((radius * 0.9, 0), *outer[:-1], (0, dome))
    lining = _lathe((0, dome - 0.12), (radius * 0.5, dome * 0.55), (radius * 0.9, 0))
    hook = _at(_turn(creation.torus(0.11, 0.045), 90, (1, 0, 0)), 0.11, 0, dome - pole)
    stick = _at(_tube(0.05, pole), z=dome - pole / 2)
    return [(canopy, "main"), (lining, INSIDE), (stick, "accent"), (hook, "accent")]


def _duck(u: Callable[[float, float], float]) -> Parts:
    length, head = u(0.58, 0.68), u(0.27, 0.33)
    front, top = -length * 0.55, 0.36 + head * 0.7
    parts: Parts = [(_egg(0.44, length, 0.38), "main"), (_at(_egg(head, head, head), 0, front, top), "main")]
    parts.append((_at(_turn(_cone(0.17, 0.36), 55, (1, 0, 0)), 0, length * 0.72, 0.12), "main"))
    parts[-1][0].apply_translation((0, 0.1, 0))
    beak = _egg(0.15, 0.2, 0.07)
    parts.append((_at(beak, 0, front - head, top - 0.04), BEAK))
    for side in (-1, 1):
        parts.append((_at(_egg(0.06, 0.06, 0.06), side * head * 0.62, front - head * 0.66, top + 0.1), RUBBER))
        parts.append((_at(_egg(0.1, 0.36, 0.2), side * 0.4, 0.06, 0.08), "accent"))
    return parts


@dataclass(frozen=True)
class Noun:
    """How to build one kind of object, and the paint of its accent if the caption names only one colour."""

    build: Callable[[Callable[[float, float], float]], Parts]
    accent: Paint = "main"


NOUNS = {
    "airplane": Noun(_airplane), "ball": Noun(_ball), "boat": Noun(_boat, CREAM), "bottle": Noun(_bottle),
    "cactus": Noun(_cactus, WOOD), "car": Noun(_car), "chair": Noun(_chair), "cube": Noun(_cube),
    "donut": Noun(_donut, (0.82, 0.60, 0.35)), "duck": Noun(_duck), "fish": Noun(_fish), "flower": Noun(_flower, BEAK),
    "house": Noun(_house, CREAM), "lamp": Noun(_lamp, STEEL), "mug": Noun(_mug), "mushroom": Noun(_mushroom, CREAM),
    "robot": Noun(_robot, STEEL), "rocket": Noun(_rocket, CREAM), "snowman": Noun(_snowman, RUBBER), "sofa": Noun(_sofa),
    "table": Noun(_table), "tower": Noun(_tower), "tree": Noun(_tree, WOOD), "umbrella": Noun(_umbrella, STEEL),
}  # fmt: skip

TINT = 0.02
"""Standard deviation of a paint's RGB values from its nominal colour."""
STRETCH = {"tall": (0.8, 0.8, 1.35), "wide": (1.3, 1.3, 0.8)}
RADIUS = {"small": (0.5, 0.62), "big": (0.96, 1.0), None: (0.86, 0.94)}


def solid(noun: str, size: str | None, rng: Generator) -> tuple[Trimesh, np.ndarray]:
    """Build one unpainted object of random proportions, with its bounding box centred on the origin.

    Its farthest vertex has a random distance from the origin, drawn from the range in `RADIUS`.

    Returns:
        The mesh, and its materials (faces, 5): the fraction of the main paint on a face, the fraction of the accent's, and
        the display RGB in [0, 1] of faces that have a colour of their own. `coloured` paints them.
    """
    parts = NOUNS[noun].build(lambda low, high: rng.uniform(low, high))
    mesh: Any = trimesh.util.concatenate([part for part, _ in parts])
    material = np.concatenate([np.tile(_material(paint), (len(part.faces), 1)) for part, paint in parts])
    if size in STRETCH:
        mesh.apply_scale(STRETCH[size])
    low, high = mesh.bounds
    mesh.apply_translation(-(low + high) / 2)
    radius = rng.uniform(*RADIUS.get(size, RADIUS[None]))
    mesh.apply_scale(radius / np.linalg.norm(mesh.vertices, axis=1).max())
    return mesh, material


def _material(paint: Paint) -> np.ndarray:
    if isinstance(paint, str):
        return np.eye(5)[("main", "accent").index(paint)]
    return np.array([0.0] * (5 - len(paint)) + list(paint))


def paints(noun: str, colour: str, second: str | None, rng: Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the display RGB (3,) of the main paint and of the accent, each slightly off its nominal colour."""
    main = _tint(COLOURS[colour], rng)
    accent = COLOURS[second] if second else NOUNS[noun].accent
    return main, main if accent == "main" else _tint(accent, rng)


def coloured(material: np.ndarray, main: np.ndarray, accent: np.ndarray) -> np.ndarray:
    """Return the display RGB (faces, 3) of materials (faces, 5), painted with two colours (3,)."""
    return material[:, :1] * main + material[:, 1:2] * accent + material[:, 2:]


def build(noun: str, colour: str, second: str | None, size: str | None, rng: Generator) -> tuple[Trimesh, np.ndarray]:
    """Build one painted object of random proportions: the mesh of `solid`, and its display RGB (faces, 3) in [0, 1]."""
    mesh, material = solid(noun, size, rng)
    return mesh, coloured(material, *paints(noun, colour, second, rng))


def _tint(rgb: Any, rng: Generator) -> np.ndarray:
    return np.clip(np.array(rgb) + rng.normal(0, TINT, 3), 0, 1)
