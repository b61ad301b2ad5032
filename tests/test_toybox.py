"""The built-in model's words, pictures and conditions."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from pullback.generative.toybox import landscapes, model, objects, words
from pullback.generative.toybox.network import (
    ANY,
    LAYERS,
    ORBIT,
    SPREAD,
    Config,
    Toybox,
    camera_features,
    expected,
    painted,
    palettes,
)
from pullback.geometry.cameras import orbit, turntable
from pullback.noise import Crops
from pullback.samplers import ddim
from pullback.schedules import log_linear

SMALL = Config(width=32, depth=1, channels=(8, 8, 16))


def _words(*prompts):
    return torch.tensor([words.encode(p) for p in prompts])


def test_prompts_become_words():
    assert words.split("A Red   mushroom!") == (["red", "mushroom"], [])
    assert words.split("two tiny planes at dusk") == (["small", "airplane", "sunset"], ["two"])
    assert words.encode("red mushroom")[:4] == [words.START, words.INDEX["red"], words.INDEX["mushroom"], words.PAD]
    assert words.closest("mashroom")[0] == "mushroom"
    assert words.is_landscape("mountains at night") and not words.is_landscape("a red tree")
    with pytest.raises(ValueError, match="13 words"):
        words.encode("red " * 13)


def test_vocabulary_is_as_large_as_promised():
    assert len(words.NOUNS) >= 24 and len(words.COLOURS) >= 10 and len(words.LANDSCAPES) >= 6 and len(words.TIMES) >= 4
    assert set(words.NOUNS) == set(objects.NOUNS)
    assert all(target in words.INDEX for target in words.SYNONYMS.values())


def test_unknown_words_are_named_with_their_neighbours():
    with pytest.warns(UserWarning, match=r"'mashroom' \(near: mushroom"):
        model.check("red mashroom")
    with pytest.raises(ValueError, match="does not know 'unicorn'"):
        model.check("unicorn")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.check("a red mushroom")


@pytest.mark.parametrize("noun", words.NOUNS)
def test_objects_fit_their_world(noun):
    mesh, rgb = objects.build(noun, "red", "blue", None, np.random.default_rng(0))
    radius = np.linalg.norm(mesh.vertices, axis=1).max()
    assert 0.85 < radius < 0.95 and rgb.shape == (len(mesh.faces), 3) and rgb.min() >= 0 and rgb.max() <= 1
    assert not np.isnan(mesh.vertices).any()
    main = np.abs(rgb - np.array(words.COLOURS["red"])).max(1) < 0.1
    assert main.any(), "nothing of it has the colour that the caption names"


def test_landscapes_close_after_a_turn():
    a = np.array([[-np.pi, np.pi]] * 5)
    e = np.repeat(np.linspace(-0.5, 0.5, 5)[:, None], 2, 1)
    for place in words.LANDSCAPES:
        for time in words.TIMES:
            rgb = landscapes.paint(place, time, a, e, np.random.default_rng(3))
            assert np.abs(rgb[:, 0] - rgb[:, 1]).max() < 1e-5 and rgb.min() >= 0 and rgb.max() <= 1


def test_photographs_are_premultiplied_and_face_the_front():
    pytest.importorskip("embreex", reason='pip install "pullback[train]"')
    from pullback.generative.toybox.pictures import photograph

    mesh, rgb = objects.build("house", "red", None, None, np.random.default_rng(0))
    front, back = photograph(mesh, rgb, orbit(torch.tensor([0.0, np.pi]), torch.tensor([0.2, 0.2]))).astype(int)
    assert (front[:6] <= front[6:] + 1).all() and front[6].max() == 255 and front[6].min() == 0
    assert (front[:3] <= front[3:6] + 1).all()  # light takes away, never adds
    wood = np.array(objects.WOOD)[:, None, None] * 255
    doors = [(np.abs(p[3:6] - wood).max(0) < 12).sum() for p in (front, back)]
    assert doors[0] > 10 and doors[1] == 0  # the door is in front


def test_every_condition_matters():
    torch.manual_seed(0)
    net = Toybox(SMALL)
    for p in net.parameters():  # the zero-initialised gates would hide everything
        torch.nn.init.normal_(p, std=0.2)
    x, sigma, lit = torch.randn(1, 4, 64, 64), torch.tensor([1.0]), torch.ones(1)
    camera = torch.tensor([[0.3, 0.2, ORBIT]])
    base = net(x, sigma, _words("red car"), camera, lit)
    others = [
        net(x, sigma, _words("blue car"), camera, lit), net(x, sigma, _words("red car"), camera + torch.tensor([1.0, 0, 0]), lit),
        net(x, sigma, _words("red car"), camera, 0 * lit), net(x, sigma, _words("red and blue car"), camera, lit),
        net(x, sigma, _words(""), camera, lit),
    ]  # fmt: skip
    assert all((other - base).abs().max() > 1e-4 for other in others)
    unknown = camera_features(torch.tensor([[0.3, 0.2, ANY], [1.0, -0.5, ANY]]))
    assert torch.equal(unknown[0], unknown[1])


def test_a_batch_is_its_parts():
    torch.manual_seed(0)
    net = Toybox(SMALL).eval()
    x, sigma = torch.randn(2, 4, 64, 64), torch.tensor([0.5, 4.0])
    w, c, lit = (
        _words("red car", "big blue tree"),
        torch.tensor([[0.3, 0.2, ORBIT], [0, 0, ANY]]),
        torch.tensor([1.0, 0.0]),
    )
    both = net(x, sigma, w, c, lit)
    alone = torch.cat([net(x[i : i + 1], sigma[i : i + 1], w[i : i + 1], c[i : i + 1], lit[i : i + 1]) for i in (0, 1)])
    assert (both - alone).abs().max() < 1e-5


def test_the_shipped_model_knows_colours_and_views():
    toybox = model.ToyboxModel()
    x = torch.zeros(2, 4, 64, 64) + 3 * torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    red, blue = (toybox.denoiser(f"{c} ball", "", 1.0)(x, torch.tensor(3.0), turntable(2)) for c in ("red", "blue"))
    assert (red[:, 0] - red[:, 2]).mean() > 0.05 > -0.05 > (blue[:, 0] - blue[:, 2]).mean()
    assert red.abs().max() <= 1
    flat = toybox.denoiser("sea at noon", "", 1.0)(x, torch.tensor(3.0), Crops(torch.zeros(2)))
    assert flat[:, 3].mean() > 0.7  # landscapes are opaque everywhere, objects are not
    assert red[:, 3].mean() < 0.5


def test_without_a_view_an_object_is_seen_from_one_side_in_its_light():
    denoise = model.ToyboxModel().denoiser("red car", "", 1.0)
    x = torch.randn(1, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    azimuth, elevation, _ = model.STILL
    side = orbit(torch.tensor([azimuth]), torch.tensor([elevation]))
    for sigma in (0.5, 2.0):  # one that is seen from all around has no light
        level = torch.tensor(sigma)
        assert (denoise(sigma * x, level, None) - denoise(sigma * x, level, side)).abs().max() > 0.01


def test_decoding_keeps_colour_below_opacity():
    signal = torch.randn(2, 4, 8, 8)
    rgba = model.ToyboxModel().decode(signal)
    assert rgba.min() >= 0 and rgba.max() <= 1 and (rgba[:, :3] <= rgba[:, 3:]).all()


@pytest.mark.parametrize(("content", "said"), [(None, "missing"), (b"", "truncated"), (b"\x80\x04pickle", "truncated")])
def test_bad_weights_are_named(tmp_path, content, said):
    path = tmp_path / "weights.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=said):
        model.network(path)


def test_weights_of_another_kind_are_refused(tmp_path):
    from safetensors.torch import save_file

    path = tmp_path / "weights.safetensors"
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match="expected 'pullback-toybox-3'"):
        model.network(path)


@pytest.fixture
def shard(tmp_path, monkeypatch):
    """A folder with one small shard of sketches and one of landscapes."""
    from pullback.generative.toybox import data

    monkeypatch.setattr(data, "SHARD", 4)
    random = np.random.default_rng(0)
    for name, channels in (("objects-0000", 11), ("landscapes-0001", 3)):
        labels = np.array([[3, 0]] * 4 if channels == 11 else [words.encode("sea at noon")] * 4, np.uint8)
        pictures = random.integers(0, 256, (4, channels, 64, 64), dtype=np.uint8)
        np.savez(tmp_path / f"{name}.npz", pictures=pictures, labels=labels, cameras=np.zeros((4, 3), np.float32))
    return tmp_path


def test_training_learns_and_exports_what_the_model_loads(shard, tmp_path):
    pytest.importorskip("accelerate", reason='pip install "pullback[train]"')
    import io

    from pullback.generative.toybox.training import TemplateTrainee, ToyboxTrainee, denoising_error
    from pullback.training.loop import Plan, export, train
    from rich.console import Console

    torch.manual_seed(0)
    quiet = Console(file=io.StringIO())
    template = tmp_path / "template.safetensors"
    trainee = TemplateTrainee(shard, SMALL.width, batch_size=2)
    export(template, train(trainee, tmp_path / "t.safetensors", Plan(1, warmup=1), quiet), trainee.metadata())

    trainee = ToyboxTrainee(shard, SMALL, batch_size=4, template=template)
    batch = trainee.batch(np.random.default_rng(0))
    error = lambda net: float(denoising_error(net, batch, torch.Generator().manual_seed(5)).detach())
    before = error(trainee.networks["model"])
    average = train(trainee, tmp_path / "r.safetensors", Plan(8, warmup=1), quiet)
    assert error(average) < before
    assert not any(p.requires_grad for p in trainee.networks["model"].template.parameters())
    assert (tmp_path / "r.sheet.png").exists()
    again = ToyboxTrainee(shard, SMALL, template=template)
    export(tmp_path / "toybox.safetensors", average, again.metadata())
    with pytest.raises(ValueError, match=r"toybox\.safetensors does not hold the weights of a Toybox of these sizes"):
        ToyboxTrainee(shard, Config(width=64, depth=1, channels=(8, 8, 16)), start_from=tmp_path / "toybox.safetensors")
    ToyboxTrainee(shard, SMALL, start_from=tmp_path / "toybox.safetensors")


def test_prompts_part_into_shapes_and_paints():
    shapes, paints = words.split_colours(words.encode("small red and blue chair"))
    assert shapes == words.encode("small and chair") and paints == ["red", "blue"]
    assert words.split_colours(words.encode("red chair")) == (words.encode("chair"), ["red"])
    assert words.split_colours(words.encode("chair and table")) == (words.encode("chair table"), [])


def test_a_prompt_leaves_the_paints_open_that_it_does_not_name():
    rows = palettes([])
    assert torch.allclose(rows[:10, 0], torch.full((10,), 0.1)) and (rows[10:] == 0).all()
    assert torch.allclose(rows[3, 1:4], torch.tensor(words.COLOURS["green"])) and torch.equal(rows[:, 1:4], rows[:, 4:])
    two = palettes(["red", "blue"])
    assert two[0].tolist() == pytest.approx([1, *words.COLOURS["red"], *words.COLOURS["blue"]]) and (two[1:] == 0).all()


def test_the_expected_picture_is_a_mixture_s_posterior_mean():
    """Against the sum over paints written out; at high noise the even mean, at low noise the paint that is there."""
    random = torch.Generator().manual_seed(0)
    layers, palette = torch.rand(2, LAYERS, 32, 32, generator=random), torch.stack([palettes([])] * 2)
    pictures = torch.stack([painted(layers, row[1:4].expand(2, 3), row[4:].expand(2, 3)) for row in palette[0, :10]], 1)
    x = torch.nn.functional.interpolate(pictures[:, 4], scale_factor=2.0)
    sigma = torch.tensor([5.0, 3.0])
    noisy = x + sigma[:, None, None, None] * torch.randn(x.shape, generator=random)
    far = (torch.nn.functional.avg_pool2d(noisy, 2)[:, None] - pictures).square().flatten(2).sum(-1)
    chance = torch.softmax(-far / (2 * (sigma**2 / 4 + SPREAD**2))[:, None], 1)
    wanted = torch.einsum("bk,bkchw->bchw", chance, pictures)
    assert (expected(layers, palette, noisy, sigma) - wanted).abs().max() < 1e-5
    certain = expected(layers, palette, x, torch.tensor([0.01, 0.01]))
    assert (certain - pictures[:, 4]).abs().max() < 1e-3
    open_ = expected(layers, palette, x, torch.tensor([1e5, 1e5]))
    assert (open_ - pictures.mean(1)).abs().max() < 1e-3


def test_a_sketch_in_its_paints_is_the_photograph():
    pytest.importorskip("embreex", reason='pip install "pullback[train]"')
    from pullback.generative.toybox import data, pictures

    camera = orbit(torch.tensor([0.4]), torch.tensor([0.3]))
    for noun, second in (("house", None), ("car", None), ("lamp", "green")):
        mesh, material = objects.solid(noun, None, np.random.default_rng(2))
        main, accent = objects.paints(noun, "red", second, np.random.default_rng(3))
        sketch = pictures.photograph(mesh, material, camera)[0]
        photo = pictures.photograph(mesh, objects.coloured(material, main, accent), camera)[0] / 255.0
        own = None if second or objects.NOUNS[noun].accent == "main" else accent
        for lit, rgb in ((True, photo[:3]), (False, photo[3:6])):
            layers = torch.from_numpy(data._sketch_layers(sketch, own, lit))
            paints = (torch.from_numpy(paint).float() for paint in (main, accent))
            assert np.abs(painted(layers, *paints)[:3].numpy() / 2 + 0.5 - rgb).max() < 0.02


def test_a_noun_without_a_colour_is_one_of_ten():
    """Each seed has one colour: the mean over an object's pixels is near a name, and not near their mean, grey."""
    toybox = model.ToyboxModel()
    denoise = toybox.denoiser("ball", "", 1.0)
    x = 80 * torch.randn(6, 4, 64, 64, generator=torch.Generator().manual_seed(1))
    out = ddim(denoise, x / 80, log_linear(12, 0.1, 80.0))
    rgba = toybox.decode(out)
    mean = rgba[:, :3].sum((2, 3)) / rgba[:, 3].sum((1, 2))[:, None]
    assert torch.pdist(mean).max() > 0.4  # not six times the same
