"""From the network to estimates of pictures, at points and in the core's terms.

A noisy picture of the core is x = x0 + sigma eps, with white noise. ∞-Diff's state is y = T x = T x0 + sigma T eps, up to its
factor sqrt(1 + sigma²): T (`mollifier.py`) turns one into the other, and since T is invertible, E[x0 | x] = E[x0 | y]. Samplers,
guides and fields therefore never see that the network works on smoothed noise.

The network F corrects a first estimate b of the picture, and is asked at points for the smoothed picture:

    M(x, sigma) = T b + c_out F(T b, T (x - b), ...)          an estimate of T x0
    D(x, sigma) = b + W (M - T b)                             a denoiser like every other

W is the Wiener inverse of T. The first estimate (`base`) is a smooth picture m and what differs from it, weighted frequency by
frequency: b = m + P / (P + sigma²) (x - m), which is the best estimate of Gaussian pictures of power P around m.

- With toybox, m is toybox's estimate of the picture reduced to 64 pixels (`coarse.py`), enlarged smoothly. Only what the reduced
  picture does not show differs from it.
- Otherwise, m is 0.
- With a latent z, the sketch of z takes part: it is m in place of 0, or is averaged with toybox's estimate, frequency by
  frequency, in inverse proportion to their mean errors.

c_out is the standard deviation of T x0 from T b. For white pictures around 0 this is the scaling of EDM (Karras et al. 2022,
table 1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..toybox.network import widened
from .coarse import SIZE, coarse_size, enlarged, factor, filled_up, reduced, unseen
from .mollifier import STD, WIENER_NOISE, filtered, frequency, mollify, response, wiener
from .network import SKETCH, Condition, Network
from .points import Points

MEAN_POWER, POWER, FLAT = 2250.0, 750.0, 8.0
"""The mean power of pictures in [-1, 1] at k waves per half picture, for orthonormal cosine transforms of 64 x 64 pixels: that of
the mean, and POWER / (k³ + FLAT). Measured on toybox's pictures; it falls as k^-3 from 64 to 256 pixels."""
UNSEEN_RISE = 1.4e8
"""The power of the difference from the enlarged picture of 64 pixels is 1 / (UNSEEN_RISE / k³ + k³ / POWER), measured too."""
MISSED, MISSED_FLAT = 0.0085, 2.0
"""Toybox's mean squared error at a noise level s is about MISSED s / (1 + s / MISSED_FLAT)."""
MISSED_POWER, MISSED_RISE = 0.6, 1.3
"""Without words, that error's power at k waves per half picture is 1 / (1 / P + (k + 0.4) / (MISSED_POWER s^MISSED_RISE))."""
SHRINK = 0.15
"""The part of the noise that F is assumed to leave in a picture (`added`)."""


def power(height: int, width: int) -> Tensor:
    """Return the mean power of pictures at every frequency of their cosine transform, (H, W) in float64."""
    cube = frequency(height, width) ** 3
    found = POWER / (cube + FLAT)
    found[0, 0] = MEAN_POWER
    return found * (min(height, width) / SIZE) ** 2


def unseen_power(height: int, width: int) -> Tensor:
    """Return the same for the differences from enlarged pictures of 64 pixels."""
    cube = frequency(height, width) ** 3
    found = 1 / (UNSEEN_RISE / cube.clamp(min=1e-3) + cube / POWER)
    return found * (min(height, width) / SIZE) ** 2


def base(x: Tensor, sigma: Tensor, given: Condition, std: float = STD) -> Tensor:
    """Return the first estimate b of x0, (B, C, H, W).

    Of what toybox does not see, the frequencies that T suppresses are left out, since the network could not correct them.

    Args:
        x: Noisy pictures (B, C, H, W).
        sigma: Noise levels (B,).
        given: The condition.
        std: Standard deviation of T in pixels.
    """
    height, width = x.shape[-2:]
    if given.toybox is None:
        mean, signal = _sketched(given, x)
        return mean + filtered(x - mean, _kept(signal, sigma))
    small, level = filled_up(reduced(x), height, width, sigma), factor(height, width) * sigma
    found = given.toybox(small, level).clamp(-1, 1)
    if given.sketch is not None:
        mean, signal = _sketched(given, small)
        missed = _missed_power(small.shape[-2], small.shape[-1], level)
        found = found + filtered(mean - found, missed / (missed + signal))
    seen = enlarged(found, height, width)
    if coarse_size(height, width) == (height, width):
        return seen
    square = response(height, width, std).to(x.device) ** 2
    kept = _kept(unseen_power(height, width).to(x.device), sigma) * square / (square + WIENER_NOISE**2)
    return seen + filtered(unseen(x - seen), kept)


def _kept(signal: Tensor, sigma: Tensor) -> Tensor:
    """The factors P / (P + sigma²), (B, 1, H, W)."""
    return (signal / (signal + sigma.double()[:, None, None] ** 2))[:, None]


