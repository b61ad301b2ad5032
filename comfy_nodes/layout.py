"""Layout: the regions of the nodes, converted to the core's regions or drawn as a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

if TYPE_CHECKING:
    from ..core.pullback.regions import Region

PLACES = ("box", "degrees", "side", "everywhere")
SIDE = 512
"""The longer side of the picture of a layout, in pixels."""
COLOURS = ("#c0392b", "#2471a3", "#1e8449", "#b9770e", "#7d3c98", "#117a65", "#a04000", "#34495e")


@dataclass(frozen=True)
class RegionValue:
    """A sentence and its place. It becomes one of the core's regions when the sampled representation is known.

    Args:
        text: The sentence.
        place: One of `PLACES`.
        numbers: For a box, left, top, width and height as fractions of the picture. For degrees, azimuth and elevation of the
            middle, width and height, in degrees. For a side, azimuth and elevation in degrees.
        weight: The weight of the region among all regions.
        scales: Sizes at which the place is compared with the sentence, in multiples of the box.
        aspect: Width of the canvas divided by its height.
    """

    text: str
    place: str = "everywhere"
    numbers: tuple[float, ...] = ()
    weight: float = 1.0
    scales: tuple[float, ...] = (1.0,)
    aspect: float = 1.0

    @classmethod
    def boxed(cls, text: str, box: tuple[int, int, int, int], canvas: tuple[int, int], **more: Any) -> RegionValue:
        """Return a region from a box (x, y, width, height) in pixels of a canvas (width, height).

        Raises:
            ValueError: If the box does not lie within the canvas.
        """
        x, y, w, h = box
        if x + w > canvas[0] or y + h > canvas[1]:
            raise ValueError(
                f"the box of {text.strip()[:40]!r} at {x}, {y} of {w} x {h} pixels lies outside the picture of {canvas[0]} x "
                f"{canvas[1]}: make it smaller, or the canvas larger"
            )
        parts = (x / canvas[0], y / canvas[1], w / canvas[0], h / canvas[1])
        return cls(text, "box", parts, aspect=canvas[0] / canvas[1], **more)

    def region(self, panorama: float = 0.0, flat: bool = True) -> Region:
        """Return the core's region.

        Args:
            panorama: Width of the panorama divided by its height; 0 if the field is not a panorama.
            flat: Whether the field is a picture and not an object.

        Raises:
            ValueError: If the sentence or a number is wrong, or the place does not suit the field.
        """
        from ..core.pullback.regions import Region, box_around

        named = repr(self.text.strip()[:40])
        if not flat and self.place in ("box", "degrees"):
            raise ValueError(f"an object has no boxes: give {named} a side, or everywhere")
        if flat and self.place == "side":
            raise ValueError(f"a picture has no sides: give {named} a box")
        if self.place == "degrees" and not panorama:
            raise ValueError(f"this picture is not a panorama and has no degrees: give {named} a box")
        box, side = None, None
        if self.place == "box":
            left, top, width, height = self.numbers
            box = left, top, width, height
        elif self.place == "degrees":
            azimuth, elevation, width, height = self.numbers
            box = box_around((azimuth, elevation, width, height), panorama)
        elif self.place == "side":
            side = math.radians(self.numbers[0]), math.radians(self.numbers[1])
        return Region(self.text.strip(), box, side, self.weight, self.scales)

    def check(self) -> None:
        """Raise a ValueError if the region is wrong for every kind of field."""
        self.region(2.0 if self.place == "degrees" else 0.0, self.place != "side")


def regions_of(values: tuple[RegionValue, ...], diffrep: Any) -> tuple[Region, ...]:
    """Return the core's regions for a field.

    Raises:
        ValueError: If one does not suit the field.
    """
    from ..core.pullback.regions import panorama_aspect

    panorama, flat = panorama_aspect(diffrep), hasattr(diffrep, "lookup")
    return tuple(value.region(panorama, flat) for value in values)


def scales_of(text: str) -> tuple[float, ...]:
    """Return the numbers of a text such as "1, 1.5".

    Raises:
        ValueError: If the text is not a list of numbers.
    """
    try:
        found = tuple(float(each) for each in text.replace(";", ",").split(",") if each.strip())
    except ValueError:
        found = ()
    if not 1 <= len(found) <= 8:
        raise ValueError(
            f"scales is {text[:40]!r}; it takes one to eight numbers between commas, for example 1 or 1, 1.5"
        )
    return found


def picture(values: tuple[RegionValue, ...]) -> Tensor:
    """Return a picture of a layout as an IMAGE (1, H, W, 3), with the canvas of its last region.

    Places in degrees, and sides, are shown on a map of all directions.
    """
    aspect = 2.0 if values[-1].place in ("degrees", "side") else min(16.0, max(1 / 16, values[-1].aspect))
    width, height = (round(SIDE * min(1.0, each)) for each in (aspect, 1 / aspect))
    image = Image.new("RGB", (width, height), "#f4f4f0")
    draw, font = ImageDraw.Draw(image, "RGBA"), ImageFont.load_default(max(10, min(width, height) // 24))
    for number, value in enumerate(values):
        colour = COLOURS[number % len(COLOURS)]
        for left, top, w, h in _boxes(value):
            box = (left * width, top * height, (left + w) * width - 1, (top + h) * height - 1)
            shape = draw.ellipse if value.place == "side" else draw.rectangle
            for scale in value.scales:
                grow = [(scale - 1) / 2 * each for each in (w * width, h * height)]
                grown = (box[0] - grow[0], box[1] - grow[1], box[2] + grow[0], box[3] + grow[1])
                shape(grown, outline=colour, width=2 if scale == 1 else 1)
            shape(box, fill=colour + "30")
            text = _wrapped(draw, font, value.text.strip(), w * width - 8)
            draw.multiline_text((max(0.0, box[0]) + 5, max(0.0, box[1]) + 3), text, colour, font)
    return torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)[None]


def _boxes(value: RegionValue) -> list[tuple[float, float, float, float]]:
    """Return where a region is drawn, as fractions of the picture. It is two boxes if it crosses the edge of a panorama."""
    if value.place == "everywhere":
        return [(0.0, 0.0, 1.0, 1.0)]
    if value.place == "box":
        left, top, width, height = value.numbers
        return [(left, top, width, height)]
    azimuth, elevation, across, high = (*value.numbers, 60.0, 60.0)[:4]
    left, top = (0.5 - (azimuth + across / 2) / 360) % 1, 0.5 - (elevation + high / 2) / 180
    found = [(left, top, across / 360, high / 180)]
    return found + ([(left - 1, top, across / 360, high / 180)] if left + across / 360 > 1 else [])


def _wrapped(draw: Any, font: Any, text: str, width: float) -> str:
    """Wrap a sentence to a width in pixels, and keep at most six lines."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and draw.textlength(longer, font) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return "\n".join(lines[:6])
