"""The worker: `python -m pullback.worker` runs jobs for another program. They talk in JSON lines over pipes (docs/worker.md).

This module imports nothing that takes time to load: the worker says hello and sends heartbeats before torch is loaded.
"""

from __future__ import annotations

import contextlib
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

from . import messages
from .messages import Done, Error, Heartbeat, Hello, Kind, Message, Note, Ready, encoded
from .schema import LONGEST, decoded
from .version import VERSION

PROTOCOL = 1
"""The version of the protocol."""
HEARTBEAT_SECONDS = 0.5
"""The pause between two heartbeats."""
FAILED = 1
"""Exit code if Pullback cannot be loaded."""
REFUSED = 2
"""Exit code after a line that is not a message, or a greeting in another version of the protocol."""


class Worker:
    """A worker on a pair of pipes. One thread reads, one sends heartbeats, and `run` works in the caller's thread.

    Args:
        lines: Where messages come from.
        out: Where messages go.
    """

    def __init__(self, lines: BinaryIO, out: BinaryIO) -> None:
        self._lines, self._out = lines, out
        self._lock = threading.Lock()
        self._jobs: queue.Queue[dict[str, Any]] = queue.Queue()
        self._cancelled: set[str] = set()

    def run(self) -> int:
        """Run jobs until the input ends, which ends the process. Return an exit code only if Pullback cannot be loaded."""
        self.send(Hello(PROTOCOL, VERSION, platform.python_version(), os.getpid()))
        for work in (self._listen, self._beat):
            threading.Thread(target=work, daemon=True).start()
        try:
            self.send(_capabilities())
        except ImportError as error:
            traceback.print_exc()
            python = sys.executable
            self.refuse(f"the worker cannot load what it needs: {error}; install pullback with {python} -m pip install")
            return FAILED
        while True:
            self._work(self._jobs.get())

    def send(self, message: Message, **more: Any) -> None:
        """Send a message, with further fields. The process ends if the client has closed the pipe."""
        line = encoded(message, **more)
        try:
            with self._lock:
                self._out.write(line)
                self._out.flush()
        except OSError:
            os._exit(0)

    def refuse(self, text: str) -> None:
        """Send the reason why the worker itself is about to end."""
        self.send(Error(text), id=None)

    def _beat(self) -> None:
        pause = threading.Event()
        while not pause.wait(HEARTBEAT_SECONDS):
            self.send(Heartbeat())

    def _listen(self) -> None:
        """Handle messages until the input ends. The client is then gone, and the process ends, whatever it is doing."""
        greeted = False
        try:
            while line := self._lines.readline(LONGEST + 1):
                greeted = self._take(decoded(line), greeted)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.refuse(f"the worker received a message that it does not understand: {error!r}")
            os._exit(REFUSED)
        finally:  # because nothing else would end the process
            os._exit(0)

    def _take(self, message: dict[str, Any], greeted: bool) -> bool:
        """Handle one message. Return whether the client has said hello."""
        kind = message.get("type")
        if kind == Kind.HELLO:
            version = message["protocol"]
            if version != PROTOCOL:
                self.refuse(
                    f"this worker speaks version {PROTOCOL} of the protocol and was greeted in version {version}: "
                    "install the same release of pullback and of the program that starts it"
                )
                os._exit(REFUSED)
        elif not greeted:
            raise ValueError("the first message must be hello")
        elif kind == Kind.JOB:
            self._jobs.put({**message, "id": str(message["id"])})
        elif kind == Kind.CANCEL:
            self._cancelled.add(str(message["id"]))
        else:
            raise ValueError(f"a message of the type {kind!r}")
        return True

    def _work(self, job: dict[str, Any]) -> None:
        """Run one job and send how it ended."""
        from . import errors, jobs
        from .types import Cancelled

        id = job["id"]

        def tick() -> None:
            if id in self._cancelled:
                raise Cancelled

        def send(message: Message) -> None:
            self.send(message, id=id)

        with warnings.catch_warnings():
            warnings.simplefilter("always", UserWarning)
            warnings.showwarning = lambda message, *_, **__: send(Note(str(message)))
            try:
                tick()
                send(Done(jobs.perform(job, send, tick)))
            except Cancelled:
                send(messages.Cancelled(_unfinished(job)))
            except Exception as error:  # noqa: BLE001  a failed job must not end the worker
                traceback.print_exc()
                text = errors.sentence(error)
                # A job that is wrong fails again when it is resumed, but a lack of memory or disk space may have passed.
                resumable = not (text and isinstance(error, (ValueError, ImportError))) and _unfinished(job)
                send(Error(text or f"a bug in pullback: {error!r}; the log shows where", resumable))
        self._cancelled.discard(id)


def _unfinished(job: dict[str, Any]) -> bool:
    """Return whether a job has a run file to continue from."""
    return Path(str(job.get("out")) + ".run").exists()


def _capabilities() -> Ready:
    """Load everything, and return what the worker can do."""
    import torch

    from .jobs import described  # loads the rest, so that "ready" is true

    devices = ["cpu"]
    if torch.cuda.is_available():
        devices.append("cuda")
    if torch.backends.mps.is_available():
        devices.append("mps")
    return Ready(torch.__version__, devices, **described())


def _claim_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Reserve standard input and output for the protocol, and redirect what libraries print to standard error.

    Libraries that read standard input find it empty. (On Windows, loading such a library would otherwise wait for our read.)
    """
    lines, out = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return lines, out


def main() -> None:
    """Run the worker on standard input and output."""
    # Ctrl-C in a terminal reaches the whole process group, but only the client decides what to do about it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    code = Worker(*_claim_pipes()).run()
    with contextlib.suppress(OSError):
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
