"""Noise: the unit-normal eps of every view, kept apart from the field, and which views a step looks at.

The state of a pulled-back sample is x_v = f(theta; v) + sigma eps_v. A `Views` object says which views v there
are, draws some for a step, and owns the layout of one store of signals over all of them. The same layout holds
the noise eps and the carried residual e. A lookup never interpolates, so looked-up noise stays white, and views
that share pixels share noise. Stores are float tensors; views are opaque to the sampler.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Generator, Tensor

from .types import View


class Views(Protocol):
    """A set of views, and the layout of a store of one signal per view."""

    @property
    def persistent(self) -> bool:
        """Whether a view comes back, so that its store outlives the step."""
        ...

    def draw(self, generator: Generator) -> View:
        """The views of one step. Draws nothing from the generator where there is no choice."""
        ...

    def noise(self, generator: Generator) -> Tensor:
        """A store of unit-normal noise."""
        ...

    def gather(self, store: Tensor, view: View, generator: Generator) -> Tensor:
        """What the store holds for these views, (B, C, H, W)."""
        ...

    def scatter(self, store: Tensor, view: View, values: Tensor) -> Tensor:
        """A new store that holds `values` (B, C, H, W) for these views; where views overlap, their mean."""
        ...


@dataclass(frozen=True)
class FixedViews:
    """The same batch of views at every step: one image, or a fixed camera bank. The store is (B, C, H, W)."""

    view: View
    shape: tuple[int, int, int, int]
    dtype: torch.dtype = torch.float32
    persistent: bool = True

    def draw(self, generator: Generator) -> View:
        return self.view

    def noise(self, generator: Generator) -> Tensor:
        return torch.randn(self.shape, generator=generator, dtype=self.dtype)

    def gather(self, store: Tensor, view: View, generator: Generator) -> Tensor:
        return store

    def scatter(self, store: Tensor, view: View, values: Tensor) -> Tensor:
        return values


@dataclass(frozen=True)
class FreshViews:
    """New views at every step, each with new noise, from a continuous distribution. The store is empty."""

    sample: Callable[[Generator], View]
    shape: tuple[int, int, int, int]
    persistent: bool = False

    def draw(self, generator: Generator) -> View:
        return self.sample(generator)

    def noise(self, generator: Generator) -> Tensor:
        return torch.zeros(0)

    def gather(self, store: Tensor, view: View, generator: Generator) -> Tensor:
        return torch.randn(self.shape, generator=generator)

    def scatter(self, store: Tensor, view: View, values: Tensor) -> Tensor:
        return store


@dataclass(frozen=True)
class Crops:
    """Views of a cylinder: `column` (B,) is the leftmost canvas column of each crop, a whole number."""

    column: Tensor


@dataclass(frozen=True)
class CanvasViews:
    """Crops of a wrap-around canvas (C, height, width): `count` square crops, evenly spaced from a random column.

    The offset snaps to the canvas pitch, so that crops look up noise exactly.
    """

    channels: int
    height: int
    width: int
    count: int
    persistent: bool = True

    def draw(self, generator: Generator) -> Crops:
        start = torch.randint(self.width, (1,), generator=generator)
        spread = torch.arange(self.count) * self.width // self.count
        return Crops((start + spread) % self.width)

    def columns(self, view: Crops) -> Tensor:
        """(B, height) canvas columns that each crop covers."""
        return (view.column[:, None] + torch.arange(self.height)) % self.width

    def noise(self, generator: Generator) -> Tensor:
        return torch.randn(self.channels, self.height, self.width, generator=generator)

    def gather(self, store: Tensor, view: Crops, generator: Generator) -> Tensor:
        return store[:, :, self.columns(view).to(store.device)].permute(2, 0, 1, 3)

    def scatter(self, store: Tensor, view: Crops, values: Tensor) -> Tensor:
        columns = self.columns(view).flatten().to(store.device)
        flat = values.permute(1, 2, 0, 3).flatten(2)
        total = torch.zeros_like(store).index_add_(2, columns, flat)
        count = torch.zeros_like(store[0, 0]).index_add_(0, columns, torch.ones_like(flat[0, 0]))
        return torch.where(count > 0, total / count.clamp(min=1), store)


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
