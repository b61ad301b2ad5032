"""The training loop: the same losses after a resume, whole checkpoints, and pictures that cannot be used."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from safetensors.torch import load_file, save_file

pytest.importorskip("accelerate", reason="training needs accelerate: pip install pullback[train]")

from pullback.generative.infd.network import Config
from pullback.generative.infd.training import AutoencoderTrainee, Weights
from pullback.training.folder import PictureFolder
from pullback.training.loop import Plan, train

TINY = Config(3, base=24, encoder=(8, 16), decoder=(16, 8), hidden=16)
QUIET = Console(file=io.StringIO())


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    (folder / "more").mkdir(parents=True)
    random = np.random.default_rng(0)
    for name, size in (("a.png", (26, 30)), ("more/b.png", (32, 32)), ("c.jpg", (12, 9))):
        Image.fromarray(random.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    return folder


def _trainee(folder, **more):
    torch.manual_seed(0)
    return AutoencoderTrainee(PictureFolder(folder, 3), TINY, batch_size=2, side=24, **more)


@pytest.mark.parametrize("weights", [Weights(), Weights(adversarial=0.75)])
def test_a_resumed_training_ends_in_the_same_bytes(pictures, tmp_path, weights):
    straight, resumed = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    train(_trainee(pictures, weights=weights), straight, Plan(4, every=2, warmup=1), QUIET)

    class Stop(Exception):
        pass

    trainee = _trainee(pictures, weights=weights)
    draw, drawn = trainee.batch, []

    def batch(random):
        drawn.append(1)
        if len(drawn) > 3:
            raise Stop
        return draw(random)

    trainee.batch = batch
    with pytest.raises(Stop):
        train(trainee, resumed, Plan(4, every=2, warmup=1), QUIET)
    train(_trainee(pictures, weights=weights), resumed, Plan(4, every=2, warmup=1), QUIET)
    a, b = load_file(straight), load_file(resumed)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)
    assert straight.with_suffix(".sheet.png").exists()


def test_a_loss_that_is_no_number_stops_and_keeps_the_last_good_checkpoint(pictures, tmp_path):
    path = tmp_path / "a.safetensors"
    trainee = _trainee(pictures)
    losses = trainee.losses

    def poisoned(batch, random, step):
        for loss in losses(batch, random, step):
            yield loss * (float("nan") if step == 3 else 1.0)

    trainee.losses = poisoned
    with pytest.raises(ValueError, match="diverged: the loss is nan at step 3"):
        train(trainee, path, Plan(6, every=2, warmup=1), QUIET)
    assert all(value.isfinite().all() for value in load_file(path).values())


def test_a_checkpoint_of_another_model_is_named(pictures, tmp_path):
    path = tmp_path / "a.safetensors"
    train(_trainee(pictures), path, Plan(1, warmup=1), QUIET)
    other = AutoencoderTrainee(
        PictureFolder(pictures, 3), Config(3, base=24, encoder=(8, 24), decoder=(16, 8), hidden=16)
    )
    with pytest.raises(ValueError, match=r"a\.safetensors is not a checkpoint of this model"):
        train(other, path, Plan(2), QUIET)


def test_pictures_that_cannot_be_used_are_skipped_and_named(pictures):
    (pictures / "broken.png").write_bytes((pictures / "a.png").read_bytes()[:60])
    folder = PictureFolder(pictures, 3, smallest=10)
    random = np.random.default_rng(0)
    with pytest.warns(UserWarning) as caught:
        for _ in range(40):
            assert min(folder.draw(random)[0].shape[:2]) >= 10
    named = " ".join(str(each.message) for each in caught)
    assert "broken.png is skipped" in named
    assert "c.jpg is skipped: it has 9 x 12 pixels, and its shorter side is below 10 pixels" in named


def test_an_empty_or_useless_folder_is_one_sentence(tmp_path, pictures):
    with pytest.raises(ValueError, match="is not a folder"):
        PictureFolder(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no pictures"):
        PictureFolder(tmp_path / "empty")
    with pytest.warns(UserWarning), pytest.raises(ValueError, match=r"no picture in .* can be used"):
        PictureFolder(pictures, 3, smallest=1000).draw(np.random.default_rng(0))


def test_captions_and_transparency(tmp_path):
    Image.fromarray(np.array([[[200, 100, 0, 128]]], np.uint8), "RGBA").save(tmp_path / "a.png")
    (tmp_path / "metadata.jsonl").write_text(json.dumps({"file_name": "a.png", "text": "a red ball"}))
    random = np.random.default_rng(0)
    pixels, text = PictureFolder(tmp_path, 4).draw(random)
    assert text == "a red ball" and pixels[0, 0].tolist() == [100, 50, 0, 128]
    assert PictureFolder(tmp_path, 3).draw(random)[0][0, 0].tolist() == [227, 177, 127]
    (tmp_path / "metadata.jsonl").write_text("no json")
    with pytest.raises(ValueError, match=r"line 1 of .*metadata\.jsonl"):
        PictureFolder(tmp_path)


def test_the_command_trains_a_field_decoder_that_draws(pictures, tmp_path, monkeypatch):
    from pullback import cli
    from pullback.generative.infd import network
    from pullback.generative.infd.decoder import load_decoder
    from typer.testing import CliRunner

    monkeypatch.setitem(network.PRESETS, "tiny", TINY)
    out = tmp_path / "my.decoder.safetensors"
    run = lambda *more: CliRunner().invoke(
        cli.app, ["train", "decoder", str(pictures), "-o", str(out), "--preset", "tiny", *more]
    )
    assert run("--steps", "1", "--batch", "1").exit_code == 0
    decoder = load_decoder(out)
    phi = decoder.features(torch.zeros(1, 4, 12, 12))
    assert next(decoder.bands(phi, 30, 40)).shape == (3, 30, 40)
    assert (tmp_path / "my.decoder.training.safetensors").exists()

    more = ["--start-from", str(out), "--steps", "2", "--batch", "1"]
    further = tmp_path / "further.safetensors"
    assert CliRunner().invoke(cli.app, ["train", "decoder", str(pictures), "-o", str(further), *more]).exit_code == 0
    before, after = decoder.autoencoder.state_dict(), load_decoder(further).autoencoder.state_dict()
    assert all(torch.equal(before[name], after[name]) == name.startswith("encoder") for name in before)

    picture, latents = tmp_path / "x.png", tmp_path / "z.safetensors"
    draw = lambda *arguments: CliRunner().invoke(cli.app, ["decode", *map(str, arguments), "--decoder", str(out)])
    assert draw(pictures / "a.png", "-o", picture, "--size", "50").exit_code == 0
    assert Image.open(picture).size == (50, 42)  # of 24 x 20 pixels, as the encoder sees 30 x 26
    save_file({"latent_tensor": torch.zeros(1, 4, 6, 12), "latent_format_version_0": torch.zeros(0)}, latents)
    assert draw(latents, "-o", picture, "--size", "50", "--crop", "10,0,20,25").exit_code == 0
    assert Image.open(picture).size == (20, 25)
    for wrong, message in (
        (torch.zeros(1, 16, 6, 6), "it was trained for other latents"),
        (torch.zeros(6), "holds no latents of one picture"),
        (torch.full((1, 4, 6, 6), torch.nan), "not finite"),
    ):
        save_file({"latent_tensor": wrong}, latents)
        assert message in str(draw(latents, "-o", tmp_path / "y.png").exception)
    assert "cannot be read as a picture" in str(
        draw(tmp_path / "my.decoder.sheet.png.txt", "-o", tmp_path / "y.png").exception
    )
    assert not (tmp_path / "y.png").exists()


def test_the_perceptual_distance_is_added_with_its_weight(pictures, tmp_path, monkeypatch):
    from pullback import trainable
    from pullback.generative.clip.perceptual import perceptual_distance
    from pullback.generative.infd import network

    monkeypatch.setitem(network.PRESETS, "tiny", TINY)

    def first(**more):
        torch.manual_seed(0)
        trainee = trainable.trainee_of("decoder", pictures, trainable.Options("tiny", batch=2, **more))
        batch = trainee.batch(np.random.default_rng(0))
        return trainee, batch, next(trainee.losses(batch, torch.Generator().manual_seed(0), 0))

    trainee, batch, plain = first()
    drawn, _ = trainee.networks["model"](batch.small, batch.places, batch.cell, torch.Generator().manual_seed(0))
    apart = perceptual_distance(drawn, batch.wanted)
    torch.testing.assert_close(first(perceptual=0.5)[2], plain + 0.5 * apart)
    assert apart.item() > 1e-3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "no model 'nothing'"),
        (("decoder", "--preset", "large"), "--preset is 'large'"),
        (("decoder", "--steps", "0"), "--steps is 0"),
        (("decoder", "--precision", "half"), "--precision is 'half'"),
        (("decoder", "--perceptual", "-1"), "--perceptual is -1"),
        (("decoder", "--lpips"), "LPIPS"),
        (("latent",), "--decoder"),
    ],
)
def test_wrong_options_are_one_sentence(pictures, tmp_path, arguments, message):
    from pullback import cli
    from typer.testing import CliRunner

    model, *more = arguments
    done = CliRunner().invoke(cli.app, ["train", model, str(pictures), "-o", str(tmp_path / "a.safetensors"), *more])
    assert message in str(done.exception) and not (tmp_path / "a.safetensors").exists()
