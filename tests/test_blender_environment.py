"""The Python that the extension makes for itself, with a Python and a pip that are played: no network, no Blender."""

from __future__ import annotations

import os
import re
import sys
import time
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from blender_addon import environment  # noqa: E402

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the Python that is played is a shell script")

PIP = """#!/bin/sh
echo "$@" >> {log}
case "$*" in
  *--upgrade*) {pip} ;;
  *--index-url*) {torch} ;;
  *) {pullback}; touch {folder}/bin/pullback ;;
esac
"""
BASE = """#!/bin/sh
{venv}
mkdir -p {folder}/bin
cp {pip} {folder}/bin/python
"""


@pytest.fixture
def played(tmp_path, monkeypatch):
    """A Creation whose commands do what the test says, in shell."""
    monkeypatch.setattr(environment, "_cpu_only", lambda: True)

    def play(**steps):
        steps = {"venv": ":", "pip": ":", "torch": ":", "pullback": ":", **steps}
        names = {"folder": tmp_path / "env", "log": tmp_path / "log", **steps}
        for name, text in (("pip", PIP), ("base", BASE)):
            (tmp_path / name).write_text(text.format(**names | ({"pip": tmp_path / "pip"} if name == "base" else {})))
            (tmp_path / name).chmod(0o755)
        wheel = tmp_path / "pullback-1-py3-none-any.whl"
        return environment.Creation(tmp_path / "env", wheel, "[diffusers]", base=str(tmp_path / "base"))

    return play


def _ended(task, seconds=20):
    deadline, seen = time.monotonic() + seconds, []
    while not task.poll():
        seen.append((getattr(task, "steps", [""])[task.step], getattr(task, "download", None)))
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return seen


def test_an_environment_is_made_step_by_step(played, tmp_path):
    task = played(torch="echo Downloading torch; echo Progress 100 of 200; sleep 0.3; echo Installing")
    seen = _ended(task)
    assert task.error == "" and task.lines == ["Downloading torch", "Installing"]
    assert ("Installing torch", (100, 200)) in seen and task.download is None
    assert environment.python_of(tmp_path / "env") == tmp_path / "env" / "bin" / "python"
    newer, torch, pullback = (tmp_path / "log").read_text().splitlines()
    assert newer.endswith("--upgrade pip>=24.1") and torch.endswith(f"--index-url {environment.CPU_ONLY} torch")
    assert pullback.endswith("pullback-1-py3-none-any.whl[diffusers]")


def test_with_a_card_torch_comes_from_the_usual_index(played, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "_cpu_only", lambda: False)
    task = played()
    _ended(task)
    assert task.steps == ["Making the environment", "Renewing pip", "Installing Pullback"]
    assert "--index-url" not in (tmp_path / "log").read_text()


def test_without_the_index_of_torch_the_usual_one_does(played, tmp_path):
    task = played(torch="echo 'WARNING: Retrying (Retry(total=4'; exit 1")
    _ended(task)
    assert task.error == "" and environment.python_of(tmp_path / "env")


@pytest.mark.parametrize(
    ("step", "printed", "said"),
    [
        ("venv", "created successfully because ensurepip is not available.", "python3-venv"),
        ("venv", "/usr/bin/python3.13: No module named venv", "python3-venv"),
        ("pip", "WARNING: Retrying (Retry(total=4, connect=None)) after NameResolutionError", "cannot be reached"),
        ("pullback", "ERROR: No matching distribution found for torch>=2.4", "3.10 to 3.13"),
        ("pullback", "OSError: [Errno 28] No space left on device", "the disk is full"),
        ("pullback", "something else", "python ended with code 3"),
    ],
)
def test_what_went_wrong_is_said_and_nothing_is_left(played, tmp_path, step, printed, said):
    task = played(**{step: f"echo '{printed}'; exit 3"})
    _ended(task)
    assert said in task.reason and printed in task.lines and not (tmp_path / "env").exists()


def test_it_can_be_stopped_and_nothing_is_left(played, tmp_path):
    task = played(torch="echo Collecting; exec sleep 60")
    while not (task.poll() or task.lines):
        time.sleep(0.01)
    task.end()
    _ended(task, 5)
    assert task.stopped and task.reason == "it was stopped" and not (tmp_path / "env").exists()
    assert "pullback-1" not in (tmp_path / "log").read_text(), "the next step was not begun"


def test_the_newest_wheel_of_the_extension_is_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "__file__", str(tmp_path / "environment.py"))
    assert environment.wheel() is None
    for version in ("0.1.0", "0.2.0"):
        (tmp_path / f"pullback-{version}-py3-none-any.whl").touch()
    assert environment.wheel() == tmp_path / "pullback-0.2.0-py3-none-any.whl"


def test_all_that_pullback_needs_is_asked_for():
    """Each of its dependencies is looked for under the name by which it is imported."""
    tomllib = pytest.importorskip("tomllib", reason="reads pyproject.toml")
    names = {"pillow": "PIL", "scikit-image": "skimage", "pypng": "png"}
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    needed = [re.match(r"[\w-]+", one)[0] for one in listed]
    assert {names.get(name, name.replace("-", "_")) for name in needed} == set(environment.NEEDED)


def test_an_empty_python_says_what_it_lacks(tmp_path):
    venv.create(tmp_path / "empty", symlinks=True)
    probe = environment.Probe(tmp_path / "empty" / "bin" / "python")
    _ended(probe)
    report = probe.report
    assert report is not None and report.pullback is None and report.missing == list(environment.NEEDED)


def test_a_python_says_what_it_has():
    probe = environment.Probe(Path(sys.executable))
    _ended(probe, 60)
    report = probe.report
    assert report is not None and report.python == ".".join(map(str, sys.version_info[:3]))
    assert report.ready == (report.pullback is not None and not report.missing)
