"""GLB: reads the meshes that pullback writes, as arrays that Blender's `foreach_set` takes. Standard library only.

glTF is Y up and faces +Z; Blender is Z up and faces -Y: (x, y, z) becomes (x, -z, y). Its v runs down, Blender's up.
"""

from __future__ import annotations

import itertools
import json
import struct
import sys
from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .complaint import Complaint

FLOAT, INDEX = 5126, {5121: "B", 5123: "H", 5125: "I"}
WIDTH = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}


@dataclass(frozen=True)
class Parts:
    """A triangle mesh and its texture. positions: 3 floats a vertex, vertices of one place are one. corners: 3 vertex
    numbers a face. uv: 2 floats a corner. texture: the bytes of a PNG file. name: what the file calls the mesh.
    color: the surface's mean colour, linear; None in files of others than pullback."""

    positions: array[float]
    corners: array[int]
    uv: array[float]
    texture: bytes
    name: str
    color: tuple[float, float, float] | None = None


def read(path: str | Path) -> Parts:
    """The mesh of a GLB file that pullback wrote. Complaint says why it cannot be read. Safe in any thread."""
    try:
        description, blob = _chunks(Path(path).read_bytes())
        mesh = description["meshes"][0]
        primitive = mesh["primitives"][0]
        attributes = primitive["attributes"]
        positions = _accessor(description, blob, attributes["POSITION"])
        uv = _accessor(description, blob, attributes["TEXCOORD_0"])
        index = _accessor(description, blob, primitive["indices"])
        texture = _texture(description, blob, primitive["material"])
        color = _color(description, primitive["material"])
        return Parts(*_welded(positions, index), _per_corner(uv, index), texture, mesh.get("name", ""), color)
    except OSError as error:
        raise Complaint("{path} cannot be read: {reason}", path=path, reason=error.strerror) from error
    except (KeyError, IndexError, TypeError, struct.error, ValueError) as error:
        text = "{path} is not a textured mesh as pullback writes it ({reason})"
        raise Complaint(text, path=path, reason=error) from error


def _chunks(data: bytes) -> tuple[dict[str, Any], bytes]:
    magic, version, length = struct.unpack_from("<4sII", data)
    if magic != b"glTF" or version != 2 or length != len(data):
        raise ValueError("no GLB of version 2, or cut short")
    size, kind = struct.unpack_from("<I4s", data, 12)
    if kind != b"JSON":
        raise ValueError("no JSON chunk")
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def _view(description: dict[str, Any], blob: bytes, number: int) -> bytes:
    view = description["bufferViews"][number]
    start = view.get("byteOffset", 0)
    if start < 0 or view["byteLength"] < 0 or start + view["byteLength"] > len(blob) or "byteStride" in view:
        raise ValueError("a buffer view that does not fit")
    return blob[start : start + view["byteLength"]]


def _accessor(description: dict[str, Any], blob: bytes, number: int) -> array[Any]:
    accessor = description["accessors"][number]
    code = "f" if accessor["componentType"] == FLOAT else INDEX[accessor["componentType"]]
    values = array(code)
    start = accessor.get("byteOffset", 0)
    size = accessor["count"] * WIDTH[accessor["type"]] * values.itemsize
    data = _view(description, blob, accessor["bufferView"])[start : start + size]
    if len(data) != size:
        raise ValueError("an accessor that does not fit")
    values.frombytes(data)
    if sys.byteorder == "big":
        values.byteswap()
    return values


def _texture(description: dict[str, Any], blob: bytes, material: int) -> bytes:
    texture = description["materials"][material]["pbrMetallicRoughness"]["baseColorTexture"]["index"]
    image = description["images"][description["textures"][texture]["source"]]
    return _view(description, blob, image["bufferView"])


def _color(description: dict[str, Any], material: int) -> tuple[float, float, float] | None:
    mean = description["materials"][material].get("extras", {}).get("mean_color")
    if mean is None:
        return None
    red, green, blue = map(float, mean)
    return red, green, blue


def _welded(positions: array[float], index: array[int]) -> tuple[array[float], array[int]]:
    """Z-up positions and corners where vertices at one place, that charts had split, are one again."""
    places: dict[tuple[float, ...], int] = {}
    triples = zip(positions[0::3], positions[1::3], positions[2::3], strict=True)
    number = [places.setdefault(place, len(places)) for place in triples]
    turned = array("f", itertools.chain.from_iterable((x, -z, y) for x, y, z in places))
    return turned, array("i", [number[i] for i in index])


def _per_corner(uv: array[float], index: array[int]) -> array[float]:
    pairs = list(zip(uv[0::2], (1 - v for v in uv[1::2]), strict=True))
    return array("f", itertools.chain.from_iterable(pairs[i] for i in index))
