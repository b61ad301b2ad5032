"""Denoisers: every parameterisation of a diffusion model as one function D(x, sigma, cond) -> x0_hat.

x = x0 + sigma * eps is variance exploding; `sigma` is 0-d or (B,); x is (B, C, H, W).
A network is any callable network(x_in, t, cond), with t of shape (B,) in the network's own time units;
what it predicts and how its input is scaled is the whole difference between the makers below.
Table of conversions: docs/mathematics.md, section 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .types import Denoiser

Network = Callable[[Tensor, Tensor, Any], Tensor]
Timestep = Callable[[Tensor], Tensor]


def per_sample(sigma: Tensor, x: Tensor) -> Tensor:
    """sigma as (B,) on x's device, in x's dtype."""
    return torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(x.shape[0])


def _column(sigma: Tensor, x: Tensor) -> Tensor:
    return per_sample(sigma, x).reshape(-1, *[1] * (x.ndim - 1))


def epsilon(network: Network, timestep: Timestep) -> Denoiser:
    """A network that predicts eps from x / sqrt(1 + sigma^2) (SD 1.5, SDXL)."""

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        s = _column(sigma, x)
        return x - s * network(x / (1 + s**2).sqrt(), timestep(per_sample(sigma, x)), cond)

    return denoise


def velocity(network: Network, timestep: Timestep) -> Denoiser:
    """A network that predicts v = (eps - sigma x0) / sqrt(1 + sigma^2) from x / sqrt(1 + sigma^2) (SD 2.x)."""

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        s = _column(sigma, x)
        scale = (1 + s**2).sqrt()
        return x / scale**2 - s / scale * network(x / scale, timestep(per_sample(sigma, x)), cond)

    return denoise


def flow(network: Network, timestep: Timestep) -> Denoiser:
    """A network that predicts u = eps - x0 from (1 - t) x0 + t eps, t = sigma / (1 + sigma) (SD3, Flux)."""

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        s = _column(sigma, x)
        return x / (1 + s) - s / (1 + s) * network(x / (1 + s), timestep(per_sample(sigma, x)), cond)

    return denoise


def edm(network: Network, sigma_data: float) -> Denoiser:
    """A network in EDM's preconditioning (Karras et al. 2022, table 1): D = c_skip x + c_out F(c_in x, ln(sigma) / 4)."""

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        s = _column(sigma, x)
        variance = s**2 + sigma_data**2
        f = network(x / variance.sqrt(), per_sample(sigma, x).log() / 4, cond)
        return sigma_data**2 / variance * x + s * sigma_data / variance.sqrt() * f

    return denoise


def gaussian_mixture(weights: Tensor, means: Tensor, factors: Tensor) -> Denoiser:
    """The exact denoiser of sum_k w_k N(m_k, L_k L_k^T): the yardstick of the tests.

    weights (K,), means (K, D), factors L (K, D, D); x (B, ...) with D entries per sample. Ignores cond.
    """
    covariances = factors @ factors.mT
    eye = torch.eye(means.shape[1], dtype=means.dtype, device=means.device)

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        s = torch.as_tensor(sigma, dtype=x.dtype).reshape(-1, 1, 1, 1)
        delta = x.flatten(1)[:, None] - means
        noisy = covariances + s**2 * eye
        root = torch.linalg.cholesky(noisy)
        inverse = torch.cholesky_inverse(root)
        log_det = root.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        solved = (
            torch.einsum("...kde,bke->bkd", inverse[0], delta) if len(s) == 1 else (inverse @ delta[..., None])[..., 0]
        )
        posterior = torch.softmax(weights.log() - log_det - 0.5 * (delta * solved).sum(-1), dim=1)
        mean = means + torch.einsum("kde,bke->bkd", covariances, solved)
        return (posterior[..., None] * mean).sum(1).reshape(x.shape)

    return denoise
