"""Guidance by regions: boxes with sentences that a sample should show, judged by a picture-text model.

The guide is a denoiser that wraps a denoiser. With p(sentence | x0) proportional to exp(-s L(x0)), where L is one minus the
cosine similarity between the sentence and what the region shows, the posterior mean given the sentences is, to first order in s,

    D'(x, sigma) = D(x, sigma) - s sigma^2 d/dx L(D(x, sigma))

(diffusion posterior sampling, Chung et al. 2023; INFD, section 5.5). Every region is rendered at the resolution of the
picture-text model, however small or large it is.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, interpolate

from .geometry.cameras import Cameras
from .geometry.sphere import directions
from .types import CLIP, Box, Denoiser, Model

MOST = 64
"""The largest number of regions."""
LONGEST = 500
"""The largest number of characters in a sentence."""
LEAST = 1 / 64
"""The smallest side of a box, as a fraction of the picture's side."""
VISIBLE = 0.5
"""A view counts only if it shows more than this fraction of what the best view shows of a box, or if the cosine of the angle
between the view and the side of an object exceeds it."""
PLACED = re.compile(
    r"(?P<place>[-+.\de,\s]+(?=[*:])|\s*(?=\*))(\*(?P<weight>[-+.\de,\s]*))?:(?P<sentence>.*)", re.DOTALL
)
"""Matches a region that gives a place or a weight before its sentence (`parsed`)."""
DATA = 0.5
"""The standard deviation of pictures that is assumed if gradients do not pass through the model."""


@dataclass(frozen=True)
class Region:
    """A part of a field and what it should show.

    Args:
        text: A sentence.
        box: The part of a flat field's picture, which may cross the edge of a picture that wraps around. None is the whole.
        side: The direction that an object is seen from, as azimuth and elevation in radians. None is every direction.
        weight: How much the region counts, 0 or more.
        scales: Factors by which the box is enlarged around its centre. The region's loss is the mean over all of them.

    Raises:
        ValueError: If an argument is out of range.
    """

    text: str
    box: Box | None = None
    side: tuple[float, float] | None = None
    weight: float = 1.0
    scales: tuple[float, ...] = (1.0,)

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise ValueError("a region has no sentence: say what it should show")
        if len(self.text) > LONGEST:
            raise ValueError(
                f"the sentence {self.text[:20]!r}... has {len(self.text)} characters; at most {LONGEST}: shorten it"
            )
        if not 0 <= self.weight < math.inf:
            raise ValueError(f"the weight of {self.text[:40]!r} is {self.weight}; it must be 0 or more")
        if not self.scales or not all(0.1 <= each <= 10 for each in self.scales):
            raise ValueError(f"the scales of {self.text[:40]!r} are {self.scales}; they must lie between 0.1 and 10")
        if self.box is not None:
            _check_box(self.box, self.text)


def _check_box(box: Box, text: str) -> None:
    left, top, width, height = box
    if not all(math.isfinite(each) for each in box):
        raise ValueError(f"the box of {text[:40]!r} is {box}; it must be four finite numbers")
    if not (0 <= left < 1 and 0 <= top < 1 and width <= 1 and top + height <= 1 + 1e-6):
        raise ValueError(
            f"the box of {text[:40]!r} lies outside the picture: left {left:g}, top {top:g}, width {width:g}, height "
            f"{height:g} must be fractions of its sides, from 0 to 1"
        )
    if min(width, height) < LEAST:
        raise ValueError(f"the box of {text[:40]!r} is {width:g} x {height:g}; its sides must be at least {LEAST:g}")


