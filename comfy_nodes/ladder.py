"""Ladder: converts ComfyUI's SIGMAS to the core's variance-exploding form, for every kind of model.

The input of a ComfyUI model is x = alpha x0 + beta n. For eps and v models, alpha = 1 and beta = sigma; for flow models,
alpha = 1 - sigma and beta = sigma. Dividing by alpha gives the core's x0 + s n with s = beta / alpha. The core's DDIM step,
D (1 - s'/s) + (s'/s) x, is then the same as ComfyUI's Euler step, which has sigma'/sigma in place of s'/s: multiplying by the
new alpha turns one into the other. The core can therefore treat flow models like all others. All values come from
`model_sampling.noise_scaling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NEARLY = 1e-6
"""The least alpha. It is 0 at a flow model's highest sigma of 1, which would be a division by zero."""


@dataclass(frozen=True)
class Ladder:
    """The noise levels of a run.

    Args:
        host: ComfyUI's sigmas (N + 1,).
        sigmas: The core's sigmas (N + 1,), float64.
        alphas: The factors of the picture in the input of a ComfyUI model (N + 1,), float64.
        excess: The factor by which ComfyUI scales the first noise at a model's highest sigma. For eps and v models it is
            sqrt(1 + sigma^2) / sigma.
        spread: The factor by which a ComfyUI model's estimates are smaller than the picture (`signals.spread`).
    """

    host: Tensor
    sigmas: Tensor
    alphas: Tensor
    excess: float
    spread: float = 1.0

    def find(self, sigma: Tensor | float) -> int:
        """Return the index of one of `sigmas`."""
        return int((self.sigmas - float(sigma)).abs().argmin())


def ladder(model_sampling: Any, sigmas: Tensor, at_most: bool = False, spread: float = 1.0) -> Ladder:
    """Return the ladder of SIGMAS (N + 1,).

    Args:
        model_sampling: ComfyUI's description of the model's noise levels.
        sigmas: The SIGMAS.
        at_most: Whether they start at the model's highest sigma.
        spread: As in `Ladder`. The core's sigmas are larger by it, and the inputs and estimates of the ComfyUI model smaller.

    Raises:
        ValueError: If the sigmas do not decrease.
    """
    host = sigmas.detach().float().cpu()
    if len(host) < 2 or not (host[1:] < host[:-1]).all() or host[-1] < 0:
        raise ValueError(
            "sigmas must have at least two entries, and each must fall below the one before: use fewer steps, or another "
            "scheduler"
        )
    alphas, betas = (
        torch.stack([_mixed(model_sampling, sigma, noise, 1 - noise) for sigma in host]).double()
        for noise in (0.0, 1.0)
    )
    alphas = alphas.clamp(min=NEARLY)
    first = _mixed(model_sampling, host[0], 1.0, 0.0, at_most) / _mixed(model_sampling, host[0], 1.0, 0.0)
    return Ladder(host, spread * betas / alphas, alphas / spread, float(first), spread)


def at(model_sampling: Any, sigma: Tensor) -> tuple[float, float]:
    """Return alpha, the factor of the picture in the model's input, and the core's sigma for one ComfyUI sigma (1,)."""
    alpha, beta = (float(_mixed(model_sampling, sigma[0], noise, 1 - noise)) for noise in (0.0, 1.0))
    return max(alpha, NEARLY), beta / max(alpha, NEARLY)


def _mixed(model_sampling: Any, sigma: Tensor, noise: float, signal: float, at_most: bool = False) -> Tensor:
    like = getattr(model_sampling, "sigmas", sigma)
    return model_sampling.noise_scaling(
        sigma.to(like.device).reshape(1), torch.tensor([noise], device=like.device),
        torch.tensor([signal], device=like.device), at_most,
    )[0].cpu()  # fmt: skip


def host_sigmas(model_sampling: Any, sigmas: Tensor) -> Tensor:
    """Convert variance-exploding sigmas to the SIGMAS of a model: the inverse of `ladder`."""
    flow = float(_mixed(model_sampling, torch.tensor(0.5), 0.0, 1.0)) < 1
    return (sigmas / (1 + sigmas) if flow else sigmas).float()
