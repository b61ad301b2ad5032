"""The command line as its users meet it: what it makes, what it says, and what it leaves behind."""

from __future__ import annotations

import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import trimesh
from filelock import FileLock
from PIL import Image
from pullback import cli, errors, files, storage, tasks
from pullback.generative.toybox.model import ToyboxModel
from pullback.geometry.sphere import directions
from pullback.version import VERSION


def _run(monkeypatch, capsys, *words):
    """Exit code and standard error of a command."""
    monkeypatch.setattr(sys, "argv", ["pullback", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    return stop.value.code, capsys.readouterr().err


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    return tmp_path


def test_an_image_of_any_size(here, monkeypatch, capsys):
    code, _ = _run(monkeypatch, capsys, "image", "a red ball", "-o", "a.png", "--steps", 2, "--size", 96)
    assert code == 0 and Image.open("a.png").size == (96, 96)
    assert sorted(p.name for p in here.iterdir()) == ["a.png", "a.png.field.safetensors"]
    assert _run(monkeypatch, capsys, "render", "a.png.field.safetensors", "-o", "whole.png", "--size", 96)[0] == 0
    assert (
        _run(
            monkeypatch,
            capsys,
            "render",
            "a.png.field.safetensors",
            "-o",
            "b.png",
            "--size",
            96,
            "--crop",
            "10,20,30,40",
        )[0]
        == 0
    )
    whole, part = np.asarray(Image.open("whole.png")).astype(int), np.asarray(Image.open("b.png")).astype(int)
    assert np.array_equal(whole, np.asarray(Image.open("a.png"))) and np.abs(whole[20:60, 10:40] - part).max() <= 1


@pytest.mark.parametrize(("projection", "height"), [("sphere", 64), ("cylinder", 16)])
def test_a_panorama_closes(here, monkeypatch, capsys, projection, height):
    """The picture is as smooth across the seam as elsewhere, and the field has equal values on both sides of it."""
    options = ("--steps", 2, "--width", 128, "--views", 2, "--projection", projection)
    assert _run(monkeypatch, capsys, "panorama", "sea at noon", "-o", "p.png", *options)[0] == 0
    picture = np.asarray(Image.open("p.png")).astype(int)
    assert picture.shape == (height, 128, 3)
    jumps = np.abs(picture - np.roll(picture, 1, axis=1)).mean((0, 2))  # the first is from the last column to column 0
    assert jumps[0] <= 1.2 * jumps[1:].max() and jumps[1:].mean() > 0.1, "the seam shows, or there is nothing to see"
    field = storage.load_field(here / "p.png.field.safetensors")
    column = lambda left: field.diffrep.picture(field.params, height, 128, (0, left, height, 1))
    assert torch.allclose(column(0), column(128), atol=1e-4), "a whole turn later it is another column"
    y = torch.linspace(-1, 1, 9)
    if projection == "sphere":
        places = [directions(torch.full_like(y, turn), y) for turn in (-math.pi, math.pi)]
    else:  # where the turn begins, and the last number before it ends
        places = [torch.stack([torch.full_like(y, turn), y], -1) for turn in (0.0, 1 - 2**-24)]
    left, right = (field.diffrep.at(field.params, each) for each in places)
    assert torch.allclose(left, right, atol=1e-4)


def test_an_object_is_a_glb_that_opens(here, monkeypatch, capsys):
    options = ("--steps", 3, "--views", 3, "--guidance", 1, "--texture", 64, "--faces", 600)
    code, err = _run(monkeypatch, capsys, "generate", "a red ball", "-o", "x.glb", *options)
    assert code == 0, err
    assert sorted(p.name for p in here.iterdir()) == ["x.glb", "x.glb.field.safetensors", "x.glb.turntable.png"]
    scene = trimesh.load("x.glb")
    mesh = next(iter(scene.geometry.values()))
    assert len(mesh.faces) <= 700 and mesh.visual.material.baseColorTexture.size == (64, 64)
    assert (
        _run(monkeypatch, capsys, "mesh", "x.glb.field.safetensors", "-o", "y.glb", "--texture", 64, "--faces", 600)[0]
        == 0
    )
    assert Path("y.glb").stat().st_size > 1000
    assert (
        _run(
            monkeypatch,
            capsys,
            "render",
            "x.glb.field.safetensors",
            "-o",
            "v.png",
            "--size",
            "40x30",
            "--view",
            "90,10",
        )[0]
        == 0
    )
    assert Image.open("v.png").size == (40, 30)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["image", ""], "the prompt is empty"),
        (["image", "red " * 600], "the prompt has 2400 characters; it may have 2000"),
        (["image", "red " * 30], "the prompt has 30 words that toybox knows, but at most 11 fit"),
        (["image", "red car", "--negative", "red " * 600], "the negative prompt has 2400 characters; it may have 2000"),
        (
            ["image", "red car", "--negative", "red " * 30],
            "the negative prompt has 30 words that toybox knows, but at most 11 fit",
        ),
        (["image", "red \udcff car"], "the prompt is not UTF-8"),
        (["image", "red car", "--negative", "\udcff"], "the negative prompt is not UTF-8"),
        (["image", "red", "car"], "(car): put quotes around a prompt"),
        (["image", "unicorn"], "does not know 'unicorn'"),
        (["image", "red car", "--size", "0"], "--size is 0"),
        (["image", "red car", "--size", "-5"], "--size is -5"),
        (["image", "red car", "--steps", "1000000"], "steps is 1000000"),
        (["image", "red car", "--steps", "many"], "--steps"),
        (["image", "red car", "--eta", "2"], "eta is 2"),
        (["image", "red car", "--guidance", "nan"], "guidance is nan"),
        (["image", "red car", "--repaint", "1,2"], "give an eta"),
        (["image", "red car", "--repaint", "x"], "2 whole numbers"),
        (
            ["image", "red car", "--repaint", f"{'9' * 300},2", "--eta", "1"],
            "repaint is (999999999999... (300 digits), 2)",
        ),
        (
            ["image", "red car", "--repaint", f"{'9' * 5000},2", "--eta", "1"],
            "(5000 digits),2'; it takes 2 whole numbers",
        ),
        (
            ["image", "red car", "--repaint", f"1,{'9' * 999}", "--eta", "1"],
            "repeats 999999999999... (999 digits) times",
        ),
        (["image", "red car", "--seed", "9" * 300], "seed is 999999999999... (300 digits)"),
        (["image", "red car", "--repaint", "1.5,2", "--eta", "1"], "whole numbers"),
        (["image", "red car", "--repaint", "1,1000000000", "--eta", "1"], "at most"),
        (["image", "red car", "--solver", "magic"], "one of adam"),
        (["image", "red car", "--model", "no/such"], "no/such"),
        (["image", "red car", "--model", ""], "the model's name is empty"),
        (["image", "red car", "--device", "abacus"], "abacus"),
        (["image", "red car", "-o", "a.jpg"], "should end in .png"),
        (["image", "red car", "-o", ".png"], "the output .png has nothing before .png"),
        (["image", "red car", "-o", ""], "the output is empty or this folder"),
        (["image", "red car", "-o", "folder.png"], "the output folder.png is a folder"),
        (["image", "red car", "-o", "taken.png"], "taken.png.run is a folder"),
        (["image", "red car", "-o", "broken.png", "--resume"], "is not a whole run (broken.png.run cannot be read"),
        (["image", "red car", "-o", "n" * 230 + ".png"], "has 234 bytes; it may have 200"),
        (["image", "red car", "-o", "n" * 300 + ".png"], "has 304 bytes; it may have 200"),
        (["image", "red car", "-o", "\udcff.png"], "is not UTF-8"),
        (["image", "red car", "-o", "nowhere/a.png"], "does not exist"),
        (["panorama", "sea", "--projection", "torus"], "sphere or cylinder"),
        (["generate", "red car", "--solver", "gauss-newton"], "gauss-newton needs"),
        (["render", "no.safetensors"], "does not exist"),
        (["render", "junk.safetensors"], "not a safetensors file"),
        (["render", "a.png"], "give a.png.field.safetensors"),
        (["mesh", "some/b.GLB"], "give some/b.GLB.field.safetensors"),
        (["mesh", "field.safetensors"], "no surface"),
        (["render", "field.safetensors", "--size", "4x4x4"], "WIDTHxHEIGHT"),
        (["render", "field.safetensors", "--size", "1k"], "WIDTHxHEIGHT"),
        (["render", "field.safetensors", "--size", "9" * 5000], "(5000 digits)'; it takes WIDTHxHEIGHT or one number"),
        (["render", "field.safetensors", "--size", "70000"], "--size is 70000; it must be between 1 and 65536"),
        (
            ["render", "field.safetensors", "--view", "90,0"],
            "this field has no sides, only a 3D field has: leave out --view",
        ),
        (
            ["render", "object.safetensors", "--view", "20,180"],
            "the elevation, must be between -90 and 90",
        ),
        (["render", "object.safetensors", "--view", "up"], "2 numbers"),
        (["render", "field.safetensors", "--size", "64", "--crop", "60,0,10,10"], "does not lie within"),
        (["dance"], "dance"),
    ],
    ids=lambda value: "-".join(value)[:40] if isinstance(value, list) else "",
)
def test_mistakes_get_one_line(here, monkeypatch, capsys, words, said):
    for junk in ("junk.safetensors", "broken.png.run"):
        Path(junk).write_bytes(b"\x80\x04 not a tensor")
    image = tasks.recipe("image", ToyboxModel(), tasks.Settings("red car")).diffrep
    storage.save_field(here / "field.safetensors", storage.Field(image, image.init(storage.generator(0))))
    solid = tasks.recipe("generate", ToyboxModel(), tasks.Settings("red car")).diffrep
    storage.save_field(here / "object.safetensors", storage.Field(solid, solid.init(storage.generator(0))))
    for folder in ("folder.png", "taken.png.run"):
        Path(folder).mkdir()
    monkeypatch.setattr(tasks, "sample", lambda *_: pytest.fail("the mistake was found only after the work had begun"))
    before = sorted(p.name for p in here.iterdir())
    code, err = _run(monkeypatch, capsys, *words)
    assert code in (1, 2) and said in err and "Traceback" not in err
    assert len(err.strip().splitlines()) == 1 and len(err) < 400
    assert sorted(p.name for p in here.iterdir()) == before, "something was left behind"


