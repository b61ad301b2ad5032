"""Runs `python -m pullback.worker` (docs/worker.md) for a caller that must not block.

Threads read and write the pipes, and `poll()` returns the messages that have arrived. Failures of the process arrive as
messages too. Standard library only; does not import Blender.
"""

from __future__ import annotations

import collections
import os
import queue
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from . import protocol
from .protocol import ENDS, Awake, Cancelled, Error, Heartbeat, Hello, Message, Outgoing, ProtocolError, Ready, Silent

SILENT_SECONDS = 5.0
"""Seconds without a message after which `poll` returns `Silent`."""
HUNG_SECONDS = 60.0
"""Seconds without a message after which the worker is killed."""
LOADING_FACTOR = 10
"""Factor by which HUNG_SECONDS is longer while the worker still loads torch."""
PATIENCE_SECONDS = 1.0
"""Seconds that a cancelled job has to stop by itself before the worker is killed."""
LONGEST = 1 << 20
"""Length of the longest line that is read, in bytes."""
TAIL = 12
"""Lines of the log that an error shows."""
ABSENT = re.compile(r"No module named '?(\w+)")
"""The error message of Python for a missing module."""

Translate = Callable[[str], str]
RESUME = "Resume continues the run where it stopped"
AGAIN = "Try again; if it happens again, the log says why"
TEST = "Check the interpreter in the preferences with Test"
WAIT = "Wait, or cancel the job: it can be resumed later"


