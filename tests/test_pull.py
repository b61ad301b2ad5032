"""The pulled-back sampler is the image-space sampler seen from the parameters, and only with its metric."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from conftest import mixture, picture
from pullback.denoisers import gaussian_mixture
from pullback.noise import AnchoredViews, FixedViews, FreshViews, leading
from pullback.pull import Pull, start
from pullback.samplers import ddim
from pullback.schedules import evaluations, karras, log_linear, repaint
from pullback.solvers import Adam, GaussNewton
from torch.func import vjp

F64 = torch.float64


@dataclass(frozen=True)
class Chain:
    """What SJC and SDS do with a direction: J^T alone, without (J^T J)^-1."""

    def init(self, params):
        return {}

    def __call__(self, residual, params, state, last):
        r, pull = vjp(residual, params)
        step = pull(-r)[0]
        return {k: p + step[k] for k, p in params.items()}, state, 1


@dataclass(frozen=True)
class Lazy:
    """Fits nothing until the final step, and there exactly."""

    def init(self, params):
        return {}

    def __call__(self, residual, params, state, last):
        return GaussNewton(2, 40, 0.0)(residual, params, state, last) if last else (params, state, 0)


@dataclass(frozen=True)
class Exact:
    """Solves the inner problem of the identity in one step."""

    def init(self, params):
        return {}

    def __call__(self, residual, params, state, last):
        return {"x": params["x"] - residual(params)}, state, 1


def _linear(matrix):
    return lambda params, view: picture(params["theta"] @ matrix.T)


def _sampler(matrix, denoise, count, sigmas, solver, eta=0.0, walk=None, gamma=0.0):
    views = FixedViews(None, (count, matrix.shape[0], 1, 1), F64)
    pull = Pull(_linear(matrix), denoise, views, solver, sigmas, walk or repaint(len(sigmas) - 1), eta, gamma)
    return pull, views


def _run(matrix, denoise, count, sigmas, solver, eta=0.0, gamma=0.0, seed=0):
    pull, views = _sampler(matrix, denoise, count, sigmas, solver, eta, None, gamma)
    random = torch.Generator().manual_seed(seed)
    state = start({"theta": torch.zeros(count, matrix.shape[1], dtype=F64)}, views, solver, random)
    final = pull(state, random)
    return pull.render(final.params, None), state.noise, final


def _image_space(denoise, noise, sigmas, eta, seed, count, dimensions):
    random = torch.Generator().manual_seed(seed)
    again = torch.randn(count, dimensions, 1, 1, generator=random, dtype=F64)
    assert torch.equal(noise, again)
    return ddim(denoise, again, sigmas, eta=eta, generator=random)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_equals_ddim_draw_for_draw(eta):
    d, count = 6, 16
    denoise, _, _ = mixture(d)
    matrix = torch.randn(d, d, dtype=F64, generator=torch.Generator().manual_seed(3)) + 3 * torch.eye(d, dtype=F64)
    sigmas = karras(25, 0.02, 20)
    ours, noise, _ = _run(matrix, denoise, count, sigmas, GaussNewton(3, 40, 0.0), eta)
    reference = _image_space(denoise, noise, sigmas, eta, 0, count, d)
    assert (ours - reference).abs().max() < 1e-10


def test_carrying_makes_an_unfinished_fit_harmless():
    """With gamma = 1 even a solver that fits nothing until the end follows the image-space trajectory; without, none does."""
    d, count = 5, 8
    denoise, _, _ = mixture(d)
    matrix = torch.randn(d, d, dtype=F64, generator=torch.Generator().manual_seed(5)) + 3 * torch.eye(d, dtype=F64)
    sigmas = karras(20, 0.02, 20)
    carried, noise, _ = _run(matrix, denoise, count, sigmas, Lazy(), gamma=1.0)
    reference = _image_space(denoise, noise, sigmas, 0.0, 0, count, d)
    assert (carried - reference).abs().max() < 1e-10
    dropped, _, _ = _run(matrix, denoise, count, sigmas, Lazy(), gamma=0.0)
    assert (dropped - reference).abs().max() > 0.1


# A matrix whose columns are the data's own subspace, stretched: J^T J is far from the identity.
def _subspace():
    random = torch.Generator().manual_seed(7)
    basis = torch.linalg.qr(torch.randn(7, 3, dtype=F64, generator=random))[0]
    return basis, basis @ torch.diag(torch.tensor([1.0, 0.5, 0.4], dtype=F64))


def _embedded_mixture(basis, weight=0.3, spread=0.25):
    """Modes at -1 and 3 along an axis that lies mostly in the subspace's weakest direction."""
    axis = basis @ torch.tensor([0.1, 0.3, 0.95], dtype=F64)
    axis = axis / axis.norm()
    means = torch.stack([-axis, 3 * axis])
    factor = torch.zeros(7, 7, dtype=F64)
    factor[:, :3] = spread * basis
    weights = torch.tensor([weight, 1 - weight], dtype=F64)
    return gaussian_mixture(weights, means, factor.repeat(2, 1, 1)), axis


