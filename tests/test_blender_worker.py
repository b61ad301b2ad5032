"""The extension's end of the worker's pipes, against a stand-in that fails in every way on request."""

from __future__ import annotations

import os
import sys
import time
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from blender_addon import environment, protocol, worker  # noqa: E402
from blender_addon.protocol import ENDS, Awake, Cancelled, Done, Error, Hello, Progress, Ready, Silent  # noqa: E402


@pytest.fixture
def client(monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "stand_in"))
    made = worker.Worker(sys.executable)
    yield made
    made.stop()


def _job(folder, prompt, id="1", **more):
    return protocol.job(id, "object", str(folder / f"{id}.glb"), {"prompt": prompt, "seed": 7}, **more)


def _until(client, wanted, seconds=30):
    """Every message up to the first of a wanted type; how long it took."""
    start, heard = time.monotonic(), []
    while time.monotonic() - start < seconds:
        heard += client.poll()
        if any(isinstance(message, wanted) for message in heard):
            return heard, time.monotonic() - start
        time.sleep(0.02)
    raise AssertionError(f"none of {wanted} in {heard}")


def _end(client):
    """The message in which a job ends."""
    return _until(client, ENDS)[0][-1]


def test_a_job_is_done_and_a_second_takes_the_same_process(client, tmp_path):
    client.submit(_job(tmp_path, "a red ball"))
    client.submit(_job(tmp_path, "a blue ball", "2"))
    heard, _ = _until(client, Done)
    assert [type(m) for m in heard if isinstance(m, Hello | Ready)] == [Hello, Ready]
    assert [m.move for m in heard if isinstance(m, Progress)] == [1, 2, 3, 4, 5, 6]
    assert Path(heard[-1].files["mesh"]).is_file()
    heard, _ = _until(client, Done)
    assert heard[-1].id == "2" and not any(isinstance(m, Hello) for m in heard) and client.jobs == {}


def test_nothing_waits(client, tmp_path):
    """What the window calls returns at once, also where the process does not read."""
    client.submit(_job(tmp_path, "hang"))
    _until(client, Progress)
    for call in (
        client.poll,
        lambda: client.submit(_job(tmp_path, "x" * 1_000_000, "2")),
        lambda: client.cancel("1"),
        client.stop,
    ):
        start = time.monotonic()
        call()
        assert time.monotonic() - start < 0.05


@pytest.mark.parametrize(
    ("prompt", "said"),
    [
        ("die", "was killed (SIGKILL)"),
        ("exit", "with exit code 3"),
        ("rubbish", "not a message: 'Traceback: this is no JSON'"),
    ],
)
def test_a_lost_process_is_told_with_its_log_and_the_run_goes_on(client, tmp_path, prompt, said):
    client.submit(_job(tmp_path, prompt))
    client.submit(_job(tmp_path, "a red ball", "2"))
    heard, took = _until(client, ENDS)
    error = heard[-1]
    assert (type(error), error.id, error.resumable) == (Error, "1", True) and took < 5
    assert said in error.text and "Resume" in error.hint and f"log: object {prompt}" in error.log
    assert isinstance(_end(client), Done), "the next job gets a process of its own"


def test_resume_goes_on_where_the_process_was_killed(client, tmp_path):
    client.submit(_job(tmp_path, "die"))
    assert isinstance(_end(client), Error)
    client.submit(_job(tmp_path, "die", resume=True))
    heard, _ = _until(client, Done)
    assert [m.move for m in heard if isinstance(m, Progress)] == [4, 5, 6]


def test_a_mistake_is_not_a_loss(client, tmp_path):
    client.submit(_job(tmp_path, "unicorn"))
    error = _end(client)
    assert error.text == "toybox cannot draw this" and error.hint == "" and not error.resumable and client.alive


