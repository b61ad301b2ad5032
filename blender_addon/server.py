"""Server: runs the worker's jobs on a ComfyUI server with pullback's nodes. It has the interface of `worker.Worker`.

A job becomes an API workflow (`workflow`). Its progress and previews arrive over a websocket, and its files are downloaded.
A thread per job does this, and `poll()` returns the messages. Standard library only; does not import Blender.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import queue
import threading
import time
import urllib.parse
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import comfyui, websocket
from .complaint import Complaint, message_of
from .protocol import ENDS, Awake, Cancelled, Done, Error, Message, Outgoing, Preview, Progress, Silent
from .workflow import graph

LOOK = 1.5
"""Seconds between two checks whether the server still answers."""
PREVIEW, PREVIEW_WITH_TEXT = 1, 4
"""The types of ComfyUI's binary messages that contain a picture."""
STAGES = {
    "PullbackToyboxLoader": "loading the model", "CheckpointLoaderSimple": "loading the model",
    "PullbackFieldSampler": "sampling", "PullbackFieldSamplerSimple": "sampling",
    "PullbackFieldToMesh": "mesh and texture", "PullbackResolutionFreeDecode": "writing", "SaveImage": "writing",
    "PullbackSaveTexturedGlb": "writing", "PullbackSaveField": "writing",
}  # fmt: skip

Translate = Callable[[str], str]

_checkpoints: list[str] = []


def known_checkpoints() -> list[str]:
    """Return the models that the server had at the last `check`."""
    return ["toybox", *_checkpoints]


def check(address: str, translate: Translate = str) -> str:
    """Return a sentence about a server that works. Raise Complaint if it does not, with what to do."""
    comfyui.require_nodes(address)
    loader = comfyui.get(address, "/object_info/CheckpointLoaderSimple").get("CheckpointLoaderSimple", {})
    choices = loader.get("input", {}).get("required", {}).get("ckpt_name", [[]])
    names = choices[0] if isinstance(choices[0], list) else choices[1].get("options", [])
    _checkpoints[:] = [name for name in names if isinstance(name, str)]
    version = comfyui.get(address, "/system_stats").get("system", {}).get("comfyui_version", "")
    text = translate("ComfyUI {version} has Pullback's nodes and {count} checkpoints")
    return text.format(version=version, count=len(_checkpoints))


def local(address: str) -> bool:
    """Return whether a server is on this machine. Names are not looked up: any except localhost count as other machines."""
    try:
        host = urllib.parse.urlsplit(address if "://" in address else f"http://{address}").hostname or ""
        number = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return False
    return number.is_loopback or number.is_unspecified  # ComfyUI shows 0.0.0.0 as its address with --listen


class Server:
    """A ComfyUI server. No method waits for its answers.

    Args:
        address: The address, such as http://127.0.0.1:8188.
        translate: Translates the texts of this module.
    """

    def __init__(self, address: str, translate: Translate = str) -> None:
        self.address = address
        self._translate = translate
        self.jobs: dict[str, Outgoing] = {}
        self.ready = False
        self._talks: dict[str, _Talk] = {}
        self._incoming: queue.SimpleQueue[Message] = queue.SimpleQueue()

    @property
    def alive(self) -> bool:
        """Whether a job is in progress."""
        return bool(self._talks)

    def start(self) -> None:
        """Do nothing: the server is already running, or the first job reports that it is not."""

    def submit(self, job: Outgoing) -> None:
        """Send a job. The server queues it."""
        self.jobs[job["id"]] = job
        self._talks[job["id"]] = _Talk(self.address, job, self._incoming, self._translate)

    def cancel(self, id: str) -> None:
        """Stop a job. It ends with `Cancelled` within about a second."""
        if id in self._talks:
            self._talks[id].stopped.set()

    def poll(self) -> list[Message]:
        """Return the messages that have arrived since the last call."""
        messages = []
        while not self._incoming.empty():
            message = self._incoming.get()
            if message.id not in self.jobs:
                continue  # the job was dropped by `stop`
            self.ready = self.ready or isinstance(message, Progress | Preview | Done)
            if isinstance(message, ENDS):
                self.jobs.pop(message.id)
                self._talks.pop(message.id)
            messages.append(message)
        return messages

    def stop(self) -> None:
        """Interrupt all jobs and drop them."""
        for talk in self._talks.values():
            talk.stopped.set()
        self._talks.clear()
        self.jobs.clear()


