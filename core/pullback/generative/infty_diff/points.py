"""Sets of points of a pixel lattice, and the maps between them and the regular grid of the U-Net.

The centre of pixel (i, j) of H x W lies at ((i + 1/2) / H, (j + 1/2) / W), and the centre of a cell of the grid likewise. Values
at points are (B, P, C), those on the grid (B, C, h, w).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Generator, Tensor
from torch.nn.functional import grid_sample

NEAREST = 3
"""The number of points that a cell of the grid is interpolated from."""


@dataclass(frozen=True, eq=False)
class Points:
    """Some or all pixels of a picture.

    Args:
        height, width: Size of the picture in pixels.
        index: The numbers of the pixels, row by row, (P,) and rising, or None for all pixels.
    """

    height: int
    width: int
    index: Tensor | None = None

    @staticmethod
    def random(height: int, width: int, count: int, generator: Generator) -> Points:
        """Return `count` different random pixels, or all if there are no more."""
        if count >= height * width:
            return Points(height, width)
        drawn = torch.randperm(height * width, generator=generator)[:count]
        return Points(height, width, drawn.sort().values)

    @staticmethod
    def at(places: Tensor, height: int, width: int) -> Points:
        """Return the pixels at places.

        Args:
            places: Places (P, 2) as fractions of height and width, in [0, 1).
            height, width: Size of the picture in pixels.

        Raises:
            ValueError: If there is no place, a place is not a number or outside of the picture, or two fall into one pixel.
        """
        if places.ndim != 2 or places.shape[1] != 2 or not len(places):
            raise ValueError(f"the points are {tuple(places.shape)}: give at least one row and column, (P, 2)")
        if not bool(((places >= 0) & (places < 1)).all()):
            raise ValueError("some points are not numbers in [0, 1): give fractions of the picture's height and width")
        size = torch.tensor([height, width], dtype=places.dtype, device=places.device)
        row, column = (places * size).long().unbind(-1)
        index = (row * width + column).sort().values
        if len(index.unique()) < len(index):
            raise ValueError(
                f"two points fall into one pixel of {width} x {height}: leave one out, or choose a larger picture"
            )
        return Points(height, width, index)

    def __len__(self) -> int:
        return self.height * self.width if self.index is None else len(self.index)

    @cached_property
    def pixels(self) -> Tensor:
        """The numbers of the pixels, (P,)."""
        return torch.arange(self.height * self.width) if self.index is None else self.index

    @cached_property
    def places(self) -> Tensor:
        """The pixels' centres (P, 2) as fractions of height and width, float64."""
        row, column = self.pixels // self.width, self.pixels % self.width
        return torch.stack([(row + 0.5) / self.height, (column + 0.5) / self.width], -1).double()

    def of(self, pictures: Tensor) -> Tensor:
        """Return the values (B, P, C) of pictures (B, C, H, W) at the points."""
        values = pictures.permute(0, 2, 3, 1).flatten(1, 2)
        return values if self.index is None else values.index_select(1, self.index.to(values.device))

    def picture(self, values: Tensor) -> Tensor:
        """Return pictures (B, C, H, W) of values (B, P, C); they are 0 at all other pixels."""
        b, _, c = values.shape
        if self.index is not None:
            empty = values.new_zeros(b, self.height * self.width, c)
            values = empty.index_copy(1, self.index.to(values.device), values)
        return values.view(b, self.height, self.width, c).permute(0, 3, 1, 2)

    def nearest(self, rows: int, columns: int) -> tuple[Tensor, Tensor]:
        """Return the points near the cells of a grid.

        Args:
            rows, columns: Size of the grid.

        Returns:
            For every cell, row by row, the positions (rows columns, K) of its nearest points among the points, and their
            weights, which are inversely proportional to the squared distance and sum to 1. K is `NEAREST`, or fewer if there
            are fewer points.
        """
        size = torch.tensor([self.height, self.width], dtype=torch.float64)
        i, j = torch.meshgrid(torch.arange(rows) + 0.5, torch.arange(columns) + 0.5, indexing="ij")
        cells = torch.stack([i.flatten() / rows, j.flatten() / columns], -1).double() * size
        if self.index is None and min(self.height // rows, self.width // columns, 5) >= 4:
            position, square = self._nearest_pixels(cells)
        else:
            found = cKDTree((self.places * size).numpy()).query(cells.numpy(), min(NEAREST, len(self)))
            distance, index = (np.reshape(each, (len(cells), -1)) for each in found)
            position, square = torch.from_numpy(index), torch.from_numpy(distance) ** 2
        weight = 1 / square.clamp(min=1e-16)
        return position, (weight / weight.sum(-1, keepdim=True)).float()

    def _nearest_pixels(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """The nearest of all pixels to places (M, 2) in pixels, by looking at the 4 x 4 around: numbers and squared distances."""
        limit = torch.tensor([self.height, self.width]) - 4
        corner = torch.minimum((cells - 2).round().long().clamp(min=0), limit)
        step = torch.arange(4)
        near = corner[:, None] + torch.stack(torch.meshgrid(step, step, indexing="ij"), -1).view(16, 2)
        square, which = (near + 0.5 - cells[:, None]).square().sum(-1).topk(NEAREST, largest=False)
        chosen = near.gather(1, which[..., None].expand(-1, -1, 2))
        return chosen[..., 0] * self.width + chosen[..., 1], square


def cells(height: int, width: int, side: int) -> tuple[int, int]:
    """Return rows and columns of a lattice for a picture: `side` along the shorter side, multiples of 8."""
    short = min(height, width)
    rows, columns = (8 * round(side * length / short / 8) for length in (height, width))
    return rows, columns


def gathered(values: Tensor, nearest: tuple[Tensor, Tensor], rows: int, columns: int) -> Tensor:
    """Return values at points (B, P, C) on a grid, (B, C, rows, columns), by the weights of `Points.nearest`."""
    position, weight = (each.to(values.device) for each in nearest)
    b, _, c = values.shape
    near = values.index_select(1, position.flatten()).view(b, *position.shape, c)
    return (near * weight[..., None].to(near)).sum(2).transpose(1, 2).reshape(b, c, rows, columns)


def scattered(grid: Tensor, points: Points) -> Tensor:
    """Return the values (B, P, C) of a grid (B, C, h, w) at points, interpolated bilinearly; beyond the cells' centres at the
    edge, the edge's values go on."""
    places = points.places.flip(-1).to(grid)  # x goes before y in `grid_sample`, and both are in [-1, 1]
    at = (2 * places - 1).expand(len(grid), 1, -1, 2)
    return grid_sample(grid, at, padding_mode="border", align_corners=False)[:, :, 0].transpose(1, 2)
