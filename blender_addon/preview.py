"""Preview: the newest picture of the running job, as an icon that a panel can draw."""

import time
from array import array

import bpy
import bpy.utils.previews

_pictures: bpy.utils.previews.ImagePreviewCollection | None = None


def show(path: str) -> int:
    """Make a picture the newest one; its icon, 0 where it cannot be read any more."""
    if _pictures is None:
        return 0
    try:
        width, height, pixels = _drawn(path)
    except (OSError, RuntimeError):  # it went when the job ended
        return 0
    _pictures.clear()
    picture = _pictures.new(f"{path} {time.monotonic()}")
    picture.image_size = width, height
    picture.image_pixels_float.foreach_set(pixels)
    return picture.icon_id


def clear() -> None:
    """No job runs: there is no picture."""
    if _pictures is not None:
        _pictures.clear()


def _drawn(path: str) -> tuple[int, int, array]:
    """Width, height and RGBA pixels, bottom row first, of a picture file. Views in a row of four come two by two."""
    image = bpy.data.images.load(path)
    try:
        width, height = image.size
        pixels = array("f", bytes(16 * width * height))
        image.pixels.foreach_get(pixels)
    finally:
        bpy.data.images.remove(image)
    if width != 4 * height:
        return width, height, pixels
    row, half = 4 * width, 2 * width
    right, left = (array("f") for _ in range(2))
    for start in range(0, len(pixels), row):
        left += pixels[start : start + half]
        right += pixels[start + half : start + row]
    return 2 * height, 2 * height, right + left


def register() -> None:
    global _pictures
    _pictures = bpy.utils.previews.new()


def unregister() -> None:
    global _pictures
    if _pictures is not None:
        bpy.utils.previews.remove(_pictures)
        _pictures = None