class _Talk(threading.Thread):
    """The thread that runs one job on the server."""

    def __init__(self, address: str, job: Outgoing, messages: queue.SimpleQueue[Message], translate: Translate) -> None:
        super().__init__(daemon=True)
        self._translate = translate
        self.address, self.job, self._messages = address, job, messages
        self.stopped = threading.Event()
        self._log: list[str] = []
        self._began = time.monotonic()
        self._stage = "asking the server"
        self._looked = 0.0
        self._pending: threading.Thread | None = None
        self._answered = time.monotonic()
        self._silent = False
        self._gone = ""
        self.start()

    def _say(self, kind: type[Message], **values: Any) -> None:
        self._messages.put(kind(id=self.job["id"], **values))

    def run(self) -> None:
        try:
            self._say(Progress, stage=self._stage, move=0, total=0, seconds_left=None)
            comfyui.require_nodes(self.address)
            files = self._make()
            if files is None:
                self._say(Cancelled, resumable=False)
            else:
                self._say(Done, files=files)
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException) as error:
            if not isinstance(error, ValueError):
                error = Complaint("the ComfyUI server did not answer as expected: {reason}", reason=error)
            text, hint = (
                message_of(error, self._translate),
                self._translate("look at ComfyUI's console, then try again"),
            )
            self._say(Error, text=text, hint=hint, log=self._log[-12:], resumable=False)

    def _make(self) -> dict[str, str] | None:
        """Run the job. Return its files, or None if it was cancelled."""
        field = self._uploaded() if "field" in self.job["options"] else ""
        workflow, client = graph(self.job, field), uuid.uuid4().hex
        channel = websocket.Socket(f"{comfyui.base(self.address)}/ws?clientId={client}", comfyui.ANSWER)
        try:
            prompt = comfyui.submit(self.address, workflow, client)
            while not self.stopped.is_set():
                message = channel.receive(0.25)
                if message is None:
                    self._check_server()
                elif message[0] == websocket.BINARY:
                    self._picture(message[1])
                elif self._heard(json.loads(message[1]), workflow, prompt):
                    break
        finally:
            channel.close()
        if self.stopped.is_set():
            comfyui.interrupt(self.address, prompt)
            return None
        return self._fetched(prompt)

    def _heard(self, message: dict[str, Any], workflow: dict[str, Any], prompt: str) -> bool:
        """Handle a message from the server. Return whether the job is done; raise ValueError if it failed."""
        kind, data = message.get("type"), message.get("data") or {}
        self._answered = time.monotonic()
        if data.get("prompt_id") not in (None, prompt):
            return False
        self._log.append(f"{kind} {json.dumps(data)[:300]}")
        if kind == "executing" and data.get("node"):
            self._stage = STAGES.get(workflow.get(data["node"], {}).get("class_type", ""), self._stage)
            self._began = time.monotonic()
            self._say(Progress, stage=self._stage, move=0, total=0, seconds_left=None)
        elif kind == "progress" and data.get("max"):
            move, total = int(data["value"]), int(data["max"])
            taken = time.monotonic() - self._began
            left = taken / move * (total - move) if move else None
            self._say(Progress, stage=self._stage, move=move, total=total, seconds_left=left)
        elif kind == "execution_error":
            raise ValueError(" ".join(str(data.get("exception_message", "the workflow failed")).split()))
        elif kind == "execution_interrupted":
            raise Complaint("somebody interrupted the job on the server")
        return kind == "execution_success" or (kind == "executing" and data.get("node") is None and "node" in data)

    def _check_server(self) -> None:
        """Check every LOOK seconds whether the server still answers.

        The request runs in another thread. If it takes long, send `Silent`, and `Awake` once it is answered.

        Raises:
            Complaint: If the request has failed.
        """
        now = time.monotonic()
        if self._gone:
            raise Complaint(
                "the ComfyUI server at {address} is gone: {reason}", address=self.address, reason=self._gone
            )
        if self._pending is not None and not self._pending.is_alive():
            self._pending = None
            if self._silent:
                self._silent = False
                self._say(Awake)
        if self._pending is None and now - self._looked > LOOK:
            self._looked = now
            self._pending = threading.Thread(target=self._look, daemon=True)
            self._pending.start()
        elif self._pending is not None and now - self._looked > comfyui.ANSWER and not self._silent:
            self._silent = True
            self._say(Silent, text=self._translate("the ComfyUI server does not answer"),
                      hint=self._translate("wait, or cancel and look at its console"), log=self._log[-12:])  # fmt: skip

    def _look(self) -> None:
        try:
            comfyui.get(self.address, "/prompt", 60.0)
        except ValueError as error:
            self._gone = message_of(error, self._translate)

    def _picture(self, message: bytes) -> None:
        """Write a preview picture to a file beside the output."""
        kind = int.from_bytes(message[:4], "big")
        start = 8
        if kind == PREVIEW_WITH_TEXT:
            start += int.from_bytes(message[4:8], "big")
        elif kind != PREVIEW:
            return
        path = Path(self.job["out"] + ".preview.png")  # even if it is a JPEG: readers ignore the suffix
        path.write_bytes(message[start:])
        self._say(Preview, path=str(path))

    def _uploaded(self) -> str:
        """Upload the job's field file, and return its name on the server."""
        path = Path(self.job["options"]["field"])
        boundary = uuid.uuid4().hex
        head = (f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{uuid.uuid4().hex}.safetensors"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n")  # fmt: skip
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        answer = comfyui.request(self.address, "/upload/image", body, f"multipart/form-data; boundary={boundary}", 60.0)
        return json.loads(answer)["name"]

    def _fetched(self, prompt: str) -> dict[str, str]:
        """Download the files of a finished prompt: the mesh or picture to the job's `out`, and the field beside it."""
        outputs = comfyui.get(self.address, f"/history/{prompt}").get(prompt, {}).get("outputs", {})
        out, field = Path(self.job["out"]), Path(self.job["out"] + ".field.safetensors")
        files = {}
        for found in _files(outputs):
            name = found["filename"].lower()
            if name.endswith(out.suffix) and found.get("type") == "output":
                files["mesh" if out.suffix == ".glb" else "picture"] = comfyui.download(self.address, found, out)
            elif name.endswith(".safetensors"):
                files["field"] = comfyui.download(self.address, found, field)
        if "field" in self.job["options"]:
            files["field"] = self.job["options"]["field"]
        if len(files) < 2:
            raise Complaint("the server reports success, but its files are missing: are Pullback's nodes up to date?")
        Path(self.job["out"] + ".preview.png").unlink(missing_ok=True)
        return files


def _files(tree: Any) -> list[dict[str, Any]]:
    """Return the files that a workflow's outputs name, either as ComfyUI's dicts or, from Save Field, as paths in strings."""
    if isinstance(tree, str) and tree.endswith(".safetensors"):
        folder, _, name = tree.rpartition("/")
        return [{"filename": name, "subfolder": folder, "type": "output"}]
    if isinstance(tree, dict):
        if isinstance(tree.get("filename"), str):
            return [tree]
        tree = list(tree.values())
    return [found for part in tree for found in _files(part)] if isinstance(tree, list) else []
