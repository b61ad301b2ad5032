"""Objects are samples: under a prior that is known exactly they come out as it says. `benchmarks/exact_prior.py` counts many."""

from __future__ import annotations

import pytest

pytest.importorskip("embreex", reason='pip install "pullback[train]"')

import exact_prior
import torch


def test_the_exact_denoiser_is_one():
    """D of a picture of the prior, hardly noisy, is that picture; of noise alone it is the mean."""
    prior, view = exact_prior.Prior(exact_prior.WEIGHTS["uneven"]), exact_prior.bank()[5:6]
    picture = exact_prior.means()[5:6, 2]
    assert (prior(picture, torch.tensor(0.01), view) - picture).abs().max() < 1e-3
    mean = (torch.tensor(prior.weights)[:, None, None, None] * exact_prior.means()[5]).sum(0)
    assert (prior(torch.zeros_like(picture), torch.tensor(1e4), view)[0] - mean).abs().max() < 0.01


def test_an_anchor_finds_several_of_the_objects():
    """Six seeds: with fresh noise every one of them falls on the same two objects, which have half of the weight."""
    prior = exact_prior.Prior(exact_prior.WEIGHTS["even"])
    found = [exact_prior.sample(exact_prior.WAYS["anchor"], prior, seed, steps=16) for seed in range(6)]
    assert len({kind for kind, _ in found}) >= 3
    assert sum(agree for _, agree in found) / len(found) > 0.8