def _statistics(x, axis):
    along = x.flatten(1) @ axis
    first = along < 1
    return first.double().mean().item(), along[first].std().item(), along[~first].std().item()


@pytest.mark.parametrize("columns", ["subspace", "over-parameterised"])
def test_samples_the_distribution(columns):
    basis, matrix = _subspace()
    if columns == "over-parameterised":
        matrix = matrix @ torch.randn(3, 9, dtype=F64, generator=torch.Generator().manual_seed(1))
    denoise, axis = _embedded_mixture(basis)
    x, _, _ = _run(matrix, denoise, 3000, karras(80, 2e-3, 60), GaussNewton(2, 8, 0.0))
    weight, left, right = _statistics(x, axis)
    assert abs(weight - 0.30) < 0.03
    assert abs(left - 0.25) < 0.025 and abs(right - 0.25) < 0.025


def test_without_the_metric_it_does_not():
    basis, matrix = _subspace()
    denoise, axis = _embedded_mixture(basis)
    x, _, _ = _run(matrix, denoise, 3000, karras(80, 2e-3, 60), Chain())
    weight, left, right = _statistics(x, axis)
    assert weight > 0.40, weight
    assert max(abs(left - 0.25), abs(right - 0.25)) > 0.05, (left, right)


@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_fresh_noise_at_every_step_narrows_the_sample(eta):
    """Why noise is kept (docs/mathematics.md, section 5): with fresh noise the mean is right, but the spread is lost, and with
    more steps more of it."""
    one, shape = torch.ones(1), (2000, 1, 1, 1)
    denoise = gaussian_mixture(one, 1.5 * one[:, None], 0.7 * one[:, None, None])

    def sampled(views, steps):
        random = torch.Generator().manual_seed(0)
        pull = Pull(lambda p, v: p["x"], denoise, views, Exact(), log_linear(steps, 0.01, 20), repaint(steps), eta, 0.0)
        return pull(start({"x": torch.zeros(shape)}, views, Exact(), random), random).params["x"]

    fixed, (few, many) = FixedViews(None, shape), (sampled(FreshViews(lambda g: None, shape), n) for n in (30, 120))
    assert abs(sampled(fixed, 120).std().item() - 0.7) < 0.04
    assert abs(many.mean().item() - 1.5) < 0.1
    assert few.std() < 0.4 * 0.7 and many.std() < 0.7 * few.std()


def _modes(x, sigma, view):
    """The exact denoiser of independent values with modes of weight 0.3 and 0.7 at -1 and 1, deviation 0.2."""
    means, v = torch.tensor([-1.0, 1.0], dtype=F64), 0.2**2 + sigma**2
    chance = torch.softmax(torch.tensor([0.3, 0.7], dtype=F64).log() - (x[..., None] - means) ** 2 / (2 * v), -1)
    return (0.2**2 * x + sigma**2 * (chance * means).sum(-1)) / v


def _looking_alike(views, solver, count=2000, steps=60, gamma=1.0):
    """Samples of an object of `count` independent values that looks the same from everywhere, and the run's end."""
    random = torch.Generator().manual_seed(0)
    render = lambda p, view: p["x"].expand(view, -1, -1, -1)
    pull = Pull(render, _modes, views, solver, log_linear(steps, 0.02, 40), repaint(steps), 0.0, gamma)
    noise = torch.randn(1, count, 1, 1, generator=random, dtype=F64) if views.persistent else None
    state = start({"x": torch.zeros(1, count, 1, 1, dtype=F64)}, views, solver, random, noise)
    return pull, state, pull(state, random)


def _beside(count=2000, chosen=0.5):
    share = lambda sigma: leading(4, sigma, chosen=chosen)
    return AnchoredViews(lambda g: 4, (4, count, 1, 1), 1, share)


def test_an_anchor_is_an_image_space_sample_whatever_is_fitted():
    pull, before, after = _looking_alike(_beside(), Lazy())
    reference = ddim(lambda x, s, c: _modes(x, s, 1), before.noise, pull.sigmas)
    assert (pull.render(after.params, 1) + after.carry - reference).abs().max() < 1e-10


def test_an_anchor_keeps_the_distribution_that_fresh_noise_narrows():
    def found(views):
        x = _looking_alike(views, GaussNewton(1, 3, 0.0), gamma=1.0)[2].params["x"]
        return (x < 0).double().mean().item(), x[x > 0].std().item()

    weight, spread = found(_beside())
    assert abs(weight - 0.3) < 0.04 and 0.14 < spread < 0.24, (weight, spread)
    weight, spread = found(FreshViews(lambda g: 4, (4, 2000, 1, 1)))
    assert weight < 0.15 and spread < 0.1, (weight, spread)