def parsed(text: str, panorama: float = 0.0) -> Region:
    """Parse a region from a command line.

    Args:
        text: "LEFT,TOP,WIDTH,HEIGHT: SENTENCE" in parts of the picture, "AZIMUTH,ELEVATION: SENTENCE" in degrees for a side of
            an object, or only a sentence for the whole field. For panoramas, "AZIMUTH,ELEVATION,WIDTH,HEIGHT: SENTENCE" in
            degrees: the middle of the box and its sides. "*WEIGHT" before the colon sets the region's weight.
        panorama: The width of a panorama divided by its height, or 0 if the field is not a panorama.

    Raises:
        ValueError: If the text has none of these forms.

    Example:
        >>> parsed("0.1,0.5,0.3,0.4: a red mushroom").box
        (0.1, 0.5, 0.3, 0.4)
        >>> parsed("a red mushroom").box is None
        True
        >>> parsed("0.1,0.5,0.3,0.4*2: a red mushroom").weight
        2.0
    """
    match = PLACED.match(text)
    if match is None:
        return Region(text.strip())
    sentence = match["sentence"].strip()
    place, weight = match["place"].strip(), match["weight"]
    numbers, weights = _numbers(place), (1.0,) if weight is None else _numbers(weight)
    if len(weights) == 1:
        if len(numbers) == 4:
            box = cast(Box, numbers)
            return Region(sentence, box_around(box, panorama) if panorama else box, weight=weights[0])
        if len(numbers) == 2:
            return Region(sentence, side=(math.radians(numbers[0]), math.radians(numbers[1])), weight=weights[0])
        if not place:
            return Region(sentence, weight=weights[0])
    raise ValueError(
        f"the region {text[:60]!r} takes four numbers before the colon, LEFT,TOP,WIDTH,HEIGHT as parts of the picture, or "
        "two for an object, AZIMUTH,ELEVATION in degrees, and after them *WEIGHT if it is not 1"
    )


def box_around(degrees: Box, aspect: float) -> Box:
    """Return the box around a direction, as fractions of a panorama. Azimuth is 0 in the middle and grows to the left.

    Args:
        degrees: Azimuth and elevation of the middle of the box, its width and its height, in degrees.
        aspect: The width of the panorama divided by its height.
    """
    azimuth, elevation, width, height = degrees
    if not all(math.isfinite(each) for each in degrees):
        return degrees
    high = 360 / aspect
    return (0.5 - (azimuth + width / 2) / 360) % 1, 0.5 - (elevation + height / 2) / high, width / 360, height / high


def _numbers(text: str) -> tuple[float, ...]:
    """Parse numbers with commas between them. Return () if one of them is not a number."""
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError:
        return ()


def located(diffrep: Any, texts: Sequence[str]) -> tuple[Region, ...]:
    """Parse the regions of a field.

    Args:
        diffrep: The representation of the field.
        texts: The regions (`parsed`).

    Raises:
        ValueError: If a region is wrong, or does not suit the field.
    """
    return check_places(diffrep, tuple(parsed(text, panorama_aspect(diffrep)) for text in texts))


def panorama_aspect(diffrep: Any) -> float:
    """Return the width of a panorama divided by its height, or 0 if the field is not a panorama."""
    closed = tuple(getattr(diffrep, "closed", (False, False)))
    return diffrep.aspect if hasattr(diffrep, "lookup") and closed == (False, True) else 0.0


def check_places(diffrep: Any, regions: tuple[Region, ...]) -> tuple[Region, ...]:
    """Check that regions suit a field, and return them.

    Raises:
        ValueError: If a box is given for an object, or a side for a flat field.
    """
    flat = hasattr(diffrep, "lookup")
    for region in regions:
        if region.box is not None and not flat:
            raise ValueError(
                f"an object has no boxes: say from which side {region.text[:40]!r} is seen, AZIMUTH,ELEVATION"
            )
        if region.side is not None and flat:
            raise ValueError(f"a picture has no sides: give {region.text[:40]!r} a box, LEFT,TOP,WIDTH,HEIGHT")
    return regions


@dataclass(frozen=True)
class Place:
    """Where a region lies in a batch of views.

    Args:
        view: The index of the view.
        box: The part of that view that shows the region.
        weight: How much the view counts.
    """

    view: int
    box: Box
    weight: float


Locate = Callable[[Region, Any, int], list[Place]]
"""Maps (region, views, number of views) to the places of the region in the views."""
Parts = Callable[[Box, int], Tensor]
"""Maps (box, size) to that part of a picture, as display values (1, 3 or 4, size, size) in [0, 1]."""
Show = Callable[[Tensor], Parts]
"""Maps a signal (1, C, h, w) to a function that returns its parts in RGB, differentiable in the signal. What all parts share is
computed once."""


def whole(region: Region, view: Any, count: int) -> list[Place]:
    """Locate a region in views that each show the whole picture."""
    return [Place(n, region.box or (0.0, 0.0, 1.0, 1.0), 1.0) for n in range(count)]


