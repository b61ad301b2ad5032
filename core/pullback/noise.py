"""Views and their noise: which views a step renders, and the unit-normal noise eps that each of them sees.

The noisy signal of a view v is x_v = f(theta; v) + sigma eps_v. A `Views` object draws the views of a step and defines
the layout of the *store*, a float tensor that holds one signal for all views that return in later steps. The noise eps
and the carried residual e are both kept in such a store. Noise that a view reads from the store is white: each pixel
takes a value, or a normalised sum of values, that no other pixel of the view takes, and nothing is interpolated. Views
that overlap share what the store holds where they overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from .types import View


class Views(Protocol):
    """A set of views, and the layout of a store for those that return in later steps."""

    def draw(self, generator: Generator) -> View:
        """Return the B views of one step. Draws no random numbers if there is no choice."""
        ...

    @property
    def persistent(self) -> bool:
        """Whether any view returns, so that the store outlives the step."""
        ...

    def kept(self, view: View) -> View:
        """Return those views of a step that will return. They are always its first ones."""
        ...

    def weights(self, sigma: float) -> Tensor | None:
        """Return the weight of each view in the fit at noise level sigma, (B,) with mean 1. None weighs all views equally."""
        ...

    def noise(self, generator: Generator) -> Tensor:
        """Return a store of unit-normal noise."""
        ...

    def gather(self, store: Tensor, view: View, generator: Generator) -> Tensor:
        """Return the noise of views, (B, C, H, W): from the store for those that return, fresh for the others."""
        ...

    def carried(self, store: Tensor, view: View) -> Tensor:
        """Return the residual that views carry from earlier steps, (B, C, H, W), or a scalar 0 if none do."""
        ...

    def scatter(self, store: Tensor, view: View, values: Tensor) -> Tensor:
        """Return a new store with `values` (K, C, H, W) for the K kept views; their mean where they overlap."""
        ...


@dataclass(frozen=True)
class FixedViews:
    """The same views at every step: an image, or a fixed set of cameras. The store is (B, C, H, W).

    Args:
        view: The views.
        shape: The shape of their signals, (B, C, H, W).
        dtype: The type of the noise.
        persistent: Leave it True.
    """

    view: View
    shape: tuple[int, int, int, int]
    dtype: torch.dtype = torch.float32
    persistent: bool = True

    @property
    def picture(self) -> tuple[int, ...]:
        """The shape of the store, for hosts that supply the noise themselves."""
        return self.shape

    def draw(self, generator: Generator) -> View:
        return self.view

    def kept(self, view: View) -> View:
        return view

    def weights(self, sigma: float) -> Tensor | None:
        return None

    def noise(self, generator: Generator) -> Tensor:
        return torch.randn(self.shape, generator=generator, dtype=self.dtype)

    def gather(self, store: Tensor, view: View, generator: Generator) -> Tensor:
        return store

    def carried(self, store: Tensor, view: View) -> Tensor:
        return store

    def scatter(self, store: Tensor, view: View, values: Tensor) -> Tensor:
        return values


@dataclass(frozen=True)
class FreshViews:
    """New random views at every step, each with fresh noise. The store is empty.

    The resulting samples vary less than the model's (docs/mathematics.md, section 5).

    Args:
        sample: Draws the views of a step.
        shape: The shape of their signals, (B, C, H, W).
        persistent: Leave it False.
    """

    sample: Callable[[Generator], View]
    shape: tuple[int, int, int, int]
    persistent: bool = False

    def draw(self, generator: Generator) -> View:
        return self.sample(generator)

    def kept(self, view: View) -> View:
        raise NotImplementedError("no view comes back")

    def weights(self, sigma: float) -> Tensor | None:
        return None

    def noise(self, generator: Generator) -> Tensor:
        return torch.zeros(0)

    def gather(self, store: Tensor, view: View, generator: Generator) -> Tensor:
        return torch.randn(self.shape, generator=generator)

    def carried(self, store: Tensor, view: View) -> Tensor:
        return torch.zeros(())

    def scatter(self, store: Tensor, view: View, values: Tensor) -> Tensor:
        return store


@dataclass(frozen=True)
class AnchoredViews:
    """Anchor views, which keep their noise and residual for the whole run, plus fresh views at every step.

    With gamma = 1 an anchor follows the image-space trajectory of its view exactly, whatever the field can represent, so
    it is a sample of the model. The fresh views only have to agree with it (docs/mathematics.md, section 5). The store
    is (anchors, C, H, W).

    Args:
        sample: Draws the B views of a step, anchors first.
        shape: The shape of a step's signals, (B, C, H, W).
        anchor: The anchors alone.
        share: Maps sigma to the anchors' share of the fit, in (0, 1).
        anchors: The number of anchors.
        persistent: Leave it True.
    """

    sample: Callable[[Generator], View]
    shape: tuple[int, int, int, int]
    anchor: View
    share: Callable[[float], float]
    anchors: int = 1
    persistent: bool = True

    def draw(self, generator: Generator) -> View:
        return self.sample(generator)

    def kept(self, view: View) -> View:
        return self.anchor

    def weights(self, sigma: float) -> Tensor | None:
        count, share = self.shape[0], self.share(sigma)
        parts = torch.full((count,), (1 - share) / max(1, count - self.anchors))
        parts[: self.anchors] = share / self.anchors
        return parts / parts.mean()

    def noise(self, generator: Generator) -> Tensor:
        return torch.randn((self.anchors, *self.shape[1:]), generator=generator)

    def gather(self, store: Tensor, view: View, generator: Generator) -> Tensor:
        fresh = torch.randn((self.shape[0] - self.anchors, *self.shape[1:]), generator=generator)
        return torch.cat([store, fresh.to(store)])

    def carried(self, store: Tensor, view: View) -> Tensor:
        return torch.cat([store, store.new_zeros(self.shape[0] - self.anchors, *self.shape[1:])])

    def scatter(self, store: Tensor, view: View, values: Tensor) -> Tensor:
        return values


def leading(views: int, sigma: float, high: float = 0.9, chosen: float = 8.0) -> float:
    """Return the share of the fit that one anchor has, next to `views` - 1 fresh views.

    Which of the model's pictures a sample becomes is decided at noise levels near a quarter of the distance between them. The
    anchor dominates until then.

    Args:
        views: The number of views of a step, the anchor included.
        sigma: The noise level of the step.
        high: The anchor's share while sigma is at least `chosen`.
        chosen: The noise level from which its share falls, linearly in log sigma, to 1 / views at `chosen` / 4.

    Example:
        >>> leading(4, 80.0), leading(4, 1.0)
        (0.9, 0.25)
    """
    part = (math.log(sigma) - math.log(chosen / 4)) / math.log(4)
    return 1 / views + (high - 1 / views) * min(1.0, max(0.0, part))


@dataclass(frozen=True)
class WorldViews:
    """Views of a world whose noise is fixed in space, in many small cells: when a view turns, the noise stays put.

    The noise of a pixel is the sum of the cells that it covers, divided by the square root of their number. Each cell
    belongs to at most one pixel of a view, so the noise of a view is white. Views that overlap share their common cells.
    The cells must not move, as on a sphere. The store is (C, cells).

    Args:
        sample: Draws the B views of a step.
        shape: The shape of a step's signals, (B, C, H, W).
        pixels: Maps views to a long tensor (B, cells): the flat index in [0, H W) of the pixel that covers each cell, or
            -1 if none does.
        cells: The number of cells, several per pixel.
        persistent: Leave it True.
    """

    sample: Callable[[Generator], View]
    shape: tuple[int, int, int, int]
    pixels: Callable[[View], Tensor]
    cells: int
    persistent: bool = True

    def draw(self, generator: Generator) -> View:
        return self.sample(generator)

    def kept(self, view: View) -> View:
        return view

    def weights(self, sigma: float) -> Tensor | None:
        return None

    def noise(self, generator: Generator) -> Tensor:
        return torch.randn(self.shape[1], self.cells, generator=generator)

    def gather(self, store: Tensor, view: View, generator: Generator) -> Tensor:
        total, count = self._sums(store, view)
        fresh = torch.randn(total.shape, generator=generator).to(store)  # for pixels that cover no cell
        return torch.where(count > 0, total / count.clamp(min=1).sqrt(), fresh)

    def carried(self, store: Tensor, view: View) -> Tensor:
        total, count = self._sums(store, view)
        return total / count.clamp(min=1)

    def scatter(self, store: Tensor, view: View, values: Tensor) -> Tensor:
        total, count = torch.zeros_like(store), store.new_zeros(self.cells)
        for pixel, value in zip(self.pixels(view).to(store.device), values.flatten(2), strict=True):
            cell = (pixel >= 0).nonzero()[:, 0]
            total[:, cell] += value[:, pixel[cell]]
            count[cell] += 1
        return torch.where(count > 0, total / count.clamp(min=1), store)

    def _sums(self, store: Tensor, view: View) -> tuple[Tensor, Tensor]:
        """Return the sum of the cells of each pixel, (B, C, H, W), and their number, (B, 1, H, W)."""
        pixels = self.pixels(view).to(store.device)
        b, _, h, w = len(pixels), *self.shape[1:]
        total, count = store.new_zeros(b, len(store), h * w), store.new_zeros(b, 1, h * w)
        for k, pixel in enumerate(pixels):
            cell = (pixel >= 0).nonzero()[:, 0]
            total[k].index_add_(1, pixel[cell], store[:, cell])
            count[k, 0].index_add_(0, pixel[cell], store.new_ones(len(cell)))
        return total.unflatten(2, (h, w)), count.unflatten(2, (h, w))


@dataclass(frozen=True)
class Crops:
    """Square crops of a cylinder's canvas.

    Args:
        column: The leftmost canvas column of each crop, (B,) long.
    """

    column: Tensor

    def __getitem__(self, index: slice | Tensor) -> Crops:
        return Crops(self.column[index])


@dataclass(frozen=True)
class CanvasViews:
    """Square crops of a canvas that wraps around, evenly spaced from a random column. The store is the canvas.

    Crops start at whole columns, so that they read the noise exactly. Together they must cover the canvas: a place that no
    crop sees misses a noise level, and its samples come out too wide.

    Args:
        channels: Channels of the canvas.
        height: Rows of the canvas, and side of a crop.
        width: Columns of the canvas.
        count: Crops per step.
        persistent: Leave it True.

    Raises:
        ValueError: If the crops do not cover the canvas.
    """

    channels: int
    height: int
    width: int
    count: int
    persistent: bool = True

    def __post_init__(self) -> None:
        if self.count * self.height < self.width:
            raise ValueError(
                f"{self.count} views of {self.height} columns do not cover a canvas of {self.width}: "
                f"take {-(-self.width // self.height)} or more"
            )

    @property
    def picture(self) -> tuple[int, ...]:
        """The shape of the store, for hosts that supply the noise themselves."""
        return self.channels, self.height, self.width

    def draw(self, generator: Generator) -> Crops:
        start = torch.randint(self.width, (1,), generator=generator)
        spread = torch.arange(self.count) * self.width // self.count
        return Crops((start + spread) % self.width)

    def kept(self, view: Crops) -> View:
        return view

    def weights(self, sigma: float) -> Tensor | None:
        return None

    def columns(self, view: Crops) -> Tensor:
        """Return the canvas columns that each crop covers, (B, height)."""
        return (view.column[:, None] + torch.arange(self.height)) % self.width

    def noise(self, generator: Generator) -> Tensor:
        return torch.randn(self.channels, self.height, self.width, generator=generator)

    def gather(self, store: Tensor, view: Crops, generator: Generator) -> Tensor:
        return self.carried(store, view)

    def carried(self, store: Tensor, view: Crops) -> Tensor:
        return store[:, :, self.columns(view).to(store.device)].permute(2, 0, 1, 3)

    def scatter(self, store: Tensor, view: Crops, values: Tensor) -> Tensor:
        columns = self.columns(view).flatten().to(store.device)
        flat = values.permute(1, 2, 0, 3).flatten(2)
        total = torch.zeros_like(store).index_add_(2, columns, flat)
        count = torch.zeros_like(store[0, 0]).index_add_(0, columns, torch.ones_like(flat[0, 0]))
        return torch.where(count > 0, total / count.clamp(min=1), store)


@dataclass(frozen=True)
class Shift:
    """A view of a whole picture that repeats in both directions, starting `rows` down and `columns` to the right."""

    rows: int
    columns: int


@dataclass(frozen=True)
class TorusViews:
    """The whole of a square canvas whose opposite edges join, shifted by a random offset at every step.

    The store is the canvas, (channels, size, size).

    Args:
        channels: Channels of the canvas.
        size: Side of the canvas in pixels.
        persistent: Leave it True.
    """

    channels: int
    size: int
    persistent: bool = True

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape of a step's signals, (1, C, size, size)."""
        return 1, self.channels, self.size, self.size

    @property
    def picture(self) -> tuple[int, ...]:
        """The shape of the store, for hosts that supply the noise themselves."""
        return self.channels, self.size, self.size

    def draw(self, generator: Generator) -> Shift:
        rows, columns = torch.randint(self.size, (2,), generator=generator).tolist()
        return Shift(rows, columns)

    def kept(self, view: Shift) -> View:
        return view

    def weights(self, sigma: float) -> Tensor | None:
        return None

    def noise(self, generator: Generator) -> Tensor:
        return torch.randn(self.channels, self.size, self.size, generator=generator)

    def gather(self, store: Tensor, view: Shift, generator: Generator) -> Tensor:
        return self.carried(store, view)

    def carried(self, store: Tensor, view: Shift) -> Tensor:
        return store.roll((-view.rows, -view.columns), (1, 2))[None]

    def scatter(self, store: Tensor, view: Shift, values: Tensor) -> Tensor:
        return values[0].roll((view.rows, view.columns), (1, 2))


def mix(noise: Tensor, rho: float, generator: Generator) -> Tensor:
    """Replace a part of unit-normal noise by fresh noise: sqrt(1 - rho^2) noise + rho z.

    Args:
        noise: Unit-normal noise of any shape.
        rho: The part that is replaced, in [0, 1]. At 0 nothing is drawn.
        generator: Draws z.
    """
    if rho == 0 or noise.numel() == 0:
        return noise
    z = torch.randn(noise.shape, generator=generator, dtype=noise.dtype).to(noise.device)
    return (1 - rho**2) ** 0.5 * noise + rho * z


def refresh(sigma: float, sigma_next: float, eta: float) -> float:
    """Return rho = eta sqrt(1 - sigma_next^2 / sigma^2), the part of the noise that a step replaces.

    This is DDIM's stochasticity (Song et al. 2021, eq. 16) in noise-to-signal units: sigma_up = rho sigma_next. The
    RePaint step back from sigma_next to sigma replaces the same part (docs/mathematics.md, section 3).

    Args:
        sigma: The noise level before the step, above 0.
        sigma_next: The lower noise level after it.
        eta: DDIM's eta in [0, 1].
    """
    return eta * max(0.0, 1 - (sigma_next / sigma) ** 2) ** 0.5