class Worker:
    """Runs jobs, one after another, in a worker process that is started for the first of them.

    After `submit`, call `poll()` about ten times per second. It returns the messages of docs/worker.md except heartbeats, and
    adds the following:

    - Every `Error` has a `hint`, and in `log` the last lines of the worker's log. If the process dies, its job ends with an
      `Error`, and the next job gets a new process. If it had no job, the error's id is None.
    - `Silent` after 5 seconds without a message, and `Awake` when messages arrive again. After a minute of silence the job ends
      with an `Error`.

    Every job ends with exactly one of `ENDS`.

    Args:
        python: The interpreter in which pullback is installed.
        client: The name of the caller, for the worker's log.
        translate: Translates the texts of this class.
    """

    def __init__(self, python: str, client: str = "blender", translate: Translate = str) -> None:
        self.python = python
        self.client = client
        self._translate = translate
        self.jobs: dict[str, Outgoing] = {}
        self.ready = False
        self._process: _Process | None = None
        self._cancelled_at: float | None = None
        self._silent = False
        self._pending: list[Message] = []

    @property
    def alive(self) -> bool:
        """Whether the process is running."""
        return self._process is not None and self._process.code is None

    def log_tail(self, lines: int = TAIL) -> list[str]:
        """Return the last lines of the worker's log."""
        return list(self._process.log)[-lines:] if self._process else []

    def start(self) -> None:
        """Start the process before there is a job, so that torch is already loaded for the first one. Optional."""
        if self._process is None:
            self._start()

    def submit(self, job: Outgoing) -> None:
        """Append a job (`protocol.job`) to the queue."""
        assert job["id"] not in self.jobs, "every job needs an id of its own"
        self.jobs[job["id"]] = job
        if len(self.jobs) == 1:
            self._send_first()

    def cancel(self, id: str) -> None:
        """Stop a job. It ends with `Cancelled` within about a second; if the process does not react, it is killed."""
        if id not in self.jobs:
            return
        if id != self._first:
            self._pending.append(Cancelled(id=id, resumable=_unfinished(self.jobs.pop(id))))
        elif self._cancelled_at is None and self._process is not None:
            self._process.send(protocol.cancel(id))
            self._cancelled_at = time.monotonic()

    def poll(self) -> list[Message]:
        """Return the messages that have arrived since the last call."""
        news, self._pending = self._pending, []
        process = self._process
        if process is not None:
            for message in process.receive():
                if self._process is process:  # messages of a process that was replaced are ignored
                    news += self._hear(message)
            if self._process is process:
                news += self._watch(process)
        return news

    def stop(self) -> None:
        """End the process now and drop its jobs. Their runs stay resumable. Does nothing the second time."""
        self._end()
        self.jobs.clear()
        self._pending.clear()

    @property
    def _first(self) -> str | None:
        return next(iter(self.jobs), None)

    def _start(self) -> None:
        self.ready, self._silent = False, False
        self._process = _Process(self.python, self._translate)
        self._process.send(protocol.hello(self.client))

    def _end(self) -> None:
        if self._process is not None:
            self._process.kill()
        self._process, self._cancelled_at = None, None

    def _send_first(self) -> None:
        if self._first is not None:
            self.start()
            assert self._process is not None
            self._process.send(self.jobs[self._first])

    def _hear(self, message: Message) -> list[Message]:
        """Return the messages that the caller gets for one message of the process."""
        id, translate = message.id, self._translate
        if isinstance(message, Hello) and message.protocol != protocol.VERSION:
            text = translate("the worker speaks version {theirs} of the protocol and this extension version {ours}: install the "
                        "extension and pullback of the same release")  # fmt: skip
            return self._lost(text.format(theirs=message.protocol, ours=protocol.VERSION), TEST)
        if isinstance(message, _Lost):
            return self._lost(message.text, message.hint)
        self.ready |= isinstance(message, Ready)
        if isinstance(message, Heartbeat) or (id is not None and id != self._first):
            return []
        if isinstance(message, Error) and id is None:  # about the worker itself, which ends after it
            return self._lost(message.text, TEST)
        if not isinstance(message, ENDS):
            return [message]
        self.jobs.pop(str(id))
        self._cancelled_at = None
        if isinstance(message, Error):
            message = replace(message, hint=translate(RESUME) if message.resumable else "", log=self.log_tail())
        self._send_first()
        return [message]

    def _watch(self, process: _Process) -> list[Message]:
        """Return the messages that are due because of the time that has passed."""
        now, translate = time.monotonic(), self._translate
        if self._cancelled_at is not None and now - self._cancelled_at > PATIENCE_SECONDS:
            job = self.jobs.pop(str(self._first))
            self._end()
            self._send_first()
            return [Cancelled(id=job["id"], resumable=_unfinished(job))]
        silence = now - process.heard
        if silence > HUNG_SECONDS * (1 if self.ready else LOADING_FACTOR):
            text = translate("the worker has not answered for {seconds:.0f} seconds and was stopped")
            return self._lost(text.format(seconds=silence), AGAIN)
        if (silence > SILENT_SECONDS) == self._silent:
            return []
        self._silent = not self._silent
        if not self._silent:
            return [Awake()]
        text = translate("the worker has not answered for {seconds:.0f} seconds").format(seconds=silence)
        return [Silent(text=text, hint=translate(WAIT), log=self.log_tail())]

    def _lost(self, text: str, hint: str) -> list[Message]:
        """End a process that cannot be used any more, and its job. The next job gets a new process."""
        log = self.log_tail()
        cancelled = self._cancelled_at is not None
        self._end()
        job = self.jobs.pop(self._first) if self._first is not None else None
        resumable = job is not None and _unfinished(job)
        self._send_first()
        if job is not None and cancelled:
            return [Cancelled(id=job["id"], resumable=resumable)]
        hint = self._translate(RESUME if resumable else hint)
        return [Error(id=job["id"] if job else None, text=text, resumable=resumable, hint=hint, log=log)]


def _unfinished(job: Outgoing) -> bool:
    """Return whether the job has an unfinished run that can be continued."""
    return Path(job["out"] + ".run").exists()


@dataclass(frozen=True, kw_only=True)
class _Lost(Message):
    """The process has died or cannot be used any more."""

    text: str
    hint: str


