"""Grids fall to zero, tables are those of the models, and RePaint walks cost what the paper says."""

from __future__ import annotations

import pytest
import torch
from pullback import schedules as S


@pytest.mark.parametrize("grid", [S.karras(12, 0.02, 30), S.log_linear(12, 0.02, 30), S.flow(12, shift=3.0)])
def test_grids_fall_to_zero(grid):
    assert len(grid) == 13 and grid[-1] == 0 and grid.dtype == torch.float64
    assert (grid[1:] < grid[:-1]).all()


def test_karras_is_even_in_its_root():
    root = S.karras(9, 0.1, 50, rho=5.0)[:-1] ** (1 / 5)
    assert torch.allclose(root.diff(), root.diff()[0].expand(8))


def test_log_linear_ratio_is_constant():
    grid = S.log_linear(9, 0.1, 50)[:-1]
    assert torch.allclose(grid[1:] / grid[:-1], (grid[1] / grid[0]).expand(8))


def test_flow_shift_multiplies_sigma():
    assert torch.allclose(S.flow(10, shift=3.0), 3 * S.flow(10, shift=1.0))


def test_stable_diffusion_table():
    table = S.vp_table()
    assert abs(table[-1].item() - 14.6146) < 1e-3 and abs(table[0].item() - 0.0292) < 1e-4


def test_time_in_table_inverts_the_table():
    table = S.vp_table()
    index = torch.tensor([0, 1, 500, 998, 999])
    assert torch.allclose(S.time_in_table(table, table[index]), index.double(), atol=1e-6)
    between = S.time_in_table(table, (table[10] * table[11]).sqrt()[None])
    assert abs(between.item() - 10.5) < 1e-9
    assert S.time_in_table(table, torch.tensor([1e9, 1e-9])).tolist() == [999, 0]


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_entries_of_a_table_match_diffusers(spacing):
    diffusers = pytest.importorskip("diffusers", reason='pip install "pullback[diffusers]"')
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing=spacing,
        steps_offset=1 if spacing == "leading" else 0,
    )  # fmt: skip
    scheduler.set_timesteps(20)
    ours = S.from_table(S.vp_table(), 20, spacing)[:-1]
    theirs = S.table_of(scheduler.alphas_cumprod)[scheduler.timesteps]
    assert torch.allclose(ours, theirs, rtol=1e-4)


@pytest.mark.parametrize(
    ("walk", "cost"), [((100, 1, 2), 199), ((100, 10, 5), 460), ((30, 1, 1), 30), ((12, 4, 3), 28)]
)
def test_repaint_evaluations(walk, cost):
    steps, jump, repeats = walk
    assert S.evaluations(S.repaint(*walk)) == cost == steps + (repeats - 1) * (steps - jump)


@pytest.mark.parametrize("walk", [(7, 3, 2), (10, 10, 4), (5, 1, 3)])
def test_repaint_walks_are_connected(walk):
    moves = S.repaint(*walk)
    assert moves[0][0] == 0 and moves[-1][1] == walk[0]
    assert all(abs(a - b) == 1 for a, b in moves)
    assert all(before[1] == after[0] for before, after in zip(moves, moves[1:], strict=False))
    assert sum(to == walk[0] for _, to in moves) == 1


@pytest.mark.parametrize(
    "call", [lambda: S.karras(0, 0.1, 1), lambda: S.log_linear(10**6, 0.1, 1), lambda: S.repaint(10, 20, 2),
             lambda: S.karras(5, 2, 1), lambda: S.from_table(S.vp_table(), 2000), lambda: S.from_table(S.vp_table(), 5, "x")]
)  # fmt: skip
def test_nonsense_is_refused(call):
    with pytest.raises(ValueError, match=r"must|entries"):
        call()
