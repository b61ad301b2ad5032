"""Preview: shows the newest preview picture of the running job as an icon in the panel."""

import time
from array import array

import bpy
import bpy.utils.previews

_pictures: bpy.utils.previews.ImagePreviewCollection | None = None


def show(path: str) -> int:
    """Load a picture file in place of the previous one. Return its icon, or 0 if the file cannot be read."""
    if _pictures is None:
        return 0
    try:
        width, height, pixels = _read(path)
    except (OSError, RuntimeError):  # the file was deleted when the job ended
        return 0
    _pictures.clear()
    picture = _pictures.new(f"{path} {time.monotonic()}")
    picture.image_size = width, height
    picture.image_pixels_float.foreach_set(pixels)
    return picture.icon_id


def clear() -> None:
    """Remove the picture, because no job is running any more."""
    if _pictures is not None:
        _pictures.clear()


def _read(path: str) -> tuple[int, int, array]:
    """Read a picture file. Four square views in a row are rearranged into two rows of two.

    Returns:
        The width, the height, and the RGBA pixels, bottom row first.
    """
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