class _Process:
    """The worker process and the threads that read and write its pipes. The last message of every process is `_Lost`."""

    def __init__(self, python: str, translate: Translate) -> None:
        self._translate, self._python = translate, python
        self.heard = time.monotonic()
        self.log: collections.deque[str] = collections.deque(maxlen=200)
        self._incoming: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._outgoing: queue.SimpleQueue[Outgoing | None] = queue.SimpleQueue()
        self._popen: subprocess.Popen[bytes] | None = None
        try:
            self._popen = _popen(python)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            text = translate("the worker cannot be started: {python}: {reason}")
            self._lose(text.format(python=python, reason=reason), TEST)
            return
        self._logger = self._thread(self._keep_log)
        self._thread(self._read)
        self._thread(self._write)

    def _thread(self, work: Callable[[subprocess.Popen[bytes]], None]) -> threading.Thread:
        made = threading.Thread(target=work, args=(self._popen,), daemon=True, name=f"pullback{work.__name__}")
        made.start()
        return made

    @property
    def code(self) -> int | None:
        """The exit code, or None while the process is running."""
        return self._popen.poll() if self._popen else -1

    def send(self, message: Outgoing) -> None:
        self._outgoing.put(message)

    def receive(self) -> list[Message]:
        return [self._incoming.get_nowait() for _ in range(self._incoming.qsize())]

    def kill(self) -> None:
        self._outgoing.put(None)
        if self._popen is not None and self._popen.poll() is None:
            self._popen.kill()

    def _lose(self, text: str, hint: str) -> None:
        self._incoming.put(_Lost(text=text, hint=hint))

    def _read(self, popen: subprocess.Popen[bytes]) -> None:
        assert popen.stdout is not None
        with popen.stdout:
            while line := popen.stdout.readline(LONGEST):
                self.heard = time.monotonic()
                try:
                    self._incoming.put(protocol.parse(line))
                except ProtocolError as error:
                    popen.kill()
                    self._lose(
                        self._translate("the worker printed something that is {error}").format(error=error), TEST
                    )
                    popen.wait()
                    return
        self._lose(*self._ended(popen.wait()))

    def _write(self, popen: subprocess.Popen[bytes]) -> None:
        assert popen.stdin is not None
        try:
            with popen.stdin:
                while (message := self._outgoing.get()) is not None:
                    popen.stdin.write(protocol.encode(message))
                    popen.stdin.flush()
        except OSError:
            return  # the process has ended, which `_read` reports

    def _keep_log(self, popen: subprocess.Popen[bytes]) -> None:
        assert popen.stderr is not None
        with popen.stderr:
            while line := popen.stderr.readline(LONGEST):
                self.log.append(line.decode(errors="replace").rstrip()[:500])

    def _ended(self, code: int) -> tuple[str, str]:
        """Return why the process has ended, and what to do about it."""
        translate = self._translate
        if code < 0:
            return _killed(-code, translate), AGAIN
        self._logger.join(PATIENCE_SECONDS)  # its last lines hold the reason
        absent = ABSENT.search(self.log[-1] if self.log else "")
        if absent:
            text = translate("the worker cannot load what it needs: {python} has no module named {module}")
            return text.format(python=self._python, module=absent[1]), TEST
        return translate("the worker ended by itself, with exit code {code}").format(code=code), AGAIN


def _popen(python: str) -> subprocess.Popen[bytes]:
    hidden = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {}
    # The worker must not inherit the settings of Blender's own Python, nor import modules from the current folder.
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONHOME", "PYTHONSTARTUP")}
    return subprocess.Popen(
        [python, "-m", "pullback.worker"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        cwd=Path(python).parent if Path(python).is_absolute() else None,
        env=environment | {"PYTHONSAFEPATH": "1", "PYTHONUTF8": "1"}, **hidden,
    )  # fmt: skip


def _killed(number: int, translate: Translate) -> str:
    if number == getattr(signal, "SIGKILL", 0):
        return translate("the worker was killed (SIGKILL): often the memory ran out")
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = str(number)
    return translate("the worker was killed ({name})").format(name=name)
