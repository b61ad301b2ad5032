"""Photographs with poses, read from `transforms.json` (NeRF-synthetic, nerfstudio) or from COLMAP's text files.

Every photograph is resampled once into what an ideal camera would have taken: a square picture without distortion whose
optical axis is in the middle. What lies beyond the frame of the file is marked as not seen. The scene is turned, moved and
scaled so that the object lies in the unit ball, where fields live; a `Placement` leads back.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from .geometry.cameras import Cameras
from .pictures import write_png
from .storage import FIELD_FORMAT, opened

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp")
MOST_BYTES = 1 << 26
"""The largest text file of poses that is read."""
MOST_PIXELS = 1 << 28
"""The largest picture that is read."""
MOST_PHOTOGRAPHS = 4096
OPAQUE = 0.99
"""Photographs whose least opacity is at least this have no mask."""
HULL = 40
"""Cells along each side of the grid in which the ball of an object is searched."""
MARGIN = 1.05
"""Radius of the ball around an object, relative to the farthest point that the masks allow."""
PINHOLES = {"SIMPLE_PINHOLE": 3, "PINHOLE": 4, "SIMPLE_RADIAL": 4, "RADIAL": 5, "OPENCV": 8}
"""The camera models that are known, by COLMAP's names, and how many numbers describe them."""


@dataclass(frozen=True)
class Placement:
    """Where the unit ball lies in the scene: scene = centre + radius * rotation @ local.

    Args:
        rotation: A rotation (3, 3).
        centre: The middle of the ball, (3,).
        radius: Its radius.
    """

    rotation: Tensor
    centre: Tensor
    radius: float

    @property
    def matrix(self) -> Tensor:
        """The similarity from the unit ball to the scene, (4, 4)."""
        whole = torch.eye(4, dtype=self.rotation.dtype)
        whole[:3, :3], whole[:3, 3] = self.radius * self.rotation, self.centre
        return whole

    def local(self, cameras: Cameras) -> Cameras:
        """Return cameras of the scene in the coordinates of the unit ball."""
        return self._moved(cameras, self.rotation.T, lambda at: (at - self.centre) / self.radius @ self.rotation)

    def scene(self, cameras: Cameras) -> Cameras:
        """Return cameras of the unit ball in the coordinates of the scene."""
        return self._moved(cameras, self.rotation, lambda at: self.centre + self.radius * at @ self.rotation.T)

    def _moved(self, cameras: Cameras, rotation: Tensor, moved: Callable[[Tensor], Tensor]) -> Cameras:
        pose = cameras.pose.to(self.rotation)
        turned = pose.clone()
        turned[:, :3, :3], turned[:, :3, 3] = rotation @ pose[:, :3, :3], moved(pose[:, :3, 3])
        return Cameras(turned.to(cameras.pose), cameras.fov)

    def describe(self) -> str:
        """Return the matrix as JSON, rows first, for the header of a field file."""
        return json.dumps(self.matrix.tolist())

    @classmethod
    def described(cls, text: str) -> Placement | None:
        """Return the placement that `describe` gave, or None if the text is none."""
        try:
            matrix = torch.tensor(json.loads(text), dtype=torch.float64)
        except (ValueError, TypeError, RuntimeError, RecursionError):
            return None
        if matrix.shape != (4, 4) or not torch.isfinite(matrix).all() or not (volume := torch.det(matrix[:3, :3])) > 0:
            return None
        radius = float(volume) ** (1 / 3)
        return cls(matrix[:3, :3] / radius, matrix[:3, 3], radius)


@dataclass(frozen=True)
class Photographs:
    """B square photographs of an object in the unit ball.

    Args:
        cameras: Their cameras, in the coordinates of the unit ball.
        pictures: Premultiplied RGBA in [0, 1], (B, 4, S, S).
        seen: Which pixels the files show, (B, 1, S, S) bool.
        placement: Where the unit ball lies in the scene.
        names: Their files, for messages.
    """

    cameras: Cameras
    pictures: Tensor
    seen: Tensor
    placement: Placement
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.pictures)

    @property
    def kind(self) -> str:
        """The kind of radiance field that they show: "rgba", or "rgb" if they have no masks."""
        return "rgb" if _opaque(self.pictures, self.seen).all() else "rgba"

    @property
    def signals(self) -> Tensor:
        """What a model of pictures sees, (B, 4 or 3, S, S) in [-1, 1]."""
        return 2 * (self.pictures if self.kind == "rgba" else self.pictures[:, :3]) - 1

    @property
    def fingerprint(self) -> str:
        """A text that other photographs, or other poses, do not have."""
        tensors = (self.pictures, self.seen, self.cameras.pose, self.cameras.fov, self.placement.matrix)
        digest = hashlib.sha256()
        for each in tensors:
            digest.update(each.contiguous().numpy().tobytes())
        return digest.hexdigest()[:32]


