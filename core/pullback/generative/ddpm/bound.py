"""The variational bound on the bits of a picture, term by term (Ho et al. 2020, eq. 5; 3.5 in the thesis).

All results are bits per value of a picture, (B,), so that they can be added.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .process import Process, at, diffuse, posterior_mean
from .reverse import Gaussian, Reverse

LEVELS = 256
"""The values of a channel in a file."""
FAR = 1e4
"""An edge of a bin in place of infinity."""


def gaussian_kl(mean: Tensor, log_variance: Tensor, of_mean: Tensor, of_log_variance: Tensor) -> Tensor:
    """Return the divergence KL(N(mean, e^log_variance) || N(of_mean, e^of_log_variance)) of every value, in nats."""
    apart = (mean - of_mean).square() * (-of_log_variance).exp()
    ratio = log_variance - of_log_variance
    return 0.5 * (ratio.exp() - 1 - ratio + apart)


def decoder_log_likelihood(x0: Tensor, mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return the log probabilities of the values of pictures, whose bins are integrated over a Gaussian (eq. 13; 3.13).

    Args:
        x0: Pictures of 256 levels in [-1, 1], (B, C, H, W).
        mean: The means.
        log_variance: The logarithms of the variances.

    Returns:
        Nats (B, C, H, W), exact also where a bin is improbable.
    """
    half = 1 / (LEVELS - 1)
    scale = (-0.5 * log_variance).exp()
    upper = torch.where(x0 > 1 - half, FAR, x0 + half - mean) * scale
    lower = torch.where(x0 < half - 1, -FAR, x0 - half - mean) * scale
    mirrored = lower + upper > 0  # both edges on the side of the lower tail, where probabilities have their digits
    high, low = torch.where(mirrored, -lower, upper), torch.where(mirrored, -upper, lower)
    log_high, log_low = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    between = (log_low - log_high).clamp(max=-1e-12)
    return log_high + torch.log(-torch.expm1(between))


def in_bits(nats: Tensor) -> Tensor:
    """Return bits per value (B,) of nats of every value, (B, C, H, W)."""
    return nats.flatten(1).mean(1) / math.log(2)


def term(reverse: Reverse, x0: Tensor, t: Tensor, eps: Tensor) -> tuple[Tensor, Gaussian]:
    """Return L_{t-1} of pictures at one x_t: a divergence, or at t = 1 the bits that x_0 still costs.

    Args:
        reverse: The reverse process.
        x0: Pictures of 256 levels in [-1, 1], (B, C, H, W).
        t: Times (B,), 1 to T.
        eps: The noise of x_t, like x0.

    Returns:
        Bits per value (B,), and p(x_{t-1} | x_t).
    """
    process = reverse.process
    x = diffuse(process, x0, t, eps)
    p = reverse(x, t)
    log_variance = at(process.posterior_variance.clamp(min=1e-30).log(), t, x)
    divergence = gaussian_kl(posterior_mean(process, x0, x, t), log_variance, p.mean, p.log_variance)
    last = (t == 1).to(x.device).reshape(-1, *[1] * (x.ndim - 1))
    if last.any():  # where it is not, its gradient would be computed for nothing
        divergence = torch.where(last, -decoder_log_likelihood(x0, p.mean, p.log_variance), divergence)
    return in_bits(divergence), p


def prior_term(process: Process, x0: Tensor) -> Tensor:
    """Return L_T of pictures (B, C, H, W): the divergence of q(x_T | x_0) from unit-normal noise."""
    abar, zero = process.abar[-1].to(x0), torch.zeros((), dtype=x0.dtype, device=x0.device)
    return in_bits(gaussian_kl(abar.sqrt() * x0, (1 - abar).log(), zero, zero))
