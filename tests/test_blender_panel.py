"""What the panels draw, with the bpy wheel: without asking the disk, the PATH or the network, and only what is new."""

from __future__ import annotations

import builtins
import io
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender as a module: pip install bpy==5.0.1 (Python 3.11)")
sys.path.insert(0, str(Path(__file__).parents[1]))

import blender_addon  # noqa: E402
from blender_addon import disk, environment, job, jobs, labels, panel, preferences, questions, windows  # noqa: E402
from blender_addon.job import State  # noqa: E402
from blender_addon.protocol import Progress  # noqa: E402

FORBIDDEN = (
    (os, "stat"), (os, "lstat"), (os, "scandir"), (os, "listdir"), (os, "mkdir"), (os, "access"), (os, "open"),
    (builtins, "open"), (io, "open"), (shutil, "which"), (socket, "socket"), (socket, "getaddrinfo"), (subprocess, "Popen"),
)  # fmt: skip


class Layout:
    """A layout that takes everything; of an operator's button it asks whether it can be pressed, as Blender does."""

    def __init__(self, context, texts=None):
        self.context, self.texts = context, [] if texts is None else texts

    def __getattr__(self, name):
        return self._part

    def _part(self, *_, **__):
        return Layout(self.context, self.texts)

    def panel(self, *_, **__):
        return self._part(), self._part()

    def label(self, text="", **_):
        self.texts.append(text)

    def progress(self, factor=0.0, text="", **_):
        self.texts.append((factor, text))

    def operator(self, name, **_):
        kind = getattr(bpy.types, "PULLBACK_OT_" + name.removeprefix("pullback."))
        if hasattr(kind, "poll"):
            kind.poll(self.context)
        return SimpleNamespace()


@pytest.fixture
def context(tmp_path, monkeypatch):
    """The extension at work in an empty file; a context with an object that it made, and a place to draw to."""
    monkeypatch.setattr(preferences, "user_folder", lambda name: tmp_path)
    monkeypatch.setattr(labels, "scale", lambda: 1.0)  # it is 0 without a window
    bpy.ops.wm.read_factory_settings(use_empty=True)
    blender_addon.register()
    obj = bpy.data.objects.new("a ball", None)
    obj["pullback_field"] = "/nowhere/a.glb.field.safetensors"
    region = SimpleNamespace(width=300)
    yield SimpleNamespace(scene=bpy.context.scene, object=obj, selected_objects=[], region=region, window=None)
    blender_addon.unregister()


def draw(context, **mine):
    """Draw all panels and the page of the preferences; every text of it."""
    layout = Layout(context)
    for kind in panel.CLASSES:
        if not hasattr(kind, "poll") or kind.poll(context):
            kind.draw(SimpleNamespace(layout=layout), context)
    page = {"interpreter": "", "diffusers": False, "server": "http://127.0.0.1:8188", "texture": "PACKED", **mine}
    preferences.PullbackPreferences.draw(SimpleNamespace(layout=layout, **page), context)
    return layout.texts


def looked():
    """Look at the disk once, as the timer does where there is a window; when it looks again."""
    assert disk._tick() == disk.SOON
    while (again := disk._tick()) == disk.SOON:
        pass
    return again


def a_job(**more):
    request = {"kind": "object", "settings": {"prompt": "a ball", "seed": 1}, "options": {"model": "toybox"}}
    return job.Job(1, request, {"scene": "Scene", "location": (0, 0, 0)}, Path("/nowhere/a.glb"), **more)


@pytest.mark.parametrize("model", ["TOYBOX", "FOLDER", "SERVER"])
def test_drawing_asks_neither_disk_nor_path_nor_network(context, monkeypatch, model):
    """Whatever there is to show: no Python, a run that was left, a job at work, one that failed, and all questions asked."""
    context.scene.pullback.model = model
    looked()
    jobs.queue[:] = [
        a_job(status=State(status), message="m", log=["l"]) for status in ("LEFT", "RUNNING", "READY", "FAILED")
    ]
    questions.ask("test", environment.Probe(Path(sys.executable)))
    questions.ask("server", environment.Question(lambda: "well"))
    questions.wait()
    disk.seen["python"] = None

    def refuse(*told, **_):
        raise AssertionError(f"drawing asks for {told}")

    for module, name in FORBIDDEN:
        monkeypatch.setattr(module, name, refuse)
    try:
        texts = draw(context)
    finally:
        monkeypatch.undo()
        jobs.queue.clear()
    assert (model == "SERVER") != ("No Python with Pullback yet" in texts)


