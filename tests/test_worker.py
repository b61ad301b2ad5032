"""The worker as a process: the protocol of docs/worker.md, what it makes, and that it ends."""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from PIL import Image
from pullback import jobs, outputs, storage, tasks, worker
from pullback.generative.toybox.model import ToyboxModel
from pullback.outputs import RUN, beside
from pullback.representations import commands, of_command
from pullback.types import Cancelled

ROOT = Path(__file__).parents[1]
HELLO = {"type": "hello", "protocol": worker.PROTOCOL, "client": "test"}
QUICK = {"steps": 8, "eta": 0.5}


class Pipes:
    """A worker process; what it says comes by `next`, with the second in which it came."""

    def __init__(self, *first, greet=True):
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pullback.worker"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(ROOT / "core"), "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        self.heard: queue.Queue = queue.Queue()
        self.log: list[bytes] = []
        threading.Thread(target=self._read, daemon=True).start()
        threading.Thread(target=lambda: self.log.extend(self.process.stderr), daemon=True).start()
        for message in ([HELLO] if greet else []) + list(first):
            self.send(message)

    def _read(self):
        for line in self.process.stdout:
            self.heard.put((time.monotonic(), json.loads(line)))
        self.heard.put((time.monotonic(), None))

    def send(self, message):
        line = message if isinstance(message, bytes) else json.dumps(message).encode()
        self.process.stdin.write(line + b"\n")
        self.process.stdin.flush()

    def until(self, *types, id=None, move=None):
        """All messages up to one of these types (of a job, of a move)."""
        said = []
        while True:
            said.append(self.heard.get(timeout=300))
            message = said[-1][1]
            if message is None:
                raise AssertionError(f"the worker ended; it said {said} and logged {b''.join(self.log).decode()}")
            right = message["type"] in types and id in (None, message.get("id"))
            if right and (move is None or message.get("move") == move):
                return said

    def end(self, seconds=60):
        """Close its input; the exit code."""
        self.process.stdin.close()
        return self.process.wait(seconds)


@pytest.fixture
def started():
    made = []
    yield lambda *a, **k: made.append(Pipes(*a, **k)) or made[-1]
    for pipes in made:
        pipes.process.kill()
        pipes.process.wait()


def _image(out, id="1", size=48, resume=False, preview=0, **settings):
    return {"type": "job", "id": id, "kind": "image", "out": str(out), "resume": resume, "preview": preview,
            "settings": {"prompt": "a red car", **QUICK, **settings}, "options": {"size": size}}  # fmt: skip


def test_a_session(started, tmp_path):
    """Jobs of all kinds in one process, with progress, previews, notes, mistakes; then it ends with its input."""
    pipes = started()
    hello = pipes.until("ready")
    assert hello[0][1]["type"] == "hello" and hello[0][1]["protocol"] == 1 and hello[-1][1]["devices"][0] == "cpu"

    mesh = {"faces": 600, "texture": 64, "resolution": 48, "bake_views": 8, "bake_size": 64}
    settings = {"prompt": "a red zzgl ball", "steps": 3, "views": 3, "guidance": 1}
    out = tmp_path / "new" / "x.glb"
    pipes.send(
        {
            "type": "job",
            "id": "1",
            "kind": "object",
            "out": str(out),
            "settings": settings,
            "options": mesh,
            "preview": 0.01,
        }
    )
    said = [message for _, message in pipes.until("done", "error")]
    assert said[-1]["files"] == {
        "mesh": str(out),
        "field": f"{out}.field.safetensors",
        "picture": f"{out}.turntable.png",
    }
    assert sorted(p.name for p in out.parent.iterdir()) == ["x.glb", "x.glb.field.safetensors", "x.glb.turntable.png"]
    sampling = [m for m in said if m.get("stage") == "sampling"]
    assert [(m["move"], m["total"]) for m in sampling] == [(1, 3), (2, 3), (3, 3)] and sampling[-1]["seconds_left"] == 0
    assert sampling[0]["seconds_left"] > 0 and sampling[0]["residual"] > 0
    assert any(m["type"] == "preview" for m in said) and any("'zzgl'" in m["text"] for m in said if m["type"] == "note")

    field, world = said[-1]["files"]["field"], str(tmp_path / "p.png.field.safetensors")
    for job in (
        {"kind": "mesh", "out": str(tmp_path / "y.glb"), "options": {"field": field, **mesh}},
        {"kind": "panorama", "out": str(tmp_path / "p.png"), "settings": {"prompt": "sea at noon", "steps": 2, "views": 2},
         "options": {"width": 64}},
        {"kind": "picture", "out": str(tmp_path / "q.png"), "options": {"field": world, "width": 96}},
    ):  # fmt: skip
        pipes.send({"type": "job", "id": "2", **job})
        assert pipes.until("done", "error")[-1][1]["type"] == "done"
    assert (tmp_path / "y.glb").read_bytes() == out.read_bytes(), "the field's mesh is the same when made again"
    assert Image.open(tmp_path / "p.png").size == (64, 32) and Image.open(tmp_path / "q.png").size == (96, 48)

    for change, words in (
        ({"settings": {"prompt": "unicorn"}}, "does not know 'unicorn'"),
        ({"settings": {"prompt": "a car", "magic": 1}}, "the setting 'magic' is unknown"),
        ({"settings": {"prompt": "a car", "steps": "many"}}, "steps is 'many'"),
        ({"settings": {"prompt": "a car", "steps": 0}}, "steps is 0"),
        ({"options": {"size": 0}}, "size is 0; it must be between 1 and"),
        ({"options": {"colour": 0}}, "the option 'colour' is unknown"),
        ({"kind": "statue"}, "unknown kind 'statue'"),
        ({"out": "a.png"}, "must be an absolute path"),
        ({"out": str(tmp_path / "a.glb")}, "should end in .png"),
        (
            {"kind": "mesh", "out": str(tmp_path / "a.glb"), "options": {"field": "/no/field"}},
            "/no/field does not exist",
        ),
    ):
        pipes.send(_image(tmp_path / "a.png") | change)
        error = pipes.until("done", "error")[-1][1]
        assert (
            error["type"] == "error" and words in error["text"] and not error["resumable"] and "\n" not in error["text"]
        )
    assert not (tmp_path / "a.png").exists() and pipes.end() == 0


