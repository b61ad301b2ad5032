"""What ∞-Diff is used for with a given picture: larger (`upscaled`), completed (`filled`), or mixed with another (`between`)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, interpolate

from ...diffreps.image import PixelGrid
from ...known import Known
from ...noise import FixedViews
from ...pictures import straight
from ...pull import Pull, start
from ...samplers import ddim_step
from ...schedules import log_linear, repaint
from ...solvers import GaussNewton
from ...types import Denoiser
from .coarse import reduced
from .model import InftyDiffModel, check_size, mixed
from .sizes import signal_of

SCALES = 2, 4, 8
MOST_PIXELS = 1 << 22
"""The largest number of pixels of a result."""
BEGIN = 0.5
"""The noise level at which super-resolution starts, per factor of scaling."""
FEW = 2
"""Noise levels of super-resolution by default. More of them make details bolder, but less true."""
JUMP, REPEATS = 3, 2
"""RePaint's jumps back in time, and how often each part is walked (Lugmayr et al. 2022)."""

Tick = Callable[[int, int], None]
"""Called after every step with how many are done, and how many there are; it may raise to stop."""


def _silent(done: int, total: int) -> None:
    pass


def upscaled(
    model: InftyDiffModel, picture: np.ndarray, scale: int, prompt: str = "", guidance: float = 1.0, seed: int = 0,
    steps: int = FEW, tick: Tick = _silent,
) -> Tensor:  # fmt: skip
    """Enlarge a picture.

    Sampling starts from the bicubic enlargement under noise. The latent z of the small picture is a condition, what toybox would
    see of the large one is known, and at every step the estimate's means over `scale` x `scale` pixels are set to the given
    pixels, which decides everything but the detail (Wang et al. 2023, DDNM).

    Args:
        model: The model.
        picture: Pixels (H, W, channels) uint8, as `read_picture` returns them for `model.channels`.
        scale: One of `SCALES`.
        prompt: What the picture shows, if known.
        guidance: How strictly to follow the prompt.
        seed: Seed of the noise.
        steps: Noise levels to go through. One or two come nearest to the truth; more make bolder details.
        tick: Called after every step.

    Returns:
        The picture (3 or 4, scale H, scale W) in [0, 1], RGBA premultiplied.

    Raises:
        ValueError: If the scale, the size or the prompt is wrong.
    """
    if scale not in SCALES:
        raise ValueError(f"--scale is {scale}; it must be {', '.join(map(str, SCALES[:-1]))} or {SCALES[-1]}")
    height, width = (scale * side for side in picture.shape[:2])
    _check(height, width, model)
    small = signal_of(picture)[None]
    opaque = small.shape[1] == 4 and bool((small[:, 3] == 1).all())
    means = interpolate(small, (height, width), mode="nearest")
    latent, coarse = model.encode(means), reduced(means)
    d = model.denoiser(prompt, "", guidance if prompt.strip() else 1.0, latent=latent, still=False, coarse=coarse)
    random = Generator().manual_seed(seed)
    sigmas = log_linear(steps, 0.01, BEGIN * scale).tolist()
    x = interpolate(small, (height, width), mode="bicubic", align_corners=False).clamp(-1, 1)
    x = x + sigmas[0] * torch.randn(x.shape, generator=random)

    def consistent(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        found = with_means(d(x, sigma, cond), small, scale)
        return torch.cat([found[:, :3], torch.ones_like(found[:, 3:])], 1) if opaque else found

    with torch.no_grad():
        for n, (sigma, lower) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
            x = ddim_step(consistent, x, sigma, lower, None, 0.0, None)
            tick(n + 1, steps)
    return model.decode(x)[0]


def with_means(x: Tensor, small: Tensor, scale: int) -> Tensor:
    """Correct pictures (B, C, H, W) smoothly so that their means over squares are `small`, and what is left exactly."""
    x = x + interpolate(small - avg_pool2d(x, scale), scale_factor=scale, mode="bicubic", align_corners=False)
    return x + interpolate(small - avg_pool2d(x, scale), scale_factor=scale, mode="nearest")


def filled(
    model: InftyDiffModel, picture: np.ndarray, mask: np.ndarray, prompt: str = "", guidance: float = 2.0, seed: int = 0,
    steps: int = 30, tick: Tick = _silent,
) -> np.ndarray:  # fmt: skip
    """Sample the missing part of a picture, by RePaint. Known pixels stay as they are, bit for bit.

    Args:
        model: The model.
        picture: Straight RGBA (H, W, 4) uint8.
        mask: RGB (H, W, 3) uint8: white, from 128, where the picture is missing.
        prompt: What the picture shows, if known.
        guidance: How strictly to follow the prompt.
        seed: Another seed fills it in another way.
        steps: Noise levels to go through.
        tick: Called after every move of the walk.

    Returns:
        Straight RGBA (H, W, 4) uint8.

    Raises:
        ValueError: If the mask has another size, or all or nothing is missing, or the size or the prompt is wrong.
    """
    height, width = picture.shape[:2]
    missing = _missing(picture, mask)
    _check(height, width, model)
    rgba = torch.from_numpy(picture.copy()).permute(2, 0, 1).float() / 255
    opaque = bool((rgba[3][~missing] == 1).all())
    shown = torch.cat([rgba[:3] * rgba[3:], rgba[3:]])
    signal = 2 * (shown if model.channels == 4 else shown[:3] + 1 - shown[3:]) - 1
    free = missing[None].float()
    d = model.denoiser(prompt, "", guidance, still=False)
    d = _opaque(d) if opaque and model.channels == 4 else d
    grid = PixelGrid((1, model.channels, height, width))
    views, solver = FixedViews(None, grid.shape), GaussNewton()
    sigmas, walk = log_linear(steps, *model.sigma_range(height, width)), repaint(steps, min(JUMP, steps), REPEATS)
    pull = Pull(grid, Known(grid, signal, free).keeping(d), views, solver, sigmas, walk, eta=1.0)
    random = Generator().manual_seed(seed)
    state = start({"pixels": (signal * (1 - free))[None]}, views, solver, random)
    state = pull(state, random, lambda done, total, _: tick(done, total))
    made = model.decode(state.params["pixels"])[0]
    made = straight(made) if len(made) == 4 else torch.cat([made, torch.ones_like(made[:1])])
    pixels = (made * 255).round().byte().permute(1, 2, 0).numpy()
    return np.where(missing.numpy()[..., None], pixels, picture)


def _missing(picture: np.ndarray, mask: np.ndarray) -> Tensor:
    """Return where a picture is missing, (H, W)."""
    height, width = picture.shape[:2]
    if mask.shape[:2] != (height, width):
        raise ValueError(
            f"the mask has {mask.shape[1]} x {mask.shape[0]} pixels and the picture {width} x {height}: give a mask of "
            "the picture's size"
        )
    missing = torch.from_numpy(mask[..., 0] >= 128)
    if not missing.any():
        raise ValueError("the mask is black everywhere: make it white where the picture is to be filled")
    if missing.all():
        raise ValueError("the mask is white everywhere: leave it black where the picture is known")
    return missing


def _opaque(d: Denoiser) -> Denoiser:
    """A denoiser that knows that the picture is opaque."""

    def without_holes(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        found = d(x, sigma, cond)
        return torch.cat([found[:, :3], torch.ones_like(found[:, 3:])], 1)

    return without_holes


def between(model: InftyDiffModel, first: Tensor, second: Tensor, count: int, seed: int = 0, steps: int = 30) -> Tensor:
    """Return pictures between two, by their latents, all from one noise.

    Args:
        model: The model.
        first, second: Signals (channels, H, W) of one size.
        count: Pictures to return, at least 2; the ends are the model's reconstructions of the two.
        seed: Seed of the noise.
        steps: Noise levels to go through.

    Returns:
        Pictures (count, 3 or 4, H, W) in [0, 1].
    """
    height, width = first.shape[1:]
    start, end = (model.encode(each[None]) for each in (first, second))
    shares = torch.linspace(0, 1, count).tolist()
    return torch.cat([drawn(model, mixed(start, end, share), height, width, seed, steps) for share in shares])


@torch.no_grad()
def drawn(model: InftyDiffModel, latent: Tensor, height: int, width: int, seed: int = 0, steps: int = 30) -> Tensor:
    """Sample a picture (1, 3 or 4, height, width) in [0, 1] of a latent z (1, latent)."""
    d = model.denoiser("", "", 1.0, latent=latent)
    sigmas = log_linear(steps, *model.sigma_range(height, width)).tolist()
    x = sigmas[0] * torch.randn((1, model.channels, height, width), generator=Generator().manual_seed(seed))
    for sigma, lower in zip(sigmas[:-1], sigmas[1:], strict=True):
        x = ddim_step(d, x, sigma, lower, None, 0.0, None)
    return model.decode(x)


def _check(height: int, width: int, model: InftyDiffModel) -> None:
    check_size(height, width, model.name)
    if height * width > MOST_PIXELS:
        raise ValueError(
            f"the result would have {width} x {height} pixels, and at most {MOST_PIXELS} are possible: give a smaller picture"
        )