@dataclass(frozen=True)
class Lens:
    """The intrinsics of a photograph in pixels; the middle of its upper left pixel is (0.5, 0.5).

    Args:
        focal: Focal lengths (fx, fy).
        middle: The principal point (cx, cy).
        distortion: OpenCV's k1, k2, p1, p2.
    """

    focal: tuple[float, float]
    middle: tuple[float, float]
    distortion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def pixels(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return where (x, y, 1) appears in the picture, with x to the right and y down."""
        k1, k2, p1, p2 = self.distortion
        r = x * x + y * y
        radial = 1 + r * (k1 + r * k2)
        u = x * radial + 2 * p1 * x * y + p2 * (r + 2 * x * x)
        v = y * radial + p1 * (r + 2 * y * y) + 2 * p2 * x * y
        return self.focal[0] * u + self.middle[0], self.focal[1] * v + self.middle[1]


@dataclass(frozen=True)
class _Shot:
    """A photograph that is not read yet: its files, its pose (4, 4), and its lens for a picture of some width and height."""

    picture: Path
    mask: Path | None
    pose: Tensor
    lens: Callable[[int, int], Lens]


def read_photographs(
    source: Path, size: int = 128, ball: Sequence[float] | None = None, front: float = 0.0
) -> Photographs:
    """Read photographs with poses.

    Args:
        source: A `transforms.json`, or a folder with COLMAP's cameras.txt and images.txt (also in sparse/0).
        size: Side of the photographs in pixels, at most; larger ones are reduced.
        ball, front: As in `gathered`.

    Raises:
        ValueError: If a file is missing, damaged or not supported, or the poses cannot be right; it names the file.
    """
    shots, up = _colmap(source) if source.is_dir() else (_transforms(source), None)
    if len(shots) < 2:
        raise ValueError(
            f"{source} has one picture with a pose: a reconstruction needs two or more, from different places"
        )
    if len(shots) > MOST_PHOTOGRAPHS:
        raise ValueError(f"{source} has {len(shots)} pictures; {MOST_PHOTOGRAPHS} is the most that are read")
    side = min(size, max(max(_size_of(shot.picture)) for shot in shots))
    pictures, seen, fov = zip(*(_photographed(shot, side) for shot in shots), strict=True)
    cameras = Cameras(torch.stack([shot.pose for shot in shots]), torch.tensor(fov, dtype=torch.float64))
    names = tuple(str(shot.picture) for shot in shots)
    return gathered(cameras, torch.stack(pictures), torch.stack(seen), names, str(source), up, ball, front)


def gathered(
    cameras: Cameras,
    pictures: Tensor,
    seen: Tensor | None = None,
    names: Sequence[str] = (),
    source: str = "the pictures",
    up: Tensor | None = None,
    ball: Sequence[float] | None = None,
    front: float = 0.0,
) -> Photographs:
    """Put an object that cameras have taken into the unit ball.

    Args:
        cameras: B cameras in the scene.
        pictures: Premultiplied RGBA in [0, 1], (B, 4, S, S); without masks, alpha is 1.
        seen: Which pixels count, (B, 1, S, S) bool. None counts all.
        names: Names of the pictures, for messages.
        source: Where they come from, for messages.
        up: The direction in the scene that is up, (3,); by default +Z.
        ball: Middle and radius (x, y, z, radius) of the ball that holds the object, in the scene. By default it is found
            from the masks; without masks it is the largest that all cameras see whole, around what they look at.
        front: Azimuth in degrees of the object's front in the scene; 0 is -Y. Only models that know sides need it.

    Raises:
        ValueError: If the cameras cannot show one object.
    """
    names = tuple(names) or tuple(f"picture {n + 1}" for n in range(len(pictures)))
    cameras = cameras.to(torch.float64)
    seen = torch.ones_like(pictures[:, :1], dtype=torch.bool) if seen is None else seen
    if len(pictures) < 2:
        raise ValueError(f"there is one picture in {source}: a reconstruction needs two or more, from different places")
    spread = (cameras.position - cameras.position.mean(0)).norm(dim=-1).max()
    if spread <= 1e-4 * max(1e-12, float(cameras.position.norm(dim=-1).max())):
        raise ValueError(f"all cameras of {source} stand at the same place: the poses are missing, or nobody moved")
    opaque = _opaque(pictures, seen)
    if opaque.any() and not opaque.all():
        bare = names[int(opaque.nonzero()[0])]
        raise ValueError(f"{bare} has no mask and others have one: give all of them a mask (an alpha channel), or none")
    if ball is None:
        centre = _looked_at(cameras, names, source)
        centre, radius = _ball_seen(cameras, centre) if opaque.all() else _hull(cameras, pictures, seen, centre, names)
    else:
        matrix = _matrix(ball, (4,))
        if matrix is None or not torch.isfinite(matrix).all():
            raise ValueError(f"the ball is {ball!r:.80}; it must be four numbers: x, y, z and the radius")
        centre, radius = matrix[:3], float(matrix[3])
        if not radius > 0:
            raise ValueError(f"the radius of the ball is {radius:g}; it must be above 0")
    inside = (cameras.position - centre).norm(dim=-1) <= radius
    if inside.any():
        name = names[int(inside.nonzero()[0])]
        raise ValueError(
            f"the camera of {name} stands within the object's ball: its pose is wrong, or the ball too large"
        )
    turn = _upright(up) @ _about_z(math.radians(front))
    placement = Placement(turn, centre, radius)
    local = placement.local(cameras)
    return Photographs(local.to(torch.float32), pictures, seen, placement, names)


def placement_of(path: Path) -> Placement | None:
    """Return where the field of a file lies in the scene that it was photographed in. None for other fields."""
    with opened(path, FIELD_FORMAT) as (_, texts, _):
        return Placement.described(texts.get("placement", ""))


def write_transforms(folder: Path, cameras: Cameras, pictures: Tensor) -> Path:
    """Write photographs as `transforms.json` with pictures beside it, as NeRF-synthetic has them.

    Args:
        folder: An existing folder.
        cameras: B cameras.
        pictures: Premultiplied RGBA or RGB in [0, 1], (B, 4 or 3, H, W).

    Returns:
        The path of `transforms.json`.
    """
    height, width = pictures.shape[2:]
    listing = listed(cameras, height, width)
    for n, frame in enumerate(listing["frames"]):
        write_png(folder / frame["file_path"], iter([pictures[n]]), width, height)
    path = folder / "transforms.json"
    path.write_text(json.dumps(listing, indent=1), "utf-8")
    return path


def listed(cameras: Cameras, height: int, width: int) -> dict[str, Any]:
    """Return cameras as the JSON values of a `transforms.json` of pictures with these sides: 000.png, 001.png and so on."""
    frames = []
    for n, (pose, fov) in enumerate(zip(cameras.pose.tolist(), cameras.fov.tolist(), strict=True)):
        focal = 0.5 * height / math.tan(fov / 2)
        frames.append({"file_path": f"{n:03d}.png", "transform_matrix": pose, "fl_x": focal, "fl_y": focal})
    return {"w": width, "h": height, "frames": frames}


def posed(
    listing: str, pictures: Tensor, size: int = 128, ball: Sequence[float] | None = None, front: float = 0.0
) -> Photographs:
    """Return pictures that are in memory, with the poses of a `transforms.json`.

    Args:
        listing: The text of the `transforms.json`, with a frame for each picture. File names are not needed.
        pictures: Premultiplied RGBA in [0, 1], (B, 4, H, W); without masks, alpha is 1.
        size: Side of the photographs in pixels, at most.
        ball, front: As in `gathered`. The listing may also have a "ball".

    Raises:
        ValueError: If the listing is damaged, or does not suit the pictures.
    """
    found, (height, width) = _listing(listing, "cameras"), pictures.shape[2:]
    frames = found["frames"]
    if len(frames) != len(pictures):
        raise ValueError(f"cameras has {len(frames)} frames and there are {len(pictures)} pictures: give one for each")
    wheres = [f"frame {n + 1} of cameras" for n in range(len(frames))]
    poses = [_pose(frame, where) for frame, where in zip(frames, wheres, strict=True)]
    lenses = [_json_lens({**found, **frame}, where)(width, height) for frame, where in zip(frames, wheres, strict=True)]
    side = min(size, max(height, width))
    squares, seen, fov = zip(
        *(rectified(each, lens, side) for each, lens in zip(pictures, lenses, strict=True)), strict=True
    )
    cameras = Cameras(torch.stack(poses), torch.tensor(fov, dtype=torch.float64))
    ball = found.get("ball") if ball is None else ball
    return gathered(cameras, torch.stack(squares), torch.stack(seen), (), "cameras", None, ball, front)


# transforms.json


def _transforms(path: Path) -> list[_Shot]:
    """The photographs that a `transforms.json` names."""
    listing = _listing(_text(path), str(path))
    shots = []
    for n, frame in enumerate(listing["frames"]):
        where = f"frame {n + 1} of {path}"
        values, name = {**listing, **frame}, frame.get("file_path")
        if not isinstance(name, str):
            raise ValueError(f"{where} has a camera but no picture: its file_path is missing")
        picture = _within(path.parent, name, where)
        mask = frame.get("mask_path")
        masked = _within(path.parent, mask, where) if isinstance(mask, str) else None
        shots.append(_Shot(picture, masked, _pose(frame, f"{where}, {name:.80}"), _json_lens(values, where)))
    return shots


def _listing(text: str, source: str) -> dict[str, Any]:
    """The JSON values of a `transforms.json`. ValueError if it has no frames."""
    try:
        listing = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise ValueError(f"{source} is not JSON ({error}): expected a transforms.json") from error
    frames = listing.get("frames") if isinstance(listing, dict) else None
    if not isinstance(frames, list) or not frames or not all(isinstance(frame, dict) for frame in frames):
        raise ValueError(f"{source} has no list of frames: expected a transforms.json of NeRF-synthetic or nerfstudio")
    return {**listing, "frames": frames}


def _pose(frame: Mapping[str, Any], where: str) -> Tensor:
    """The pose of a frame, (4, 4)."""
    if "transform_matrix" not in frame:
        raise ValueError(f"{where}, has no pose: its transform_matrix is missing")
    return _rigid(_matrix(frame["transform_matrix"]), where)


def _json_lens(values: Mapping[str, Any], where: str) -> Callable[[int, int], Lens]:
    """The lens of a frame. Focal lengths are of a picture of w x h, or else of the picture's own size."""
    model = str(values.get("camera_model", "OPENCV")).upper()
    _check_lens(model, [values.get(name) for name in ("k3", "k4", "k5", "k6")] + [values.get("is_fisheye")], where)

    def number(name: str, default: float | None = None) -> float | None:
        value = values.get(name, default)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
        ):
            raise ValueError(f"{where} has the {name} {value!r:.40}; it must be a number")
        return value

    def of(width: int, height: int) -> Lens:
        w, h = number("w", width) or width, number("h", height) or height
        if min(w, h) <= 0:
            raise ValueError(f"{where} has a width or height of {min(w, h):g}; they must be above 0")
        fx, fy = (
            _focal(number(f"fl_{axis}"), number(f"camera_angle_{axis}"), side) for axis, side in (("x", w), ("y", h))
        )
        fx, fy = fx or fy, fy or fx
        if not fx or not fy or min(fx, fy) <= 0:
            raise ValueError(f"{where} does not say how wide its camera looks: camera_angle_x or fl_x is missing")
        across, down = width / w, height / h
        cx, cy = number("cx", w / 2), number("cy", h / 2)
        terms = [number(name, 0.0) or 0.0 for name in ("k1", "k2", "p1", "p2")]
        return Lens((fx * across, fy * down), ((cx or 0.0) * across, (cy or 0.0) * down), tuple(terms))  # type: ignore[arg-type]

    return of