def test_killed_or_cancelled_runs_go_on_to_the_same_bytes(started, tmp_path):
    """One undisturbed run, one whose worker is killed with -9, one that is cancelled: resumed, all end alike."""
    pipes = started(_image(tmp_path / "whole.png"))
    pipes.until("done")
    pipes.send(_image(tmp_path / "cancelled.png", steps=30))
    pipes.send(_image(tmp_path / "waits.png", id="2"))
    pipes.until("progress", move=2)
    pipes.send({"type": "cancel", "id": "2"})
    pipes.send({"type": "cancel", "id": "1"})
    asked = time.monotonic()
    when, first = pipes.until("cancelled")[-1]
    assert first == {"type": "cancelled", "id": "1", "resumable": True} and when - asked < 1
    assert pipes.until("cancelled")[-1][1] == {"type": "cancelled", "id": "2", "resumable": False}
    assert not (tmp_path / "cancelled.png").exists()

    pipes.send(_image(tmp_path / "killed.png"))
    pipes.until("progress", move=3)
    pipes.process.send_signal(signal.SIGKILL)
    pipes.process.wait()
    assert not (tmp_path / "killed.png").exists()
    again = started(_image(tmp_path / "killed.png", resume=True))
    moves = [m["move"] for _, m in again.until("done") if m.get("stage") == "sampling"]
    assert 3 <= moves[0] <= 5 and moves[-1] == 8
    assert (tmp_path / "killed.png").read_bytes() == (tmp_path / "whole.png").read_bytes()
    one, other = (storage.load_field(tmp_path / f"{n}.png.field.safetensors").params for n in ("killed", "whole"))
    assert all(torch.equal(one[k], other[k]) for k in one)
    again.send(_image(tmp_path / "cancelled.png", steps=30, resume=True, seed=9))
    error = again.until("error")[-1][1]
    assert "other settings: seed 0 (now 9)" in error["text"]


def test_its_heart_beats_while_torch_loads_and_it_ends_at_once_with_its_input(started, tmp_path):
    pipes = started(_image(tmp_path / "a.png", steps=200))
    times = [when for when, _ in pipes.until("progress", move=2)]
    assert max(b - a for a, b in zip(times, times[1:], strict=False)) < 5, "a client would think that it hangs"
    start = time.monotonic()
    assert pipes.end() == 0 and time.monotonic() - start < 1
    assert not (tmp_path / "a.png").exists() and (tmp_path / "a.png.run").exists()


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([{**HELLO, "protocol": 2}], "version 1 of the protocol and was greeted in version 2"),
        ([_image("/tmp/a.png")], "the first message must be hello"),
        ([HELLO, b"GET / HTTP/1.1"], "does not understand"),
        ([HELLO, {"type": "dance"}], "of the type 'dance'"),
        ([HELLO, b"[]"], "does not understand"),
        ([HELLO, b"[" * 60_000], "nested too deeply"),
        ([HELLO, b"[" * 100_000], "more than 65536"),
        ([HELLO, b'{"type": "job", "id": "\\ud800"}'], "not JSON"),
    ],
)
def test_what_it_cannot_understand_it_refuses_in_words(started, lines, said):
    pipes = started(*lines, greet=False)
    assert said in pipes.until("error")[-1][1]["text"]
    assert pipes.process.wait(30) == worker.REFUSED


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({}, "missing required field kind"), ({"kind": "image"}, "missing required field out"),
        ({"kind": "image", "out": 3}, "Expected str, got int - at $.out"),
        ({"kind": "image", "out": "/x.png", "settings": [1]}, "$.settings"),
        ({"kind": "image", "out": "/x.png", "preview": -1}, "$.preview"),
        ({"kind": "image", "out": "/x.png", "colour": 1}, "does not know 'colour'"),
        ({"kind": "image", "out": "/x.png", "settings": {"prompt": "car", "seed": 10**400}}, "seed"),
    ],
)  # fmt: skip
def test_a_job_with_a_hole_is_refused_in_words(message, said):
    with pytest.raises(ValueError) as refused:
        jobs.perform({"type": "job", "id": "1", **message}, lambda message: None)
    assert said in str(refused.value)