def test_silence_is_told_taken_back_and_ended(client, tmp_path, monkeypatch):
    assert worker.SILENT_SECONDS <= 5
    client.start()
    _until(client, Ready)
    monkeypatch.setattr(worker, "SILENT_SECONDS", 0.9)
    client.submit(_job(tmp_path, "pause"))
    heard, _ = _until(client, Done)
    assert [type(m) for m in heard if isinstance(m, Silent | Awake)] == [Silent, Awake]
    monkeypatch.setattr(worker, "HUNG_SECONDS", 1.7)
    client.submit(_job(tmp_path, "hang", "2"))
    heard, _ = _until(client, ENDS)
    silent = next(m for m in heard if isinstance(m, Silent))
    assert silent.hint and silent.log and heard[-1].resumable and not client.alive
    assert "has not answered" in heard[-1].text


@pytest.mark.parametrize("prompt", ["slow", "deaf", "hang"])
def test_cancel_takes_a_second(client, tmp_path, prompt):
    client.submit(_job(tmp_path, prompt))
    client.submit(_job(tmp_path, "a red ball", "2"))
    client.submit(_job(tmp_path, "a blue ball", "3"))
    while not (tmp_path / "1.glb.run").exists():
        time.sleep(0.02)
    client.cancel("1")
    client.cancel("3")
    start, ended = time.monotonic(), {}
    while len(ended) < 3:
        for message in client.poll():
            if isinstance(message, ENDS):
                ended[message.id] = (type(message), time.monotonic() - start)
        time.sleep(0.02)
    assert {id: kind for id, (kind, _) in ended.items()} == {"1": Cancelled, "2": Done, "3": Cancelled}
    assert ended["1"][1] < 2


def test_another_version_is_refused_in_words(client, tmp_path, monkeypatch):
    monkeypatch.setenv("STAND_IN_PROTOCOL", "2")
    client.submit(_job(tmp_path, "a red ball"))
    error = _end(client)
    assert "version 2" in error.text and "version 1" in error.text and "same release" in error.text
    assert not client.alive


def test_an_interpreter_that_is_none(client, tmp_path):
    client.python = str(tmp_path / "no-python")
    client.submit(_job(tmp_path, "a red ball"))
    error = _end(client)
    assert "cannot be started" in error.text and "no-python" in error.text and "Test" in error.hint


def test_an_interpreter_without_pullback(client, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "pullback").mkdir()
    (tmp_path / "pullback" / "__init__.py").write_text("")
    client.submit(_job(tmp_path, "a red ball"))
    error = _end(client)
    assert error.text == f"the worker cannot load what it needs: {sys.executable} has no module named pullback"
    assert "Test" in error.hint and any("pullback.worker" in line for line in error.log)


def test_an_interpreter_that_lacks_a_part_of_pullback(client, tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "pullback").mkdir()
    (tmp_path / "pullback" / "__init__.py").write_text("")
    (tmp_path / "pullback" / "worker.py").write_text("import a_part_that_is_missing")
    client.submit(_job(tmp_path, "a red ball"))
    error = _end(client)
    assert "cannot load what it needs" in error.text and "named a_part_that_is_missing" in error.text
    assert "Test" in error.hint


def test_an_empty_environment_has_no_pullback(client, tmp_path, monkeypatch):
    """A Python of its own, made a moment ago, with nothing in it."""
    monkeypatch.delenv("PYTHONPATH")
    venv.create(tmp_path / "empty", symlinks=os.name == "posix")
    client.python = str(tmp_path / "empty" / environment.BIN / f"python{environment.EXE}")
    client.submit(_job(tmp_path, "a red ball"))
    error = _end(client)
    assert error.text.startswith("the worker cannot load what it needs: ") and "named pullback" in error.text


@pytest.mark.skipif(os.name != "posix", reason="asks the system about a process in the POSIX way")
def test_stop_leaves_no_process(client, tmp_path):
    client.submit(_job(tmp_path, "slow"))
    heard, _ = _until(client, Progress)
    pid = next(m.pid for m in heard if isinstance(m, Hello))
    client.stop()
    client.stop()
    deadline = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < deadline, "the process lives on"
        time.sleep(0.02)
    assert client.poll() == [] and client.jobs == {}


def test_file_names():
    assert protocol.slug("A red Mushroom!") == "a-red-mushroom" and protocol.slug("../..") == "untitled"
    assert protocol.slug("é/ü") == "é-ü" and len(protocol.slug("x " * 200)) <= 60
    assert protocol.slug("蘑菇" * 50) == "蘑菇" * 20, "three bytes each"
