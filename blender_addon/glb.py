"""GLB: reads the meshes that pullback writes, as arrays that Blender's `foreach_set` takes. Standard library only.

In glTF, Y is up and the front faces +Z; in Blender, Z is up and the front faces -Y: (x, y, z) becomes (x, -z, y). The texture
coordinate v points down in glTF and up in Blender.
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
    """A triangle mesh and its texture.

    Args:
        positions: Three floats per vertex. No two vertices have the same position.
        corners: Three vertex indices per face.
        uv: Two floats per corner.
        texture: The bytes of a PNG file.
        name: The name of the mesh in the file.
        color: The mean colour of the surface, linear RGB; None if the file has none.
    """

    positions: array[float]
    corners: array[int]
    uv: array[float]
    texture: bytes
    name: str
    color: tuple[float, float, float] | None = None


def read(path: str | Path) -> Parts:
    """Read the mesh of a GLB file that pullback wrote. Raise Complaint if that fails. Can be called in any thread."""
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
        raise ValueError("it is not a GLB file of version 2, or it is cut short")
    size, kind = struct.unpack_from("<I4s", data, 12)
    if kind != b"JSON":
        raise ValueError("its first chunk is not JSON")
    return json.loads(data[20 : 20 + size]), data[28 + size :]


def _view(description: dict[str, Any], blob: bytes, number: int) -> bytes:
    view = description["bufferViews"][number]
    start = view.get("byteOffset", 0)
    if start < 0 or view["byteLength"] < 0 or start + view["byteLength"] > len(blob) or "byteStride" in view:
        raise ValueError("a buffer view does not fit into the file")
    return blob[start : start + view["byteLength"]]


def _accessor(description: dict[str, Any], blob: bytes, number: int) -> array[Any]:
    accessor = description["accessors"][number]
    code = "f" if accessor["componentType"] == FLOAT else INDEX[accessor["componentType"]]
    values = array(code)
    start = accessor.get("byteOffset", 0)
    size = accessor["count"] * WIDTH[accessor["type"]] * values.itemsize
    data = _view(description, blob, accessor["bufferView"])[start : start + size]
    if len(data) != size:
        raise ValueError("an accessor does not fit into its buffer view")
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
    """Merge vertices at the same position, which texture charts had split. Return Z-up positions and vertex indices."""
    places: dict[tuple[float, ...], int] = {}
    triples = zip(positions[0::3], positions[1::3], positions[2::3], strict=True)
    merged = [places.setdefault(place, len(places)) for place in triples]
    turned = array("f", itertools.chain.from_iterable((x, -z, y) for x, y, z in places))
    return turned, array("i", [merged[i] for i in index])


def _per_corner(uv: array[float], index: array[int]) -> array[float]:
    pairs = list(zip(uv[0::2], (1 - v for v in uv[1::2]), strict=True))
    return array("f", itertools.chain.from_iterable(pairs[i] for i in index))
