"""Finds, tests and creates the Python environment that runs the worker.

An environment in which pullback is installed has the command `pullback` beside its `python`. The search only looks for this
file and runs nothing, so it is safe, and fast enough for a panel. Standard library only; does not import Blender.
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

from .complaint import message_of

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
    "Retrying \\(|NewConnectionError|ProxyError|SSLError|Read timed out": "the package index cannot be reached: check "
    "the network and try again",
    "No matching distribution found": "the package index does not have all packages for Blender's Python: make an environment "
    "by hand with another Python, 3.10 to 3.13",
}
"""Patterns in the output of pip and venv, and the reasons for failure that they indicate."""

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
    except Exception as error:  # an older or broken Pullback: the first job reports what is wrong
        print(error)
print("PULLBACK " + json.dumps(report))
"""


def python_of(folder: Path) -> Path | None:
    """Return the interpreter of a virtual environment, or None if pullback is not installed in it."""
    python, command = folder / BIN / f"python{EXE}", folder / BIN / f"pullback{EXE}"
    return python if python.is_file() and command.is_file() else None


def _candidates(blend_folder: Path | None, own: Path | None) -> Iterator[Path | None]:
    """Yield interpreters with pullback, the most trustworthy first: an environment beside a .blend file may have been
    downloaded with it."""
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
    """Return the wheel of Pullback that the extension contains, or None."""
    return max(Path(__file__).parent.glob("pullback-*.whl"), default=None)


def find(chosen: str = "", blend_folder: Path | None = None, own: Path | None = None) -> Path | None:
    """Return the interpreter to use, or None.

    Args:
        chosen: The interpreter that the user chose. It is returned without a check.
        blend_folder: The folder of the .blend file.
        own: The environment that Create Environment makes.
    """
    if chosen:
        return Path(chosen)
    return next((python for python in _candidates(blend_folder, own) if python), None)


def clean_variables() -> dict[str, str]:
    """Return the environment variables without those of Blender's own Python, which would mislead another Python."""
    return {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONPATH")} | {"PYTHONUNBUFFERED": "1"}


class Question(Generic[T]):
    """A slow function that runs in a thread. Once `poll` returns True, `answer` or `error` is set.

    Args:
        ask: The function. It must not use Blender's data.
        translate: Translates error messages.
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
            self.error = message_of(error, self._translate)

    def poll(self) -> bool:
        """Return whether the function has ended."""
        return not self._thread.is_alive()

    @property
    def shown(self) -> object:
        """A value that differs whenever interfaces have something new to show."""
        return self.poll(), id(self)

    def end(self) -> None:
        """Stop waiting for the answer. The thread ends by itself."""


class Commands:
    """Commands that run one after the other in the background. The first one that fails is the last one that runs.

    Args:
        commands: The commands, each with its arguments.
        translate: Translates error messages.

    Attributes:
        lines: The lines that were printed.
        step: The index of the current command.
        stopped: Whether `end` was called.
        error: What went wrong, or "".
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
                    encoding="utf-8", errors="replace", env=clean_variables(), **QUIET,
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
            if code and (self.stopped or not self._is_optional()):
                text = self._translate("it was stopped" if self.stopped else "{command} ended with code {code}")
                self.error = text.format(command=Path(command[0]).name, code=code)
                return

    def _is_optional(self) -> bool:
        """Return whether the next command can run although the current one failed."""
        return False

    def poll(self) -> bool:
        """Collect the lines that were printed, and return whether all commands have ended."""
        over = not self._thread.is_alive()
        while not self._fresh.empty():
            self._take(self._fresh.get())
        return over

    def _take(self, line: str) -> None:
        self.lines.append(line)

    @property
    def shown(self) -> object:
        """A value that differs whenever interfaces have something new to show."""
        return self.poll(), id(self), self.step, len(self.lines)

    def end(self) -> None:
        """Stop the command that is running, and run no more."""
        self.stopped = True
        if self._process is not None and self._process.poll() is None:
            self._process.kill()


@dataclass(frozen=True)
class Report:
    """What is installed for an interpreter.

    Args:
        python: The version of Python.
        pullback: The version of Pullback, or None.
        torch: The version of torch, or None.
        devices: The devices that torch can use.
        missing: Missing modules without which the worker cannot run.
        lacks: Missing modules that only diffusers folders need.
        representations: As in `protocol.Ready`.
    """

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
    """Asks an interpreter what is installed for it."""

    def __init__(self, python: Path, translate: Callable[[str], str] = str) -> None:
        super().__init__([[str(python), "-c", PROBE]], translate)

    @property
    def report(self) -> Report | None:
        """The report, once it has been printed. None if the command is not a working Python."""
        reports: list[dict[str, Any]] = [json.loads(line[9:]) for line in self.lines if line.startswith("PULLBACK {")]
        return Report(**reports[-1]) if reports else None


class Creation(Commands):
    """Creates a virtual environment and installs pullback in it. If this fails or is stopped, the folder is removed.

    Args:
        folder: The folder of the environment.
        wheel: The wheel of pullback.
        extras: The extras to install, such as "[diffusers]".
        base: The Python to make it with.
        translate: Translates error messages.

    Attributes:
        steps: The names of the commands; `step` is an index into them.
        download: The bytes of the current download that have arrived, and its size; None if nothing is downloaded.
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
        raw = ["--progress-bar", "raw"]  # since pip 24.1; Blender's Python may come with an older pip
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

    def _is_optional(self) -> bool:
        # If the index for CPUs cannot be reached, the next step installs torch from PyPI, which is larger and works as well.
        return self.steps[self.step] == TORCH

    def _take(self, line: str) -> None:
        counted = re.fullmatch(r"Progress (\d+) of (\d+)", line)
        self.download = (int(counted[1]), int(counted[2])) if counted else None
        if not counted:
            super()._take(line)

    @property
    def shown(self) -> object:
        return super().shown, self.download

    @property
    def reason(self) -> str:
        """The error, replaced by one of REASONS if the last lines match its pattern."""
        if self.stopped:
            return self.error
        printed = "\n".join(self.lines[-40:])
        return next((self._translate(why) for sign, why in REASONS.items() if re.search(sign, printed)), self.error)


def _cpu_only() -> bool:
    """Return whether torch should come without CUDA: on Linux, PyPI's torch brings gigabytes that need an NVIDIA card."""
    return sys.platform == "linux" and not (shutil.which("nvidia-smi") or Path("/proc/driver/nvidia").exists())
