"""Types: the few shapes and callables that every module of the core agrees on.

Images are (B, C, H, W) float in the model's range [-1, 1]; display range [0, 1] exists only at the edges.
`sigma` is the noise-to-signal ratio of the variance-exploding form x = x0 + sigma * eps, a 0-d or (B,) tensor.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor

View = Any
"""A batch of views, opaque to the sampler: whatever the diffrep's `render` takes."""

Params = dict[str, Tensor]
"""The parameters theta of a diffrep, by name."""


class Denoiser(Protocol):
    """The posterior mean E[x0 | x] of a diffusion model: D(x, sigma, cond) -> x0_hat, all (B, C, H, W)."""

    def __call__(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor: ...


Render = Callable[[Params, View], Tensor]
"""A diffrep's renderer f(theta, view) -> (B, C, H, W), differentiable in theta."""


class Cancelled(Exception):
    """The user stopped the work; nothing half-written is left behind."""


Progress = Callable[[int, int, Any], None]
"""The one callback of long work: (moves done, moves in total, the state). Raise Cancelled in it to stop."""


class Model(Protocol):
    """A pretrained image diffusion model, ready to be pulled back: what tasks ask of toybox, diffusers and hosts.

    `channels` and `size` are those of the signal that it denoises (pixels or latents), `scale` the picture pixels
    per signal pixel. `sigma_min` and `sigma_max` bound the noise levels it was trained on. `device` is where it runs, and
    every tensor of a run with it. `elevations` are the lowest and the highest from which it knows objects, in degrees.
    """

    @property
    def name(self) -> str: ...
    @property
    def channels(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def scale(self) -> int: ...
    @property
    def sigma_min(self) -> float: ...
    @property
    def sigma_max(self) -> float: ...
    @property
    def device(self) -> str: ...
    @property
    def elevations(self) -> tuple[float, float]: ...

    def denoiser(self, prompt: str, negative: str, guidance: float) -> Denoiser:
        """D(x, sigma, view) for a prompt. `view` is a `Cameras` (views around an object), a `Crops` or None.

        `guidance` follows `guidance.py`: 0 unconditional, 1 conditional.
        """
        ...

    def decode(self, signal: Tensor) -> Tensor:
        """Signals (B, channels, h, w) to display pictures (B, 3 or 4, scale h, scale w) in [0, 1], RGBA premultiplied."""
        ...
