"""The extension's ComfyUI backend, against a server of a hundred lines that answers as ComfyUI does."""

from __future__ import annotations

import base64
import hashlib
import json
import socket
import struct
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from blender_addon import protocol, server, workflow  # noqa: E402
from blender_addon.protocol import ENDS, Cancelled, Error, Preview, Progress  # noqa: E402

SNAPSHOT = ROOT / "tests" / "snapshots" / "object_info.json"
PICTURE = b"\xff\xd8 a picture"
SETTINGS = {"prompt": "a red mushroom", "negative": "", "seed": 7, "steps": 4, "guidance": 2.0, "views": 4}
SHAPE = {"model": "toybox", "faces": 2000, "texture": 256, "resolution": 64}


class Comfy(BaseHTTPRequestHandler):
    """One ComfyUI: `server.plot` is what becomes of a prompt, `server.asked` what it was sent."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, data, code=200):
        body = data if isinstance(data, bytes) else json.dumps(data).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        path = self.path.partition("?")[0]
        self.server.asked.append(self.path)
        if path == "/ws":
            self.websocket()
        elif path.startswith("/object_info/Pullback"):
            self.answer({"PullbackFieldSampler": {}} if self.server.plot != "no nodes" else {})
        elif path.startswith("/object_info"):
            self.answer({"CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["sd15.safetensors"]]}}}})
        elif path == "/system_stats":
            self.answer({"system": {"comfyui_version": "0.27.0"}})
        elif path == "/queue":
            self.answer({"queue_running": [[0, "p1", {}]], "queue_pending": []})
        elif path == "/view":
            self.answer(b"the file")
        elif path == "/history/p1":
            mesh = {"filename": "x_1.glb", "subfolder": "pullback", "type": "output"}
            self.answer(
                {"p1": {"outputs": {"save": {"3d": [mesh]}, "save_field": {"text": ["pullback/x_1.safetensors"]}}}}
            )
        else:
            self.answer({})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.asked.append((self.path, body))
        if self.path == "/prompt" and self.server.plot == "refuse":
            error = {
                "class_type": "CheckpointLoaderSimple",
                "errors": [{"message": "Value not in list", "details": "x"}],
            }
            self.answer({"error": {"message": "invalid"}, "node_errors": {"model": error}}, 400)
        elif self.path == "/prompt":
            self.server.queued.set()
            self.answer({"prompt_id": "p1"})
        elif self.path == "/upload/image":
            self.answer({"name": "uploaded.safetensors"})
        else:
            self.answer({})

    def websocket(self):
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.send_response(101)
        for name, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
            self.send_header(name, value)
        self.end_headers()
        self.server.queued.wait(10)
        say = lambda kind, **data: self.frame(
            1, json.dumps({"type": kind, "data": {"prompt_id": "p1", **data}}).encode()
        )
        self.frame(9, b"ping")
        say("executing", node="sample")
        say("progress", node="sample", value=1, max=4)
        self.frame(2, struct.pack(">II", 1, 1) + PICTURE)
        if self.server.plot == "fail":
            say("execution_error", exception_message="toybox cannot draw\n  this")
        elif self.server.plot == "break":
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        elif self.server.plot == "wait":
            time.sleep(10)
            return
        say("progress", node="sample", value=4, max=4)
        say("executing", node="mesh")
        say("execution_success")
        self.close_connection = True

    def frame(self, opcode, payload):
        """A frame in two pieces, the second of them as long as it needs to be."""
        size = len(payload)
        length = bytes([size]) if size < 126 else struct.pack(">BH", 126, size)
        self.wfile.write(bytes([0x80 | opcode]) + length + payload)
        self.wfile.flush()


@pytest.fixture
def comfy():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Comfy)
    made.daemon_threads = True
    made.plot, made.asked, made.queued = "", [], threading.Event()
    made.address = f"http://127.0.0.1:{made.server_address[1]}"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield made
    made.shutdown()
    made.server_close()


def job(out, kind="object", **options):
    return protocol.job("1", kind, str(out), SETTINGS, {**SHAPE, **options})


def heard(client, until=ENDS, seconds=20):
    messages, end = [], time.monotonic() + seconds
    while not any(isinstance(message, until) for message in messages):
        messages += client.poll()
        assert time.monotonic() < end, messages
        time.sleep(0.02)
    return messages


def test_a_job_is_done_with_progress_preview_and_files(comfy, tmp_path):
    client = server.Server(comfy.address)
    client.submit(job(tmp_path / "x.glb"))
    messages = heard(client)
    assert [(m.move, m.total, m.stage) for m in messages if isinstance(m, Progress)][-3:] == [
        (1, 4, "sampling"), (4, 4, "sampling"), (0, 0, "mesh and texture"),
    ]  # fmt: skip
    assert any(isinstance(m, Preview) for m in messages)
    assert messages[-1].files == {
        "mesh": str(tmp_path / "x.glb"),
        "field": str(tmp_path / "x.glb.field.safetensors"),
    }
    assert (tmp_path / "x.glb").read_bytes() == b"the file"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["x.glb", "x.glb.field.safetensors"]
    assert client.jobs == {} and not client.alive


def test_the_preview_is_the_picture_that_came(comfy, tmp_path):
    comfy.plot = "wait"
    client = server.Server(comfy.address)
    client.submit(job(tmp_path / "x.glb"))
    path = heard(client, Preview)[-1].path
    assert Path(path).read_bytes() == PICTURE
    client.stop()


@pytest.mark.parametrize(
    ("plot", "words"),
    [
        ("no nodes", "does not have Pullback's nodes"),
        ("refuse", "CheckpointLoaderSimple: Value not in list"),
        ("fail", "toybox cannot draw this"),
        ("break", "closed the connection"),
    ],
)
def test_what_goes_wrong_is_said_in_one_sentence(comfy, tmp_path, plot, words):
    comfy.plot = plot
    client = server.Server(comfy.address)
    client.submit(job(tmp_path / "x.glb"))
    error = heard(client)[-1]
    assert isinstance(error, Error) and words in error.text and "\n" not in error.text
    assert error.hint and not error.resumable


def test_a_server_that_is_not_there(tmp_path):
    client = server.Server("http://127.0.0.1:9")
    client.submit(job(tmp_path / "x.glb"))
    assert "no ComfyUI answers at http://127.0.0.1:9" in heard(client)[-1].text
    with pytest.raises(ValueError, match="no ComfyUI answers"):
        server.check("127.0.0.1:9")
    with pytest.raises(ValueError, match="is not the address"):
        server.check("ftp://here")


def test_cancelling_interrupts_our_job_and_no_other(comfy, tmp_path):
    comfy.plot = "wait"
    client = server.Server(comfy.address)
    client.submit(job(tmp_path / "x.glb"))
    heard(client, Preview)
    start = time.monotonic()
    client.cancel("1")
    assert isinstance(heard(client)[-1], Cancelled) and time.monotonic() - start < 2
    posted = {entry[0]: entry[1] for entry in comfy.asked if isinstance(entry, tuple)}
    assert json.loads(posted["/interrupt"]) == {"prompt_id": "p1"} and json.loads(posted["/queue"]) == {
        "delete": ["p1"]
    }


def test_remeshing_uploads_the_field(comfy, tmp_path):
    field = tmp_path / "f.safetensors"
    field.write_bytes(b"a field")
    client = server.Server(comfy.address)
    client.submit(job(tmp_path / "x.glb", "mesh", field=str(field)))
    assert heard(client)[-1].files["field"] == str(field)
    posted = {entry[0]: entry[1] for entry in comfy.asked if isinstance(entry, tuple)}
    assert b"a field" in posted["/upload/image"]
    assert json.loads(posted["/prompt"])["prompt"]["field"]["inputs"] == {"file": "uploaded.safetensors"}


def test_the_test_button_says_what_it_found(comfy):
    assert server.check(comfy.address) == "ComfyUI 0.27.0 has Pullback's nodes and 1 checkpoints"
    assert server.known_checkpoints() == ["toybox", "sd15.safetensors"]


@pytest.mark.parametrize("kind", ["object", "panorama", "image", "tile", "mesh"])
@pytest.mark.parametrize("more", [{}, {"eta": 0.75, "repaint": [1, 2]}])
@pytest.mark.parametrize("model", ["toybox", "sd15.safetensors"])
def test_workflows_fit_the_nodes(kind, more, model):
    """Every input of our nodes is given, by its right name, with an allowed value."""
    if not SNAPSHOT.exists():
        pytest.skip(f"{SNAPSHOT} is not there")
    known = json.loads(SNAPSHOT.read_text())
    size = {"panorama": {"width": 64, "projection": "sphere"}, "image": {"size": 64}, "tile": {"size": 64}}.get(
        kind, {}
    )
    made = workflow.graph(
        protocol.job("1", kind, "/x", SETTINGS | more, SHAPE | size | {"model": model, "field": "f"}), "f"
    )
    for node in made.values():
        if node["class_type"] not in known:
            assert not node["class_type"].startswith("Pullback"), node["class_type"]
            continue
        inputs = known[node["class_type"]]["inputs"]
        required = {entry["name"] for entry in inputs if not entry["optional"]}
        assert required <= node["inputs"].keys() <= {entry["name"] for entry in inputs}, node
        for value in node["inputs"].values():
            if isinstance(value, list):
                assert value[0] in made


def test_what_this_end_says_is_in_the_users_language(tmp_path):
    client = server.Server("http://127.0.0.1:9", translate=lambda text: f"translated: {text}")
    client.submit(job(tmp_path / "x.glb"))
    error = heard(client)[-1]
    assert error.text.startswith("translated: no ComfyUI answers at http://127.0.0.1:9 (")
    assert error.hint.startswith("translated: ")