def test_a_view_from_any_azimuth(here, monkeypatch, capsys):
    """Turntables count on past 360 degrees; a number too large for that is still a direction."""
    solid = tasks.recipe("generate", ToyboxModel(), tasks.Settings("red car")).diffrep
    storage.save_field(here / "object.safetensors", storage.Field(solid, solid.init(storage.generator(0))))
    for azimuth in ("30", "750", "1e308"):
        words = ("render", "object.safetensors", "-o", f"{azimuth}.png", "--size", 16, "--view", f"{azimuth},20")
        assert _run(monkeypatch, capsys, *words)[0] == 0
    assert Path("30.png").read_bytes() == Path("750.png").read_bytes()


def test_many_unknown_words_get_a_short_note(here, monkeypatch, capsys):
    monkeypatch.setattr(tasks, "sample", lambda *_: (_ for _ in ()).throw(ValueError("enough")))
    unknown = " ".join(["unicorn"] * 50 + [f"gryphon{i}x" for i in range(50)])
    code, err = _run(monkeypatch, capsys, "image", f"red car {unknown}"[:1900], "-o", "a.png")
    note = next(line for line in err.splitlines() if line.startswith("note: toybox does not know"))
    assert code == 1 and note.count("unicorn") == 1 and note.endswith("and 46 more: left out")