def _focal(length: float | None, angle: float | None, side: float) -> float | None:
    """The focal length in pixels, from itself or from the angle over a side."""
    if length is not None or angle is None:
        return length
    return 0.5 * side / math.tan(angle / 2) if 0 < angle < math.pi else None


# COLMAP


def _colmap(folder: Path) -> tuple[list[_Shot], Tensor]:
    """The photographs of a COLMAP reconstruction, and the direction that is up: on the whole, the cameras' own."""
    if (folder / "transforms.json").is_file():
        shots = _transforms(folder / "transforms.json")
        return shots, torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    places = [folder / part for part in (".", "sparse/0", "sparse", "colmap/sparse/0")]
    model = next((place for place in places if (place / "images.txt").is_file()), None)
    if model is None or not (model / "cameras.txt").is_file():
        raise ValueError(_no_poses(folder, places))
    cameras = dict(_cameras(model / "cameras.txt"))
    pictures = next((place for place in (folder / "images", folder) if place.is_dir()), folder)
    shots, lines = [], iter(_lines(model / "images.txt"))
    for number, line in lines:
        where = f"line {number} of {model / 'images.txt'}"
        if not line:
            continue
        parts = line.split(maxsplit=9)
        try:
            w, x, y, z, *shift = (float(part) for part in parts[1:8])
            lens, name = cameras[parts[8]], parts[9]
        except (ValueError, IndexError, KeyError) as error:
            raise ValueError(f"{where} is no picture of COLMAP's format with a camera of cameras.txt") from error
        next(lines, None)  # the points that the picture shows
        picture = _within(pictures, name, where)
        mask = next((path for path in _masks(folder, name) if path.is_file()), None)
        shots.append(_Shot(picture, mask, _from_opencv([w, x, y, z], shift, f"{where}, {picture}"), lens))
    if not shots:
        raise ValueError(f"{model / 'images.txt'} holds no picture with a pose")
    return shots, torch.stack([shot.pose[:3, 1] for shot in shots]).mean(0)


