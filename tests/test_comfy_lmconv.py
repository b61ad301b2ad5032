"""The nodes of LMConv: what they draw and measure is the core's, and what does not fit is one sentence."""

from __future__ import annotations

import json
from dataclasses import asdict

import numpy as np
import pytest
import torch
from comfy_pack import REASON, comfyui, part

if comfyui() is None:
    pytest.skip(REASON, allow_module_level=True)

import comfy.model_management
import comfy.utils
import safetensors.torch

lmconv, weights, orders = (
    part(name) for name in ("comfy_nodes.lmconv", "comfy_nodes.weights", "core.pullback.generative.lmconv.orders")
)
network = part("core.pullback.generative.lmconv.network")
core = part("core.pullback.generative.lmconv.model")
HEIGHT, WIDTH = 6, 5


@pytest.fixture(autouse=True)
def _threads():
    torch.set_num_threads(1)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a grey model `tiny.safetensors` that knows nothing, and a colour one."""
    monkeypatch.setitem(
        weights.folder_paths.folder_names_and_paths, weights.LMCONV, ([str(tmp_path)], {".safetensors"})
    )
    for name, head in (("tiny", "grey"), ("colour", "colour")):
        torch.manual_seed(0)
        made = network.PixelCNN(network.Config(head, size=4, filters=4, mixtures=2))
        metadata = {"format": core.FORMAT, "config": json.dumps(asdict(made.config))}
        safetensors.torch.save_file(made.state_dict(), tmp_path / f"{name}.safetensors", metadata)
    return tmp_path


@pytest.fixture
def said(monkeypatch):
    """What the page is told."""
    told = []
    monkeypatch.setattr(lmconv.notes, "say", told.append)
    return told


def _levels(shape, seed=0):
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


def _grey(count=2):
    return (_levels((count, HEIGHT, WIDTH, 1)) / 255).expand(-1, -1, -1, 3)


def _hole():
    hole = torch.zeros(1, HEIGHT, WIDTH)
    hole[:, :3] = 1
    return hole


def _filled(*given, seed=0, order="max-context", model="tiny.safetensors"):
    with torch.inference_mode():
        (image,) = lmconv.FillLMConv.execute(*given, model, seed, order).args
    return image


def test_choices_are_the_core_s():
    assert set(lmconv.SHIPPED) == set(core.SHIPPED) and lmconv.SHIPPED[0] == "lmconv"
    assert {orders.MAX_CONTEXT, *orders.NAMES} == set(lmconv.ORDERS) and lmconv.ORDERS[0] == orders.MAX_CONTEXT


@pytest.mark.parametrize("name", lmconv.SHIPPED)
def test_the_built_in_models_are_there(name):
    picture = torch.zeros(1, 8, 8, 3)
    hole = torch.ones(1, 8, 8)
    hole[:, 4:] = 0
    image = _filled(picture, hole, model=name)
    assert image.shape == picture.shape and (image[:, 4:] == 0).all()


@pytest.mark.parametrize("order", ["max-context", "hilbert"])
def test_a_batch_is_filled_as_the_core_fills_it_and_what_is_known_stays(folder, said, order):
    image = _grey()
    filled = _filled(image, _hole(), seed=3, order=order)
    pixels = (image * 255).round().byte().numpy()
    mask = np.repeat((_hole()[0] * 255).byte().numpy()[..., None], 3, -1)
    expected = core.load_model(folder / "tiny.safetensors").fill(pixels, mask, 3, order)
    torch.testing.assert_close(filled, expected.movedim(1, -1), rtol=0, atol=0)
    torch.testing.assert_close(filled[:, 3:], image[:, 3:])
    assert (filled[:, :3] != image[:, :3]).any() and not torch.equal(filled, _filled(image, _hole(), seed=4))
    assert not said


def test_masks_of_their_own_and_of_another_size_are_taken(folder):
    image, other = _grey(), torch.zeros(1, HEIGHT, WIDTH)
    other[:, :, 2:] = 1
    filled = _filled(image, torch.cat([_hole(), other]), seed=2**64 - 1)
    assert torch.equal(filled[0], _filled(image[:1], _hole(), seed=2**64 - 1)[0])
    assert torch.equal(filled[1], _filled(image[1:], other, seed=0)[0])
    large = _hole().repeat_interleave(3, 1).repeat_interleave(3, 2)
    assert torch.equal(_filled(image, large), _filled(image, _hole()))


def test_colours_that_the_model_does_not_know_are_said(folder, said):
    image = _levels((1, HEIGHT, WIDTH, 3)) / 255
    _filled(image, _hole())
    lmconv.LikelihoodLMConv.execute(image, "tiny.safetensors", 1)
    assert said == ["tiny.safetensors knows grey pictures only, and sees coloured ones so."] * 2
    kept = _filled(image, _hole(), model="colour.safetensors")
    torch.testing.assert_close(kept[:, 3:], image[:, 3:])
    assert len(said) == 2


def test_likelihoods_are_the_core_s_and_the_map_shows_where(folder, monkeypatch):
    monkeypatch.setattr(lmconv, "PICTURES", 2)
    image = _levels((3, 4, 4, 1)).float().expand(-1, -1, -1, 3) / 255
    with torch.inference_mode():
        shown, mean, text = lmconv.LikelihoodLMConv.execute(image, "tiny.safetensors", 2).args
    values = list((image * 255).round().byte()[..., :1].movedim(-1, 1))
    bits, maps = core.load_model(folder / "tiny.safetensors").likelihood(values, 2)
    header, *rows = text.splitlines()
    assert header == "picture,bits_per_dim" and [row.split(",")[0] for row in rows] == ["0", "1", "2"]
    assert [float(row.split(",")[1]) for row in rows] == pytest.approx(bits.tolist(), abs=1e-5)
    assert mean == pytest.approx(bits.mean().item(), abs=1e-5)
    assert shown.shape == (3, 4, 4, 3) and shown.dtype == torch.float32
    torch.testing.assert_close(shown.sum(-1), (3 * maps / 8).clamp(0, 3).float(), rtol=0, atol=1e-3)


def test_cancel_stops_filling_and_measuring_and_the_bar_counts_up(folder, monkeypatch):
    told, ticks = [], []
    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", lambda v, n, p, node_id=None: told.append((v, n)))

    def stop():
        ticks.append(None)
        if len(ticks) == limit:
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(lmconv, "tick", stop)
    limit = 0  # never
    _filled(_grey(), torch.cat([_hole(), _hole()]))
    assert told == sorted(told) and told[-1] == (30, 30) and len(ticks) >= 30
    told.clear()
    lmconv.LikelihoodLMConv.execute(_grey(), "tiny.safetensors", 0)
    assert told == sorted(told) and told[-1] == (8, 8)
    for limit in (1, 5, 25):  # in the first layer, among the layers, and between pixels
        for run in (
            lambda: _filled(_grey(), _hole()),
            lambda: lmconv.LikelihoodLMConv.execute(_grey(), "tiny.safetensors", 2),
        ):
            ticks.clear()
            with pytest.raises(comfy.model_management.InterruptProcessingException):
                run()
            assert len(ticks) == limit


def test_what_does_not_fit_is_one_sentence(folder):
    (folder / "cut.safetensors").write_bytes((folder / "tiny.safetensors").read_bytes()[:-50])
    safetensors.torch.save_file({"x": torch.zeros(1)}, folder / "other.safetensors")
    black, white = torch.zeros(1, HEIGHT, WIDTH), torch.ones(1, HEIGHT, WIDTH)
    for wrong, says in (
        (lambda: _filled(_grey(), black), "black everywhere"),
        (lambda: _filled(_grey(), white), "white everywhere"),
        (lambda: _filled(_grey(), white.expand(3, -1, -1)), "3 masks for 2 pictures"),
        (lambda: _filled(torch.zeros(1, 4, 300, 3), _hole()), "at most 256 x 256"),
        (lambda: _filled(_grey(), _hole(), model="gone.safetensors"), "there is no file 'gone.safetensors'"),
        (lambda: _filled(_grey(), _hole(), model="cut.safetensors"), "truncated"),
        (lambda: _filled(_grey(), _hole(), model="other.safetensors"), "is no lmconv model"),
        (lambda: lmconv.LikelihoodLMConv.execute(_grey(), "tiny.safetensors", 9), "was trained on 8: choose 0 to 8"),
    ):
        with pytest.raises(ValueError, match=says) as raised:
            wrong()
        assert "\n" not in str(raised.value)


def test_files_are_offered_after_the_built_in_models_and_a_changed_one_runs_again(folder):
    for node in lmconv.NODES:
        (model,) = (each for each in node.define_schema().inputs if each.id == "model")
        assert model.options == [*lmconv.SHIPPED, "colour.safetensors", "tiny.safetensors"]
        before = node.fingerprint_inputs(model="tiny.safetensors", image=None)
        assert before == node.fingerprint_inputs(model="tiny.safetensors", image=None)
        path = folder / "tiny.safetensors"
        path.write_bytes(path.read_bytes() + b" ")
        assert node.fingerprint_inputs(model="tiny.safetensors", image=None) != before
        assert node.fingerprint_inputs(model="lmconv", image=None) == "lmconv"
