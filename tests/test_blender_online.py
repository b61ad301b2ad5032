"""Online access, with the bpy wheel: switched off, no ComfyUI server of another machine is asked for anything."""

from __future__ import annotations

import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

bpy = pytest.importorskip("bpy", reason="needs Blender as a module: pip install bpy==5.0.1 (Python 3.11)")
sys.path.insert(0, str(Path(__file__).parents[1]))

import blender_addon  # noqa: E402
from blender_addon import backend, jobs, preferences, questions, server  # noqa: E402

ELSEWHERE, HERE = "http://comfy.example.org:8188", "http://127.0.0.1:9"


@pytest.fixture
def asked(tmp_path, monkeypatch):
    """Every address that was asked; the extension at work with online access off and a server of the test's choice."""
    addresses = []

    def refuse(request, **_):
        addresses.append(request.full_url)
        raise OSError("nobody is there")

    monkeypatch.setattr(urllib.request, "urlopen", refuse)
    monkeypatch.setattr(preferences, "user_folder", lambda name: tmp_path)
    mine = SimpleNamespace(server=ELSEWHERE, interpreter="", texture="PACKED")
    monkeypatch.setattr(preferences, "get", lambda: mine)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.preferences.system.use_online_access = False
    blender_addon.register()
    settings = bpy.context.scene.pullback
    settings.prompt, settings.model = "a red mushroom", "SERVER"
    yield SimpleNamespace(addresses=addresses, mine=mine)
    blender_addon.unregister()


def test_a_server_elsewhere_is_not_asked(asked):
    """Neither by a job nor by Test, and one sentence says what to switch on."""
    with pytest.raises(RuntimeError, match="on another machine: switch on Allow Online Access"):
        bpy.ops.pullback.generate_object()
    (job,) = jobs.shown()
    assert job.status == "FAILED" and job.wants_preferences
    with pytest.raises(RuntimeError, match="on another machine: switch on Allow Online Access"):
        bpy.ops.pullback.test_server()
    assert asked.addresses == [] and questions.of("server") is None


def test_it_is_asked_once_that_is_allowed(asked):
    bpy.context.preferences.system.use_online_access = True
    with pytest.raises(RuntimeError, match="no ComfyUI answers"):
        bpy.ops.pullback.generate_object()
    assert asked.addresses and all(address.startswith(ELSEWHERE) for address in asked.addresses)


def test_a_server_on_this_machine_needs_no_leave(asked):
    asked.mine.server = HERE
    with pytest.raises(RuntimeError, match="no ComfyUI answers"):
        bpy.ops.pullback.generate_object()
    assert asked.addresses and all(address.startswith(HERE) for address in asked.addresses)


def test_access_that_is_taken_away_ends_the_job(asked, monkeypatch):
    """A job in the middle of its work stops at the next look."""
    bpy.context.preferences.system.use_online_access = True
    monkeypatch.setattr(server, "_Talk", lambda *_: SimpleNamespace(stopped=SimpleNamespace(set=lambda: None)))
    request = {"kind": "object", "settings": {"prompt": "a ball", "seed": 1}, "options": {"model": "comfyui:toybox"}}
    job = jobs.add(request, {"scene": "Scene", "location": (0, 0, 0)})
    jobs._advance()
    assert job.status == "RUNNING"
    bpy.context.preferences.system.use_online_access = False
    jobs._advance()
    assert job.status == "FAILED" and "Allow Online Access" in job.message and backend._server is None


@pytest.mark.parametrize(
    ("address", "local"),
    [
        ("http://127.0.0.1:8188", True), ("localhost:8188", True), ("http://[::1]:8188/", True), ("0.0.0.0:8188", True),
        ("http://192.168.1.5:8188", False), ("https://comfy.example.org", False), ("http://localhost.example.org", False),
        ("http://[::", False), ("", False),
    ],
)  # fmt: skip
def test_what_is_on_this_machine(address, local):
    assert server.local(address) is local
