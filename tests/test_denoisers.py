"""Every parameterisation gives back the same denoiser, and the analytic one is the true posterior mean."""

from __future__ import annotations

import pytest
import torch
from conftest import mixture, picture
from pullback import denoisers as D
from pullback.guidance import guided

SIGMA = torch.tensor([0.05, 0.7, 3.0, 12.0], dtype=torch.float64)


def _column(s):
    return s.reshape(-1, 1, 1, 1)


def _networks(exact):
    """Networks that predict what each maker expects, made from an exact denoiser; their time is sigma itself."""

    def eps(x, t, cond):
        s = _column(t)
        x = x * (1 + s**2).sqrt()
        return (x - exact(x, t, cond)) / s

    def v(x, t, cond):
        s = _column(t)
        x0 = exact(x * (1 + s**2).sqrt(), t, cond)
        noise = (x * (1 + s**2).sqrt() - x0) / s
        return (noise - s * x0) / (1 + s**2).sqrt()

    def u(x, t, cond):
        s = _column(t)
        x0 = exact(x * (1 + s), t, cond)
        return (x * (1 + s) - x0) / s - x0

    return {"epsilon": eps, "velocity": v, "flow": u}


@pytest.mark.parametrize("kind", ["epsilon", "velocity", "flow"])
def test_parameterisations_agree(kind):
    exact, _, _ = mixture(6)
    x = picture(3 * torch.randn(4, 6, dtype=torch.float64))
    ours = getattr(D, kind)(_networks(exact)[kind], lambda sigma: sigma)(x, SIGMA, None)
    assert (ours - exact(x, SIGMA, None)).abs().max() < 1e-10


def test_edm_agrees():
    exact, _, _ = mixture(6)
    data = 0.5

    def network(x, t, cond):
        s = _column((4 * t).exp())
        scale = (s**2 + data**2).sqrt()
        x0 = exact(x * scale, s.flatten(), cond)
        return (x0 - data**2 / scale**2 * (x * scale)) * scale / (s * data)

    x = picture(3 * torch.randn(4, 6, dtype=torch.float64))
    assert (D.edm(network, data)(x, SIGMA, None) - exact(x, SIGMA, None)).abs().max() < 1e-10


def test_mixture_is_the_posterior_mean():
    """Tweedie: D(x) = x + sigma^2 grad log p(x), with p by a brute-force mixture of densities."""
    exact, means, factors = mixture(3, weight=0.2, apart=2.0, spread=0.6)
    weights = torch.tensor([0.2, 0.8], dtype=torch.float64)
    x = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    sigma = 0.9
    noise = sigma**2 * torch.eye(3, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal
    parts = [normal(m, f @ f.T + noise) for m, f in zip(means, factors, strict=True)]
    log_p = torch.logsumexp(torch.stack([w.log() + p.log_prob(x) for w, p in zip(weights, parts, strict=True)]), 0)
    score = torch.autograd.grad(log_p.sum(), x)[0]
    tweedie = (x + sigma**2 * score).detach()
    assert (
        exact(picture(x.detach()), torch.tensor(sigma, dtype=torch.float64), None).flatten(1) - tweedie
    ).abs().max() < 1e-12


def test_one_sigma_equals_one_per_sample():
    exact, _, _ = mixture(4)
    x = picture(torch.randn(3, 4, dtype=torch.float64))
    one = exact(x, torch.tensor(0.8, dtype=torch.float64), None)
    assert torch.allclose(one, exact(x, torch.full((3,), 0.8, dtype=torch.float64), None), atol=1e-13)


def test_guidance_convention():
    counts = {"c": 0, "u": 0}

    def counting(name, value):
        def denoise(x, sigma, cond):
            counts[name] += 1
            return torch.full_like(x, value)

        return denoise

    x = torch.zeros(1, 1, 1, 1)
    results = [
        guided(counting("c", 3.0), counting("u", 1.0), s)(x, torch.tensor(1.0), None).item() for s in (0, 1, 2.5)
    ]
    assert results == [1.0, 3.0, 6.0]
    assert counts == {"c": 2, "u": 2}