def _no_poses(folder: Path, places: list[Path]) -> str:
    if any((place / "images.bin").is_file() for place in places):
        return f"{folder} holds COLMAP's binary files: convert them with colmap model_converter --output_type TXT"
    pictures = sorted(
        path for path in (folder / "images", folder) for path in path.glob("*") if path.suffix.lower() in SUFFIXES
    )
    if pictures:
        return f"{pictures[0]} and the other pictures of {folder} have no poses: expected transforms.json, or COLMAP's cameras.txt and images.txt"  # noqa: E501
    return f"{folder} holds no photographs: expected transforms.json, or COLMAP's cameras.txt and images.txt"


def _masks(folder: Path, name: str) -> Iterator[Path]:
    """Where COLMAP keeps the mask of a picture."""
    if _lies_within(folder / "masks", folder / "masks" / name):
        yield (folder / "masks" / name).with_name(Path(name).name + ".png")
        yield (folder / "masks" / name).with_suffix(".png")


def _cameras(path: Path) -> Iterator[tuple[str, Callable[[int, int], Lens]]]:
    """The lenses of cameras.txt by their id."""
    for number, line in _lines(path):
        if not line:
            continue
        where = f"line {number} of {path}"
        try:
            id, model, *rest = line.split()
            w, h, *terms = (float(part) for part in rest)
        except ValueError as error:
            raise ValueError(f"{where} is no camera of COLMAP's format") from error
        _check_lens(model, [], where)
        if len(terms) != PINHOLES[model] or not all(map(math.isfinite, terms)) or min(w, h, *terms[:2]) <= 0:
            raise ValueError(f"{where} is no camera of the model {model}: its numbers are wrong")
        terms = terms if model in ("PINHOLE", "OPENCV") else [terms[0], *terms]  # the others have one focal length
        fx, fy, cx, cy, *distortion = [*terms, *[0.0] * (8 - len(terms))]

        def lens(
            width: int,
            height: int,
            w: float = w,
            h: float = h,
            at: tuple[float, ...] = (fx, fy, cx, cy),
            k: Any = distortion,
        ) -> Lens:
            across, down = width / w, height / h
            return Lens((at[0] * across, at[1] * down), (at[2] * across, at[3] * down), tuple(k))

        yield id, lens


