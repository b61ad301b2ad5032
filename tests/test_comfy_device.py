"""Fields on ComfyUI's device: everything of a run lies there, room is made for it, and the processor takes over where it fails.

The device "meta" stands for one, as in test_device.py. Its tensors have no values; where one is copied off it or asked for
its value, that is 1. Operations on tensors of two devices are refused.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from comfy_pack import REASON, comfyui, part

if comfyui() is None:
    pytest.skip(REASON, allow_module_level=True)

import comfy.model_management
import comfy.patcher_extension
import comfy.sampler_helpers
import comfy_models
from test_device import MOVES

host, memory, plans, sockets = (part(f"comfy_nodes.{name}") for name in ("host", "memory", "plans", "sockets"))
representations = part("core.pullback.representations").representations
META = torch.device("meta")
SIGMAS = torch.tensor([2.0, 1.0, 0.0])


@pytest.fixture(autouse=True)
def _short(monkeypatch):
    torch.set_num_threads(1)
    monkeypatch.setattr(part("core.pullback.known"), "STEPS", 2)


@pytest.fixture(scope="module")
def toybox():
    """A guider of the built-in model, which lies on the processor."""
    model, clip, _ = part("comfy_nodes.builtin").load()
    words = clip.encode_from_tokens_scheduled(clip.tokenize("a red mushroom"))
    return lambda: host.guided(model, words, words, 1.0)


class Elsewhere(memory.Counting):
    """Refuses operations on tensors of two devices; single numbers of the processor count as numbers."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        devices = set()
        torch.utils._pytree.tree_map_only(
            torch.Tensor, lambda t: devices.add(t.device.type) if t.ndim else None, (args, kwargs or {})
        )
        if len(devices) > 1 and not any(name in str(function) for name in MOVES):
            raise RuntimeError(f"{function} was given tensors on {devices}")
        return super().__torch_dispatch__(function, types, args, kwargs)


@pytest.fixture
def device(monkeypatch):
    """ComfyUI with another device, whose free bytes may be set in `free[0]`."""
    free, count = [1e12], comfy.model_management.get_free_memory

    def counted(dev=None, torch_free_too=False):
        if dev != META:
            return count(dev, torch_free_too)
        return (free[0], free[0]) if torch_free_too else free[0]

    monkeypatch.setattr(comfy.model_management, "get_free_memory", counted)
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: META)
    return free


@pytest.fixture
def said(monkeypatch):
    found = []
    monkeypatch.setattr(memory.notes, "say", found.append)
    return found


@pytest.fixture
def runs(monkeypatch):
    """What the jobs worked with, at their ends."""
    found, done = [], host.FieldSampler._done

    def watched(self, run):
        found.append(run)
        return done(self, run)

    monkeypatch.setattr(host.FieldSampler, "_done", watched)
    return found


def fresh(name, **settings):
    return sockets.FieldValue(plans.Fresh.of(name, 2, neurons=16, depth=1, grid=16, **settings))


def sampled(guider, value, job=None, **more):
    with torch.inference_mode():
        return host.run(job or host.Sampling(short=True), host.Seeded(3), guider, SIGMAS, host.Request(value, **more))


def devices(run):
    tensors = [*run.state.params.values(), run.state.noise, run.state.carry]
    tensors += [value for value in run.state.solver.values() if value.ndim]
    return {each.device.type for each in tensors}


@pytest.mark.parametrize("name", ["pixels", *representations()])
def test_everything_of_a_run_lies_on_the_device_and_what_comes_out_on_the_processor(toybox, device, runs, said, name):
    value = sockets.FieldValue(plans.Pixels()) if name == "pixels" else fresh(name)
    with Elsewhere():
        field, latent, image = sampled(toybox(), value)
    (run,) = runs
    assert devices(run) == {"meta"} and not said
    outcome = [*field.field.params.values(), latent["samples"], image]
    assert {each.device.type for each in outcome} == {"cpu"}


@pytest.mark.parametrize("name", ["siren-image", "siren-tile"])
def test_random_numbers_are_those_of_the_processor(toybox, device, runs, name, monkeypatch):
    with Elsewhere():
        sampled(toybox(), fresh(name), host.Sampling(eta=0.5, short=True))
    monkeypatch.undo()
    done = host.FieldSampler._done
    monkeypatch.setattr(host.FieldSampler, "_done", lambda self, run: runs.append(run) or done(self, run))
    sampled(toybox(), fresh(name), host.Sampling(eta=0.5, short=True))
    there, here = runs
    assert torch.equal(there.state.random, here.state.random) and devices(here) == {"cpu"}


@pytest.mark.parametrize("name, wide", [("siren-image", 1), ("siren-sphere", 2), ("siren-cylinder", 8), ("pixels", 1)])
def test_a_known_picture_lies_there_too(toybox, device, runs, said, name, wide):
    value = sockets.FieldValue(plans.Pixels()) if name == "pixels" else fresh(name)
    latent = {"samples": torch.rand(1, 4, 64, 64 * wide)}
    with Elsewhere():
        sampled(toybox(), value, latent_image=latent, mask=torch.rand(1, 64, 64))
    assert devices(runs[0]) == {"meta"} and not said


@pytest.mark.parametrize("name", ["siren-image", "voxel-radiance"])
def test_optimising_lies_there_too(toybox, device, said, name):
    with Elsewhere():
        field, *_ = sampled(toybox(), fresh(name), host.Climbing("sjc", 2, 1.0))
    assert {each.device.type for each in field.field.params.values()} == {"cpu"} and not said


