"""Layouts for the latent model: objects in boxes, drawn into the expected picture that the model is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

Lookup = Callable[[Any], Tensor | None]
"""Takes views and returns where their latents lie in the whole picture, (B, h, w, 2): right and down, as fractions of its width
and height. It returns None if the view is the whole picture."""


@dataclass(frozen=True)
class Thing:
    """An object in a box.

    Args:
        picture: The picture that is expected of the object, premultiplied RGBA (1, 4, S, S) in [0, 1].
        box: Left, top, width and height, as fractions of the whole picture. It may cross edges at which the picture is closed.
    """

    picture: Tensor
    box: tuple[float, float, float, float]


@dataclass(frozen=True)
class Layout:
    """Things in a flat picture.

    Args:
        things: The things. Later ones stand in front.
        lookup: Tells where the latents of views lie in the picture.
        aspect: Width of the whole picture divided by its height.
        closed: Whether the bottom edge continues at the top, and whether the right edge continues at the left.
    """

    things: tuple[Thing, ...]
    lookup: Lookup
    aspect: float
    closed: tuple[bool, bool]

    def over(self, pictures: Tensor, view: Any) -> Tensor:
        """Draw the things over the expected pictures (B, 4, h, w) of views, premultiplied RGBA in [-1, 1]."""
        rows, columns = pictures.shape[2:]
        at = self._fine(self.lookup(view), rows, columns).to(pictures)
        per_height = rows / float(at[0, :, 0, 1].max() - at[0, :, 0, 1].min() + 1e-6)  # pixels per height of the whole
        drawn = pictures / 2 + 0.5
        for thing in self.things:
            left, top, width, height = thing.box
            offset = at - torch.tensor([left + width / 2, top + height / 2]).to(at)
            for axis, closed in enumerate(self.closed[::-1]):
                if closed:
                    offset[..., axis] = (offset[..., axis] + 0.5) % 1 - 0.5
            side = min(height, width * self.aspect)  # of the largest square inside, in heights of the whole
            small = max(2, min(thing.picture.shape[-1], round(side * per_height)))
            picture = F.interpolate(thing.picture, (small, small), mode="area").to(drawn)
            grid = 2 * offset * torch.tensor([self.aspect, 1.0]).to(at) / side
            placed = F.grid_sample(
                picture.expand(len(drawn), -1, -1, -1), grid.expand(len(drawn), -1, -1, -1), align_corners=False
            )
            drawn = drawn * (1 - placed[:, 3:]) + placed
        return 2 * drawn - 1

    def _fine(self, at: Tensor | None, rows: int, columns: int) -> Tensor:
        """Interpolate the positions of pixels from those of latents."""
        if at is None:
            y, x = (torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns
            return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1], -1)[None]
        middle = at[:, at.shape[1] // 2, at.shape[2] // 2][:, None, None]
        near = at - middle
        for axis, closed in enumerate(self.closed[::-1]):
            if closed:  # views may cross the edge
                near[..., axis] = (near[..., axis] + 0.5) % 1 - 0.5
        fine = F.interpolate((near + middle).movedim(-1, 1), (rows, columns), mode="bilinear")
        return fine.movedim(1, -1)
