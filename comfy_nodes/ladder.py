"""Ladder: ComfyUI's SIGMAS in the core's variance-exploding form, for every kind of model.

What a ComfyUI model sees is x = alpha x0 + beta n. For eps and v models alpha is 1 and beta the sigma; for flow models
they are 1 - sigma and sigma. Divided by alpha it is the core's x0 + (beta / alpha) n. One DDIM step there is one Euler
step here: D (1 - s'/s) + (s'/s) x in both, with s'/s = sigma'/sigma (1 - sigma) / (1 - sigma') absorbed by the alphas.
So the core needs to know nothing of flow models. Everything is read off `model_sampling.noise_scaling`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

NEARLY = 1e-6
"""The least part of the picture in what a model sees: a flow model's first sigma of 1 has none, and nothing to divide by."""


@dataclass(frozen=True)
class Ladder:
    """`host` (N + 1,) as ComfyUI has them; `sigmas` and `alphas` (N + 1,) float64 as the core needs them.

    `excess` is ComfyUI's stretch of the first noise at a model's highest sigma, sqrt(1 + sigma^2) / sigma for eps and v.
    """

    host: Tensor
    sigmas: Tensor
    alphas: Tensor
    excess: float

    def find(self, sigma: Tensor | float) -> int:
        """The index of one of `sigmas`."""
        return int((self.sigmas - float(sigma)).abs().argmin())


def ladder(model_sampling: Any, sigmas: Tensor, at_most: bool = False) -> Ladder:
    """SIGMAS (N + 1,) as the core has them. ValueError where they do not fall."""
    host = sigmas.detach().float().cpu()
    if len(host) < 2 or not (host[1:] < host[:-1]).all() or host[-1] < 0:
        raise ValueError(
            "sigmas must have at least two entries and fall with every one: use fewer steps, or another scheduler"
        )
    alphas, betas = (
        torch.stack([_mixed(model_sampling, sigma, noise, 1 - noise) for sigma in host]).double()
        for noise in (0.0, 1.0)
    )
    alphas = alphas.clamp(min=NEARLY)
    first = _mixed(model_sampling, host[0], 1.0, 0.0, at_most) / _mixed(model_sampling, host[0], 1.0, 0.0)
    return Ladder(host, betas / alphas, alphas, float(first))


def at(model_sampling: Any, sigma: Tensor) -> tuple[float, float]:
    """One sigma (1,) of ComfyUI in the core's form: what the picture is scaled by in what a model sees, and the core's sigma."""
    alpha, beta = (float(_mixed(model_sampling, sigma[0], noise, 1 - noise)) for noise in (0.0, 1.0))
    return max(alpha, NEARLY), beta / max(alpha, NEARLY)


def _mixed(model_sampling: Any, sigma: Tensor, noise: float, signal: float, at_most: bool = False) -> Tensor:
    like = getattr(model_sampling, "sigmas", sigma)
    return model_sampling.noise_scaling(
        sigma.to(like.device).reshape(1), torch.tensor([noise], device=like.device),
        torch.tensor([signal], device=like.device), at_most,
    )[0].cpu()  # fmt: skip


def host_sigmas(model_sampling: Any, sigmas: Tensor) -> Tensor:
    """The inverse of `ladder`: variance-exploding sigmas as the SIGMAS of a model."""
    flow = float(_mixed(model_sampling, torch.tensor(0.5), 0.0, 1.0)) < 1
    return (sigmas / (1 + sigmas) if flow else sigmas).float()