def locator(diffrep: Any) -> Locate:
    """Return the function that locates regions in the views of a representation.

    Boxes of flat fields are found through `lookup`. Sides of an object are found through the directions of its cameras.
    """

    def locate(region: Region, view: Any, count: int) -> list[Place]:
        if isinstance(view, Cameras):
            return _facing(region, view)
        at = diffrep.lookup(view)
        if at is None or region.box is None:
            return whole(region, view, count)
        return _inside(region.box, at, diffrep.closed)

    return locate


def _facing(region: Region, cameras: Cameras) -> list[Place]:
    everything = (0.0, 0.0, 1.0, 1.0)
    if region.side is None:
        return [Place(n, everything, 1.0) for n in range(len(cameras))]
    azimuth, elevation = (torch.tensor([each], dtype=torch.float32) for each in region.side)
    towards = directions(cameras.azimuth.cpu().float(), cameras.elevation.cpu().float())
    near = (towards @ directions(azimuth, elevation)[0]).tolist()
    return [Place(n, everything, cosine) for n, cosine in enumerate(near) if cosine > VISIBLE]


def _inside(box: Box, at: Tensor, closed: Sequence[bool]) -> list[Place]:
    """Return the bounding rectangles of a box in views.

    `at` (B, H, W, 2) holds the places of the views' pixels as fractions of the picture, to the right and down.
    """
    left, top, width, height = box
    right, down = (at.cpu() - torch.tensor([left, top])).unbind(-1)
    if closed[1]:
        right = right % 1
    if closed[0]:
        down = down % 1
    inside = (right >= 0) & (right <= width) & (down >= 0) & (down <= height)
    counts = inside.sum((1, 2))
    rows, columns = inside.shape[1:]
    found = []
    for n in torch.nonzero(counts > VISIBLE * counts.max()).flatten().tolist():
        y, x = inside[n].nonzero().unbind(-1)
        first, last = (int(x.min()), int(y.min())), (int(x.max()) + 1, int(y.max()) + 1)
        size = ((last[0] - first[0]) / columns, (last[1] - first[1]) / rows)
        found.append(Place(n, (first[0] / columns, first[1] / rows, *size), 1.0))
    return found


def cut(pictures: Tensor, box: Box, size: int) -> Tensor:
    """Cut a box out of pictures (B, C, H, W) and scale it to (B, C, size, size), smoothly where it shrinks."""
    left, top, width, height = box
    rows, columns = pictures.shape[2:]
    fine = max(size, math.ceil(height * rows / size) * size, math.ceil(width * columns / size) * size)
    matrix = torch.tensor([[[width, 0, 2 * left + width - 1], [0, height, 2 * top + height - 1]]]).to(pictures)
    grid = affine_grid(matrix.expand(len(pictures), -1, -1), [len(pictures), 1, fine, fine], align_corners=False)
    sampled = grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    return sampled if fine == size else interpolate(sampled, (size, size), mode="area")


def shown_by(model: Model) -> Show:
    """Return the function that shows parts of a model's signals. Transparent pictures are composited over white.

    A model whose decoder draws any part at any size has a method `parts(signal)`. For other latent models, only the latents
    around a box are decoded.
    """

    def parts_of(signal: Tensor) -> Parts:
        parts = getattr(model, "parts", None)
        if parts is not None:
            return parts(signal)
        if model.scale == 1:
            picture = model.decode(signal)
            return lambda box, size: cut(picture, box, size)

        def around(box: Box, size: int) -> Tensor:
            near, inner = _surroundings(signal, box)
            return cut(model.decode(near), inner, size)

        return around

    def show(signal: Tensor) -> Parts:
        parts = parts_of(signal)

        def on_white(box: Box, size: int) -> Tensor:
            picture = parts(box, size)
            return picture if picture.shape[1] == 3 else picture[:, :3] + 1 - picture[:, 3:]

        return on_white

    return show


def _surroundings(signal: Tensor, box: Box, margin: int = 4) -> tuple[Tensor, Box]:
    """Return the latents around a box, and the box as fractions of their sides."""
    rows, columns = signal.shape[2:]
    left, top, width, height = box
    x0, x1 = max(0, math.floor(left * columns) - margin), min(columns, math.ceil((left + width) * columns) + margin)
    y0, y1 = max(0, math.floor(top * rows) - margin), min(rows, math.ceil((top + height) * rows) + margin)
    inner = ((left * columns - x0) / (x1 - x0), (top * rows - y0) / (y1 - y0))
    return signal[:, :, y0:y1, x0:x1], (*inner, width * columns / (x1 - x0), height * rows / (y1 - y0))