def test_operations_on_two_devices_are_found():
    with Elsewhere(), pytest.raises(RuntimeError, match="was given tensors on"):
        torch.ones(2, device=META) + torch.ones(2)


@pytest.mark.parametrize("name", representations())
def test_what_a_field_takes_is_counted_for_each(toybox, name):
    signal = part("comfy_nodes.signals").signal_of(toybox().model_patcher, None)
    for job in (host.Sampling(), host.Climbing("sjc", 300, 1.0)):
        small, large = (
            host.rehearsed(job, plans.Fresh.of(name, 2, **sizes).recipe(signal, 2))
            for sizes in ({"neurons": 32, "grid": 16, "gaussians": 64}, {"neurons": 256, "grid": 64, "gaussians": 2048})
        )
        assert 0 < small.kept < small.most and small.kept < large.kept < large.most


def test_counting_is_an_allocator_s():
    """4 bytes a number: two tensors and a small one at most, one in the end; views take nothing."""

    def step():
        one = torch.empty(1000, device=META)
        (one.view(10, 100) * 2).sum(0)
        return [one]

    assert memory.counted(step) == memory.Footprint(4000, 8400)
    assert memory.counted(lambda: torch.linalg.qr(object())) == memory.Footprint()


def test_without_room_the_field_is_fitted_on_the_processor_and_it_is_said(toybox, device, runs, said, monkeypatch):
    device[0] = 1000.0
    there, *_ = sampled(toybox(), fresh("siren-image"))
    monkeypatch.setattr(comfy.model_management, "get_torch_device", lambda: torch.device("cpu"))
    here, *_ = sampled(toybox(), fresh("siren-image"))
    (sentence,) = said
    assert "fitted on the processor" in sentence and "meta has 0.00 GB left" in sentence and "\n" not in sentence
    assert devices(runs[0]) == {"cpu"}
    assert all(torch.equal(there.field.params[k], here.field.params[k]) for k in here.field.params)


@pytest.mark.parametrize(
    "job", [host.Sampling(short=True), host.Climbing("sjc", 3, 1.0)], ids=["sampling", "optimising"]
)
@pytest.mark.parametrize(
    "error, why",
    [
        (torch.cuda.OutOfMemoryError("CUDA out of memory.\nTried"), "ran out of memory"),
        (RuntimeError("no such op\n."), "no such op"),
    ],
    ids=["memory", "operation"],
)  # fmt: skip
def test_where_the_device_fails_the_processor_goes_on(toybox, device, runs, said, monkeypatch, job, error, why):
    """From the last whole step on: of the two, one is done when the device gives up."""
    ended, failed = host.Progress.ended, []

    def give_up(self, params):
        if not failed and next(iter(params.values())).is_meta:
            failed.append(runs[-1].state)
            raise error
        ended(self, params)

    monkeypatch.setattr(host.Progress, "ended", give_up)
    with Elsewhere():
        field, *_ = sampled(toybox(), fresh("siren-image"), job)
    there, here = runs
    (sentence,) = said
    assert why in sentence and "\n" not in sentence and {p.device.type for p in field.field.params.values()} == {"cpu"}
    if isinstance(job, host.Sampling):
        assert there.state.move == 1 and here.state.move == 2 and devices(here) == {"cpu"}


def test_a_model_that_fails_is_not_blamed_on_the_device(toybox, device, said):
    guider = toybox()
    guider.model_patcher = guider.model_patcher.clone()
    guider.model_options = guider.model_patcher.model_options
    guider.model_options["model_function_wrapper"] = lambda *_: (_ for _ in ()).throw(RuntimeError("shapes differ"))
    with Elsewhere(), pytest.raises(RuntimeError, match="shapes differ"):
        sampled(guider, fresh("siren-image"))
    assert not said


@pytest.mark.parametrize(
    "takes", [memory.Footprint(10**9, 10**8), memory.Footprint(10**6, 10**9)], ids=["kept", "most"]
)
def test_comfyui_is_asked_for_the_field_s_room_as_well(takes, monkeypatch):
    """The model is loaded with that much left: beside its evaluation what is kept, and what a fit takes on its own."""
    model, asked = comfy_models.unet("EPS"), []
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda *_, **more: asked.append(more))
    words = comfy_models.conditioning(1)
    shape, conds = [4, 4, 16, 16], {"positive": [{"cross_attn": words[0][0], "model_conds": {}}]}
    for options in ({}, memory.making_room({}, takes)):
        comfy.sampler_helpers.prepare_sampling(model, shape, conds, options)
    plain, more = (each["minimum_memory_required"] for each in asked)
    assert max(plain + takes.kept, takes.most) <= more < 1.1 * max(plain + takes.kept, takes.most)
    assert asked[1]["memory_required"] >= more


def test_a_model_is_shown_fewer_views_beside_a_large_field(monkeypatch):
    model, conds = comfy_models.unet("EPS"), {"positive": []}
    one = memory.SPARE * comfy.sampler_helpers.estimate_memory(model, [1, 4, 16, 16], conds)[1]
    room = model.model_size() + comfy.model_management.extra_reserved_memory() + 6.5 * one
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda *_, **__: room)
    assert memory.planned(model, conds, [8, 4, 16, 16]) == 6
    assert memory.planned(model, conds, [8, 4, 16, 16], replace(memory.Footprint(), kept=int(2 * one))) == 4
