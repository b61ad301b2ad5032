"""Sampling from the reverse process, what it expects on the way, and interpolation between pictures at any depth."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Generator, Tensor

from .process import diffuse
from .reverse import Reverse, times


def ancestral(
    reverse: Reverse,
    x: Tensor,
    random: Generator | None = None,
    start: int = 0,
    tick: Callable[[int, int], None] = lambda *_: None,
    shared: bool = False,
) -> Tensor:
    """Sample x_0 from x_t (algorithm 2 of the paper; 4 in the thesis). The last step shows the mean, without noise.

    Args:
        reverse: The reverse process.
        x: Noisy pictures x_t, (B, C, H, W); unit-normal noise for t = T.
        random: Draws the noise of the steps, on the CPU.
        start: The time t; 0 means T.
        tick: Called after every step with how many are done, and how many there are; it may raise to stop.
        shared: Whether all pictures get the same noise.

    Returns:
        Pictures x_0, (B, C, H, W).
    """
    result = x
    for result, _ in progressive(reverse, x, random, start, tick, shared):  # noqa: B007
        pass
    return result


@torch.no_grad()
def progressive(
    reverse: Reverse,
    x: Tensor,
    random: Generator | None = None,
    start: int = 0,
    tick: Callable[[int, int], None] = lambda *_: None,
    shared: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield x_{t-1} and the picture that x_t made the network expect, for every step down from t.

    The arguments are those of `ancestral`. What is expected over time is the paper's progressive generation (figure 6).
    """
    start = start or reverse.process.steps
    for t in range(start, 0, -1):
        p = reverse(x, times(len(x), t))
        x = p.mean
        if t > 1:
            noise = torch.randn(x[:1].shape if shared else x.shape, generator=random, dtype=x.dtype)
            x = x + (0.5 * p.log_variance).exp() * noise.to(x.device)
        tick(start - t + 1, start)
        yield x, p.x0


def interpolate(reverse: Reverse, a: Tensor, b: Tensor, parts: Tensor, depth: int, random: Generator) -> Tensor:
    """Interpolate between two pictures at a depth (section 4.4 of the paper; 3.4.4 in the thesis).

    Both are diffused to x_t, mixed there, and denoised. Both share one noise, or mixtures would have less noise than x_t; and all
    mixtures share that of the steps, so that the results change smoothly. At depth 0 pixels are mixed; at T nothing is left of
    them, and all results are one new sample.

    Args:
        reverse: The reverse process.
        a: The first picture, (C, H, W).
        b: The other picture.
        parts: How much of the other picture there is in each result, (n,) in [0, 1].
        depth: The time t, 0 to T.
        random: Draws all noise.

    Returns:
        Pictures (n, C, H, W).

    Raises:
        ValueError: If the depth is out of range.
    """
    steps = reverse.process.steps
    if not 0 <= depth <= steps:
        raise ValueError(f"the depth is {depth}; it must be between 0, where pixels are mixed, and {steps}")
    ends, noise = torch.stack([a, b]), torch.randn(a.shape, generator=random, dtype=a.dtype).to(a.device)
    x_a, x_b = diffuse(reverse.process, ends, times(2, depth), noise.expand_as(ends))
    weight = parts.to(a).reshape(-1, 1, 1, 1)
    x = (1 - weight) * x_a + weight * x_b
    return ancestral(reverse, x, random, depth, shared=True) if depth else x
