"""Everything of a run lies on the model's device, and no pass over a field waits for it. Proved without the device.

The device "meta" stands for one: its tensors have no values, so asking for one raises, which on a GPU would be a wait. A
dispatch mode refuses operations on tensors of two devices.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pullback import representations
from pullback.generative.toybox.model import ToyboxModel
from pullback.geometry.cameras import rays, turntable
from pullback.pull import whole_view
from pullback.solvers import Adam, Muon
from pullback.storage import generator
from torch.utils._python_dispatch import TorchDispatchMode

DEVICE = "meta"
MOVES = ("_to_copy", "copy_", "index.Tensor", "index_put")
"""Operations that may see two devices: copies, and places that are given by numbers of the processor."""


class OneDevice(TorchDispatchMode):
    """Refuses operations on tensors of two devices; single numbers of the processor count as numbers."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        devices = set()
        torch.utils._pytree.tree_map_only(
            torch.Tensor, lambda t: devices.add(t.device.type) if t.ndim else None, (args, kwargs or {})
        )
        if len(devices) > 1 and not any(name in str(function) for name in MOVES):
            raise RuntimeError(f"{function} was given tensors on {devices}")
        return function(*args, **(kwargs or {}))


@pytest.mark.parametrize("kind", representations.BUILT_IN, ids=lambda each: each.name)
def test_a_pass_stays_on_the_device_and_waits_for_nothing(kind):
    model = ToyboxModel()
    diffrep = kind.suited(model)
    recipe = diffrep.recipe(model, kind.views or 1, 0)
    view = recipe.views.draw(generator(0))
    count = recipe.views.shape[0] if hasattr(recipe.views, "shape") else recipe.views.count
    params = {name: torch.empty(p.shape, device=DEVICE) for name, p in diffrep.init(generator(0)).items()}
    with OneDevice():
        target = torch.empty(count, 4, 64, 64, device=DEVICE)
        if hasattr(diffrep, "_shade"):
            residual = shading(diffrep)
        else:
            residual = (recipe.fit or whole_view(diffrep))(params, view, target, generator(0))
            assert diffrep.canonical(params).device.type == DEVICE
        solver = recipe.solver
        fitted, state, passes = solver(residual, params, solver.init(params), False)
    assert passes == solver.steps
    assert {p.device.type for p in fitted.values()} == {DEVICE}
    assert all(value.device.type == DEVICE for name, value in state.items() if name != "count")


def shading(diffrep):
    """A radiance field's residual behind the one count that it asks for a step: which rays meet it."""
    o, d = torch.empty(2, diffrep.rays, 3, device=DEVICE)
    points = torch.empty(diffrep.rays, diffrep.steps, 3, device=DEVICE)
    length = torch.empty(diffrep.rays, device=DEVICE)
    full = torch.empty(diffrep.rays, diffrep.steps, dtype=torch.bool, device=DEVICE)
    wanted = torch.empty(diffrep.rays, 4, device=DEVICE)
    return lambda theta: diffrep._shade(theta, o, d, points, length, full)[0] - wanted


@pytest.mark.parametrize("solver", [Adam(2, 2), Muon(2, 2, hidden=("w0",))], ids=["adam", "muon"])
def test_a_wait_and_another_device_are_found(solver):
    """The tests above can fail."""
    params = {"w0": torch.empty(8, 4, device=DEVICE)}

    def waiting(theta: dict[str, torch.Tensor]) -> torch.Tensor:
        return theta["w0"] * float(theta["w0"].sum())

    with pytest.raises(RuntimeError, match="item"):
        solver(waiting, params, solver.init(params), False)
    with OneDevice(), pytest.raises(RuntimeError, match="tensors on"):
        solver(lambda theta: theta["w0"] @ torch.ones(4, 2), params, solver.init(params), False)


def test_unpacked_shading_is_packed_shading():
    """What another device computes is what the processor computes."""
    diffrep = representations.representations()["voxel-radiance"].suited(ToyboxModel())
    params = diffrep.init(generator(0))
    params["features"] = torch.randn(params["features"].shape, generator=generator(1))
    origins, directions = (each.reshape(-1, 3)[:2000] for each in rays(turntable(1), 64, 64))
    sampled = diffrep._samples(diffrep.occupancy(params), origins, directions)
    packed, every = (
        diffrep._shade(params, origins, directions, *sampled),
        diffrep._shade_all(params, directions, *sampled),
    )
    for a, b in zip(packed, every, strict=True):
        assert (a - b).abs().max() < 1e-5