@dataclass(frozen=True)
class Guide:
    """Regions, and the model that judges them.

    Args:
        clip: The picture-text model.
        regions: The regions.
        strength: Scales the guidance. At 1 the sentences count as much as in the picture-text model's own softmax.
        through_model: Whether gradients pass through the denoiser, which keeps the sample plausible. If not, the covariance of
            the estimate is assumed to be that of independent pixels.

    Raises:
        ValueError: If there are too many regions.
    """

    clip: CLIP
    regions: tuple[Region, ...]
    strength: float = 1.0
    through_model: bool = True
    _texts: list[Tensor] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.regions) > MOST:
            raise ValueError(f"there are {len(self.regions)} regions; at most {MOST}: leave some out")
        if not 0 <= self.strength < math.inf:
            raise ValueError(f"the strength of the guide is {self.strength}; it must be 0 or more")

    @property
    def active(self) -> bool:
        """Whether the guide changes the sample."""
        return self.strength > 0 and any(region.weight > 0 for region in self.regions)

    def texts(self) -> Tensor:
        """Return the embeddings of the sentences, (regions, D). They are computed once."""
        if not self._texts:
            self._texts.append(self.clip.encode_text([region.text for region in self.regions]))
        return self._texts[0]

    def loss(self, signal: Tensor, view: Any, show: Show, locate: Locate) -> Tensor:
        """Return the weighted sum over the regions of one minus the cosine similarity.

        Args:
            signal: The signals of B views, (B, C, h, w).
            view: The views.
            show: Shows parts of signals (`shown_by`).
            locate: Locates the regions in the views (`locator`).
        """
        texts, total = self.texts().to(signal), signal.new_zeros(())
        shown = functools.cache(lambda view: show(signal[view : view + 1]))
        for region, text in zip(self.regions, texts, strict=True):
            places = locate(region, view, len(signal)) if region.weight > 0 else []
            everything = sum(place.weight for place in places)
            for place in places:
                for scale in region.scales:
                    picture = shown(place.view)(_grown(place.box, scale), self.clip.size)
                    similarity = (self.clip.encode_image(picture)[0] * text).sum()
                    share = region.weight * place.weight / everything / len(region.scales)
                    total = total + share * (1 - similarity)
        return total

    def guiding(self, denoise: Denoiser, show: Show, locate: Locate = whole, separate: bool = False) -> Denoiser:
        """Return the guided denoiser. It is the denoiser itself if the guide is not active.

        Args:
            denoise: The model.
            show: Shows parts of signals (`shown_by`).
            locate: Locates the regions in the views (`locator`).
            separate: Whether the signals of a batch are separate pictures, each of which should show all regions, instead of
                views of one field.
        """
        if not self.active:
            return denoise
        self.texts()  # so that a sentence that cannot be encoded raises before sampling starts

        def guided(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            level, strength = float(sigma.flatten()[0]), self.strength * self.clip.temperature
            with torch.enable_grad():
                if self.through_model:
                    source = x.detach().requires_grad_()
                    clean, variance = denoise(source, sigma, cond), level**2
                else:
                    clean = source = denoise(x, sigma, cond).detach().requires_grad_()
                    variance = level**2 * DATA**2 / (level**2 + DATA**2)
                parts = clean.split(1) if separate else (clean,)
                loss = torch.stack([self.loss(part, cond, show, locate) for part in parts]).sum()
                if not loss.requires_grad:  # no view shows a region
                    return clean.detach()
                (gradient,) = torch.autograd.grad(loss, source)
            return clean.detach() - strength * variance * gradient

        return guided


def _grown(box: Box, scale: float) -> Box:
    """Return a box scaled about its centre and cut at the picture's edges."""
    if scale == 1:
        return box
    left, top, width, height = box
    x0, x1 = max(0.0, left + width * (1 - scale) / 2), min(1.0, left + width * (1 + scale) / 2)
    y0, y1 = max(0.0, top + height * (1 - scale) / 2), min(1.0, top + height * (1 + scale) / 2)
    return x0, y0, x1 - x0, y1 - y0
