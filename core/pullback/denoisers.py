"""Denoisers D(x, sigma, cond) -> x0_hat from networks of every parameterisation.

The noisy signal is x = x0 + sigma eps (variance exploding), (B, C, H, W); sigma is 0-d or (B,). A network is a callable
network(x_in, t, cond), with t (B,) in its own units of time. The functions below differ only in what the network predicts and
how its input is scaled (docs/mathematics.md, section 1).
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
    """Return sigma as (B,), on the device and in the dtype of x."""
    return torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(x.shape[0])


def _column(sigma: Tensor, x: Tensor) -> Tensor:
    return per_sample(sigma, x).reshape(-1, *[1] * (x.ndim - 1))


def epsilon(network: Network, timestep: Timestep) -> Denoiser:
    """Make a denoiser from a network that predicts eps from x / sqrt(1 + sigma^2) (SD 1.5, SDXL).

    Args:
        network: The network.
        timestep: Maps sigmas (B,) to its time t (B,).
    """

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        s = _column(sigma, x)
        return x - s * network(x / (1 + s**2).sqrt(), timestep(per_sample(sigma, x)), cond)

    return denoise


def velocity(network: Network, timestep: Timestep) -> Denoiser:
    """Make a denoiser from a network that predicts v = (eps - sigma x0) / sqrt(1 + sigma^2) from x / sqrt(1 + sigma^2) (SD 2.x).

    The arguments are those of `epsilon`.
    """

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        s = _column(sigma, x)
        scale = (1 + s**2).sqrt()
        return x / scale**2 - s / scale * network(x / scale, timestep(per_sample(sigma, x)), cond)

    return denoise


def flow(network: Network, timestep: Timestep) -> Denoiser:
    """Make a denoiser from a network that predicts u = eps - x0 from (1 - t) x0 + t eps, t = sigma / (1 + sigma) (SD3, Flux).

    The arguments are those of `epsilon`.
    """

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        s = _column(sigma, x)
        return x / (1 + s) - s / (1 + s) * network(x / (1 + s), timestep(per_sample(sigma, x)), cond)

    return denoise


def edm(network: Network, sigma_data: float) -> Denoiser:
    """Make a denoiser D = c_skip x + c_out F(c_in x, ln(sigma) / 4) from a network F (Karras et al. 2022, table 1).

    Args:
        network: The network F, whose time is ln(sigma) / 4.
        sigma_data: The standard deviation of the data that it was trained with.
    """

    def denoise(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        s = _column(sigma, x)
        variance = s**2 + sigma_data**2
        f = network(x / variance.sqrt(), per_sample(sigma, x).log() / 4, cond)
        return sigma_data**2 / variance * x + s * sigma_data / variance.sqrt() * f

    return denoise


def gaussian_mixture(weights: Tensor, means: Tensor, factors: Tensor) -> Denoiser:
    """Make the exact denoiser of a Gaussian mixture sum_k w_k N(m_k, L_k L_k^T), the reference of the tests.

    It takes x (B, ...) with D values per sample, and ignores cond.

    Args:
        weights: The weights w, (K,).
        means: The means m, (K, D).
        factors: The factors L of the covariances, (K, D, D).
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
