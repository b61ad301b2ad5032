"""Environment: finds, tests and makes the Python that runs the worker. Standard library only; it knows no Blender.

An environment in which pullback is installed has the command `pullback` beside its `python`: looking for that runs
nothing, so that a search is safe and quick enough for a panel.
"""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from .complaint import told

T = TypeVar("T")

BIN, EXE = ("Scripts", ".exe") if os.name == "nt" else ("bin", "")
VENVS = (".venv", "venv", "env")
QUIET = {"creationflags": getattr(subprocess, "CREATE_NO_WINDOW", 0)}
NEEDED = ("torch", "numpy", "safetensors", "PIL", "scipy", "trimesh", "skimage", "fast_simplification", "xatlas", "png",
          "plyfile", "filelock", "msgspec", "typer", "rich")  # fmt: skip
OPTIONAL = ("diffusers", "transformers", "accelerate")
CPU_ONLY = "https://download.pytorch.org/whl/cpu"
STEPS = ("Making the environment", "Renewing pip", "Installing torch", "Installing Pullback")
TORCH = STEPS[2]
REASONS = {
    r"ensurepip is not\s+available|No module named '?(venv|ensurepip)": "this Blender uses the system's Python, which lacks "
    "venv: install the package python3-venv and try again",
    "No space left|not enough space": "the disk is full: 2 GB are needed, with CUDA 7 GB",
    "Permission denied|WinError (5|32)": "its folder cannot be written: close other windows of Blender and try again",
    "Retrying \\(|NewConnectionError|ProxyError|SSLError|Read timed out": "the index of packages cannot be reached: check "
    "the network and try again",
    "No matching distribution found": "the index of packages has not all of them for Blender's Python: make an environment "
    "by hand with another one, from 3.10 to 3.13",
}
"""What a line of pip or venv is a sign of."""

PROBE = f"""
import importlib.util, json, sys
from importlib import metadata
found = lambda name: importlib.util.find_spec(name) is not None
report = {{"python": sys.version.split()[0], "pullback": None, "torch": None, "devices": [],
          "missing": [n for n in {NEEDED!r} if not found(n)], "lacks": [n for n in {OPTIONAL!r} if not found(n)]}}
if found("pullback"):
    try:
        report["pullback"] = metadata.version("pullback")
    except metadata.PackageNotFoundError:
        report["pullback"] = "0"
if found("torch"):
    try:
        import torch
        report["torch"] = torch.__version__
        report["devices"] = ["cpu"] + ["cuda"] * torch.cuda.is_available() + ["mps"] * torch.backends.mps.is_available()
    except Exception as error:
        report["missing"].append("torch (" + str(error)[:200] + ")")
if report["pullback"] and not report["missing"]:
    try:
        from pullback.jobs import described
        report["representations"] = described()["representations"]
    except Exception as error:  # an older one, or a broken one: the first job says it in words
        print(error)
print("PULLBACK " + json.dumps(report))
"""


def python_of(folder: Path) -> Path | None:
    """The interpreter of a virtual environment in which pullback is installed."""
    python, command = folder / BIN / f"python{EXE}", folder / BIN / f"pullback{EXE}"
    return python if python.is_file() and command.is_file() else None


def _candidates(blend_folder: Path | None, own: Path | None) -> Iterator[Path | None]:
    """Interpreters with pullback: ours, one on PATH; last one beside the .blend, which may have come with the file."""
    if own:
        yield python_of(own)
    if os.environ.get("VIRTUAL_ENV"):
        yield python_of(Path(os.environ["VIRTUAL_ENV"]))
    command = shutil.which("pullback")
    if command:
        yield python_of(Path(command).parent.parent)
        yield python_of(Path(command).resolve().parent.parent)  # pipx keeps a link to the environment
    if blend_folder:
        yield from (python_of(blend_folder / name) for name in VENVS)


def wheel() -> Path | None:
    """The Pullback that came with this extension."""
    return max(Path(__file__).parent.glob("pullback-*.whl"), default=None)


def find(chosen: str = "", blend_folder: Path | None = None, own: Path | None = None) -> Path | None:
    """The interpreter to use: the chosen one if there is any, right or wrong; else the first that has pullback.

    blend_folder: where the .blend file lies. own: the environment that Create Environment makes.
    """
    if chosen:
        return Path(chosen)
    return next((python for python in _candidates(blend_folder, own) if python), None)