def test_no_words_at_all_print_the_help(here, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pullback"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    assert stop.value.code == 0 and said.err == "" and len(said.out.splitlines()) > 10
    assert re.search("panorama +Sample a picture all around", said.out) and "any image diffusion\n  model" in said.out


def test_the_version(here, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pullback", "--version"])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    assert stop.value.code == 0 and capsys.readouterr().out == f"pullback {VERSION}\n"


def test_nan_from_a_model(here, monkeypatch, capsys):
    monkeypatch.setattr(ToyboxModel, "denoiser", lambda *a: lambda x, sigma, cond: x * float("nan"))
    code, err = _run(monkeypatch, capsys, "image", "red car", "-o", "a.png", "--steps", 2)
    assert code == 1 and "not finite" in err and not Path("a.png").exists()


def test_torch_out_of_memory():
    """On the CPU, torch raises a plain RuntimeError."""
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60)
    assert str(errors.sentence(refused.value)).startswith("out of memory")
    assert errors.sentence(RuntimeError("shapes do not match")) is None


def test_a_full_disk(here, monkeypatch, capsys):
    def full(path):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(files, "_flush", full)
    code, err = _run(monkeypatch, capsys, "image", "red car", "-o", "a.png", "--steps", 2, "--size", 16)
    assert code == 1 and "No space left on device" in err and list(here.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder that nobody can write to: /proc on Linux")
def test_an_unwritable_folder(here, monkeypatch, capsys):
    code, err = _run(monkeypatch, capsys, "image", "red car", "-o", "/proc/a.png")
    assert code == 1 and "/proc cannot be written" in err and "Traceback" not in err


def test_two_runs_on_one_output(here, monkeypatch, capsys):
    with FileLock("a.png.lock"):
        code, err = _run(monkeypatch, capsys, "image", "red car", "-o", "a.png")
    assert code == 1 and "another run is writing a.png" in err and not Path("a.png").exists()


STEPS = 20  # enough of them that a run is not over before a busy machine has interrupted it
COMMAND = ("image", "red car", "--steps", str(STEPS), "--size", "48", "--eta", "0.5")


def _start(out):
    code = "import torch; torch.set_num_threads(1); from pullback.cli import main; main()"
    resume = ["--resume"] if Path(out + ".run").exists() else []
    environment = os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])}
    command = [sys.executable, "-c", code, *COMMAND, "-o", out, *resume]
    # A process that a shell starts in the background ignores Ctrl-C, and so do its children. These must not ignore it.
    restore = None if os.name == "nt" else lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, preexec_fn=restore)


