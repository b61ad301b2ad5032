"""The benchmark of field decoders runs, and measures what it says. Its figures are in docs."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("accelerate", reason='pip install "pullback[train]"')

import decoders
from pullback.generative.infd import network
from pullback.generative.infd.decoder import FORMAT, FieldDecoder, describe
from pullback.generative.infd.network import Autoencoder, Config
from pullback.training.folder import PictureFolder
from safetensors.torch import save_file

TINY = Config(3, base=24, encoder=(8, 16), decoder=(16, 8), hidden=16)


@pytest.fixture
def folders(tmp_path, monkeypatch):
    """Pictures to train on, held-out ones of 96 pixels, and a decoder with random weights."""
    monkeypatch.setitem(network.PRESETS, "tiny", TINY)
    random = np.random.default_rng(0)
    for name, size in (("pictures", 64), ("held", 96)):
        (tmp_path / name).mkdir()
        for n in range(3):
            coarse = Image.fromarray(random.integers(0, 256, (8, 8, 3), dtype=np.uint8))
            coarse.resize((size, size)).save(tmp_path / name / f"{n}.png")
    torch.manual_seed(0)
    path = tmp_path / "a.decoder.safetensors"
    save_file(Autoencoder(TINY).state_dict(), path, {"format": FORMAT, "config": describe(TINY)})
    return tmp_path


def _rows(text: str) -> dict[str, list[float]]:
    """The rows of a table: name -> the numbers behind it."""
    rows = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ") and "---" not in line]
    return {name: [float(re.sub(" dB", "", each)) for each in rest] for name, *rest in rows[1:]}


def test_consistency_prints_three_ways(folders, capsys):
    decoders.consistency(folders / "a.decoder.safetensors", folders / "held", 48, 96)
    rows = _rows(capsys.readouterr().out)
    assert list(rows) == ["field decoder", "bicubic of its 24 pixels", "convolutions on enlarged latents"]
    assert all(len(values) == 2 and np.isfinite(values).all() for values in rows.values())
    assert rows["bicubic of its 24 pixels"][0] > 30  # smooth pictures reduce to themselves


def test_patches_and_a_decoder_of_one_size(folders, capsys):
    path = folders / "fixed.decoder.safetensors"
    decoders.train("fixed", folders / "pictures", path, 1, "tiny", size=48, batch=1)
    decoders.patches(folders / "a.decoder.safetensors", [folders / "held"], str(path), each=2, side=32)
    rows = _rows(capsys.readouterr().out)
    expected = ["field decoder", "its 24 pixels, bicubic", "its 24 pixels, lanczos", "trained at one size"]
    assert list(rows) == expected and all(values[0] == 96 and values[1] > 0 for values in rows.values())
    with pytest.raises(SystemExit, match="expected one of mixed, small, fixed"):
        decoders.train("large", folders / "pictures", path)


def test_patches_of_one_size_are_where_they_say(folders):
    trainee = decoders.OneSize(PictureFolder(folders / "held", 3), TINY, 2, side=16)
    trainee.size = 96
    rows, columns = np.mgrid[:96, :96]
    trainee.folder.draw = lambda random: (np.stack([rows, columns, rows], -1).astype(np.uint8), "")
    batch = trainee.batch(np.random.default_rng(0))
    true = ((batch.places + 1) / 2 * 96 - 0.5).movedim(-1, 1)
    torch.testing.assert_close((batch.wanted[:, :2] + 1) * 127.5, true, atol=1e-3, rtol=0)
    assert torch.equal(batch.cell, torch.full((2, 2), 2 / 96)) and batch.small.shape == (2, 3, 24, 24)


def test_both_arms_start_alike_and_are_not_trained_twice(folders, capsys):
    run = lambda: decoders.mixed(folders / "pictures", folders / "held", folders / "arms", 1, "tiny", 1, 2, 32)
    run()
    first = _rows(capsys.readouterr().out)
    assert list(first) == ["mixed sizes, 1 steps", "small sizes, 1 steps"]
    times = {path: path.stat().st_mtime_ns for path in (folders / "arms").glob("*.training.safetensors")}
    run()
    assert _rows(capsys.readouterr().out) == first and len(times) == 2
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())


def test_a_perfect_decoder_has_no_distance(folders, capsys):
    pictures = [decoders.shown(each) for each in decoders.held_out(folders / "held", 3)]
    blurred = [torch.nn.functional.avg_pool2d(each, 5, 1, 2) for each in pictures]
    decoders.report({"true": pictures, "blurred": blurred}, pictures, 32, 2)
    rows = [line.split(" | ") for line in capsys.readouterr().out.splitlines()]
    assert float(rows[0][2]) == 0 and rows[0][3].startswith("inf") and float(rows[1][2]) > 0


def test_plain_decoding_enlarges_latents(folders):
    field = FieldDecoder(Autoencoder(TINY).eval().requires_grad_(False), "tiny", {})
    z = torch.randn(1, 4, 12, 12, generator=torch.Generator().manual_seed(0))
    assert torch.equal(decoders.plain(field, z, 24), decoders.drawn(field, z, 24))
    assert decoders.plain(field, z, 48).shape == (3, 48, 48)
