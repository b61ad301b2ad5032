"""A Blender with a window on a virtual screen, driven by mouse and keys, in the Debian chroot that setup.sh makes.

Clicks, keys and screenshots go through the screen. What the window contains is asked of Blender itself (remote.py).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("PULLBACK_BLENDER_WINDOW", ""))
HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
WIDTH, HEIGHT = 1280, 800
PYTHON = "/opt/pullback-env/bin/python"
"""The path inside the chroot of the Python that runs the tests."""


def missing() -> str:
    """Return why the window tests cannot run here, or ""."""
    if not hasattr(os, "getuid") or os.getuid() != 0:
        return "needs root, to enter the folder with Blender in it"
    if not os.environ.get("PULLBACK_BLENDER_WINDOW"):
        return "set PULLBACK_BLENDER_WINDOW to a folder that tests/window/setup.sh has made (1.4 GB, some minutes)"
    if not (FOLDER / ".ready").exists():
        return f"no Blender with a window in {FOLDER}: run tests/window/setup.sh {FOLDER}"
    return ""


class Desktop:
    """One screen with one Blender.

    `root`, this repository and this Python are mounted in the chroot at the same paths. The mounts belong to a process that
    sleeps until `close`, `_mounter`.
    """

    def __init__(self, root: Path, home: str = "home") -> None:
        self.root, self.home = root, root / home
        self.mailbox = root / "mailbox"
        shutil.rmtree(self.mailbox, ignore_errors=True)
        self.mailbox.mkdir(parents=True)
        self.home.mkdir(exist_ok=True)
        self._numbers = itertools.count(1)
        self._blender: subprocess.Popen[bytes] | None = None
        self._mounter: subprocess.Popen[bytes] | None = None
        self._screen: subprocess.Popen[bytes] | None = None
        self._others: list[subprocess.Popen[str]] = []
        self.display = ""

    # The chroot

    def _in_chroot(self, command: str) -> list[str]:
        """Return the command line that runs `command` in the chroot, with its mounts."""
        assert self._mounter is not None
        setting = {
            "HOME": str(self.home), "PATH": "/usr/bin:/bin", "DISPLAY": self.display, "LANG": "C.UTF-8",
            "LIBGL_ALWAYS_SOFTWARE": "1", "GALLIUM_DRIVER": "llvmpipe", "LP_NUM_THREADS": "1",
            "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "2"), "XDG_RUNTIME_DIR": str(self.home),
        }  # fmt: skip
        variables = " ".join(f"{k}={shlex.quote(v)}" for k, v in setting.items())
        return ["nsenter", f"--mount=/proc/{self._mounter.pid}/ns/mnt", "chroot", str(FOLDER), "/bin/sh", "-c",
                f"exec env -i {variables} {command}"]  # fmt: skip

    def run(self, command: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run a command, and return its result even if it fails."""
        return subprocess.run(self._in_chroot(command), capture_output=True, text=True, timeout=timeout)

    def tool(self, command: str, timeout: float = 60) -> str:
        """Run a command and return what it printed. AssertionError if it fails."""
        done = self.run(command, timeout)
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]} {done.stderr[-2000:]}"
        return done.stdout

    def open(self, screen: bool = True) -> None:
        """Mount the folders, and start the screen."""
        mounts = ["mount -t proc proc {f}/proc", "mount --rbind /dev {f}/dev", "mount -t tmpfs tmpfs {f}/tmp"]
        for bound in {REPOSITORY, Path(sys.prefix), Path(sys.base_prefix), self.root}:
            inside = shlex.quote(str(FOLDER) + str(bound))
            mounts.append(f"mkdir -p {inside} && mount --bind {shlex.quote(str(bound))} {inside}")
        script = (
            " && ".join(mount.format(f=shlex.quote(str(FOLDER))) for mount in mounts) + " && echo ready && sleep 100000"
        )
        self._mounter = subprocess.Popen(
            ["unshare", "-m", "--propagation", "private", "bash", "-c", f"{script}"], stdout=subprocess.PIPE,
            start_new_session=True,
        )  # fmt: skip
        assert self._mounter.stdout is not None and self._mounter.stdout.readline() == b"ready\n", (
            "the folder was not mounted"
        )
        (FOLDER / PYTHON.strip("/")).parent.parent.unlink(missing_ok=True)
        (FOLDER / PYTHON.strip("/")).parent.parent.symlink_to(sys.prefix)
        if not screen:
            return
        number = self.root / "display"
        number.unlink(missing_ok=True)
        size = f"{WIDTH}x{HEIGHT}x24"
        self._screen = subprocess.Popen(
            self._in_chroot(f"Xvfb -displayfd 9 -screen 0 {size} +extension GLX -nolisten tcp 9>{number} 2>/dev/null"),
            start_new_session=True,
        )
        until(lambda: number.exists() and number.read_text().strip(), 30, "the virtual screen")
        self.display = f":{number.read_text().strip()}"

    def install(self) -> None:
        """Install the extension, built and checked, with Blender's own commands."""
        addon, archive = REPOSITORY / "blender_addon", self.root / "pullback.zip"
        for command in (
            f"build --source-dir {addon} --output-filepath {archive}",
            f"validate {archive}",
            f"install-file -r user_default --enable {archive}",
        ):
            self.tool(f"blender --command extension {command}", 300)

    def stand_in(self) -> str:
        """Return the path of a Python whose `pullback.worker` is the stand-in."""
        python = self.root / "python"
        python.write_text(f'#!/bin/sh\nPYTHONPATH={REPOSITORY}/tests/stand_in exec /usr/bin/python3 "$@"\n')
        python.chmod(0o755)
        return str(python)

    def popen(self, command: str) -> subprocess.Popen[str]:
        """Start a command without a window. The process id is that of the command itself."""
        made = subprocess.Popen(
            self._in_chroot(command), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self._others.append(made)
        return made

    def start(self, *arguments: str) -> None:
        """Start Blender and wait until it answers."""
        line = shlex.join(
            ["--window-geometry", "0", "0", str(WIDTH), str(HEIGHT), "--no-window-focus", *arguments, "--python-exit-code",
             "1", "--python", str(HERE / "remote.py"), "--", str(self.mailbox)]
        )  # fmt: skip
        self.log = self.root / "blender.log"
        self._blender = subprocess.Popen(
            self._in_chroot(f"blender {line}"),
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.ask("result = len(bpy.context.window_manager.windows)", 400)

    # Asking Blender

    def ask(self, code: str, timeout: float = 60) -> Any:
        """Run Python code inside Blender, and return the value that it assigns to `result`."""
        number = next(self._numbers)
        question = self.mailbox / f"{number}.in"
        part = self.mailbox / f"{number}.new"
        part.write_text(textwrap.dedent(code))
        part.replace(question)
        answer, error = question.with_suffix(".out"), question.with_suffix(".err")
        until(lambda: answer.exists() or error.exists() or not self.alive, timeout, f"an answer to {code!r}")
        assert self.alive, f"Blender ended: {self.log.read_text()[-2000:]}"
        assert answer.exists(), error.read_text()
        return json.loads(answer.read_text())

    @property
    def alive(self) -> bool:
        return self._blender is not None and self._blender.poll() is None

    @property
    def process(self) -> int:
        """The process id of Blender."""
        return self.ask("import os; result = os.getpid()")

    # Mouse, keys, pictures

    def move(self, x: int, y: int) -> None:
        """Move the mouse to a position in pixels from the top left of the screen."""
        self.tool(f"xdotool mousemove {x} {y}")
        time.sleep(0.05)

    def click(self, name: str, times: int = 1) -> None:
        """Click on the button of an operator ("generate_object") or property in the sidebar, wherever it is."""
        self.find(name)
        for _ in range(times):
            self.tool("xdotool click 1")
            time.sleep(0.1)

    def find(self, name: str) -> tuple[int, int]:
        """Search the sidebar for a button by moving the mouse over it, and return its position. The mouse stays there."""
        left, bottom, width, height = self.ask(
            "place = region()[2]; result = [place.x, place.y, place.width, place.height]"
        )
        for part in (0.4, 0.75, 0.9, 0.15):
            x = left + int(part * (width - 20))
            for y in range(HEIGHT - bottom - height + 24, HEIGHT - bottom - 4, 11):
                self.move(x, y)
                # Blender may answer for the previous position of the mouse, so it must give the same answer twice.
                if self._under(name):
                    time.sleep(0.3)
                    if self._under(name):
                        return x, y
        raise AssertionError(f"{name} is not in the sidebar")

    def _under(self, name: str) -> bool:
        found = self.ask("result = hovered()")
        return found == name or found.startswith(f"bpy.ops.pullback.{name}(")

    def viewport(self) -> tuple[int, int]:
        """Put the mouse into the 3D viewport."""
        x, y, width, height = self.ask("p = region('WINDOW')[2]; result = [p.x, p.y, p.width, p.height]")
        place = x + width // 3, HEIGHT - y - height // 2
        self.move(*place)
        return place

    def key(self, *keys: str) -> None:
        """Press keys, such as ctrl+z."""
        self.tool(f"xdotool key {shlex.join(keys)}")
        time.sleep(0.2)

    def type(self, text: str) -> None:
        """Type text."""
        self.tool(f"xdotool type --delay 20 {shlex.quote(text)}")

    def picture(self, path: Path, crop: str = "") -> Path:
        """Save a screenshot, or its part WxH+X+Y, and return its path."""
        path.parent.mkdir(parents=True, exist_ok=True)
        inside = self.root / "shot.png"
        self.tool(f"import -window root {f'-crop {crop} +repage' if crop else ''} {inside}")
        shutil.copy(inside, path)
        return path

    # The end

    def quit(self) -> None:
        """End Blender as its menu does."""
        if self.alive:
            with contextlib.suppress(AssertionError):
                self.ask("bpy.app.timers.register(lambda: bpy.ops.wm.quit_blender() and None, first_interval=0.1)")
            assert self._blender is not None
            self._blender.wait(30)

    def close(self) -> None:
        """End all processes that were started. The mounts end with `_mounter`."""
        started = [p for p in (*self._others, self._blender, self._screen, self._mounter) if p is not None]
        for process in started:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in started:
            with contextlib.suppress(
                subprocess.TimeoutExpired
            ):  # on a busy machine it takes a while to free Blender's memory
                process.wait(5)


@contextlib.contextmanager
def desktop(root: Path, screen: bool = True) -> Iterator[Desktop]:
    """Yield a desktop, with a screen unless `screen` is False, on which Blender is not started yet. Close it at the end."""
    made = Desktop(root)
    try:
        made.open(screen)
        yield made
    finally:
        made.close()


def until(condition: Any, seconds: float, what: str) -> Any:
    """Wait until a condition is true and return its value. AssertionError if it takes longer than `seconds`."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        assert time.monotonic() < end, f"{what} did not come within {seconds} s"
        time.sleep(0.05)
