"""Server: the worker's jobs, done by a ComfyUI that has pullback's nodes. It looks like `worker.Worker`.

A job becomes an API workflow (`graph`), its progress and previews come over the websocket, its files are fetched.
A thread does the talking; `poll()` hands over what has come. Standard library only; it knows no Blender.
"""

from __future__ import annotations

import http.client
import ipaddress
import json
import queue
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import descriptions, websocket
from .complaint import Complaint, message_of
from .descriptions import Kind, Makes
from .protocol import ENDS, Awake, Cancelled, Done, Error, Message, Outgoing, Preview, Progress, Silent

ANSWER = 4.0
"""Seconds within which a server that is well answers."""
LOOK = 1.5
"""Seconds between two questions whether it is still there."""
LARGEST = 1 << 30
"""Bytes of the largest file that is fetched."""
PREVIEW, PREVIEW_WITH_TEXT = 1, 4
"""The binary messages that hold a picture."""
STAGES = {
    "PullbackToyboxLoader": "loading the model", "CheckpointLoaderSimple": "loading the model",
    "PullbackFieldSampler": "sampling", "PullbackFieldSamplerSimple": "sampling",
    "PullbackFieldToMesh": "mesh and texture", "PullbackResolutionFreeDecode": "writing", "SaveImage": "writing",
    "PullbackSaveTexturedGlb": "writing", "PullbackSaveField": "writing",
}  # fmt: skip

MESH = {"resolution": "resolution", "faces": "faces", "texture": "texture", "bake_views": "views"}
"""The settings of a mesh, and what the node calls them."""

Translate = Callable[[str], str]

_checkpoints: list[str] = []


def known_checkpoints() -> list[str]:
    """The models that the server had when it was last asked."""
    return ["toybox", *_checkpoints]


def check(address: str, translate: Translate = str) -> str:
    """What to say of a server that is well. Complaint says what is wrong with it and what to do."""
    _require_nodes(address)
    loader = _get(address, "/object_info/CheckpointLoaderSimple").get("CheckpointLoaderSimple", {})
    choices = loader.get("input", {}).get("required", {}).get("ckpt_name", [[]])
    names = choices[0] if isinstance(choices[0], list) else choices[1].get("options", [])
    _checkpoints[:] = [name for name in names if isinstance(name, str)]
    version = _get(address, "/system_stats").get("system", {}).get("comfyui_version", "")
    text = translate("ComfyUI {version} has Pullback's nodes and {count} checkpoints")
    return text.format(version=version, count=len(_checkpoints))


def local(address: str) -> bool:
    """Whether a server is on this machine: nothing is asked, so names other than localhost are of others."""
    try:
        host = urllib.parse.urlsplit(address if "://" in address else f"http://{address}").hostname or ""
        number = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host)
    except ValueError:
        return False
    return number.is_loopback or number.is_unspecified  # 0.0.0.0 is what ComfyUI calls itself with --listen


def graph(job: Outgoing, field_file: str = "") -> dict[str, Any]:
    """The API workflow of a job; `field_file` is what Load Field calls the field of a mesh or picture job."""
    settings, options, kind = job.get("settings", {}), job["options"], job["kind"]
    model = options.get("model", "toybox")
    nodes: dict[str, Any] = {}

    def node(name: str, cls: str, **inputs: Any) -> str:
        nodes[name] = {"class_type": cls, "inputs": inputs}
        return name

    if model == "toybox":
        loader = node("model", "PullbackToyboxLoader")
    else:
        loader = node("model", "CheckpointLoaderSimple", ckpt_name=model)
    vae = [loader, 2]
    if kind in descriptions.DERIVED:
        field: list[Any] = [node("field", "PullbackLoadField", file=field_file), 0]
        solid, width = kind == "mesh", options.get("width")
    else:
        sampled = descriptions.kinds()[kind]
        field = _sampled(node, sampled, settings, options, loader, vae)
        node("save_field", "PullbackSaveField", field=field, filename_prefix="pullback/blender")
        solid, width = sampled.makes is Makes.OBJECT, options.get(sampled.usual.made[0].name)
    if solid:
        made = {name: options.get(name, each.default) for name, each in descriptions.mesh().items() if name in MESH}
        mesh = node("mesh", "PullbackFieldToMesh", field=field, level=10.0, vae=vae,
                    **{MESH[name]: value for name, value in made.items()})  # fmt: skip
        node("save", "PullbackSaveTexturedGlb", mesh=[mesh, 0], filename_prefix="pullback/blender")
    else:
        image = node("picture", "PullbackResolutionFreeDecode", field=field, width=width, height=0, left=0, top=0,
                     crop_width=0, crop_height=0, tile=512, vae=vae)  # fmt: skip
        node("save", "SaveImage", images=[image, 0], filename_prefix="pullback/blender")
    return nodes