def _sketched(given: Condition, like: Tensor) -> tuple[Tensor, Tensor]:
    """The mean picture of the latent z, of the shape of `like` (B, C, H, W), and the power of the differences from it, (H, W).

    Without a latent these are 0 and the power of pictures.
    """
    height, width = like.shape[-2:]
    signal = power(height, width).to(like.device)
    if given.sketch is None:
        return torch.zeros_like(like), signal
    k = frequency(height, width).to(like.device)
    near, short = given.sketch.power_at(k) * (min(height, width) / SIZE) ** 2, min(height, width)
    square = interpolate(given.sketch.picture.to(like), (short, short), mode="bicubic")
    return widened(square, height, width), torch.where(k < SKETCH, near, signal)


def _missed_power(height: int, width: int, level: Tensor) -> Tensor:
    """The power of the errors of toybox's estimates, without words, at noise levels (B,), (B, 1, h, w)."""
    k, signal = (each.to(level.device) for each in (frequency(height, width), power(height, width)))
    most = MISSED_POWER * level.double()[:, None, None] ** MISSED_RISE
    return (1 / (1 / signal + (k + 0.4) / most))[:, None]


def correction(height: int, width: int, sigma: Tensor, given: Condition, std: float = STD) -> Tensor:
    """Return c_out, the standard deviation of T x0 from T b for noise levels (B,), in float64."""
    square, noise = response(height, width, std).to(sigma.device) ** 2, sigma.double()[:, None, None] ** 2
    if given.toybox is None:
        signal = power(height, width).to(sigma.device)
        return (square * signal * noise / (signal + noise)).mean((1, 2)).sqrt()
    signal, level = unseen_power(height, width).to(sigma.device), factor(height, width) * sigma.double()
    beyond = square * signal * noise / (signal + noise)
    missed = MISSED * level / (1 + level / MISSED_FLAT)
    return (missed + beyond.mean((1, 2))).sqrt()


def estimate(
    network: Network, x: Tensor, sigma: Tensor, points: Points, given: Condition, z: Tensor, std: float = STD
) -> tuple[Tensor, Tensor]:
    """Return the first estimate b (B, C, H, W), and what the network adds to T b at points, (B, P, C).

    A noise level means less on a larger picture, where more pixels show the same: the network is told the level on a picture of
    `SIZE` pixels with the same large-scale noise.

    Args:
        network: The network. It sees the smoothed picture at the points only.
        x: Noisy pictures (B, C, H, W).
        sigma: Noise levels (B,).
        points: The points.
        given: The condition.
        z: The latent (B, latent), 0 for none.
        std: Standard deviation of T in pixels.
    """
    height, width = x.shape[-2:]
    b = base(x, sigma, given, std)
    smooth, left = mollify(b, std), mollify(x - b, std)
    c_out = correction(height, width, sigma, given, std)
    noise = (response(height, width, std).to(x.device) ** 2).mean() * sigma.double() ** 2
    c_in = (1 / (c_out**2 + noise).sqrt()).to(x)[:, None, None]
    level = torch.log(sigma * SIZE / min(height, width)).to(x) / 4
    f = network(torch.cat([points.of(smooth), c_in * points.of(left)], -1), level, points, given, z)
    return b, c_out.to(x)[:, None, None] * f


def error(
    network: Network, x: Tensor, sigma: Tensor, noise: Tensor, points: Points, given: Condition, z: Tensor, std: float = STD
) -> Tensor:  # fmt: skip
    """Return the squared error of M at points in units of c_out², (B,): it is about 1 for a network that adds nothing.

    Args:
        network, sigma, points, given, z, std: As in `estimate`.
        x: Clean pictures (B, C, H, W).
        noise: White noise of the same shape.
    """
    b, more = estimate(network, x + sigma[:, None, None, None].to(x) * noise, sigma, points, given, z, std)
    missed = points.of(mollify(b - x, std)) + more
    unit = correction(x.shape[-2], x.shape[-1], sigma, given, std).to(x)
    return missed.square().mean((1, 2)) / unit**2


def added(
    network: Network, x: Tensor, sigma: Tensor, given: Condition, z: Tensor, std: float = STD, shrink: float = SHRINK
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Return b and what the network adds to T b, at all pixels, without the noise that the Wiener inverse would amplify.

    Of the network's errors at high frequencies nothing is known but their size. They are taken for `shrink` times the noise of
    the picture, and frequencies of what is added are multiplied by P / (P + shrink² sigma²).

    Args:
        network, x, sigma, given, z, std: As in `estimate`.
        shrink: The part of the noise that is left; 0 changes nothing.
    """
    height, width = x.shape[-2:]
    points = Points(height, width)
    b, more = estimate(network, x, sigma, points, given, z, std)
    return b, filtered(points.picture(more), _kept(power(height, width).to(x.device), shrink * sigma))


def denoise(
    network: Network, x: Tensor, sigma: Tensor, given: Condition, z: Tensor, std: float = STD, inverse: float = WIENER_NOISE,
    shrink: float = SHRINK,
) -> Tensor:  # fmt: skip
    """Return D(x, sigma) for pictures x (B, C, H, W) of any size.

    Args:
        network, x, sigma, given, z, std: As in `estimate`.
        inverse: The noise-to-signal ratio of the Wiener inverse.
        shrink: As in `added`.
    """
    b, more = added(network, x, sigma, given, z, std, shrink)
    return b + wiener(more, std, inverse)
