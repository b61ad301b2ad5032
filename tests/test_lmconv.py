"""Locally masked convolutions: no pixel sees a later one, likelihoods are exact, and sampling keeps what it has computed."""

from __future__ import annotations

import csv
import itertools
import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from pullback import cli, errors
from pullback.generative.lmconv import conv as conv_module
from pullback.generative.lmconv import orders
from pullback.generative.lmconv.conv import masked_conv, naive_conv
from pullback.generative.lmconv.heads import BinaryHead, ColourHead, GreyHead, signal
from pullback.generative.lmconv.levels import levels_of
from pullback.generative.lmconv.likelihood import (
    bits_per_dim,
    completion_log_likelihood,
    ensemble,
    log_likelihood,
)
from pullback.generative.lmconv.masks import local_mask, neighbours
from pullback.generative.lmconv.model import FORMAT, PixelModel, load_model
from pullback.generative.lmconv.network import Config, PixelCNN
from pullback.generative.lmconv.sampling import Features, complete, sample
from pullback.training.folder import read_picture
from safetensors.torch import load_file, save_file
from torch.nn.functional import conv2d
from typer.testing import CliRunner

TINY = Config("binary", size=4, filters=4, blocks=1, mixtures=2)
HEIGHT, WIDTH = 4, 5
SIZES = ((1, 1), (1, 7), (2, 2), (4, 4), (5, 3), (6, 7), (8, 8), (9, 4))


@pytest.fixture(autouse=True)
def _one_thread(_threads) -> None:
    torch.set_num_threads(1)  # such small tensors are not worth the wait for a second one


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _network(config: Config = TINY, seed: int = 0) -> PixelCNN:
    torch.manual_seed(seed)
    network = PixelCNN(config).double()
    for p in network.parameters():  # the biases too: else the first pixel's features are all alike
        p.data = 0.5 * torch.randn(p.shape, dtype=p.dtype)
    return network.requires_grad_(False)


