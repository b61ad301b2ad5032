"""Baselines: SJC and SDS, which ascend the pulled-back score instead of following its flow.

Both render, add noise, denoise and pass a direction through J^T to an optimiser. Without (J^T J)^-1 and without a
trajectory they seek a mode. They share the denoiser, the field and the views with `Pull`; only the update differs.

- SJC (Wang et al. 2022), with the defaults of its code: direction (D(f + sigma n) - f) / sigma, sigma uniform over a
  table, Adamax. Its emptiness and depth losses are left out.
- SDS (Poole et al. 2022): gradient w (eps_hat - n), with threestudio's w = 1 - abar = sigma^2 / (1 + sigma^2). Since
  eps_hat - n = (f - D) / sigma, this is the same direction up to the weight. To make the two comparable we draw sigma from
  SJC's table and use Adam; the paper has its own range of times and its own optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from .noise import Views
from .types import Denoiser, Params, Progress, Render


def sjc_gradient(seen: Tensor, clean: Tensor, sigma: float) -> Tensor:
    """Return the gradient on rendered views that SJC descends.

    Args:
        seen: Rendered views, (B, C, H, W).
        clean: The denoiser's estimates, (B, C, H, W).
        sigma: The noise level.
    """
    return (seen - clean) / sigma


def sds_gradient(seen: Tensor, clean: Tensor, sigma: float) -> Tensor:
    """Return the gradient on rendered views that SDS descends. The arguments are those of `sjc_gradient`."""
    return sigma**2 / (1 + sigma**2) * (seen - clean) / sigma


RULES: dict[str, tuple[Callable[[Tensor, Tensor, float], Tensor], type[torch.optim.Optimizer]]] = {
    "sjc": (sjc_gradient, torch.optim.Adamax),
    "sds": (sds_gradient, torch.optim.Adam),
}


def ascend(
    rule: str,
    render: Render,
    denoise: Denoiser,
    views: Views,
    params: Params,
    sigmas: Tensor,
    iterations: int,
    lr: float | dict[str, float],
    generator: Generator,
    progress: Progress | None = None,
    tick: Callable[[], Any] = lambda: None,
) -> Params:
    """Optimise a field by SJC or SDS, with one denoiser and one field evaluation per iteration.

    Args:
        rule: "sjc" or "sds".
        render: The renderer f(theta, view) -> (B, C, H, W).
        denoise: The model.
        views: Draws the views of each iteration; their noise is always fresh.
        params: The parameters to start from.
        sigmas: The noise levels to draw from uniformly, all above 0.
        iterations: The number of updates.
        lr: The learning rate, one for all parameters or one for each name.
        generator: Draws sigmas, views and noise.
        progress: Called after every iteration.
        tick: Called before every iteration. Both may raise `Cancelled`.

    Returns:
        The optimised parameters.

    Raises:
        ValueError: If the rule is unknown.
    """
    if rule not in RULES:
        raise ValueError(f"the baseline is {rule!r}; it must be one of {', '.join(RULES)}")
    gradient, optimiser = RULES[rule]
    params = {k: p.detach().clone().requires_grad_() for k, p in params.items()}
    rates = lr if isinstance(lr, dict) else dict.fromkeys(params, lr)
    optim = optimiser([{"params": [p], "lr": rates[k]} for k, p in params.items()])  # type: ignore[call-arg]
    for step in range(iterations):
        tick()
        sigma = float(sigmas[torch.randint(len(sigmas), (1,), generator=generator)])
        view = views.draw(generator)
        seen = render(params, view)
        with torch.no_grad():
            noise = torch.randn(seen.shape, generator=generator, dtype=seen.dtype).to(seen.device)
            clean = denoise(seen + sigma * noise, torch.tensor(sigma, dtype=seen.dtype), view)
            direction = gradient(seen, clean, sigma) / len(seen)
        optim.zero_grad()
        seen.backward(direction)
        optim.step()
        if progress is not None:
            progress(step + 1, iterations, params)
    return {k: p.detach() for k, p in params.items()}
