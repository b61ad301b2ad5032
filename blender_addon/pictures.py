"""Pictures: cameras of the scene whose background images are photographs, as a `transforms.json` that the worker reads.

A camera's background image shows what the camera would see, so pose and lens are the camera's own. Pictures are copied as they
are, whatever their format: the worker reads them.
"""

import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bpy
from bpy.app.translations import pgettext_rpt as translate

LISTING = "transforms.json"
LONGEST_NAME = 40
"""Characters of a camera's or picture's name in the name of a copy."""


@dataclass(frozen=True)
class Photograph:
    """A camera of the scene and its picture."""

    camera: bpy.types.Object
    picture: bpy.types.CameraBackgroundImage


def selected(context: bpy.types.Context) -> list[bpy.types.Object]:
    """Return the selected cameras in the order of their names."""
    return sorted((obj for obj in context.selected_objects if obj and obj.type == "CAMERA"), key=lambda obj: obj.name)


def with_pictures(cameras: Sequence[bpy.types.Object]) -> list[Photograph]:
    """Return the cameras that have a background image, each with its first one."""
    found = ((camera, next(_pictures(camera), None)) for camera in cameras)
    return [Photograph(camera, picture) for camera, picture in found if picture is not None]


def _pictures(camera: bpy.types.Object) -> Iterator[bpy.types.CameraBackgroundImage]:
    for each in camera.data.background_images:
        if each.source == "IMAGE" and each.image is not None:
            yield each


def photographs(context: bpy.types.Context) -> list[Photograph]:
    """Return the photographs of the selected cameras.

    Raises:
        ValueError: If they cannot be reconstructed from; it names the camera.
    """
    cameras = selected(context)
    found = with_pictures(cameras)
    if not cameras:
        raise ValueError(translate("Select the cameras that took the pictures, or choose a transforms.json"))
    if not found:
        text = translate("The camera {name} has no picture: give it a background image, in the tab of its lens")
        raise ValueError(text.format(name=cameras[0].name))
    if len(found) < 2:
        text = translate("Only {name} has a picture: select two or more cameras with background images")
        raise ValueError(text.format(name=found[0].camera.name))
    first = found[0].camera.matrix_world.translation
    far = max((each.camera.matrix_world.translation - first).length for each in found)
    if far <= 1e-4 * max(1e-8, max(each.camera.matrix_world.translation.length for each in found)):
        text = translate(
            "The camera {name} and all others stand at the same place: move each to where its picture was taken"
        )
        raise ValueError(text.format(name=found[0].camera.name))
    for each in found:
        _check(each)
    return found


def _check(photograph: Photograph) -> None:
    """ValueError where a camera or its picture is of a kind that no lens describes."""
    name, picture = photograph.camera.name, photograph.picture
    if photograph.camera.data.type != "PERSP":
        raise ValueError(translate("The camera {name} has no perspective: set the type of its lens").format(name=name))
    moved = picture.scale != 1 or picture.rotation or tuple(picture.offset) != (0, 0)
    if moved or picture.use_flip_x or picture.use_flip_y:
        text = translate("The picture of {name} is scaled, moved, turned or flipped: let it fill the camera's frame")
        raise ValueError(text.format(name=name))
    if picture.image.source not in ("FILE", "GENERATED") or not min(picture.image.size):
        text = translate("The picture {picture} of {name} cannot be read: load a still picture from a file")
        raise ValueError(text.format(picture=_path(picture.image) or picture.image.name, name=name))


def write(folder: Path, found: Sequence[Photograph], render: bpy.types.RenderSettings) -> Path:
    """Write photographs into a new folder, and return the path of their listing.

    Args:
        folder: The folder. It must not exist.
        found: The photographs.
        render: The settings of the scene, which say how wide and high the cameras' frame is.

    Raises:
        ValueError: If a picture cannot be read, or the folder cannot be written. Nothing is left then.
    """
    try:
        folder.mkdir(parents=True)
        frames = [_frame(folder, number, each, render) for number, each in enumerate(found)]
        (folder / LISTING).write_text(json.dumps({"frames": frames}, indent=1), encoding="utf-8")
    except (OSError, RuntimeError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        text = translate("The pictures cannot be copied: {error}")
        raise ValueError(text.format(error=str(error).strip())) from error
    return folder / LISTING


def _frame(folder: Path, number: int, photograph: Photograph, render: bpy.types.RenderSettings) -> dict[str, Any]:
    image, camera = photograph.picture.image, photograph.camera
    original = _path(image)
    stem, suffix = (Path(original).stem, Path(original).suffix) if original else (image.name, ".png")
    names = (bpy.path.clean_name(each)[:LONGEST_NAME] for each in (camera.name, stem))
    name = "-".join((f"{number:03d}", *names)) + suffix
    _copy(image, folder / name)
    return {
        "file_path": name,
        "transform_matrix": [list(row) for row in camera.matrix_world],
        **lens(camera.data, photograph.picture, render),
    }


def _copy(image: bpy.types.Image, path: Path) -> None:
    """Write a picture as it is: painted or generated ones as Blender saves them, all others as their own bytes."""
    if image.is_dirty or image.source == "GENERATED":
        image.save(filepath=str(path), save_copy=True)
    elif image.packed_file is not None:
        path.write_bytes(image.packed_file.data)
    else:
        shutil.copyfile(_path(image), path)


def _path(image: bpy.types.Image) -> str:
    """Return the file of an image, or nothing."""
    return bpy.path.abspath(image.filepath, library=image.library) if image.filepath else ""


def lens(
    camera: bpy.types.Camera, picture: bpy.types.CameraBackgroundImage, render: bpy.types.RenderSettings
) -> dict[str, float]:
    """Return the intrinsics of a camera in pixels of its background image, as `transforms.json` calls them.

    The picture lies in the frame of the camera, whose sides are those of a render. If they have another ratio than the
    picture's, the camera says whether it is stretched, fits in the frame, or covers it.
    """
    width, height = (
        render.resolution_x * render.pixel_aspect_x,
        render.resolution_y * render.pixel_aspect_y,
    )
    wide = camera.sensor_fit == "HORIZONTAL" or (camera.sensor_fit == "AUTO" and width >= height)
    side = width if wide else height
    sensor = camera.sensor_height if camera.sensor_fit == "VERTICAL" else camera.sensor_width
    focal = camera.lens / sensor * side
    cx, cy = width / 2 - camera.shift_x * side, height / 2 + camera.shift_y * side
    w, h = picture.image.size
    ratios = width / w, height / h
    across, down = {
        "STRETCH": ratios,
        "FIT": (min(ratios),) * 2,
        "CROP": (max(ratios),) * 2,
    }[picture.frame_method]
    return {
        "w": w,
        "h": h,
        "fl_x": focal / across,
        "fl_y": focal / down,
        "cx": w / 2 + (cx - width / 2) / across,
        "cy": h / 2 + (cy - height / 2) / down,
    }