def _check_lens(model: str, further: Sequence[Any], where: str) -> None:
    if model not in PINHOLES or any(further):
        raise ValueError(
            f"{where} has a lens of the kind {model:.40}{' with k3 or more' if any(further) else ''}, which is not supported: "
            "undistort the pictures first (colmap image_undistorter)"
        )


def _from_opencv(quaternion: Sequence[float], shift: Sequence[float], where: str) -> Tensor:
    """The pose from camera to world, OpenGL's way, of a rotation and a translation from world to camera, OpenCV's way."""
    q = torch.tensor(quaternion, dtype=torch.float64)
    w, x, y, z = (q / q.norm().clamp(min=1e-12)).tolist()
    rotation = torch.tensor([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ], dtype=torch.float64)  # fmt: skip
    pose = torch.eye(4, dtype=torch.float64)
    pose[:3, :3] = rotation.T * torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64)
    pose[:3, 3] = -rotation.T @ torch.tensor(shift, dtype=torch.float64)
    return _rigid(pose if q.norm() > 1e-6 else None, where)


# Files and poses


def _text(path: Path) -> str:
    if not path.is_file():
        raise ValueError(f"{path} does not exist: give a transforms.json, or a folder with COLMAP's text files")
    if path.stat().st_size > MOST_BYTES:
        raise ValueError(f"{path} has {path.stat().st_size} bytes, too many for a file of poses")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is no text file: give a transforms.json, or a folder with COLMAP's text files"
        ) from error