def test_what_libraries_print_does_not_reach_the_pipe_and_a_missing_torch_is_said(tmp_path):
    """A torch that prints while it is loaded, by Python and past it, that reads its input, and that is not there."""
    code = "import os, sys; print('noise'); os.write(1, b'more noise'); assert os.read(0, 9) == b''"
    (tmp_path / "torch.py").write_text(f"{code}; raise ImportError('no torch here')")
    run = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from pullback import worker; worker.main()"
    environment = os.environ | {"PYTHONPATH": str(ROOT / "core")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", run], env=environment, **pipes) as process:
        said = [json.loads(line) for line in process.stdout]
        log = process.stderr.read()
    assert b"noise" in log and b"more noise" in log and process.returncode == worker.FAILED
    assert [m["type"] for m in said if m["type"] != "heartbeat"] == ["hello", "error"]
    assert "no torch here" in said[-1]["text"] and "pip install" in said[-1]["text"]


@pytest.mark.parametrize("guide", ["a red mushroom", [1], {"a": 1}])
def test_a_guide_that_is_no_list_of_texts_is_refused(tmp_path, guide):
    message = {
        "id": 1,
        "kind": "image",
        "out": str(tmp_path / "a.png"),
        "settings": {"prompt": "a car", "guide": guide},
    }
    with pytest.raises(ValueError, match="it must be a list of regions"):
        jobs.perform(message, lambda message: None)
    message["settings"]["guide"] = ["0,0,2,1: a car"]
    with pytest.raises(ValueError, match="outside the picture"):
        jobs.perform(message, lambda message: None)


def test_a_picture_leaves_an_unfinished_run_alone(tmp_path):
    image = tasks.recipe("image", ToyboxModel(), tasks.Settings("red car")).diffrep
    storage.save_field(tmp_path / "field", storage.Field(image, image.init(storage.generator(0))))
    (tmp_path / "a.png.run").write_text("hours")
    job = {
        "kind": "picture",
        "out": str(tmp_path / "a.png"),
        "options": {"field": str(tmp_path / "field"), "width": 16},
    }
    assert Path(jobs.perform(job, lambda message: None)["picture"]).exists()
    assert (tmp_path / "a.png.run").read_text() == "hours"


@pytest.mark.parametrize("kind", ["image", "object"])
def test_cancelled_while_it_is_written_out_a_run_stays_and_goes_on_from_its_end(tmp_path, kind):
    out = tmp_path / ("x.png" if kind == "image" else "x.glb")
    small = {"size": 48} if kind == "image" else {"faces": 100, "texture": 16, "resolution": 16}
    job = {"kind": kind, "out": str(out), "settings": {"prompt": "red ball", "steps": 2, "views": 1}, "options": small}
    stages = []

    def tick():
        if stages[-1] not in ("sampling", "loading the model"):
            raise Cancelled

    with pytest.raises(Cancelled):
        jobs.perform(job, lambda message: stages.append(message.stage), tick)
    assert not out.exists() and beside(out, RUN).exists()
    stages.clear()
    if kind == "image":  # two steps of an object have no surface yet
        jobs.perform(job | {"resume": True}, lambda message: stages.append(message.stage))
        assert "sampling" not in stages and out.exists() and not beside(out, RUN).exists()


def test_both_ends_and_the_page_speak_the_same_version():
    sys.path.insert(0, str(ROOT))
    from blender_addon import protocol

    page = (ROOT / "docs" / "worker.md").read_text(encoding="utf-8")
    assert protocol.VERSION == worker.PROTOCOL and f"**version {worker.PROTOCOL}**" in page
    for kind, wanted in options_of_jobs().items():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{kind}` |"))
        if kind != "mesh":
            found = set(re.findall(r"`(\w+)`", row.split("|")[3])) - {"sphere", "object"}
            assert wanted <= found, kind


def options_of_jobs() -> dict[str, set[str]]:
    """What every kind of job may set of its output."""
    kinds = {of_command(each)[0].noun or each: of_command(each)[0] for each in commands()}
    sampled = {noun: {each.name for each in outputs.file_settings(kind)} for noun, kind in kinds.items()}
    return sampled | {name: {each.name for each in made} for name, made in jobs.DERIVED.items()}
