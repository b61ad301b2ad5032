"""Known pictures: sampling a flat field from a given picture, and keeping a part of it (inpainting).

The picture is a signal (C, h, w) of everything that the field shows: the plane, the whole turn of a cylinder, or all
directions (equirectangular). The field is first fitted to the picture, and the run carries what the fit misses (`pull.py`),
so that the run starts from the exact picture plus noise. At every step, the kept part replaces the model's estimate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import grid_sample, pad

from .diffreps.subsets import random_pixels
from .pull import Pull, State
from .solvers import Adam, Solver
from .types import Denoiser, Params

STEPS = 150
"""The number of solver steps that fit the field to the picture. What they miss is carried."""
PIXELS = 2048
"""Random pixels per solver step."""


@dataclass(frozen=True)
class Known:
    """A known picture of a field, and the part of it that is kept.

    Args:
        diffrep: The representation of the field.
        picture: The picture, a signal (C, h, w).
        mask: 1 where the field is sampled and 0 where the picture is kept, (1, h, w). None keeps nothing.

    Raises:
        ValueError: If the field has no picture, or its picture has another shape.
    """

    diffrep: Any
    picture: Tensor
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if not hasattr(self.diffrep, "lookup"):
            raise ValueError("an object has no picture of everything: only images, tiles and panoramas start from one")
        height, width = self.picture.shape[1:]
        aspect = self.diffrep.aspect
        size = tuple(self.diffrep.shape[-2:]) if self._is_pixels else getattr(self.diffrep, "size", 0)
        if isinstance(size, tuple):
            if (height, width) != size:
                raise ValueError(f"the picture has {height} x {width} values and the field {size[0]} x {size[1]}")
        elif abs(width - aspect * height) >= 0.5:
            raise ValueError(f"the picture is {width / height:g} times as wide as high and the field {aspect:g}")

    @property
    def _is_pixels(self) -> bool:
        """Whether the parameters are the picture itself."""
        return hasattr(self.diffrep, "shape")

    def to(self, device: Any) -> Known:
        """Return the same picture on another device."""
        return replace(self, picture=self.picture.to(device), mask=None if self.mask is None else self.mask.to(device))

    def in_views(self, values: Tensor, view: Any) -> Tensor:
        """Return values (K, h, w) over the whole picture as they appear in B views, (B, K, H, W)."""
        at = self.diffrep.lookup(view)
        if at is None:
            return values[None]
        u, v = at.to(values.device).unbind(-1)
        return _sample_picture(values, u, v, self.diffrep.closed[0])

    def keeping(
        self,
        denoise: Denoiser,
        noise: Callable[[Any], Tensor] | None = None,
        masked: Callable[[Tensor, Tensor], Tensor] = lambda sigma, mask: mask,
    ) -> Denoiser:
        """Return a denoiser whose estimate of the kept part is the picture, as ComfyUI's KSamplerX0Inpaint does it.

        Where the mask is between 0 and 1, it blends the two.

        Args:
            denoise: The model.
            noise: Maps views to unit-normal noise (B, C, H, W), usually the run's first. The model then sees the picture
                under this noise in the kept part. None shows it what the field renders there.
            masked: Maps sigma and the mask to the mask at that noise level. By default, the mask is always the same.
        """
        if self.mask is None:
            return denoise
        mask = self.mask

        def denoise_and_keep(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            free, kept = self.in_views(masked(sigma, mask), cond), self.in_views(self.picture, cond)
            if noise is not None:
                x = free * x + (1 - free) * (kept + float(sigma) * noise(cond))
            return free * denoise(x, sigma, cond) + (1 - free) * kept

        return denoise_and_keep

    def fitted(self, params: Params, solver: Solver, random: Generator, tick: Callable[[], None]) -> Params:
        """Fit the field to the picture.

        Args:
            params: The parameters to start from.
            solver: The inner solver of the run; if it is Adam or Muon, its rates are used.
            random: Draws the pixels.
            tick: Called before every step; it may raise to stop.

        Returns:
            The fitted parameters.
        """
        if self._is_pixels:
            return {"pixels": self.picture[None]}
        places = self.diffrep.places(*self.picture.shape[1:])
        residual = random_pixels(self.diffrep.at, places[None], self.picture[None], PIXELS, random)

        def residual_with_tick(theta: Params) -> Tensor:
            tick()
            return residual(theta)

        adam = replace(solver if isinstance(solver, Adam) else Adam(), last_steps=STEPS)
        return adam(residual_with_tick, params, adam.init(params), last=True)[0]

    def carried(self, state: State, pull: Pull, random: Generator) -> State:
        """Return the state before the first move, which carries the difference between the picture and the fitted field.

        Args:
            state: The state to start from, with the parameters of `fitted`.
            pull: The sampler.
            random: Draws the views. The run continues with the random numbers that follow.
        """
        views = pull.last_views or pull.views
        view = views.draw(random)
        with torch.no_grad():
            missed = self.in_views(self.picture, view) - pull.render(state.params, view)
        carry = views.scatter(state.carry, view, missed).contiguous()
        return replace(state, carry=carry, random=random.get_state())


def _sample_picture(values: Tensor, u: Tensor, v: Tensor, tile: bool) -> Tensor:
    """Return values (K, h, w), interpolated linearly at places u, v (B, H, W) in [0, 1], as (B, K, H, W).

    The picture wraps around to the left and right, and in a `tile` also up and down.
    """
    height, width = values.shape[1:]
    padded = pad(values[None], (1, 1, tile, tile), mode="circular").expand(len(u), -1, -1, -1)
    down = (v * height + 0.5) / (height + 1) if tile else (v * height - 0.5) / max(1, height - 1)
    at = torch.stack([(u * width + 0.5) / (width + 1), down], -1)
    return grid_sample(padded, 2 * at - 1, padding_mode="border", align_corners=True)