def test_repaint_samples_the_distribution_too():
    basis, matrix = _subspace()
    denoise, axis = _embedded_mixture(basis)
    sigmas = karras(40, 2e-3, 60)
    walk = repaint(40, 4, 2)
    solver = GaussNewton(2, 8, 0.0)
    pull, views = _sampler(matrix, denoise, 3000, sigmas, solver, 1.0, walk)
    calls = []
    pull = replace(pull, denoise=lambda x, s, c: calls.append(1) or denoise(x, s, c))
    random = torch.Generator().manual_seed(0)
    final = pull(start({"theta": torch.zeros(3000, 3, dtype=F64)}, views, solver, random), random)
    weight, left, right = _statistics(pull.render(final.params, None), axis)
    assert len(calls) == evaluations(walk) == 40 + 36
    assert abs(weight - 0.30) < 0.05 and abs(left - 0.25) < 0.06 and abs(right - 0.25) < 0.06


def test_stopping_and_resuming_changes_nothing():
    denoise, _, _ = mixture(4)
    matrix = torch.eye(4, dtype=F64) + 0.1
    solver = Adam(5, 20, 0.05)
    pull, views = _sampler(matrix, denoise, 3, karras(12, 0.05, 10), solver, 0.7, repaint(12, 3, 2), 0.5)
    random = torch.Generator().manual_seed(4)
    first = start({"theta": torch.zeros(3, 4, dtype=F64)}, views, solver, random)
    states = []
    whole = pull(first, random, save=states.append)
    for state in (states[0], states[7], states[-2]):
        again = pull(state, torch.Generator().manual_seed(99))
        assert torch.equal(again.params["theta"], whole.params["theta"])
        assert torch.equal(again.random, whole.random) and again.passes == whole.passes


def test_what_is_kept_lies_in_memory_as_a_file_gives_it_back():
    """A model may return another memory layout; a state that kept it would round differently once it was saved and read."""
    shape = (1, 4, 6, 6)
    channels_last = lambda x, s, c: (0.5 * x).contiguous(memory_format=torch.channels_last)
    views = FixedViews(None, shape)
    pull = Pull(lambda p, v: p["x"], channels_last, views, Lazy(), log_linear(3, 0.1, 10), repaint(3))
    random = torch.Generator().manual_seed(0)
    states = []
    pull(start({"x": torch.zeros(shape)}, views, Lazy(), random), random, save=states.append)
    assert states[0].carry.abs().max() > 0 and all(state.carry.is_contiguous() for state in states)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"eta": 1.5}, "eta is 1.5"), ({"eta": float("nan")}, "eta is nan"), ({"gamma": -0.1}, "gamma is -0.1"),
        ({"sigmas": torch.tensor([1.0, 2.0, 0.0])}, "fall"), ({"sigmas": torch.tensor([2.0, 1.0, 1.0])}, "fall"),
        ({"sigmas": torch.tensor([2.0, 1.0, -1.0])}, "fall"), ({"sigmas": torch.tensor([1.0])}, "at least two"),
        ({"walk": repaint(3)}, "within the 3 noise levels"), ({"walk": repaint(2, 1, 2)}, "eta above 0"),
    ],
)  # fmt: skip
def test_a_sampler_checks_itself(change, said):
    views = FixedViews(None, (1, 1, 1, 1))
    fine = Pull(lambda p, v: p["x"], lambda x, s, c: x, views, Exact(), torch.tensor([2.0, 1.0, 0.0]), repaint(2))
    with pytest.raises(ValueError, match=said):
        replace(fine, **change)


def test_the_caller_s_generator_is_left_alone():
    denoise, _, _ = mixture(3)
    pull, views = _sampler(torch.eye(3, dtype=F64), denoise, 2, karras(5, 0.1, 10), GaussNewton(), 0.5)
    random = torch.Generator().manual_seed(0)
    first = start({"theta": torch.zeros(2, 3, dtype=F64)}, views, GaussNewton(), random)
    other = torch.Generator().manual_seed(99)
    before = other.get_state()
    assert torch.equal(pull(first, other).params["theta"], pull(first).params["theta"])
    assert torch.equal(other.get_state(), before)


def test_a_model_that_returns_nan_is_named():
    matrix = torch.eye(2, dtype=F64)
    pull, views = _sampler(matrix, lambda x, s, c: x * float("nan"), 1, karras(3, 0.1, 10), GaussNewton())
    random = torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=r"not finite.*sigma 10"):
        pull(start({"theta": torch.zeros(1, 2, dtype=F64)}, views, GaussNewton(), random), random)


def test_cancelling_reaches_into_the_inner_solve():
    from pullback.types import Cancelled

    denoise, _, _ = mixture(2)
    passes = []

    def tick():
        passes.append(1)
        if len(passes) == 7:
            raise Cancelled

    solver = Adam(5, 5, 0.1)
    pull, views = _sampler(torch.eye(2, dtype=F64), denoise, 1, karras(4, 0.1, 10), solver)
    random = torch.Generator().manual_seed(0)
    saved = []
    with pytest.raises(Cancelled):
        replace(pull, tick=tick)(
            start({"theta": torch.zeros(1, 2, dtype=F64)}, views, solver, random), random, save=saved.append
        )
    assert len(saved) == 1 and len(passes) == 7