def _lines(path: Path) -> list[tuple[int, str]]:
    """The numbered lines of a COLMAP file without its comments."""
    lines = ((number, line.strip()) for number, line in enumerate(_text(path).splitlines(), 1))
    return [(number, line) for number, line in lines if not line.startswith("#")]


def _within(folder: Path, name: str, where: str) -> Path:
    """The path of a picture that a file names; it must exist, and lie in the folder."""
    if "\0" in name or not _lies_within(folder, folder / name):
        raise ValueError(
            f"{where} names {name!r:.80}, which lies outside of {folder}: keep the pictures in that folder"
        )
    path = folder / name
    candidates = [path, *(path.with_name(path.name + suffix) for suffix in SUFFIXES)]
    found = next((each for each in candidates if each.is_file()), None)
    if found is None:
        raise ValueError(f"the picture {path} is missing: {where} names it")
    return found


def _lies_within(folder: Path, path: Path) -> bool:
    return path.resolve().is_relative_to(folder.resolve())


def _matrix(rows: Any, *shapes: tuple[int, ...]) -> Tensor | None:
    """A matrix from JSON, of 4 x 4 or 3 x 4 numbers unless shapes are given, or None if it is none."""
    try:
        matrix = torch.tensor(rows, dtype=torch.float64)
    except (ValueError, TypeError, RuntimeError, OverflowError):
        return None
    return matrix if tuple(matrix.shape) in (shapes or ((4, 4), (3, 4))) else None


def _rigid(matrix: Tensor | None, where: str) -> Tensor:
    """A pose (4, 4) without the scale that a camera object may have. ValueError if it is no pose."""
    if matrix is not None and torch.isfinite(matrix).all():
        axes = matrix[:3, :3] / matrix[:3, :3].norm(dim=0).clamp(min=1e-12)
        if torch.det(axes) > 0 and (axes.T @ axes - torch.eye(3, dtype=torch.float64)).abs().max() < 1e-2:
            u, _, v = torch.linalg.svd(axes)
            pose = torch.eye(4, dtype=torch.float64)
            pose[:3, :3], pose[:3, 3] = u @ v, matrix[:3, 3]
            return pose
    raise ValueError(f"{where}, has a pose that is no rotation and translation: expected a matrix of 4 x 4 numbers")


def _size_of(path: Path) -> tuple[int, int]:
    return _opened(path, lambda picture: picture.size)


def _opened(path: Path, use: Callable[[Image.Image], Any]) -> Any:
    """What `use` makes of an open picture. ValueError names a picture that cannot be read."""
    try:
        with Image.open(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                raise ValueError(f"it has {picture.width} x {picture.height} pixels, too many")
            return use(picture)
    except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} is no picture that can be read: give a PNG, JPEG or WebP file ({error})") from error


def _pixels(picture: Image.Image) -> np.ndarray:
    """Straight RGBA (H, W, 4) in [0, 1] of a picture of any mode; 16-bit grey keeps its range."""
    if picture.mode.startswith("I"):
        grey = np.asarray(picture).astype(np.float32) / 65535
        return np.stack([grey, grey, grey, np.ones_like(grey)], -1)
    return np.asarray(picture.convert("RGBA"), dtype=np.float32) / 255