def clean() -> dict[str, str]:
    """The environment without what Blender's own Python sets, which would lead another Python astray."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")} | {"PYTHONUNBUFFERED": "1"}


class Question(Generic[T]):
    """A function that takes its time, asked in a thread; it must not touch Blender. `answer` once `poll` is True.

    translate: translates what went wrong.
    """

    def __init__(self, ask: Callable[[], T], translate: Callable[[str], str] = str) -> None:
        self.answer: T | None = None
        self._translate = translate
        self.error = ""
        self._thread = threading.Thread(target=self._run, args=(ask,), daemon=True)
        self._thread.start()

    def _run(self, ask: Callable[[], T]) -> None:
        try:
            self.answer = ask()
        except (OSError, ValueError) as error:
            self.error = told(error, self._translate)

    def poll(self) -> bool:
        """Whether the answer is there, or the error."""
        return not self._thread.is_alive()

    @property
    def told(self) -> object:
        """What changes with what there is to show."""
        return self.poll(), id(self)

    def end(self) -> None:
        """Nobody waits for the answer any more; the thread ends by itself."""


class Commands:
    """Commands that run one after the other in the background.

    `poll` is True once it is over; then `error` is empty or says what went wrong. `lines` is what was printed, `step`
    the number of the command that runs, `stopped` whether somebody stopped it. translate: translates what went wrong.
    """

    def __init__(self, commands: list[list[str]], translate: Callable[[str], str] = str) -> None:
        self._translate = translate
        self.lines: list[str] = []
        self.error = ""
        self.step = 0
        self.stopped = False
        self._fresh: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._process: subprocess.Popen[str] | None = None
        self._thread = threading.Thread(target=self._run, args=(commands,), daemon=True)
        self._thread.start()

    def _run(self, commands: list[list[str]]) -> None:
        for self.step, command in enumerate(commands):
            try:
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                    encoding="utf-8", errors="replace", env=clean(), **QUIET,
                )  # fmt: skip
            except OSError as error:
                text = self._translate("{command} cannot be started: {reason}")
                self.error = text.format(command=command[0], reason=error.strerror or error)
                return
            if self.stopped:
                self._process.kill()
            for line in self._process.stdout or ():
                self._fresh.put(line.rstrip())
            code = self._process.wait()
            if code and (self.stopped or not self._go_on()):
                text = self._translate("it was stopped" if self.stopped else "{command} ended with code {code}")
                self.error = text.format(command=Path(command[0]).name, code=code)
                return

    def _go_on(self) -> bool:
        """Whether a command that failed may be left out."""
        return False

    def poll(self) -> bool:
        """Take in what was printed; whether all is over."""
        over = not self._thread.is_alive()
        while not self._fresh.empty():
            self._take(self._fresh.get())
        return over

    def _take(self, line: str) -> None:
        self.lines.append(line)

    @property
    def told(self) -> object:
        """What changes with what there is to show."""
        return self.poll(), id(self), self.step, len(self.lines)

    def end(self) -> None:
        """Stop whatever runs."""
        self.stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


@dataclass(frozen=True)
class Report:
    """What an interpreter has. missing: modules without which the worker cannot run; lacks: what diffusers needs;
    representations: as `protocol.Ready` has them."""

    python: str
    pullback: str | None
    torch: str | None
    devices: list[str]
    missing: list[str]
    lacks: list[str]
    representations: list[dict[str, Any]] | None = None

    @property
    def ready(self) -> bool:
        return self.pullback is not None and not self.missing


class Probe(Commands):
    """What an interpreter has, asked of itself."""

    def __init__(self, python: Path, translate: Callable[[str], str] = str) -> None:
        super().__init__([[str(python), "-c", PROBE]], translate)

    @property
    def report(self) -> Report | None:
        """The answer, once it is there; None where it did not answer as a Python does."""
        reports: list[dict[str, Any]] = [json.loads(line[9:]) for line in self.lines if line.startswith("PULLBACK {")]
        return Report(**reports[-1]) if reports else None


class Creation(Commands):
    """A new virtual environment in `folder` with pullback installed from its wheel. Of one that fails or is stopped
    nothing is left. translate: translates what went wrong.

    `step` counts the `steps`, `download` says how far the current one is: bytes that are here and bytes in all.
    """

    def __init__(
        self,
        folder: Path,
        wheel: Path,
        extras: str = "",
        base: str = sys.executable,
        translate: Callable[[str], str] = str,
    ) -> None:
        self.download: tuple[int, int] | None = None
        self.folder = folder
        pip = [str(folder / BIN / f"python{EXE}"), "-m", "pip", "install", "--disable-pip-version-check"]
        raw = ["--progress-bar", "raw"]  # pip has it since 24.1, and Blender's Python may come with an older one
        venv = [base, "-I", "-m", "venv", "--clear", str(folder)]
        newer = [*pip, "--progress-bar", "off", "--upgrade", "pip>=24.1"]
        torch, pullback = (
            [*pip, *raw, "--retries", "1", "--index-url", CPU_ONLY, "torch"],
            [*pip, *raw, f"{wheel}{extras}"],
        )
        commands = dict(zip(STEPS, (venv, newer, torch, pullback), strict=True))
        if not _cpu_only():
            del commands[TORCH]
        self.steps = list(commands)
        super().__init__(list(commands.values()), translate)

    def _run(self, commands: list[list[str]]) -> None:
        super()._run(commands)
        if self.error:
            shutil.rmtree(self.folder, ignore_errors=True)

    def _go_on(self) -> bool:
        # Where that index cannot be had, the next step brings the torch of the usual one: larger, and as good.
        return self.steps[self.step] == TORCH

    def _take(self, line: str) -> None:
        counted = re.fullmatch(r"Progress (\d+) of (\d+)", line)
        self.download = (int(counted[1]), int(counted[2])) if counted else None
        if not counted:
            super()._take(line)

    @property
    def told(self) -> object:
        return super().told, self.download

    @property
    def reason(self) -> str:
        """`error` in words that say what to do, where the last lines show what it was."""
        if self.stopped:
            return self.error
        printed = "\n".join(self.lines[-40:])
        return next((self._translate(why) for sign, why in REASONS.items() if re.search(sign, printed)), self.error)


def _cpu_only() -> bool:
    """Whether the usual index would bring gigabytes of CUDA that nothing here can use: Linux without an NVIDIA card."""
    return sys.platform == "linux" and not (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists())