def _fresh(kind: Kind, settings: dict[str, Any], options: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The node that describes the field, one for each title, and its inputs."""
    usual = kind.usual
    title = "".join(word.capitalize() if word.isupper() or word == "NeRF" else word for word in usual.title.split())
    same = [each for each in descriptions.known() if each.title == usual.title]
    own = {each.name: each for one in same for each in one.settings}
    inputs = {each.node or name: options.get(name, each.default) for name, each in own.items()}
    if "view_size" in own and usual.views:
        inputs["views"] = settings["views"]
    if len(same) > 1:
        inputs[usual.option] = options.get(usual.option, usual.choice)
    return f"Pullback{title}", {"seed": 0, **inputs}


def _sampled(
    node: Any, kind: Kind, settings: dict[str, Any], options: dict[str, Any], loader: str, vae: Any
) -> list[Any]:
    """The sampling part of a workflow; the field's socket."""
    model, clip, seed = [loader, 0], [loader, 1], settings.get("seed", 0)
    positive = node("positive", "CLIPTextEncode", clip=clip, text=settings["prompt"])
    negative = node("negative", "CLIPTextEncode", clip=clip, text=settings.get("negative", ""))
    cls, inputs = _fresh(kind, settings, options)
    fresh = node("fresh", cls, **inputs)
    sides: dict[str, Any] = {}
    if kind.makes is Makes.OBJECT and options.get("model", "toybox") != "toybox":
        words = node("sides", "PullbackViewPrompts", clip=clip, text=settings["prompt"])
        sides = {side: [words, i] for i, side in enumerate(("front", "side", "back", "overhead"))}
    jump, repeats = settings.get("repaint", (1, 1))
    eta, solver = settings.get("eta", 0.0), settings.get("solver", "adam")
    if eta == 0 and repeats == 1 and solver == "adam":
        simple = node(
            "sample", "PullbackFieldSamplerSimple", model=model, positive=[positive, 0], negative=[negative, 0],
            field=[fresh, 0], seed=seed, steps=settings["steps"], cfg=settings["guidance"], vae=vae, **sides,
        )  # fmt: skip
        return [simple, 0]
    noise = node("noise", "RandomNoise", noise_seed=seed)
    guider = node("guider", "CFGGuider", model=model, positive=[positive, 0], negative=[negative, 0],
                  cfg=settings["guidance"])  # fmt: skip
    sigmas = node("sigmas", "BasicScheduler", model=model, scheduler="normal", steps=settings["steps"], denoise=1.0)
    sampler = node("sample", "PullbackFieldSampler", noise=[noise, 0], guider=[guider, 0], sigmas=[sigmas, 0],
                   field=[fresh, 0], eta=eta, jump=jump, repeats=repeats, solver=solver, views=0, view_prompts="auto",
                   vae=vae, **sides)  # fmt: skip
    return [sampler, 0]


class Server:
    """A ComfyUI server at an address such as http://127.0.0.1:8188. `submit`, `cancel`, `stop` and `poll` return at once.

    translate: translates what this end has to say.
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
        """Whether anything is under way with it."""
        return bool(self._talks)

    def start(self) -> None:
        """Nothing to do: it runs already, or a job will say that it does not."""

    def submit(self, job: Outgoing) -> None:
        """Send a job; the server queues them."""
        self.jobs[job["id"]] = job
        self._talks[job["id"]] = _Talk(self.address, job, self._incoming, self._translate)

    def cancel(self, id: str) -> None:
        """Stop a job; `cancelled` comes within about a second."""
        if id in self._talks:
            self._talks[id].stopped.set()

    def poll(self) -> list[Message]:
        """The messages that came since the last call."""
        messages = []
        while not self._incoming.empty():
            message = self._incoming.get()
            if message.id not in self.jobs:
                continue  # of a job that was given up
            self.ready = self.ready or isinstance(message, Progress | Preview | Done)
            if isinstance(message, ENDS):
                self.jobs.pop(message.id)
                self._talks.pop(message.id)
            messages.append(message)
        return messages

    def stop(self) -> None:
        """Interrupt what runs, and listen no more."""
        for talk in self._talks.values():
            talk.stopped.set()
        self._talks.clear()
        self.jobs.clear()


class _Talk(threading.Thread):
    """One job's conversation with the server."""

    def __init__(self, address: str, job: Outgoing, say: queue.SimpleQueue[Message], translate: Translate) -> None:
        super().__init__(daemon=True)
        self._translate = translate
        self.address, self.job, self._queue = address, job, say
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

    def _say(self, kind: type[Message], **what: Any) -> None:
        self._queue.put(kind(id=self.job["id"], **what))

    def run(self) -> None:
        try:
            self._say(Progress, stage=self._stage, move=0, total=0, seconds_left=None)
            _require_nodes(self.address)
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
        """Run the job; the files that came of it, or None after a cancel."""
        field = self._uploaded() if "field" in self.job["options"] else ""
        workflow, client = graph(self.job, field), uuid.uuid4().hex
        channel = websocket.Socket(f"{_base(self.address)}/ws?clientId={client}", ANSWER)
        try:
            prompt = _prompt(self.address, workflow, client)
            while not self.stopped.is_set():
                message = channel.receive(0.25)
                if message is None:
                    if self._ended_meanwhile(prompt):
                        break
                elif message[0] == websocket.BINARY:
                    self._picture(message[1])
                elif self._heard(json.loads(message[1]), workflow, prompt):
                    break
        finally:
            channel.close()
        if self.stopped.is_set():
            _interrupt(self.address, prompt)
            return None
        return self._fetched(prompt)

    def _heard(self, message: dict[str, Any], workflow: dict[str, Any], prompt: str) -> bool:
        """Take in a message of the server; whether the job is done. ValueError where it failed."""
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

    def _ended_meanwhile(self, prompt: str) -> bool:
        """Now and then, in a thread of its own, ask whether the server is still there; say so if it is not."""
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
        elif self._pending is not None and now - self._looked > ANSWER and not self._silent:
            self._silent = True
            self._say(Silent, text=self._translate("the ComfyUI server does not answer"),
                      hint=self._translate("wait, or cancel and look at its console"), log=self._log[-12:])  # fmt: skip
        return False

    def _look(self) -> None:
        try:
            _get(self.address, "/prompt", 60.0)
        except ValueError as error:
            self._gone = message_of(error, self._translate)

    def _picture(self, message: bytes) -> None:
        """Keep a preview picture beside the output."""
        kind = int.from_bytes(message[:4], "big")
        start = 8
        if kind == PREVIEW_WITH_TEXT:
            start += int.from_bytes(message[4:8], "big")
        elif kind != PREVIEW:
            return
        path = Path(self.job["out"] + ".preview.png")  # whatever it is: readers look at the first bytes
        path.write_bytes(message[start:])
        self._say(Preview, path=str(path))

    def _uploaded(self) -> str:
        """Give the job's field file to the server; the name that it has there."""
        path = Path(self.job["options"]["field"])
        boundary = uuid.uuid4().hex
        head = (f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{uuid.uuid4().hex}.safetensors"\r\n'
                "Content-Type: application/octet-stream\r\n\r\n")  # fmt: skip
        body = head.encode() + path.read_bytes() + f"\r\n--{boundary}--\r\n".encode()
        answer = _request(self.address, "/upload/image", body, f"multipart/form-data; boundary={boundary}", 60.0)
        return json.loads(answer)["name"]

    def _fetched(self, prompt: str) -> dict[str, str]:
        """Bring the files here: the mesh or picture to `out`, the field beside it."""
        outputs = _get(self.address, f"/history/{prompt}").get(prompt, {}).get("outputs", {})
        out, field = Path(self.job["out"]), Path(self.job["out"] + ".field.safetensors")
        files = {}
        for found in _files(outputs):
            name = found["filename"].lower()
            if name.endswith(out.suffix) and found.get("type") == "output":
                files["mesh" if out.suffix == ".glb" else "picture"] = _download(self.address, found, out)
            elif name.endswith(".safetensors"):
                files["field"] = _download(self.address, found, field)
        if "field" in self.job["options"]:
            files["field"] = self.job["options"]["field"]
        if len(files) < 2:
            raise Complaint(
                "the server says that it was done, but its files are not there: are Pullback's nodes up to date?"
            )
        Path(self.job["out"] + ".preview.png").unlink(missing_ok=True)
        return files


def _files(tree: Any) -> list[dict[str, Any]]:
    """Everything in the outputs that names a file of the server: ComfyUI's way, or Save Field's with a path as text."""
    if isinstance(tree, str) and tree.endswith(".safetensors"):
        folder, _, name = tree.rpartition("/")
        return [{"filename": name, "subfolder": folder, "type": "output"}]
    if isinstance(tree, dict):
        if isinstance(tree.get("filename"), str):
            return [tree]
        tree = list(tree.values())
    return [found for part in tree for found in _files(part)] if isinstance(tree, list) else []


def _download(address: str, found: dict[str, Any], to: Path) -> str:
    query = urllib.parse.urlencode({k: found.get(k, "") for k in ("filename", "subfolder", "type")})
    data = _request(address, f"/view?{query}", None, "", 60.0)
    part = to.with_name(to.name + ".part")
    part.write_bytes(data)
    part.replace(to)
    return str(to)


def _require_nodes(address: str) -> None:
    if "PullbackFieldSampler" not in _get(address, "/object_info/PullbackFieldSampler"):
        text = "the ComfyUI at {address} does not have Pullback's nodes: install them there and restart it"
        raise Complaint(text, address=address)


def _prompt(address: str, workflow: dict[str, Any], client: str) -> str:
    """Queue a workflow; its id. ValueError with what the server finds wrong with it."""
    body = json.dumps({"prompt": workflow, "client_id": client}).encode()
    return json.loads(_request(address, "/prompt", body, "application/json"))["prompt_id"]


def _interrupt(address: str, prompt: str) -> None:
    """Take a job out of the server's queue, or stop it where it runs; nobody else's."""
    try:
        running = [entry[1] for entry in _get(address, "/queue").get("queue_running", [])]
        _request(address, "/queue", json.dumps({"delete": [prompt]}).encode(), "application/json")
        if prompt in running:
            _request(address, "/interrupt", json.dumps({"prompt_id": prompt}).encode(), "application/json")
    except (ValueError, LookupError, TypeError):
        pass  # it does not answer: then there is nobody to tell


def _get(address: str, path: str, timeout: float = ANSWER) -> dict[str, Any]:
    answer = json.loads(_request(address, path, None, "", timeout))
    if not isinstance(answer, dict):
        raise Complaint("{address} does not answer as a ComfyUI does", address=address)
    return answer


def _base(address: str) -> str:
    parts = urllib.parse.urlsplit(address if "://" in address else f"http://{address}")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise Complaint("{address!r} is no address of a server; it looks like http://127.0.0.1:8188", address=address)
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


def _request(address: str, path: str, body: bytes | None, kind: str, timeout: float = ANSWER) -> bytes:
    """The body of an answer. ValueError says in words what went wrong."""
    request = urllib.request.Request(_base(address) + path, body, {"Content-Type": kind} if kind else {})
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            data = answer.read(LARGEST + 1)
    except urllib.error.HTTPError as error:
        raise _complaint(error, address) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", error)
        text = "no ComfyUI answers at {address} ({reason}): start it, or correct the address"
        raise Complaint(text, address=address, reason=reason) from error
    if len(data) > LARGEST:
        raise Complaint("{address} sent a file of more than {size} MB", address=address, size=LARGEST >> 20)
    return data


def _complaint(error: urllib.error.HTTPError, address: str) -> Complaint:
    """What the server finds wrong, out of its JSON if it sent any."""
    try:
        answer = json.loads(error.read(1 << 20))
        nodes = answer.get("node_errors") or {}
        details = [
            f"{one['class_type']}: {e['message']} {e.get('details', '')}"
            for one in nodes.values()
            for e in one["errors"]
        ]
        if details or "error" in answer:
            reason = "; ".join(details or [str(answer["error"].get("message", ""))])
            return Complaint("the server refused the workflow: {reason}", reason=reason)
    except (ValueError, LookupError, TypeError, AttributeError):
        pass
    text = "{address} answered {code} {reason}: is it a ComfyUI?"
    return Complaint(text, address=address, code=error.code, reason=error.reason)