def _all_orders(height: int, width: int) -> dict[str, torch.Tensor]:
    found = {name: orders.named(name, height, width) for name in orders.NAMES}
    for seed in range(2):
        found[f"random-{seed}"] = orders.random(height, width, _generator(seed))
        known = torch.rand(height, width, generator=_generator(seed)) < 0.4
        known[height // 2, 0] = True
        found[f"max-context-{seed}"] = orders.max_context(known)
    return found


def _steps(order: torch.Tensor, width: int) -> torch.Tensor:
    rows, columns = order // width, order % width
    return torch.stack([rows.diff().abs(), columns.diff().abs()])


@pytest.mark.parametrize(("height", "width"), SIZES)
def test_orders_visit_every_pixel_once_and_curves_go_to_neighbours(height, width):
    for name in orders.NAMES:
        order = orders.named(name, height, width)
        assert order.sort().values.tolist() == list(range(height * width)), name
        steps = _steps(order, width)
        if name.startswith("s-curve"):
            assert (steps.sum(0) == 1).all(), name
        if name == "hilbert":
            assert (steps.max(0).values == 1).all() if len(order) > 1 else True
            assert (steps.sum(0) > 1).sum() <= (1 if height % 2 or width % 2 else 0)
    assert len({tuple(orders.s_curve(4, 4, n).tolist()) for n in range(8)}) == 8
    assert {int(orders.s_curve(4, 4, n)[0]) for n in range(4)} == {0, 3, 12, 15}


def test_the_max_context_order_begins_with_known_pixels_and_stays_near_what_is_there():
    for seed in range(4):
        known = torch.rand(7, 9, generator=_generator(seed)) < 0.1
        known[seed, 2 * seed] = True
        order = orders.max_context(known)
        assert order.sort().values.tolist() == list(range(63))
        count = int(known.sum())
        assert known.flatten()[order[:count]].all()
        place = orders.ranks(order)
        around = torch.cat([place, torch.tensor([63])])[neighbours(7, 9, 3)]
        assert (around.min(0).values < place)[order[count:]].all()  # a neighbour was there before
    with pytest.raises(ValueError, match="no pixel is known"):
        orders.max_context(torch.zeros(3, 3, dtype=torch.bool))


@pytest.mark.parametrize(
    ("rows", "columns", "orientation"),
    [
        (slice(0, 4), slice(None), 0),
        (slice(4, 8), slice(None), 2),
        (slice(None), slice(0, 3), 4),
        (slice(None), slice(3, 6), 5),
    ],
)
def test_for_half_pictures_the_max_context_order_is_the_papers(rows, columns, orientation):
    known = torch.zeros(8, 6, dtype=torch.bool)
    known[rows, columns] = True
    order = orders.max_context(known)
    assert order.tolist() == orders.s_curve(8, 6, orientation).tolist()


def test_the_mask_of_the_raster_order_is_that_of_a_masked_kernel():
    x, bias = torch.randn(2, 3, HEIGHT, WIDTH, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    weight = torch.randn(4, 3, 5, 5, dtype=torch.float64)
    for strict in (True, False):
        mask = local_mask(orders.raster(HEIGHT, WIDTH), HEIGHT, WIDTH, 5, strict=strict).double()
        kept = torch.arange(25).reshape(5, 5) < 12 + (not strict)
        expected = conv2d(x, weight * kept, bias, padding=2)
        torch.testing.assert_close(masked_conv(x, mask, weight, bias), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("kernel", "dilation"), [(1, 1), (3, 1), (3, 2), (5, 1), (5, 3)])
def test_the_lean_backward_pass_is_that_of_the_naive_form(monkeypatch, kernel, dilation):
    monkeypatch.setattr(conv_module, "PART_BYTES", 2 * 8 * 2 * HEIGHT * WIDTH * kernel**2)  # two pictures of three
    random = _generator()
    given = lambda *shape: torch.randn(*shape, generator=random, dtype=torch.float64, requires_grad=True)
    x, weight, bias = given(3, 2, HEIGHT, WIDTH), given(4, 2, kernel, kernel), given(4)
    for order in _all_orders(HEIGHT, WIDTH).values():
        mask = local_mask(order, HEIGHT, WIDTH, kernel, dilation).double()
        grad = torch.randn(3, 4, HEIGHT, WIDTH, generator=random, dtype=torch.float64)
        results = []
        for conv in (masked_conv, naive_conv):
            y = conv(x, mask, weight, bias, dilation)
            results.append((y, *torch.autograd.grad(y, (x, weight, bias), grad)))
        for lean, naive in zip(*results, strict=True):
            torch.testing.assert_close(lean, naive, rtol=0, atol=1e-10)


def test_the_lean_form_keeps_the_picture_and_not_its_patches():
    x, weight = torch.randn(2, 8, 16, 16, requires_grad=True), torch.randn(8, 8, 3, 3, requires_grad=True)
    mask, bias = local_mask(orders.raster(16, 16), 16, 16, 3), torch.zeros(8)
    kept = {}
    for conv in (masked_conv, naive_conv):
        storages = {}

        def keep(tensor, storages=storages):
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            conv(x, mask, weight, bias)
        kept[conv] = sum(storages.values())
    assert kept[masked_conv] <= 4 * (x.numel() + mask.numel() + weight.numel())
    assert kept[naive_conv] > 4 * 9 * x.numel()


@pytest.mark.parametrize("name", sorted(_all_orders(2, 3)))
@pytest.mark.parametrize("config", [TINY, replace(TINY, head="colour", kernel=5, dilation=1)], ids=["3", "5"])
def test_no_output_depends_on_a_later_pixel(name, config):
    network, order = _network(config), _all_orders(HEIGHT, WIDTH)[name]
    masks = network.masks(order, HEIGHT, WIDTH)
    count, channels = HEIGHT * WIDTH, network.head.channels
    x = torch.randn(1, channels, HEIGHT, WIDTH, generator=_generator(), dtype=torch.float64)
    copies = x.repeat(count, 1, 1, 1).requires_grad_()  # the nth for the outputs at the nth pixel
    outputs = network(copies, masks).flatten(2).diagonal(dim1=0, dim2=2)
    mixed = (outputs * torch.randn(outputs.shape, generator=_generator(1), dtype=torch.float64)).sum()
    (grad,) = torch.autograd.grad(mixed, copies)
    depends = grad.abs().amax(1).flatten(1)  # (of the outputs at a pixel, on a pixel)
    place = orders.ranks(order)
    later = place[None, :] >= place[:, None]
    assert (depends[later] == 0).all()
    rows, columns = torch.arange(count) // WIDTH, torch.arange(count) % WIDTH
    reach = config.kernel // 2
    near = ((rows[:, None] - rows).abs() <= reach) & ((columns[:, None] - columns).abs() <= reach)
    assert (depends[near & ~later] > 0).all()  # and every neighbour that was there before counts


def _pictures(levels: int, channels: int, height: int, width: int) -> torch.Tensor:
    """All pictures, (levels ** (channels H W), channels, H, W)."""
    every = itertools.product(range(levels), repeat=channels * height * width)
    return torch.tensor(list(every)).reshape(-1, channels, height, width)


@pytest.mark.parametrize(
    ("config", "height", "width"),
    [
        (TINY, 2, 2),
        (replace(TINY, head="grey", bits=2), 1, 3),
        (replace(TINY, head="colour", bits=1), 1, 2),
        (replace(TINY, head="colour", bits=2), 1, 1),
    ],
)
def test_the_probabilities_of_all_pictures_sum_to_one(config, height, width):
    network = _network(config)
    pictures = _pictures(network.head.levels, network.head.channels, height, width)
    every = list(_all_orders(height, width).values())
    for order in every:
        assert abs(log_likelihood(network, pictures, order).exp().sum().item() - 1) <= 1e-6
    together = ensemble(network, pictures, every)
    assert abs(together.exp().sum().item() - 1) <= 1e-6
    singly = torch.stack([log_likelihood(network, pictures, order) for order in every])
    torch.testing.assert_close(together.exp(), singly.exp().mean(0))
    assert (together >= singly.mean(0) - 1e-12).all()


def test_the_first_pixel_s_probability_is_its_frequency_among_all_pictures():
    """The chain rule: what the network says of the first pixel is the marginal of the whole distribution."""
    network, pictures = _network(), _pictures(2, 1, 2, 2)
    order = orders.s_curve(2, 2, 3)
    whole = log_likelihood(network, pictures, order).exp()
    first = pictures.flatten(1)[:, order[0]]
    outputs = network(signal(pictures, 2, network.first.weight), network.masks(order, 2, 2)).flatten(2)
    said = outputs[0, :, order[0]].softmax(0)
    torch.testing.assert_close(whole[first == 1].sum(), said[1])


@pytest.mark.parametrize("head", [GreyHead(3, 256), ColourHead(3, 8), BinaryHead()], ids=["grey", "colour", "binary"])
def test_heads_sample_what_their_probabilities_say(head):
    outputs = torch.randn(head.outputs, generator=_generator(3), dtype=torch.float64)
    count = 20000
    drawn = head.sample(outputs.expand(count, -1), _generator())
    assert drawn.min() >= 0 and drawn.max() < head.levels
    pictures = _pictures(head.levels, head.channels, 1, 1)
    probabilities = (
        head.log_prob(outputs[None, :, None, None].expand(len(pictures), -1, 1, 1), pictures).exp().flatten()
    )
    assert abs(probabilities.sum().item() - 1) < 1e-9
    numbers = (drawn * head.levels ** torch.arange(head.channels - 1, -1, -1)).sum(1)
    found = torch.bincount(numbers, minlength=len(pictures)) / count
    assert (found - probabilities).abs().max() < 5 * math.sqrt(0.25 / count)
    assert 0.5 * (found - probabilities).abs().sum() < 0.5 * math.sqrt(len(pictures) / count) + 0.01


def test_improbable_levels_have_accurate_probabilities_and_gradients():
    head = GreyHead(1, 256)
    outputs = torch.tensor([0.0, 1.0, -7.0]).reshape(1, 3, 1, 1).requires_grad_()
    nats = head.log_prob(outputs, torch.zeros(1, 1, 1, 1, dtype=torch.long) + 1)
    (grad,) = torch.autograd.grad(nats.sum(), outputs)
    assert nats.item() == pytest.approx(-(2 - 3 / 255) * math.exp(7), rel=1e-3) and grad.isfinite().all()


@pytest.mark.parametrize("head", ["binary", "grey", "colour"])
@pytest.mark.parametrize("name", ["hilbert", "max-context-0", "random-1"])
def test_sampling_that_keeps_features_equals_sampling_that_computes_all_anew(head, name):
    network, order = _network(replace(TINY, head=head)).float(), _all_orders(HEIGHT, WIDTH)[name]
    known = 6
    values = torch.randint(network.head.levels, (2, network.head.channels, HEIGHT, WIDTH), generator=_generator())
    masks = network.masks(order, HEIGHT, WIDTH)

    full, random, said = values.flatten(2).clone(), _generator(1), []
    for n, pixel in enumerate(order[known:].tolist(), known):
        features = Features(network, masks, full.reshape(values.shape), known)
        for before in order[known:n].tolist():
            features.outputs(before)
            features.tell(before, full[:, :, before])
        said.append(features.outputs(pixel))
        full[:, :, pixel] = network.head.sample(said[-1], random)

    kept = Features(network, masks, values, known)
    for pixel, outputs in zip(order[known:].tolist(), said, strict=True):
        assert torch.equal(kept.outputs(pixel), outputs)
        kept.tell(pixel, full[:, :, pixel])
    sampled = sample(network, values, order, known, _generator(1))
    assert torch.equal(sampled.flatten(2), full) and not torch.equal(sampled, values)
    assert torch.equal(sampled.flatten(2)[:, :, order[:known]], values.flatten(2)[:, :, order[:known]])


def test_features_of_one_pixel_are_those_of_the_network_at_once():
    network = _network(replace(TINY, head="grey"))
    for order in _all_orders(HEIGHT, WIDTH).values():
        masks = network.masks(order, HEIGHT, WIDTH)
        values = torch.randint(256, (2, 1, HEIGHT, WIDTH), generator=_generator())
        at_once = network(signal(values, 256, network.first.weight), masks).flatten(2)
        features = Features(network, masks, values, 3)
        for pixel in order[3:].tolist():
            torch.testing.assert_close(features.outputs(pixel), at_once[:, :, pixel], rtol=0, atol=1e-10)
            features.tell(pixel, values.flatten(2)[:, :, pixel])


def test_a_completion_keeps_what_is_known_and_conditions_on_it():
    network = _network(seed=2)
    known = torch.tensor([[True, False], [False, True]])
    values = torch.tensor([[[[1, 0], [0, 0]]]]).expand(4000, 1, 2, 2)
    filled = complete(network, values, known, _generator())
    assert (filled[:, :, known] == values[:, :, known]).all()
    possible = torch.tensor([[[[1, a], [b, 0]]] for a in (0, 1) for b in (0, 1)])
    expected = completion_log_likelihood(network, possible, known, orders.max_context(known)).exp()
    assert expected.sum().item() == pytest.approx(1, abs=1e-6)
    found = torch.bincount((2 * filled[:, 0, 0, 1] + filled[:, 0, 1, 0]), minlength=4) / 4000
    assert (found - expected).abs().max() < 5 * math.sqrt(0.25 / 4000)
    with pytest.raises(ValueError, match="nothing to fill"):
        complete(network, values, torch.ones(2, 2, dtype=torch.bool), _generator())
    with pytest.raises(ValueError, match="no pixel is known"):
        complete(network, values, torch.zeros(2, 2, dtype=torch.bool), _generator())


@pytest.mark.parametrize("name", [orders.MAX_CONTEXT, *orders.NAMES])
def test_a_completion_in_a_named_order_draws_from_its_own_distribution(name):
    network, known = _network(seed=3), torch.tensor([[False, True], [False, True]])
    order = orders.completing(known, name)
    assert known.flatten()[order].tolist() == [True, True, False, False]
    if name in orders.NAMES:
        named = [pixel for pixel in orders.named(name, 2, 2).tolist() if pixel in (0, 2)]
        assert order[2:].tolist() == named
    values = torch.tensor([[[[0, 1], [0, 0]]]]).expand(4000, 1, 2, 2)
    filled = complete(network, values, known, _generator(), order=name)
    possible = torch.tensor([[[[a, 1], [b, 0]]] for a in (0, 1) for b in (0, 1)])
    expected = completion_log_likelihood(network, possible, known, order).exp()
    found = torch.bincount((2 * filled[:, 0, 0, 0] + filled[:, 0, 1, 0]), minlength=4) / 4000
    assert (found - expected).abs().max() < 5 * math.sqrt(0.25 / 4000)
    with pytest.raises(ValueError, match="no order 'zigzag'"):
        complete(network, values, known, _generator(), order="zigzag")


def test_the_bits_of_pixels_are_those_of_the_orders_on_average():
    network = _network(replace(TINY, head="grey"))
    model = PixelModel(network, "tiny", {})
    values = list(torch.randint(256, (3, 1, 4, 4), generator=_generator(), dtype=torch.uint8))
    told = []
    bits, maps = model.likelihood(values, tick=lambda *counts: told.append(counts))
    assert told == [(n, 8) for n in range(1, 9)] and maps.shape == (3, 4, 4)
    every = [orders.s_curve(4, 4, n) for n in range(8)]
    singly = torch.stack([log_likelihood(network, torch.stack(values), order) for order in every])
    torch.testing.assert_close(maps.sum((1, 2)), bits_per_dim(singly.mean(0), 1))
    torch.testing.assert_close(bits, bits_per_dim(ensemble(network, torch.stack(values), every), 16))
    alone, only = model.likelihood(values, 1)
    torch.testing.assert_close(only.mean((1, 2)), alone)  # under one order, the pixels' bits are the picture's


def test_bits_per_dim_of_the_uniform_distribution_are_its_bits():
    assert bits_per_dim(torch.tensor([-48 * math.log(256)]), 48).item() == pytest.approx(8)


@pytest.mark.parametrize("wrong", [{"kernel": 4}, {"orders": ("zigzag",)}])
def test_sizes_that_cannot_be_are_one_sentence(wrong):
    with pytest.raises(ValueError, match=r"no middle|no order 'zigzag'"):
        replace(TINY, **wrong)


@pytest.fixture
def files(tmp_path):
    """A folder of pictures, a picture with a mask, and a model that knows nothing."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    random = np.random.default_rng(0)
    for name, size in (("a.png", (9, 8)), ("b.png", (7, 7)), ("c.png", (12, 8))):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    mask = np.zeros((9, 8), np.uint8)
    mask[:4] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    network = _network(replace(TINY, head="grey", size=6)).float()
    metadata = {"format": FORMAT, "config": json.dumps(asdict(network.config)), "step": "3"}
    save_file(network.state_dict(), tmp_path / "model.safetensors", metadata)
    return tmp_path


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.app, [str(each) for each in arguments])


def test_a_picture_is_filled_and_what_is_known_stays(files):
    picture, model = files / "pictures/a.png", files / "model.safetensors"
    filled = {}
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        out = files / f"{name}.png"
        done = _run("fill", picture, "--mask", files / "mask.png", "--model", model, "-o", out, "--seed", seed)
        assert done.exit_code == 0, done.exception
        filled[name] = np.asarray(Image.open(out).convert("L"))
    known = np.asarray(Image.open(picture).convert("L"))
    assert (filled["one"][4:] == known[4:]).all() and (filled["one"][:4] != known[:4]).any()
    assert (filled["one"] == filled["same"]).all() and (filled["one"] != filled["other"]).any()


def test_the_likelihoods_of_a_folder_are_a_csv(files):
    out = files / "bits.csv"
    assert _run("likelihood", files / "pictures", "--model", files / "model.safetensors", "-o", out).exit_code == 0
    header, *rows = csv.reader(out.read_text("utf-8").splitlines())
    assert header == ["picture", "bits_per_dim"] and [name for name, _ in rows] == ["a.png", "b.png", "c.png"]
    model = load_model(files / "model.safetensors")
    values = levels_of(read_picture(files / "pictures/b.png", 3), model.config, 6)[None]
    nats = ensemble(model.network, values, [orders.named(name, 6, 6) for name in model.config.orders])
    assert float(rows[1][1]) == pytest.approx(bits_per_dim(nats, 36).item(), abs=1e-4)
    printed = _run("likelihood", files / "pictures", "--model", files / "model.safetensors", "--orders", 1)
    assert "b.png," in printed.stdout and rows[1][1] not in printed.stdout


def test_training_learns_writes_a_model_and_resumes_to_the_same_bytes(files, monkeypatch):
    pytest.importorskip("accelerate", reason="training needs accelerate: pip install pullback[train]")
    from pullback.generative.lmconv import network

    monkeypatch.setitem(network.PRESETS, "small", replace(TINY, size=6, orders=("s-curve-0", "s-curve-6")))
    out = files / "trained.safetensors"
    given = ("train", "lmconv", files / "pictures", "-o", out, "--batch", 3, "--precision", "no", "--lr", 0.01)
    done = _run(*given, "--steps", 20)
    assert done.exit_code == 0, done.exception
    card = load_model(out).card
    assert card["step"] == "20" and card["pictures"] == "3"
    assert Image.open(files / "trained.training.sheet.png").size == (36, 18)
    state = load_file(files / "trained.training.safetensors")
    values = torch.stack(
        [levels_of(read_picture(path, 3), TINY, 6) for path in sorted((files / "pictures").iterdir())]
    )  # fmt: skip
    assert load_model(out).likelihood(list(values))[0].mean() < 0.97  # it was given noise: 1 bit before training
    assert _run(*given, "--steps", 20).exit_code == 0  # there is nothing left to do
    again = load_file(files / "trained.training.safetensors")
    assert all(torch.equal(state[name], again[name]) for name in state)


def test_wrong_files_are_one_sentence(files):
    picture, mask, model = files / "pictures/a.png", files / "mask.png", files / "model.safetensors"
    for name, value in (("black", 0), ("white", 255)):
        Image.new("L", (8, 9), value).save(files / f"{name}.png")
    Image.new("L", (300, 4)).save(files / "wide.png")
    (files / "cut.safetensors").write_bytes(model.read_bytes()[:-100])
    tensors = load_file(model)
    save_file(tensors, files / "other.safetensors", {"format": "another"})
    for name, config in (("sizes", {"filters": 5}), ("unknown", {"colour": 1}), ("kernel", {"kernel": 4})):
        save_file(tensors, files / f"{name}.safetensors", {"format": FORMAT, "config": json.dumps(config)})
    for arguments, message in (
        ((picture, files / "pictures/b.png", model), "the mask has 7 x 7 pixels and the picture 8 x 9"),
        ((picture, files / "black.png", model), "black everywhere"),
        ((picture, files / "white.png", model), "white everywhere"),
        ((files / "wide.png", files / "wide.png", model), "at most 256 x 256"),
        ((files / "no.png", mask, model), "cannot be read as a picture"),
        ((picture, model, model), "cannot be read as a picture"),
        ((picture, mask, files / "no.safetensors"), "does not exist"),
        ((picture, mask, picture), "truncated or not a safetensors file"),
        ((picture, mask, files / "cut.safetensors"), "truncated or not a safetensors file"),
        ((picture, mask, files / "other.safetensors"), "its format is 'another'"),
        ((picture, mask, files / "sizes.safetensors"), "of this version"),
        ((picture, mask, files / "unknown.safetensors"), "of this version"),
        ((picture, mask, files / "kernel.safetensors"), "of this version"),
    ):
        source, hole, weights = arguments
        done = _run("fill", source, "--mask", hole, "--model", weights, "-o", files / "out.png")
        assert message in str(errors.sentence(done.exception)), message
    for more, message in (
        (("--orders", 9), "was trained on 8"), (("--batch", 0), "--batch is 0"), (("-o", files / "a.png"), ".csv"),
    ):  # fmt: skip
        done = _run("likelihood", files / "pictures", "--model", model, *more)
        assert message in str(errors.sentence(done.exception)), message
    done = _run("train", "lmconv", files / "pictures", "--preset", "huge", "-o", files / "a.safetensors")
    assert "--preset is 'huge'; it must be one of small" in str(errors.sentence(done.exception))
    assert not (files / "out.png").exists() and not (files / "a.safetensors").exists()
