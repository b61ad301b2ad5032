"""ComfyUI for tests: a real server with our pack and no other, a client for it, and the saved workflows in small.

The checkout is found through COMFYUI_PATH, or in ~/ComfyUI; COMFYUI_PYTHON is the interpreter that has its requirements
(this one, unless it is set).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
HOME = Path(os.environ.get("COMFYUI_PATH", Path.home() / "ComfyUI"))
PYTHON = os.environ.get("COMFYUI_PYTHON", sys.executable)
PACK = "any-name"
"""The folder in custom_nodes/ that we are cloned into. ComfyUI serves no thumbnails from one with a space in its name."""
ODD = "odd_models"
"""Another, for tests: see odd_models/."""


def missing() -> str:
    """Why no server can be started here; empty where one can."""
    if not (HOME / "main.py").is_file():
        return f"there is no ComfyUI in {HOME}: clone it there or set COMFYUI_PATH"
    if sys.executable == PYTHON and not importable("aiohttp", "torchsde", "comfyui_frontend_package"):
        return "ComfyUI's requirements are not installed here: install them, or set COMFYUI_PYTHON to where they are"
    if not importable("aiohttp"):
        return "the client needs aiohttp: pip install aiohttp"
    return ""


def importable(*names: str) -> bool:
    """Whether modules are installed here."""
    from importlib.util import find_spec

    return all(find_spec(name) is not None for name in names)


class Refused(Exception):
    """The server did not take a prompt. errors: {node: the sentences}."""

    def __init__(self, answer: dict[str, Any]):
        super().__init__(json.dumps(answer))
        self.errors = {
            node: [f"{e['message']}: {e['details']}" for e in found["errors"]]
            for node, found in (answer.get("node_errors") or {}).items()
        }


@dataclass
class Run:
    """What became of a prompt."""

    prompt: str
    outputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)
    previews: list[bytes] = field(default_factory=list)
    error: dict[str, Any] | None = None
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        return self.error is None and not self.interrupted

    @property
    def executed(self) -> set[str]:
        """The nodes that ran, those taken from the cache left out."""
        return {str(e["data"]["node"]) for e in self.events if e["type"] == "executing" and e["data"].get("node")}


class Server:
    """A running ComfyUI on the processor, in a folder of its own. Use it with `with`.

    odd: with the tests' own pack. packages: a folder of Python packages that is installed for this server alone.
    """

    def __init__(
        self, base: Path, *arguments: str, odd: bool = False, home: Path = HOME, pack: str = PACK, packages: Path | None = None
    ):  # fmt: skip
        self.base, self.home, self.pack, self.arguments, self.odd = base, home, pack, arguments, odd
        self.packages = packages
        self.client, self._events = uuid.uuid4().hex, queue.Queue[Any]()

    def __enter__(self) -> Server:
        (self.base / "custom_nodes").mkdir(parents=True, exist_ok=True)
        for name, target in ((self.pack, ROOT), (ODD, ROOT / "tests" / "odd_models")):
            link = self.base / "custom_nodes" / name
            if not link.is_symlink():
                link.symlink_to(target)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.log = self.base / "log.txt"
        command = [
            PYTHON, "main.py", "--cpu", "--base-directory", str(self.base), "--port", str(self.port), *self.arguments,
            "--disable-all-custom-nodes", "--whitelist-custom-nodes", self.pack, *([ODD] if self.odd else []),
            "--database-url", "sqlite:///:memory:",
        ]  # fmt: skip
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.home,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env=environment(self.packages),
            )
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        self._listener = threading.Thread(target=lambda: asyncio.run(self._listen()), daemon=True)
        self._listener.start()
        self._events.get(timeout=60)  # connected
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def text(self) -> str:
        """The log so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def get(self, path: str) -> Any:
        """The JSON at a path."""
        with urllib.request.urlopen(self.url + path, timeout=120) as answer:
            return json.load(answer)

    def bytes(self, path: str) -> bytes:
        """What lies at a path."""
        with urllib.request.urlopen(self.url + path, timeout=120) as answer:
            return answer.read()

    def post(self, path: str, body: Any = None) -> Any:
        """POST JSON, and the JSON that comes back (None where nothing does). Refused at 400."""
        request = urllib.request.Request(
            self.url + path, json.dumps({} if body is None else body).encode(), {"Content-Type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            if error.code != 400:
                raise
            raise Refused(json.load(error)) from None
        return json.loads(text) if text.strip() else None

    def run(
        self, graph: dict[str, Any], timeout: float = 1200, watch: Callable[[dict[str, Any]], None] | None = None
    ) -> Run:
        """Queue a prompt in API form and wait for its end. `watch` sees each event as it comes."""
        while not self._events.empty():
            self._events.get()
        run = Run(self.post("/prompt", {"prompt": graph, "client_id": self.client})["prompt_id"])
        end = time.monotonic() + timeout
        while True:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI ended by itself with {self.process.returncode}: {self.text()[-2000:]}")
            if time.monotonic() > end:
                raise TimeoutError(f"the prompt is not done after {timeout:.0f} s: {self.text()[-2000:]}")
            try:
                event = self._events.get(timeout=1)
            except queue.Empty:
                continue
            if isinstance(event, bytes):
                run.previews.append(event)
                continue
            if event["data"].get("prompt_id", run.prompt) != run.prompt:
                continue
            run.events.append(event)
            if watch:
                watch(event)
            data = event["data"]
            if event["type"] == "execution_error":
                run.error = data
            run.interrupted |= event["type"] == "execution_interrupted"
            if event["type"] in ("execution_success", "execution_error", "execution_interrupted"):
                break
        while not (done := self.get(f"/history/{run.prompt}")):  # the history is written a moment later
            time.sleep(0.05)
        run.outputs = done[run.prompt]["outputs"]
        return run

    def memory(self) -> int:
        """Resident bytes of the server."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return 1024 * int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    def seconds(self) -> float:
        """Seconds of the processor that the server has used."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _wait(self, timeout: float = 600) -> None:
        end = time.monotonic() + timeout
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise RuntimeError(f"ComfyUI did not start: {self.text()[-3000:]}")
            try:
                self.get("/system_stats")
                return
            except OSError:
                time.sleep(0.3)
        raise TimeoutError(f"ComfyUI did not start within {timeout:.0f} s: {self.text()[-3000:]}")

    async def _listen(self) -> None:
        import aiohttp

        address = f"ws://127.0.0.1:{self.port}/ws?clientId={self.client}"
        async with aiohttp.ClientSession() as session, session.ws_connect(address, max_msg_size=0) as link:
            self._events.put({"type": "connected", "data": {}})
            async for message in link:
                self._events.put(message.data if message.type is aiohttp.WSMsgType.BINARY else json.loads(message.data))


def environment(packages: Path | None = None) -> dict[str, str]:
    """Ours, without what would let the pack find an installed core or tests' paths; with a folder of packages."""
    kept = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTEST_CURRENT_TEST")}
    paths = [os.environ.get("COMFYUI_PYTHONPATH", ""), str(packages or "")]  # an older checkout's own frontend, say
    return kept | ({"PYTHONPATH": os.pathsep.join(filter(None, paths))} if any(paths) else {})


QUICK: dict[str, dict[str, Any]] = {
    "PullbackFieldSamplerSimple": {"steps": 2},
    "BasicScheduler": {"steps": 2},
    "KSampler": {"steps": 2},
    "PullbackVoxelNerf": {"resolution": 16, "views": 2},
    "PullbackPanoramaSiren": {"steps": 2, "width": 256, "views": 2},
    "PullbackSirenImage": {"neurons": 64, "depth": 2},
    "PullbackOptimise": {"iterations": 2},
    "PullbackFieldToMesh": {"resolution": 24, "level": 1.0, "faces": 500, "texture": 128, "views": 4},
    "PullbackBakeTexture": {"texture": 128, "views": 4},
    "PullbackFieldToVoxel": {"resolution": 24},
    "PullbackRenderFieldViews": {"size": 32, "count": 4},
    "PullbackUpscaleInftyDiff": {"steps": 1},
    "PullbackFillInftyDiff": {"steps": 2},
    "PullbackSampleShapeDPF": {"steps": 4, "resolution": 32, "faces": 500, "texture": 128},
}


def quick(graph: dict[str, Any]) -> dict[str, Any]:
    """A workflow in API form with few steps and small sizes, and a small checkpoint where it wants the user's."""
    graph = json.loads(json.dumps(graph))
    for node in graph.values():
        node["inputs"].update(QUICK.get(node["class_type"], {}))
        if node["class_type"] == "PullbackResolutionFreeDecode":
            for name in ("width", "height", "left", "top", "crop_width", "crop_height"):
                node["inputs"][name] //= 32
        if node["class_type"] == "CheckpointLoaderSimple":
            node["class_type"] = "TestSmallCheckpoint"
        if node["class_type"] == "PullbackVoxelNerf" and any(
            other["class_type"] == "TestSmallCheckpoint" for other in graph.values()
        ):
            node["inputs"]["view_size"] = 64
    return graph


def quick_widgets() -> dict[str, dict[str, Any]]:
    """The same for the page: widgets by node type."""
    decoder = {"width": 256, "left": 0, "top": 0, "crop_width": 0, "crop_height": 0}
    return {**QUICK, "PullbackResolutionFreeDecode": decoder}


def saved_field(path: Path) -> None:
    """A field file: the soft ball that a radiance field starts from, one side red and the other blue."""
    import torch
    from pullback.diffreps.radiance import VoxelRadiance
    from pullback.fields.voxels import Voxels
    from pullback.storage import Field, save_field

    ball = VoxelRadiance(voxels=Voxels(resolution=24))  # features (1, 3, Z, Y, X)
    params = ball.init(torch.Generator())
    red, blue = params["features"][..., :12], params["features"][..., 12:]
    red[:], blue[:] = -3.0, -3.0
    red[:, 0], blue[:, 2] = 3.0, 3.0
    path.parent.mkdir(parents=True, exist_ok=True)
    save_field(path, Field(ball, params, "", "toybox", 0))


def saved_decoder(path: Path) -> None:
    """A field decoder for the latents of Stable Diffusion, small and with random weights."""
    import torch
    from pullback.generative.infd.decoder import FORMAT, describe
    from pullback.generative.infd.network import Autoencoder, Config
    from safetensors.torch import save_file

    config, random = Config(encoder=(8, 8, 8, 8), decoder=(8, 8, 8, 8), hidden=8), torch.Generator().manual_seed(0)
    weights = {
        name: torch.randn(like.shape, generator=random) / max(1, like[:1].numel()) ** 0.5
        for name, like in Autoencoder(config).state_dict().items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, {"format": FORMAT, "config": describe(config)})
