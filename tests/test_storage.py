"""Field and run files come back as they were, and whatever else lies there is refused by name."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from pullback import storage
from pullback.diffreps.image import SirenImage
from pullback.diffreps.panorama import SirenCylinder, SirenSphere
from pullback.diffreps.radiance import VoxelRadiance
from pullback.fields.voxels import Voxels
from pullback.pull import State
from pullback.version import VERSION
from safetensors import SafetensorError
from safetensors.torch import save_file

TINY = {"width": 8, "depth": 1, "embedding": 4}
DIFFREPS = [
    SirenImage(**TINY),
    SirenCylinder(**TINY),
    SirenSphere(**TINY),
    VoxelRadiance(voxels=Voxels(resolution=4)),
    VoxelRadiance("latent", 4, voxels=Voxels(4, features=4)),
]


def _field(diffrep):
    return storage.Field(diffrep, diffrep.init(storage.generator(0)), "a red car", "toybox", 7)


@pytest.mark.parametrize("diffrep", DIFFREPS, ids=lambda d: type(d).__name__)
def test_fields_come_back(tmp_path, diffrep):
    field = _field(diffrep)
    storage.save_field(tmp_path / "f.safetensors", field)
    back = storage.load_field(tmp_path / "f.safetensors")
    assert back.diffrep == diffrep and (back.prompt, back.model, back.seed) == ("a red car", "toybox", 7)
    assert all(torch.equal(back.params[k], v) for k, v in field.params.items())


def _rewritten(tmp_path, **changes):
    path = tmp_path / "f.safetensors"
    storage.save_field(path, _field(DIFFREPS[0]))
    tensors, texts = storage.read(path, storage.FIELD_FORMAT)
    save_file(tensors, path, texts | changes)
    return path


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": "pullback-field-9"}, "format 'pullback-field-9'; this version reads 'pullback-field-1'"),
        ({"kind": "gaussians"}, "unknown kind 'gaussians'"),
        ({"config": '{"colour": 3}'}, "in a way that this version does not know"),
        ({"config": "{"}, "in a way that this version does not know"),
        ({"config": json.dumps({"width": 9})}, "does not hold the tensors"),
        ({"config": json.dumps({"width": 1 << 20})}, "Expected int <= 4096 - at \\$.width"),
        ({"config": "[1]"}, "in a way that this version does not know"),
        ({"config": json.dumps({"width": "8"})}, "Expected int, got str - at \\$.width"),
        ({"config": json.dumps({"width": -8})}, "Expected int >= 1 - at \\$.width"),
        ({"config": json.dumps({"size": 3})}, "Expected array, got int - at \\$.size"),
        ({"config": '{"bandwidth": NaN}'}, "is not JSON"),
        ({"seed": "x"}, "seed 'x'"),
        ({"seed": "9" * 400}, "seed '9"),
        ({"config": '{"width": ' + "9" * 400 + "}"}, "in a way that this version does not know"),
        ({"config": "[" * 50_000}, "nested too deeply"),
        ({"config": "[" * 100_000}, "more than 65536"),
        (
            {"kind": "voxel-radiance", "config": '{"voxels": {"resolution": 1048576}}'},
            r"<= 256 - at \$.voxels.resolution",
        ),
        ({"kind": "voxel-radiance", "config": '{"steps": 20000}'}, r"<= 1024 - at \$.steps"),
        ({"kind": "voxel-radiance", "config": '{"voxels": {"sharpness": -1.0}}'}, r"> 0.* at \$.voxels.sharpness"),
        (
            {"kind": "voxel-radiance", "config": '{"voxels": {"sharpnes": 1.0}}'},
            r"does not know 'sharpnes' at \$.voxels",
        ),
        ({"config": '{"depth": 16384}'}, r"<= 64 - at \$.depth"),
        ({"kind": "siren-cylinder", "config": '{"turn": 1}'}, "a turn of 1 columns is less than one view"),
    ],
)
def test_other_versions_are_refused(tmp_path, changes, said):
    with pytest.raises(ValueError, match=said):
        storage.load_field(_rewritten(tmp_path, **changes))


def test_damage_is_named(tmp_path):
    path = _rewritten(tmp_path)
    whole = path.read_bytes()
    for content in (b"", whole[:50], whole[:-10], b"\x80\x04\x95pickle"):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="truncated or not a safetensors file"):
            storage.load_field(path)
    with pytest.raises(ValueError, match="does not exist or is not a file"):
        storage.load_field(tmp_path)


@pytest.mark.parametrize("damage", [lambda p: p.double(), lambda p: p / 0], ids=["float64", "nan"])
def test_values_are_checked(tmp_path, damage):
    field = _field(DIFFREPS[0])
    storage.save_field(
        tmp_path / "f.safetensors", replace(field, params=field.params | {"bias": damage(field.params["bias"])})
    )
    with pytest.raises(ValueError, match="bias"):
        storage.load_field(tmp_path / "f.safetensors")


def _state():
    return State({"a": torch.randn(3)}, {"m.a": torch.randn(3), "count": torch.tensor(5.0)}, torch.randn(2, 2), torch.zeros(0),
                 4, storage.generator(3).get_state(), 77, 0.125)  # fmt: skip


@pytest.mark.parametrize("gone", ["noise", "random", "settings", "numbers"])
def test_a_run_file_with_a_hole_is_named(tmp_path, gone):
    path = tmp_path / "r.run"
    storage.save_run(path, _state(), {})
    tensors, texts = storage.read(path, storage.RUN_FORMAT)
    storage.write(path, *({k: v for k, v in part.items() if k != gone} for part in (tensors, texts)))
    with pytest.raises(ValueError, match=r"r\.run is not a whole run.*without --resume"):
        storage.load_run(path, {})


def test_a_host_s_texts_travel_with_a_field_and_change_nothing_about_it(tmp_path):
    path, field = tmp_path / "f.safetensors", _field(DIFFREPS[0])
    storage.save_field(path, field, {"prompt": '{"1": {}}', "workflow": "{}", "kind": "rubbish", "words": "rubbish"})
    loaded = storage.load_field(path)
    assert (loaded.kind, loaded.prompt, loaded.seed) == (field.kind, field.prompt, field.seed)
    _, texts = storage.read(path, storage.FIELD_FORMAT)
    assert texts["prompt"] == '{"1": {}}' and texts["workflow"] == "{}" and texts["pullback"] == VERSION
    assert storage.is_field(path) and not storage.is_field(tmp_path / "gone.safetensors")


def test_a_field_of_the_first_release_still_has_its_prompt(tmp_path):
    path = tmp_path / "f.safetensors"
    storage.save_field(path, _field(DIFFREPS[0]))
    tensors, texts = storage.read(path, storage.FIELD_FORMAT)
    del texts["words"]
    save_file(tensors, path, texts)
    assert storage.load_field(path).prompt == "a red car"


def test_the_version_is_the_package_s():
    packaged = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{VERSION}"\n' in packaged


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"numbers": '{"move": 1e999, "passes": 0, "residual": 0}'}, "out of range"),
        ({"numbers": '{"move": Infinity, "passes": 0, "residual": 0}'}, "not JSON"),
        ({"numbers": '{"move": -1, "passes": 0, "residual": 0}'}, "move"),
        ({"numbers": '{"move": 1000, "passes": 0, "residual": 0}'}, "it has done 1000 moves of 30"),
        ({"settings": "[" * 60_000}, "nested too deeply"),
        ({"settings": "[1]"}, "settings are not a JSON object"),
    ],
)
def test_a_run_file_that_cannot_be_is_named(tmp_path, changes, said):
    path = tmp_path / "r.run"
    storage.save_run(path, _state(), {})
    tensors, texts = storage.read(path, storage.RUN_FORMAT)
    storage.write(path, tensors, texts | changes)
    with pytest.raises(ValueError, match=rf"r\.run is not a whole run.*{said}.*without --resume"):
        storage.load_run(path, {}, moves=30)


@pytest.mark.parametrize(
    "part", [{"noise": torch.zeros(1, 1)}, {"params": {"b": torch.zeros(3)}}], ids=lambda part: next(iter(part))
)
def test_a_run_of_other_shapes_is_refused_before_it_is_read(tmp_path, part):
    storage.save_run(tmp_path / "r.run", replace(_state(), **part), {})
    with pytest.raises(ValueError, match=r"its tensors are not those of this run: (noise|params)"):
        storage.load_run(tmp_path / "r.run", {}, _state())


def test_a_run_that_holds_nan_is_named(tmp_path):
    storage.save_run(tmp_path / "r.run", replace(_state(), noise=torch.full((2, 2), float("nan"))), {})
    with pytest.raises(ValueError, match=r"r\.run.*not finite.*noise"):
        storage.load_run(tmp_path / "r.run", {})


def test_a_header_of_gigabytes_is_not_read(tmp_path):
    (tmp_path / "f.safetensors").write_bytes((1 << 40).to_bytes(8, "little") + b"{}")
    with pytest.raises(ValueError, match="truncated or not a safetensors file"):
        storage.load_field(tmp_path / "f.safetensors")


def test_a_run_of_another_version_is_not_continued(tmp_path, monkeypatch):
    storage.save_run(tmp_path / "r.run", _state(), {})
    monkeypatch.setattr(storage, "VERSION", "9.9")
    with pytest.raises(ValueError, match=r"\(now '9.9'\)"):
        storage.load_run(tmp_path / "r.run", {})


def test_runs_come_back_bit_for_bit(tmp_path):
    state = _state()
    storage.save_run(tmp_path / "r.run", state, {"prompt": "x", "repaint": (1, 2)})
    back = storage.load_run(tmp_path / "r.run", {"prompt": "x", "repaint": (1, 2)})
    assert (back.move, back.passes, back.residual) == (4, 77, 0.125)
    assert torch.equal(back.random, state.random) and torch.equal(back.noise, state.noise) and back.carry.numel() == 0
    assert torch.equal(back.params["a"], state.params["a"]) and torch.equal(back.solver["m.a"], state.solver["m.a"])
    with pytest.raises(ValueError, match=r"other settings: prompt 'x' \(now 'y'\)"):
        storage.load_run(tmp_path / "r.run", {"prompt": "y", "repaint": (1, 2)})


def test_a_full_disk_is_told_of_the_file_that_did_not_fit(tmp_path, monkeypatch):
    def full(*_):
        raise SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(storage, "save_file", full)
    with pytest.raises(OSError) as told:
        storage.save_field(tmp_path / "f.safetensors", _field(DIFFREPS[0]))
    assert (told.value.errno, told.value.filename) == (28, str(tmp_path / "f.safetensors"))


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "f.safetensors"
    storage.save_field(path, _field(DIFFREPS[0]))
    before = path.read_bytes()
    monkeypatch.setattr(storage, "save_file", lambda *a: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        storage.save_field(path, replace(_field(DIFFREPS[0]), seed=8))
    assert path.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["f.safetensors"]
