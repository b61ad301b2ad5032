"""Every setting of every command and job, just out of its range or of a wrong type: one sentence, and nothing is written."""

from __future__ import annotations

import io
import json
import sys

import pytest
from pullback import cli, jobs, outputs, representations, storage, tasks, worker
from pullback.generative.toybox.model import ToyboxModel
from pullback.representation import Setting
from pullback.settings import RUN

COMMANDS = representations.commands()


def _out_of_range(setting: Setting) -> list[float | str]:
    """Values of the right type that a setting refuses."""
    if setting.choices:
        return ["nonsense"]
    step = type(setting.default)(setting.step)
    return [type(setting.default)(setting.low) - step, type(setting.default)(setting.high) + step]


def _settings(command: str) -> dict[str, Setting]:
    """All settings of a sampling command, by name."""
    kinds = representations.of_command(command)
    own = {each.name: each for kind in kinds for each in kind.settings()}
    run = {name: each for name, each in RUN.items() if kinds[0].views or name != "views"}
    return run | {each.name: each for each in outputs.file_settings(kinds[0])} | own


@pytest.fixture
def here(tmp_path, monkeypatch):
    """An empty working folder in which nothing may be sampled or loaded."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    for module in (tasks, jobs):
        monkeypatch.setattr(module, "load_model", lambda *_: pytest.fail("the work had begun"))
    return tmp_path


def _refused(here, monkeypatch, capsys, *words: str) -> str:
    """What a command says that must be refused."""
    before = sorted(here.rglob("*"))
    monkeypatch.setattr(sys, "argv", ["pullback", *words])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    said = capsys.readouterr()
    lines = said.err.strip().splitlines()
    assert stop.value.code in (1, 2) and not said.out, words
    assert len(lines) == 1 and len(lines[0]) < 400 and "Traceback" not in said.err, (words, said.err)
    assert sorted(here.rglob("*")) == before, words
    return said.err


@pytest.mark.parametrize("command", COMMANDS)
def test_the_command_line_refuses_every_wrong_value(here, monkeypatch, capsys, command):
    for name, setting in _settings(command).items():
        option = "--" + name.replace("_", "-")
        kinds = representations.of_command(command)
        kind = next((each for each in kinds if setting in each.settings()), kinds[0])
        chosen = ["--" + kind.option, kind.choice] if len(kinds) > 1 else []
        for value in _out_of_range(setting):
            said = _refused(here, monkeypatch, capsys, command, "a blue fish", *chosen, option, f"{value}")
            assert name.replace("_", "-") in said and ("between" in said or "one of" in said), said
        if not setting.choices:
            for value in ("many", "", "1e999", "nan", *(["1.5"] if isinstance(setting.default, int) else [])):
                said = _refused(here, monkeypatch, capsys, command, "a blue fish", *chosen, option, value)
                assert name.replace("_", "-") in said, said


def test_mesh_and_render_refuse_every_wrong_value(here, monkeypatch, capsys):
    image = tasks.recipe("image", ToyboxModel(), tasks.Settings("red car")).diffrep
    storage.save_field(here / "f.safetensors", storage.Field(image, image.init(storage.generator(0))))
    for setting in outputs.MESH[:2]:
        for value in (*_out_of_range(setting), "many", "1.5"):
            said = _refused(here, monkeypatch, capsys, "mesh", "f.safetensors", f"--{setting.name}", f"{value}")
            assert setting.name in said
    monkeypatch.setattr(tasks, "load_model", lambda *_: ToyboxModel())
    for option, values in {"size": ("0", "65537", "-1", "1.5", "x", "4x", "1x2x3"), "view": ("1", "a,b", "0,91", "0,0,0"),
                           "crop": ("0,0,0,4", "-1,0,4,4", "0,0,2000,4", "0,0", "a,b,c,d")}.items():  # fmt: skip
        for value in values:
            assert option in _refused(here, monkeypatch, capsys, "render", "f.safetensors", f"--{option}={value}")


def _answer(job: dict) -> dict:
    """What a worker says to a job; exactly one message."""
    out = io.BytesIO()
    worker.Worker(io.BytesIO(), out)._work({"type": "job", "id": "1", **job})
    (line,) = out.getvalue().splitlines()
    return json.loads(line)


WRONG_TYPES = ("7", None, True, [], {}, [7], 10**400)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_worker_refuses_every_wrong_value(here, command):
    for kind in representations.of_command(command):
        job = {"kind": kind.noun or command, "out": str(here / "new" / f"a{representations.suffixes(kind)[0]}")}
        choice = {kind.option: kind.choice} if kind.choice else {}
        places = [("settings", each) for each in RUN.values()]
        places += [("options", each) for each in (*outputs.file_settings(kind), *kind.settings())]
        for place, setting in places:
            wrong = [each for each in WRONG_TYPES if not (setting.choices and each is None)]
            for value in (*_out_of_range(setting), *wrong, *([1.5] if isinstance(setting.default, int) else [])):
                given = {"settings": {"prompt": "a blue fish"}, "options": dict(choice)}
                given[place][setting.name] = value
                said = _answer(job | given)
                assert said["type"] == "error" and said["id"] == "1" and not said["resumable"], (setting.name, value)
                assert setting.name in said["text"] and "\n" not in said["text"] and len(said["text"]) < 400, said
                assert "a bug in pullback" not in said["text"], said
    assert not list(here.iterdir())


@pytest.mark.parametrize("kind", [*jobs.DERIVED, "image"])
@pytest.mark.parametrize("field", ["kind", "out", "settings", "options", "resume", "preview"])
def test_the_worker_refuses_jobs_of_another_form(here, kind, field):
    job = {"kind": kind, "out": str(here / "a.png"), "options": {}, "settings": {"prompt": "a blue fish"}}
    for value in (7, "x", [], [7], {"x": 1}, -1.5, "\ud800"):
        if (isinstance(value, str) and field in ("kind", "out")) or (field == "preview" and value == 7):
            continue  # of the right type
        said = _answer(job | {field: value})
        assert said["type"] == "error" and "a bug in pullback" not in said["text"], (field, value, said)
    assert not list(here.iterdir())


@pytest.mark.parametrize("kind", jobs.DERIVED)
def test_the_worker_refuses_wrong_meshes_and_pictures(here, kind):
    job = {"kind": kind, "out": str(here / f"a.{'glb' if kind == 'mesh' else 'png'}")}
    for setting in jobs.DERIVED[kind]:
        for value in (*_out_of_range(setting), *WRONG_TYPES, 1.5):
            said = _answer(job | {"options": {"field": "/no/field", setting.name: value}})
            assert said["type"] == "error" and setting.name in said["text"], said
    for options in (
        {},
        {"field": ""},
        {"field": 7},
        {"field": "/no/field", "model": 7},
        {"field": "/no/field", "size": 7},
    ):
        said = _answer(job | {"options": options})
        assert said["type"] == "error" and "a bug in pullback" not in said["text"], said
    assert not list(here.iterdir())