def _photographed(shot: _Shot, size: int) -> tuple[Tensor, Tensor, float]:
    """The photograph (4, size, size), what is seen of it, (1, size, size), and its angle in radians."""
    straight = torch.from_numpy(_opened(shot.picture, _pixels)).movedim(-1, 0)
    if shot.mask is not None:
        mask = torch.from_numpy(_opened(shot.mask, _pixels)).movedim(-1, 0)
        if mask.shape != straight.shape:
            wanted, found = (f"{each.shape[2]} x {each.shape[1]}" for each in (straight, mask))
            raise ValueError(f"the mask {shot.mask} has {found} pixels and its picture {wanted}: make them alike")
        straight = torch.cat([straight[:3], straight[3:] * mask[:3].mean(0) * mask[3:]])
    height, width = straight.shape[1:]
    return rectified(torch.cat([straight[:3] * straight[3:], straight[3:]]), shot.lens(width, height), size)


def rectified(pixels: Tensor, lens: Lens, size: int) -> tuple[Tensor, Tensor, float]:
    """Resample a photograph into a square one without distortion, with the optical axis in the middle.

    Args:
        pixels: Premultiplied RGBA (4, H, W).
        lens: How it was taken.
        size: Side of the result in pixels.

    Returns:
        The picture (4, size, size), which of its pixels the photograph shows, (1, size, size) bool, and the angle over its
        side in radians.
    """
    (height, width), (fx, fy), (cx, cy) = pixels.shape[1:], lens.focal, lens.middle
    half = max(max(cx, width - cx) / fx, max(cy, height - cy) / fy)
    reduced = max(1, max(height, width) // (2 * size))  # so that the four samples of a pixel below cover its area
    small = F.avg_pool2d(pixels[None], reduced) if reduced > 1 else pixels[None]
    fine = max(1, min(4, math.ceil(2 * half * max(fx, fy) / reduced / size - 1e-6)))
    line = ((2 * torch.arange(size * fine, dtype=torch.float64) + 1) / (size * fine) - 1) * half
    y, x = torch.meshgrid(line, line, indexing="ij")
    u, v = lens.pixels(x, y)
    rows, columns = small.shape[2:]
    at = torch.stack([2 * u / (columns * reduced) - 1, 2 * v / (rows * reduced) - 1], -1)
    taken = F.grid_sample(small, at[None].to(small), padding_mode="border", align_corners=False)
    within = (at.abs() <= 1).all(-1)[None, None].to(small)
    if fine > 1:
        taken, within = F.avg_pool2d(taken, fine), F.avg_pool2d(within, fine)
    seen = within[0] > 0.999
    return taken[0] * seen, seen, 2 * math.atan(half)


# The ball


def _opaque(pictures: Tensor, seen: Tensor) -> Tensor:
    """Which photographs have no mask, (B,)."""
    return torch.where(seen, pictures[:, 3:], torch.ones(())).amin((1, 2, 3)) >= OPAQUE


def _looked_at(cameras: Cameras, names: Sequence[str], source: str) -> Tensor:
    """The point that is nearest to all optical axes, (3,)."""
    ahead = -cameras.pose[:, :3, 2]
    across = torch.eye(3, dtype=ahead.dtype) - ahead[:, :, None] * ahead[:, None]
    matrix = across.mean(0)
    if torch.linalg.eigvalsh(matrix)[0] < 1e-4:
        raise ValueError(
            f"the cameras of {source} look in one direction, so it is unknown how far the object is: give its ball"
        )
    point = torch.linalg.solve(matrix, (across @ cameras.position[:, :, None]).mean(0))[:, 0]
    behind = ((point - cameras.position) * ahead).sum(-1) <= 0
    if behind.any():
        name = names[int(behind.nonzero()[0])]
        raise ValueError(f"{name} looks away from what the others show: its pose is wrong, or give the object's ball")
    return point


def _ball_seen(cameras: Cameras, centre: Tensor) -> tuple[Tensor, float]:
    """The largest ball around a point that every camera sees whole, if it looks there."""
    distance = (cameras.position - centre).norm(dim=-1)
    return centre, float((distance * torch.sin(cameras.fov / 2)).min())


def _hull(
    cameras: Cameras, pictures: Tensor, seen: Tensor, centre: Tensor, names: Sequence[str]
) -> tuple[Tensor, float]:
    """The ball around all points that no mask excludes (the visual hull), found on three finer and finer grids."""
    reach = float((cameras.position - centre).norm(dim=-1).min())
    side = pictures.shape[-1]
    # What a photograph does not show excludes nothing.
    masks = torch.where(seen, pictures[:, 3:], torch.ones(()))
    for last in (False, False, True):
        line = ((2 * torch.arange(HULL, dtype=torch.float64) + 1) / HULL - 1) * reach
        points = centre + torch.stack(torch.meshgrid(line, line, line, indexing="ij"), -1).reshape(-1, 3)
        cell = reach * math.sqrt(3) / HULL  # from the middle of a cell to its corner
        excluded, framed = torch.zeros(len(points)), torch.zeros(len(points))
        blamed = torch.full((len(points),), -1)
        for n in range(len(pictures)):
            x, y, depth = projected(cameras[n : n + 1], points)
            pixels = cell / (2 * reach * math.tan(float(cameras.fov[n]) / 2)) * side
            wide = 0 if last else min(side // 2, round(pixels))  # so that no cell of a coarse grid is missed
            grown = F.max_pool2d(masks[n][None], 2 * wide + 1, 1, wide)
            at = torch.stack([x, -y], -1).to(grown)
            inside = F.grid_sample(grown, at[None, None], mode="nearest", align_corners=False)[0, 0, 0] > 0.1
            frame = (at.abs() <= 1).all(-1) & (depth > 0)
            framed += frame
            excluded += frame & ~inside
            blamed[frame & ~inside] = n
        hull = (excluded == 0) & (framed > len(pictures) / 2)
        if not hull.any():
            almost = blamed[(excluded == 1) & (framed > len(pictures) / 2)]
            suspect = (
                f", most likely of {names[int(almost.mode().values)]}" if len(almost) and len(pictures) > 2 else ""
            )
            raise ValueError(f"the masks of the pictures do not meet in space: a pose or a mask is wrong{suspect}")
        low, high = points[hull].amin(0), points[hull].amax(0)
        centre = (low + high) / 2
        radius = float((points[hull] - centre).norm(dim=-1).max()) + reach / HULL
        reach = min(reach, radius * MARGIN)
    nearest = float((cameras.position - centre).norm(dim=-1).min())
    return centre, min(radius * MARGIN, 0.95 * nearest)


def covered(photographs: Photographs, points: Tensor) -> Tensor:
    """Return the least opacity with which a photograph shows points, (N,): above one half in the visual hull.

    Args:
        photographs: The photographs.
        points: Points (N, 3) of the unit ball. Those that no photograph shows have opacity 1.
    """
    least = points.new_ones(len(points))
    masks = torch.where(photographs.seen, photographs.pictures[:, 3:], torch.ones(()))
    for n in range(len(photographs)):
        x, y, depth = projected(photographs.cameras[n : n + 1], points)
        at = torch.stack([x, -y], -1).to(masks)
        opacity = F.grid_sample(masks[n : n + 1], at[None, None], padding_mode="border", align_corners=False)[0, 0, 0]
        shown = (at.abs() <= 1).all(-1) & (depth > 0)
        least = torch.minimum(least, torch.where(shown, opacity, torch.ones(())))
    return least


def projected(cameras: Cameras, points: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return where one camera sees points.

    Args:
        cameras: One camera.
        points: Points (N, 3).

    Returns:
        x to the right and y up, (N,) each, from -1 to 1 in a square picture, and the depth along the optical axis, (N,).
    """
    local = (points - cameras.position) @ cameras.pose[0, :3, :3]
    depth = -local[:, 2]
    scale = depth.clamp(min=1e-9) * torch.tan(cameras.fov / 2)
    return local[:, 0] / scale, local[:, 1] / scale, depth


def _upright(up: Tensor | None) -> Tensor:
    """The smallest rotation that takes +Z to a direction, (3, 3)."""
    z = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    if up is None or up.norm() < 1e-6:
        return torch.eye(3, dtype=torch.float64)
    up = up.to(z) / up.norm()
    axis, cos = torch.linalg.cross(z, up), float(z @ up)
    if cos < -1 + 1e-9:
        return torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    x, y, w = axis.tolist()
    cross = torch.tensor([[0, -w, y], [w, 0, -x], [-y, x, 0]], dtype=torch.float64)
    return torch.eye(3, dtype=torch.float64) + cross + cross @ cross / (1 + cos)


def _about_z(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return torch.tensor([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]], dtype=torch.float64)