def _moves(path):
    return storage.json.loads(storage.read(path, storage.RUN_FORMAT)[1]["numbers"])["move"]


def _interrupt(out, how, after=2):
    process, run = _start(out), Path(out + ".run")
    deadline = time.monotonic() + 120
    while not (run.exists() and _moves(run) >= after):
        assert process.poll() is None and time.monotonic() < deadline, "the run ended before it could be interrupted"
        time.sleep(0.01)
    process.send_signal(how)
    err = process.communicate()[1]
    assert not Path(out).exists() and 2 <= _moves(run) < STEPS
    return process.returncode, err


def test_interrupted_runs_end_in_the_same_bytes(here):
    """One undisturbed run, one killed with -9, one stopped by Ctrl-C: after --resume, the same files."""
    assert _start("whole.png").wait(300) == 0
    assert _interrupt("killed.png", signal.SIGKILL)[0] == -signal.SIGKILL
    code, err = _interrupt("stopped.png", signal.SIGINT)
    assert code == 130 and "--resume" in err and "Traceback" not in err
    for name in ("killed", "stopped"):
        assert _start(f"{name}.png").wait(300) == 0
        assert Path(f"{name}.png").read_bytes() == Path("whole.png").read_bytes()
        one, other = (storage.load_field(Path(f"{n}.png.field.safetensors")).params for n in (name, "whole"))
        assert all(torch.equal(one[k], other[k]) for k in one)
    left = {p.name for p in here.iterdir()}
    assert left == {f"{n}.png{end}" for n in ("whole", "killed", "stopped") for end in ("", ".field.safetensors")}


def test_resuming_with_other_settings_is_refused(here, monkeypatch, capsys):
    recipe = tasks.recipe("image", ToyboxModel(), tasks.Settings("red car"))
    random = storage.generator(0)
    params = recipe.diffrep.init(random)
    from pullback.pull import start

    state = start(params, recipe.views, recipe.solver, random)
    agreed = tasks.settings_of_run("image", "toybox", tasks.Settings("red car", seed=5))
    storage.save_run(here / "a.png.run", state, agreed)
    code, err = _run(monkeypatch, capsys, "image", "red car", "-o", "a.png", "--resume")
    assert code == 1 and "seed 5 (now 0)" in err and Path("a.png.run").exists()


