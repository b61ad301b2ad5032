"""Noise: the unit-normal eps of every view, kept apart from the field, and which views a step looks at.

The state of a pulled-back sample is x_v = f(theta; v) + sigma eps_v. A `Views` object says which views v there
are, draws some for a step, and owns the layout of one store of signals over all views that come back. The same layout
holds the noise eps and the carried residual e. Noise that is looked up stays white: a lookup takes values or normalised
sums of values that no other pixel of the view takes, and never interpolates. Views that see the same place share what
the store holds there. Stores are float tensors; views are opaque to the sampler.
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
    """A set of views, and the layout of a store of signals over those of them that come back."""

    def draw(self, generator: Generator) -> View:
        """The B views of one step. Draws nothing from the generator where there is no choice."""
        ...

    @property
    def persistent(self) -> bool:
        """Whether any view comes back, so that the store outlives the step."""
        ...

    def kept(self, view: View) -> View:
        """Those of a step's views that come back, where any does: its first ones."""
        ...

    def weights(self, sigma: float) -> Tensor | None:
        """How much each view counts in the fit of a step from noise level sigma, (B,) of mean 1; None: all alike."""
        ...

    def noise(self, generator: Generator) -> Tensor:
        """A store of unit-normal noise."""
        ...

    def gather(self, store: Tensor, view: View, generator: Generator) -> Tensor:
        """The noise of these views, (B, C, H, W): the store's, and fresh where a view does not come back."""
        ...

    def carried(self, store: Tensor, view: View) -> Tensor:
        """The residual that these views take over from earlier steps, (B, C, H, W) or 0 where none does."""
        ...

    def scatter(self, store: Tensor, view: View, values: Tensor) -> Tensor:
        """A new store that holds `values` (K, C, H, W) for the views that are kept; where these overlap, their mean."""
        ...


@dataclass(frozen=True)
class FixedViews:
    """The same batch of views at every step: one image, or a fixed camera bank. The store is (B, C, H, W)."""

    view: View
    shape: tuple[int, int, int, int]
    dtype: torch.dtype = torch.float32
    persistent: bool = True

    @property
    def picture(self) -> tuple[int, ...]:
        """The shape of the store, where it is one picture of noise that a host may give."""
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
    """New views at every step, each with new noise, from a continuous distribution. The store is empty.

    The samples that this makes are narrower than the model's (docs/mathematics.md, section 5).
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
    """Anchors, which keep their noise and their residual to the end, beside views that are new at every step.

    With gamma = 1 an anchor follows the image-space trajectory of its view exactly, whatever the field can show: it is
    a sample of the model. The fresh views only have to agree with it (docs/mathematics.md, section 5). The store is
    (anchors, C, H, W).

    Args:
        sample: the B views of a step, the anchors first.
        shape: (B, C, H, W) of a step's signals.
        anchor: the anchors' views alone.
        share: sigma to the anchors' part of the fit, in (0, 1).
        anchors: their number.
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
    """The share of a fit that an anchor has beside `views` - 1 fresh views: it leads while the sample is being chosen.

    Which of a model's pictures a sample becomes is decided at noise levels about a quarter of their distance. Until
    `chosen` the anchor has `high`; from there its share falls along log sigma, and from a quarter of it on the anchor is
    one view of many.
    """
    part = (math.log(sigma) - math.log(chosen / 4)) / math.log(4)
    return 1 / views + (high - 1 / views) * min(1.0, max(0.0, part))


@dataclass(frozen=True)
class WorldViews:
    """Views into a world of many small cells that hold the noise: turn the view, and the noise stays where it was.

    A pixel's noise is the sum of the cells that it covers, over the root of their number. A cell belongs to one pixel
    of a view, so the noise of a view is white; views that overlap share what they share. Needs directions or places
    that do not move, such as those of a sphere. The store is (C, cells).

    Args:
        sample: the B views of a step.
        shape: (B, C, H, W) of a step's signals.
        pixels: views to (B, cells) long, the flat index in [0, H W) of the pixel that covers each cell, -1 where none
            does.
        cells: their number; several to a pixel.
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
        fresh = torch.randn(total.shape, generator=generator).to(store)  # where a pixel is smaller than every cell
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
        """Per pixel the sum (B, C, H, W) of its cells, and their number (B, 1, H, W)."""
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
    """Views of a cylinder: `column` (B,) is the leftmost canvas column of each crop, a whole number."""

    column: Tensor

    def __getitem__(self, index: slice | Tensor) -> Crops:
        return Crops(self.column[index])


@dataclass(frozen=True)
class CanvasViews:
    """Crops of a wrap-around canvas (C, height, width): `count` square crops, evenly spaced from a random column.

    The offset snaps to the canvas pitch, so that crops look up noise exactly. Raises ValueError where the crops do not
    cover the canvas: what no crop sees at a step misses a noise level, and comes out too wide.
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
        """As in `FixedViews`."""
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
        """(B, height) canvas columns that each crop covers."""
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
    """A view of a picture that repeats: all of it, from another pixel on."""

    rows: int
    columns: int


@dataclass(frozen=True)
class TorusViews:
    """A square canvas (C, size, size) whose opposite edges are one, seen whole from a random pixel on at every step."""

    channels: int
    size: int
    persistent: bool = True

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, C, H, W) of a step's signals."""
        return 1, self.channels, self.size, self.size

    @property
    def picture(self) -> tuple[int, ...]:
        """As in `FixedViews`."""
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
    """sqrt(1 - rho^2) noise + rho z with fresh z: noise that stays unit normal. Draws nothing where rho is 0."""
    if rho == 0 or noise.numel() == 0:
        return noise
    z = torch.randn(noise.shape, generator=generator, dtype=noise.dtype).to(noise.device)
    return (1 - rho**2) ** 0.5 * noise + rho * z


def refresh(sigma: float, sigma_next: float, eta: float) -> float:
    """rho = eta sqrt(1 - sigma_next^2 / sigma^2), the part of the noise that a step sigma -> sigma_next renews.

    DDIM's stochasticity (Song et al. 2021, eq. 16) in noise-to-signal units: sigma_up = rho sigma_next. The RePaint
    step back from sigma_next to sigma renews the same part (docs/mathematics.md, section 3).
    """
    return eta * max(0.0, 1 - (sigma_next / sigma) ** 2) ** 0.5
