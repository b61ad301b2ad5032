"""Worker: `python -m pullback.worker` does jobs for another program, in JSON lines over its pipes (docs/worker.md).

Nothing is imported here that takes time: the worker says hello, and its heart beats, before torch is loaded.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import queue
import signal
import sys
import threading
import traceback
import warnings
from pathlib import Path
from typing import Any, BinaryIO

from .schema import LONGEST, decoded
from .version import VERSION

PROTOCOL = 1
BEAT = 0.5
"""Seconds between two heartbeats."""
FAILED, REFUSED = 1, 2
"""Exit codes: pullback cannot be loaded; a line was no message, or of another version."""


class Worker:
    """The worker at a pair of pipes: one thread reads, one beats, and `run` works in the caller's."""

    def __init__(self, lines: BinaryIO, out: BinaryIO) -> None:
        self._lines, self._out = lines, out
        self._lock = threading.Lock()
        self._jobs: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelled: set[str] = set()

    def run(self) -> int:
        """Work until the input ends, which ends the process; returns only an exit code other than 0."""
        self.say("hello", protocol=PROTOCOL, pullback=VERSION, python=platform.python_version(), pid=os.getpid())
        for work in (self._listen, self._beat):
            threading.Thread(target=work, daemon=True).start()
        try:
            self.say("ready", **_capabilities())
        except ImportError as error:
            traceback.print_exc()
            python = sys.executable
            self.refuse(f"the worker cannot load what it needs: {error}; install pullback with {python} -m pip install")
            return FAILED
        while True:
            self._work(self._jobs.get())

    def say(self, type: str, **fields: Any) -> None:
        """Send a message. A caller that no longer listens is one that is gone."""
        text = json.dumps({"type": type, **fields}, ensure_ascii=False)
        line = text.encode("utf-8", "backslashreplace") + b"\n"  # half a character of a path is escaped, as JSON has it
        try:
            with self._lock:
                self._out.write(line)
                self._out.flush()
        except OSError:
            os._exit(0)

    def refuse(self, text: str) -> None:
        """Say why the worker ends."""
        self.say("error", id=None, text=text, resumable=False)

    def _beat(self) -> None:
        pause = threading.Event()
        while not pause.wait(BEAT):
            self.say("heartbeat")

    def _listen(self) -> None:
        """Take in messages; when there are no more, nobody wants this process: it ends, whatever it is doing."""
        greeted = False
        try:
            while line := self._lines.readline(LONGEST + 1):
                greeted = self._take(decoded(line), greeted)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.refuse(f"the worker was sent what it does not understand: {error!r}")
            os._exit(REFUSED)
        finally:  # without this thread nothing would end the process
            os._exit(0)

    def _take(self, message: dict[str, Any], greeted: bool) -> bool:
        kind = message.get("type")
        if kind == "hello":
            spoken = message["protocol"]
            if spoken != PROTOCOL:
                self.refuse(
                    f"this worker speaks version {PROTOCOL} of the protocol and was greeted in version {spoken}: "
                    "install pullback and what uses it of the same release"
                )
                os._exit(REFUSED)
        elif not greeted:
            raise ValueError("the first message must be hello")
        elif kind == "job":
            self._jobs.put({**message, "id": str(message["id"])})
        elif kind == "cancel":
            self._cancelled.add(str(message["id"]))
        else:
            raise ValueError(f"a message of the type {kind!r}")
        return True

    def _work(self, job: dict[str, Any]) -> None:
        """Do one job and say how it ended."""
        from . import errors, jobs
        from .types import Cancelled

        id = job["id"]

        def tick() -> None:
            if id in self._cancelled:
                raise Cancelled

        say = lambda type, **fields: self.say(type, id=id, **fields)
        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = lambda message, *_, **__: say("note", text=str(message))
            try:
                tick()
                say("done", files=jobs.perform(job, say, tick))
            except Cancelled:
                say("cancelled", resumable=_unfinished(job))
            except Exception as error:  # noqa: BLE001  a job's mistake must not take the worker along
                traceback.print_exc()
                text = errors.sentence(error)
                # What was asked for in a wrong way stays wrong; what the machine lacked it may have next time.
                resumable = not (text and isinstance(error, (ValueError, ImportError))) and _unfinished(job)
                say("error", text=text or f"a mistake in pullback: {error!r}; the log says where", resumable=resumable)
        self._cancelled.discard(id)


def _unfinished(job: dict[str, Any]) -> bool:
    return Path(str(job.get("out")) + ".run").exists()


def _capabilities() -> dict[str, Any]:
    import torch

    from .jobs import described  # loads the rest, so that "ready" is true

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return {"torch": torch.__version__, "devices": devices, **described()}


def _own_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Standard input and output for the protocol alone: whatever a library prints goes to standard error.

    A library that reads gets nothing; and on Windows, one that is loaded would wait for our read to end.
    """
    lines, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return lines, out


def main() -> None:
    """The entry point."""
    # Ctrl-C in a terminal reaches the whole group: who started us decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = Worker(*_own_pipes()).run()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