def test_a_python_that_is_there_is_shown_once_it_was_looked_for(context, monkeypatch):
    """Before the first look nothing is claimed; afterwards what was found, and a new one once it is there."""
    found = [None]
    monkeypatch.setattr(environment, "find", lambda *_: found[0])
    assert not [text for text in draw(context) if "Python with Pullback" in str(text)]
    assert looked() == disk.AGAIN and "No Python with Pullback yet" in draw(context)
    found[0] = Path("/opt/env/bin/python")
    assert looked() is None
    assert "Found: /opt/env/bin/python" in draw(context) and "No Python with Pullback yet" not in draw(context)


def test_a_source_that_the_disk_fails_holds_up_no_other(context, monkeypatch):
    def refuse():
        raise OSError("gone")

    monkeypatch.setattr(environment, "find", lambda *_: Path("/opt/env/bin/python"))
    monkeypatch.setitem(disk.sources, "unused", refuse)
    assert looked() is None and disk.seen == {"python": Path("/opt/env/bin/python")}
    monkeypatch.setitem(disk.sources, "unused", lambda: refuse)
    assert looked() is None and disk.seen == {"python": Path("/opt/env/bin/python")}


def test_what_to_expect_of_a_model_is_said_and_true(context):
    from pullback.generative.toybox import words

    known = f"{len(words.NOUNS)} objects, {len(words.COLOURS)} colors, {len(words.LANDSCAPES)} landscapes"
    assert known in " ".join(map(str, draw(context)))
    context.scene.pullback.model = "FOLDER"
    told = " ".join(map(str, draw(context)))
    assert "graphics card" in told and known not in told


def test_only_what_has_changed_is_drawn_anew(context, monkeypatch):
    drawn = []
    monkeypatch.setattr(windows, "redraw", lambda kind="VIEW_3D": drawn.append(kind))
    jobs.queue[:] = [a_job(status=State.RUNNING, stage="sampling", move=1, total=6)]
    try:
        for _ in range(5):
            jobs._redraw_if_changed()
        assert drawn == ["VIEW_3D"]
        jobs.queue[0].move = 2
        jobs._redraw_if_changed()
        assert drawn == ["VIEW_3D"] * 2
    finally:
        jobs.queue.clear()
    drawn.clear()
    questions.ask("server", environment.Question(lambda: "well"))
    questions.wait()
    del drawn[:]
    questions._look()
    assert drawn == []
    looked()
    assert drawn == ["VIEW_3D", "PREFERENCES"]
    looked()
    assert drawn == ["VIEW_3D", "PREFERENCES"], "nothing else was found"


def test_the_preferences_say_what_a_python_without_pullback_lacks(context, tmp_path):
    import venv

    venv.create(tmp_path / "empty", symlinks=os.name == "posix")
    questions.ask("test", environment.Probe(tmp_path / "empty" / environment.BIN / f"python{environment.EXE}"))
    questions.wait()
    told = " ".join(text for text in draw(context) if isinstance(text, str))
    assert "Pullback is not installed in it: install it with its pip, or create an environment" in " ".join(
        told.split()
    )
    assert "Missing: torch" in told


@pytest.mark.parametrize("model", ["toybox", "comfyui:toybox"])
def test_the_bar_is_never_full_before_the_end_and_says_what_is_done(context, model):
    """Sampling fills nine tenths; mesh and texture come after it, though worker and server count them, too."""
    made = a_job(status=State.RUNNING)
    made.request["options"]["model"] = model
    shown = []
    told = [("loading the model", 0, 30), ("sampling", 15, 30), ("sampling", 30, 30), ("mesh and texture", 0, 0),
            ("mesh and texture", 30, 30), ("writing", 1, 4)]  # fmt: skip
    for stage, move, total in told:
        jobs._take(made, Progress(stage=stage, move=move, total=total))
        shown.append((made.fraction, made.progress_text))
    fractions = [fraction for fraction, _ in shown]
    assert fractions == sorted(fractions) and fractions[:3] == [0, 0.45, 0.9] and fractions[-1] < 1, shown
    assert [text for _, text in shown[3:]] == ["Mesh and texture", "Mesh and texture", "Writing"]
