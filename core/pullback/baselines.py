"""Baselines: SJC and SDS, which climb the pulled-back score instead of following its flow.

Both render, add noise, denoise and push a direction through J^T into an optimiser; there is no (J^T J)^-1 and no
trajectory, so they seek a mode. They share denoiser, field and views with `Pull`; the update alone differs.

- SJC (Wang et al. 2022), as its code has it by default: ascent direction (D(f + sigma n) - f) / sigma, sigma uniform over
  a table, Adamax. Its emptiness and depth losses are left out.
- SDS (Poole et al. 2022): gradient w (eps_hat - n), with threestudio's w = 1 - abar = sigma^2 / (1 + sigma^2). Note that
  eps_hat - n = (f - D) / sigma: up to the weight it is the same direction. Drawing sigma from SJC's table and stepping
  by Adam are our choices, so that the two can be compared; the paper has its own range of times and optimiser.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from .noise import Views
from .types import Denoiser, Params, Progress, Render


def sjc_gradient(seen: Tensor, clean: Tensor, sigma: float) -> Tensor:
    """The gradient on a rendered view, (B, C, H, W), that SJC descends."""
    return (seen - clean) / sigma


def sds_gradient(seen: Tensor, clean: Tensor, sigma: float) -> Tensor:
    """The gradient on a rendered view that SDS descends."""
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
    """`iterations` updates by "sjc" or "sds", each with a sigma drawn uniformly from `sigmas` (none of them 0).

    One denoiser evaluation and one field pass per iteration, on new views with new noise.
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
