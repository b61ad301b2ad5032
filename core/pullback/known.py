"""Known: a picture that is given, to start a flat field from, and to keep a part of.

The picture is a signal (C, h, w) of everything that the field shows: of the plane, of a cylinder's whole turn, or of all
directions (equirectangular). Started from, the field draws it, and the run carries what it misses (`pull.py`), so that
its first state is the picture with noise. A part is kept by putting what is known of it in the place of the model's estimate.
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
"""Solver steps that fit a field to the picture; what they miss is carried."""
PIXELS = 2048
"""Random pixels per step."""


@dataclass(frozen=True)
class Known:
    """A known picture (C, h, w) of a field, and its mask (1, h, w): 1 is sampled, 0 is kept; None keeps nothing.

    ValueError where the field is no picture, or one of another shape.
    """

    diffrep: Any
    picture: Tensor
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if not hasattr(self.diffrep, "lookup"):
            raise ValueError("an object has no picture of everything: only images, tiles and panoramas start from one")
        height, width = self.picture.shape[1:]
        aspect = self.diffrep.aspect
        own = tuple(self.diffrep.shape[-2:]) if self._exact else getattr(self.diffrep, "size", 0)
        if isinstance(own, tuple):
            if (height, width) != tuple(own):
                raise ValueError(f"the picture has {height} x {width} values and the field {own[0]} x {own[1]}")
        elif abs(width - aspect * height) >= 0.5:
            raise ValueError(f"the picture is {width / height:g} times as wide as high and the field {aspect:g}")

    @property
    def _exact(self) -> bool:
        """Whether the parameters are the picture."""
        return hasattr(self.diffrep, "shape")

    def to(self, device: Any) -> Known:
        """The same on another device."""
        return replace(self, picture=self.picture.to(device), mask=None if self.mask is None else self.mask.to(device))

    def seen(self, values: Tensor, view: Any) -> Tensor:
        """What a batch of views sees of values (K, h, w) over the picture: (B, K, H, W)."""
        at = self.diffrep.lookup(view)
        if at is None:
            return values[None]
        u, v = at.to(values.device).unbind(-1)
        return _looked_up(values, u, v, self.diffrep.closed[0])

    def keeping(
        self,
        denoise: Denoiser,
        noise: Callable[[Any], Tensor] | None = None,
        masked: Callable[[Tensor, Tensor], Tensor] = lambda sigma, mask: mask,
    ) -> Denoiser:
        """A denoiser that knows the part that is kept: it is shown the picture there and gives it back.

        In between 0 and 1 the mask mixes both, as ComfyUI's KSamplerX0Inpaint does.

        Args:
            denoise: of the model.
            noise: views to the noise (B, C, H, W), unit normal, under which the picture is shown: the run's first. None
                shows what the field draws there.
            masked: the mask at a noise level, where it is not the same at all.
        """
        if self.mask is None:
            return denoise
        mask = self.mask

        def knowing(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            free, kept = self.seen(masked(sigma, mask), cond), self.seen(self.picture, cond)
            if noise is not None:
                x = free * x + (1 - free) * (kept + float(sigma) * noise(cond))
            return free * denoise(x, sigma, cond) + (1 - free) * kept

        return knowing

    def drawn(self, params: Params, solver: Solver, random: Generator, tick: Callable[[], None]) -> Params:
        """Parameters that draw the picture as well as the field can, from others."""
        if self._exact:
            return {"pixels": self.picture[None]}
        places = self.diffrep.places(*self.picture.shape[1:])
        residual = random_pixels(self.diffrep.at, places[None], self.picture[None], PIXELS, random)

        def ticking(theta: Params) -> Tensor:
            tick()
            return residual(theta)

        adam = replace(solver if isinstance(solver, Adam) else Adam(), last_steps=STEPS)
        return adam(ticking, params, adam.init(params), last=True)[0]

    def carried(self, state: State, pull: Pull, random: Generator) -> State:
        """A state before the first move that carries what its field misses of the picture."""
        views = pull.last_views or pull.views
        view = views.draw(random)
        with torch.no_grad():
            missed = self.seen(self.picture, view) - pull.render(state.params, view)
        carry = views.scatter(state.carry, view, missed).contiguous()
        return replace(state, carry=carry, random=random.get_state())


def _looked_up(values: Tensor, u: Tensor, v: Tensor, tile: bool) -> Tensor:
    """Values (K, h, w) at places u, v (B, H, W) in [0, 1], between pixel centres linearly: (B, K, H, W).

    u closes, and in a `tile` v does.
    """
    height, width = values.shape[1:]
    closed = pad(values[None], (1, 1, tile, tile), mode="circular").expand(len(u), -1, -1, -1)
    down = (v * height + 0.5) / (height + 1) if tile else (v * height - 0.5) / max(1, height - 1)
    at = torch.stack([(u * width + 0.5) / (width + 1), down], -1)
    return grid_sample(closed, 2 * at - 1, padding_mode="border", align_corners=True)
