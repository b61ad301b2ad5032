"""Inner solvers find least-squares solutions, and their state is all they remember."""

from __future__ import annotations

import pytest
import torch
from pullback.solvers import Adam, GaussNewton, conjugate_gradients, paper_adam

F64 = torch.float64


def _problem(rows, columns, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(rows, columns, generator=random, dtype=F64), torch.randn(rows, generator=random, dtype=F64)


@pytest.mark.parametrize("shape", [(12, 5), (5, 5), (5, 12)])
def test_gauss_newton_is_least_squares(shape):
    a, b = _problem(*shape)
    solver = GaussNewton(iterations=2, cg_steps=40, damping=0.0)
    params, _, passes = solver(lambda p: a @ p["x"] - b, {"x": torch.zeros(shape[1], dtype=F64)}, {}, False)
    best = torch.linalg.pinv(a) @ b  # least squares, and of least norm where there are many
    assert (params["x"] - best).abs().max() < 1e-9
    assert 2 * (2 * min(shape) + 2) <= passes <= 2 * (2 * 40 + 4)


def test_gauss_newton_solves_a_nonlinear_problem():
    t = torch.linspace(0, 2, 30, dtype=F64)
    y = 1.5 * torch.exp(-0.8 * t)
    residual = lambda p: p["a"] * torch.exp(-p["k"] * t) - y
    start = {"a": torch.ones(1, dtype=F64), "k": torch.full((1,), 0.5, dtype=F64)}
    params, _, _ = GaussNewton(8, 5, 1e-9)(residual, start, {}, False)
    assert abs(params["a"].item() - 1.5) < 1e-6 and abs(params["k"].item() - 0.8) < 1e-6


def test_gauss_newton_takes_parameters_in_any_order():
    """Fields name theirs w0, b0, ..., not by the alphabet."""
    a, b = _problem(12, 5)
    solver = GaussNewton(iterations=1, cg_steps=40, damping=0.0)
    start = {"z": torch.zeros(3, dtype=F64), "a": torch.zeros(2, dtype=F64)}
    params, _, _ = solver(lambda p: a[:, :3] @ p["z"] + a[:, 3:] @ p["a"] - b, start, {}, False)
    assert (torch.cat([params["z"], params["a"]]) - torch.linalg.pinv(a) @ b).abs().max() < 1e-9


def test_conjugate_gradients_solve_in_as_many_steps_as_unknowns():
    a, b = _problem(7, 7)
    spd = a @ a.T + torch.eye(7, dtype=F64)
    assert (spd @ conjugate_gradients(lambda v: spd @ v, b, 7) - b).abs().max() < 1e-8


def test_adam_is_torch_s_adam():
    a, b = _problem(12, 5)
    ours, _, _ = Adam(30, 30, 0.05, (0.9, 0.999))(
        lambda p: a @ p["x"] - b, {"x": torch.zeros(5, dtype=F64)}, Adam().init({"x": torch.zeros(5, dtype=F64)}), False
    )
    x = torch.zeros(5, dtype=F64, requires_grad=True)
    optim = torch.optim.Adam([x], lr=0.05, betas=(0.9, 0.999), eps=1e-12)
    for _ in range(30):
        optim.zero_grad()
        (a @ x - b).square().mean().backward()
        optim.step()
    assert (ours["x"] - x).abs().max() < 1e-12


def test_kept_state_makes_two_halves_one_whole():
    a, b = _problem(12, 5)
    residual = lambda p: a @ p["x"] - b
    zero = {"x": torch.zeros(5, dtype=F64)}
    half, whole = Adam(10, 10, 0.05), Adam(20, 20, 0.05)
    params, state, _ = half(residual, zero, half.init(zero), False)
    params, _, _ = half(residual, params, state, False)
    assert torch.equal(params["x"], whole(residual, zero, whole.init(zero), False)[0]["x"])
    fresh = paper_adam(0.05)
    once = fresh(residual, zero, fresh.init(zero), False)[0]
    stale = {k: v + 1 for k, v in fresh.init(zero).items()}
    assert torch.equal(once["x"], fresh(residual, zero, stale, False)[0]["x"])


def test_the_last_fit_ends_on_the_answer():
    a, b = _problem(12, 5)
    zero = {"x": torch.zeros(5, dtype=F64)}
    solver = Adam(10, 400, 0.1, (0.9, 0.99))
    params, _, _ = solver(lambda p: a @ p["x"] - b, zero, solver.init(zero), True)
    assert (params["x"] - torch.linalg.pinv(a) @ b).abs().max() < 1e-4


def test_the_last_fit_may_have_a_lower_rate():
    start = {"x": torch.zeros(1, dtype=F64)}
    for last, moved in ((False, 0.1), (True, 0.025)):  # Adam's first step is as long as its rate
        solver = Adam(1, 1, 0.1, last_rate=0.25)
        params, _, _ = solver(lambda p: p["x"] - 1, start, solver.init(start), last)
        assert abs(float(params["x"]) - moved) < 1e-9


def test_adam_works_where_gradients_are_off():
    adam, start = Adam(steps=3, lr=0.1), {"x": torch.zeros(2)}
    with torch.no_grad():
        params, _, _ = adam(lambda theta: theta["x"] - 1, start, adam.init(start), False)
    assert (params["x"] > 0.2).all() and not params["x"].requires_grad


def test_rates_may_differ_by_name():
    solver = Adam(5, 5, {"x": 0.1, "y": 0.0})
    zero = {"x": torch.zeros(2, dtype=F64), "y": torch.zeros(2, dtype=F64)}
    params, _, _ = solver(lambda p: p["x"] + p["y"] - 1, zero, solver.init(zero), False)
    assert (params["x"] > 0.3).all() and torch.equal(params["y"], zero["y"])
