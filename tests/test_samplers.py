"""Image-space samplers converge at their order to the exact solution of the PF-ODE."""

from __future__ import annotations

import math

import pytest
import torch
from pullback.denoisers import gaussian_mixture
from pullback.samplers import ddim, heun
from pullback.schedules import karras

MEAN, SPREAD = 1.5, 0.7


def _gaussian():
    one = torch.ones(1, dtype=torch.float64)
    return gaussian_mixture(one, MEAN * one[:, None], SPREAD * one[:, None, None])


def _error(sampler, steps):
    noise = torch.tensor([[[[-1.3]]], [[[0.4]]], [[[2.2]]]], dtype=torch.float64)
    start = 10 * noise
    exact = MEAN + (start - MEAN) * SPREAD / math.hypot(SPREAD, 10)
    return (sampler(_gaussian(), noise, karras(steps, 1e-3, 10)) - exact).abs().max().item()


@pytest.mark.parametrize(("sampler", "order"), [(ddim, 1), (heun, 2)])
def test_order_of_convergence(sampler, order):
    errors = [_error(sampler, n) for n in (40, 80, 160)]
    observed = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert all(abs(o - order) < 0.25 for o in observed), observed


def test_stochastic_ddim_keeps_the_marginals():
    random = torch.Generator().manual_seed(0)
    noise = torch.randn(20_000, 1, 1, 1, generator=random, dtype=torch.float64)
    x = ddim(_gaussian(), noise, karras(120, 1e-3, 40), eta=1.0, generator=random)
    assert abs(x.mean().item() - MEAN) < 0.03 and abs(x.std().item() - SPREAD) < 0.03


def test_deterministic_ddim_draws_nothing():
    random = torch.Generator().manual_seed(0)
    before = random.get_state()
    ddim(_gaussian(), torch.zeros(1, 1, 1, 1, dtype=torch.float64), karras(5, 0.01, 10), generator=random)
    assert torch.equal(before, random.get_state())