@pytest.mark.parametrize("command", ["render", "mesh"])
def test_what_is_not_sampled_leaves_an_unfinished_run_alone(here, monkeypatch, capsys, command):
    """It may be hours of work that somebody means to resume."""
    solid = tasks.recipe("generate", ToyboxModel(), tasks.Settings("red car")).diffrep
    storage.save_field(here / "field.safetensors", storage.Field(solid, solid.init(storage.generator(0))))
    out, small = ("a.png", ("--size", 16)) if command == "render" else ("a.glb", ("--texture", 16, "--faces", 100))
    for end in (".run", ".preview.png"):
        Path(out + end).write_text("hours")
    code, err = _run(monkeypatch, capsys, command, "field.safetensors", "-o", out, *small)
    assert code == 0, err
    assert all(Path(out + end).read_text() == "hours" for end in (".run", ".preview.png")) and Path(out).exists()


def test_replacing_an_unfinished_run_prints_a_note(here, monkeypatch, capsys):
    Path("a.png.run").write_text("hours")
    code, err = _run(monkeypatch, capsys, "image", "red car", "-o", "a.png", "--steps", 1, "--size", 16)
    assert code == 0 and "note: a.png.run, an unfinished run, is replaced; --resume would have continued it" in err


def test_words_are_listed():
    listed = subprocess.run([sys.executable, "-m", "pullback", "words"], capture_output=True, text=True, check=True,
                            env=os.environ | {"PYTHONPATH": str(Path(cli.__file__).parents[1])})  # fmt: skip
    assert "mushroom" in listed.stdout and "purple" in listed.stdout and "sunset" in listed.stdout


class StandIn(ToyboxModel):
    """Stands in for a latent model: three channels, two pixels per latent, a decoder whose pixels depend on neighbours."""

    def decode(self, signal):
        grown = torch.nn.functional.interpolate((signal / 2 + 0.5).clamp(0, 1), scale_factor=2)
        return torch.nn.functional.avg_pool2d(grown, 5, 1, 2, count_include_pad=True)


@pytest.fixture
def latent():
    model = object.__new__(StandIn)
    values = {"channels": 3, "scale": 2, "size": 32, "sigma_min": 0.02, "sigma_max": 40.0, "name": "stand"}
    for name, value in values.items():
        object.__setattr__(model, name, value)
    return model


def _assembled(field, height, width, model, crop=None):
    return torch.cat(list(tasks.bands(field, height, width, model, crop)), 1)


def test_latent_pictures_come_in_tiles_of_any_size(latent):
    """Odd sizes and odd crops are exact, tiles do not show, and a panorama's ends meet although the decoder pads."""
    recipe = tasks.recipe("image", latent, tasks.Settings("red car"))
    params = recipe.diffrep.init(storage.generator(0))
    params["out"] = 0.2 * torch.randn(params["out"].shape, generator=storage.generator(1))
    field = storage.Field(recipe.diffrep, params)
    whole = _assembled(field, 151, 171, latent)
    assert whole.shape == (3, 151, 171)
    at_once = latent.decode(recipe.diffrep.picture(params, 76, 86))[0, :, :151, :171]
    assert (whole - at_once).abs().max() < 1e-5
    part = _assembled(field, 151, 171, latent, (33, 71, 50, 61))
    assert (part - whole[:, 33:83, 71:132]).abs().max() < 1e-5
    sphere = tasks.recipe("panorama", latent, tasks.Settings("sea")).diffrep
    params = sphere.init(storage.generator(0))
    params["out"] = 0.2 * torch.randn(params["out"].shape, generator=storage.generator(1))
    turn = _assembled(storage.Field(sphere, params), 64, 128, latent)
    steps = (turn - turn.roll(1, -1)).abs().amax((0, 1))
    assert steps[0] <= 1.05 * steps[1:].max()


def test_an_object_through_a_model_without_alpha(latent):
    """A radiance field of raw features is decoded, meshed and baked."""
    model = latent
    recipe = tasks.recipe("generate", model, tasks.Settings("red car"))
    params = recipe.diffrep.init(storage.generator(0))
    params["density"] += 2
    params["features"][:, 0] += 0.8
    field = storage.Field(recipe.diffrep, params)
    mesh, texture = tasks.textured_mesh(field, model, faces=500, texture=64, resolution=32, views=8, view_size=64)
    assert mesh.is_watertight or len(mesh.faces) > 100
    assert texture[..., 0].mean() > texture[..., 1].mean() + 40
