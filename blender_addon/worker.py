"""Worker: the other end of the pipes of `python -m pullback.worker` (docs/worker.md), for a caller that must not wait.

Nothing here blocks: threads read and write the pipes, and `poll()` hands over what has come. Whatever goes wrong with
the process arrives as a message too. Pure standard library; knows nothing of Blender.
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
from .protocol import ENDS, Awake, Cancelled, Error, Heartbeat, Hello, Message, ProtocolError, Ready, Silent, Told

SILENT_SECONDS = 5.0
"""Seconds without a word after which `poll` says so."""
HUNG_SECONDS = 60.0
"""Seconds without a word after which the worker is given up and killed."""
LOADING_FACTOR = 10
"""So many times as long it may take to load torch."""
PATIENCE_SECONDS = 1.0
"""Seconds that a cancelled job has to stop by itself before the worker is killed."""
LONGEST = 1 << 20
"""Bytes of the longest line that is read."""
TAIL = 12
ABSENT = re.compile(r"No module named '?(\w+)")
"""What a Python says of a module that it lacks."""

Translate = Callable[[str], str]
RESUME = "Resume continues the run where it stopped"
AGAIN = "Try again; if it happens again, the log says why"
TEST = "Check the interpreter in the preferences with Test"
WAIT = "Wait, or cancel the job: it can be resumed later"


class Worker:
    """Runs jobs, one after another, in a worker process that it starts when there is one to run.

    python: the interpreter that has pullback. client: who we are, for its log. translate: translates what this end has to say.
    After `submit` (`protocol.job`), call `poll()` every tenth of a second or so: it gives the messages of docs/worker.md
    except heartbeats, and these:

    - `Error`: every one has a `hint`, what to do, and `log`, the last lines of the worker's log. A job whose process is
      lost ends in one; the jobs after it go to a new process. Its id is None where the process was lost and had no job.
    - `Silent`: nothing was heard for 5 seconds; `Awake`: it was heard again. After a minute the job ends in an error.

    A job ends in exactly one of `ENDS`.
    """

    def __init__(self, python: str, client: str = "blender", translate: Translate = str) -> None:
        self.python = python
        self.client = client
        self._translate = translate
        self.jobs: dict[str, Told] = {}
        self.ready = False
        self._process: _Process | None = None
        self._cancelled_at: float | None = None
        self._silent = False
        self._pending: list[Message] = []

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.code is None

    def log_tail(self, lines: int = TAIL) -> list[str]:
        """The last lines of the worker's log."""
        return list(self._process.log)[-lines:] if self._process else []

    def start(self) -> None:
        """Start the process before there is a job, so that torch is loaded by then. Not necessary."""
        if self._process is None:
            self._start()

    def submit(self, job: Told) -> None:
        """Put a job behind those that wait."""
        assert job["id"] not in self.jobs, "every job needs an id of its own"
        self.jobs[job["id"]] = job
        if len(self.jobs) == 1:
            self._send_first()

    def cancel(self, id: str) -> None:
        """Stop a job. `cancelled` comes within about a second: a process that does not react is killed."""
        if id not in self.jobs:
            return
        if id != self._first:
            self._pending.append(Cancelled(id=id, resumable=_unfinished(self.jobs.pop(id))))
        elif self._cancelled_at is None and self._process is not None:
            self._process.send(protocol.cancel(id))
            self._cancelled_at = time.monotonic()

    def poll(self) -> list[Message]:
        """What has come since the last call."""
        news, self._pending = self._pending, []
        process = self._process
        if process is not None:
            for message in process.receive():
                if self._process is process:  # what a lost one still had to say is of no interest
                    news += self._hear(message)
            if self._process is process:
                news += self._watch(process)
        return news

    def stop(self) -> None:
        """End the process now and forget its jobs; their runs stay resumable. Idempotent."""
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
        """One message of the process, as what the caller gets of it."""
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
        if isinstance(message, Error) and id is None:  # about the worker, which now ends
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
        """What the clock says about the process."""
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
        """The process is of no more use: its job ends, and the next one gets a new process."""
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


def _unfinished(job: Told) -> bool:
    """Whether a run of the job is there to be continued."""
    return Path(job["out"] + ".run").exists()


@dataclass(frozen=True, kw_only=True)
class _Lost(Message):
    """The process is of no more use."""

    text: str
    hint: str


class _Process:
    """The process and the threads at its pipes. A process that is lost says so with a last message, `_Lost`."""

    def __init__(self, python: str, translate: Translate) -> None:
        self._translate, self._python = translate, python
        self.heard = time.monotonic()
        self.log: collections.deque[str] = collections.deque(maxlen=200)
        self._incoming: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._outgoing: queue.SimpleQueue[Told | None] = queue.SimpleQueue()
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
        """The exit code, None while it runs."""
        return self._popen.poll() if self._popen else -1

    def send(self, message: Told) -> None:
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
            return  # it is gone; the reader says so

    def _keep_log(self, popen: subprocess.Popen[bytes]) -> None:
        assert popen.stderr is not None
        with popen.stderr:
            while line := popen.stderr.readline(LONGEST):
                self.log.append(line.decode(errors="replace").rstrip()[:500])

    def _ended(self, code: int) -> tuple[str, str]:
        """Why the process is no more, and what to do."""
        translate = self._translate
        if code < 0:
            return _killed(-code, translate), AGAIN
        self._logger.join(PATIENCE_SECONDS)  # what it wrote last tells the reason
        absent = ABSENT.search(self.log[-1] if self.log else "")
        if absent:
            text = translate("the worker cannot load what it needs: {python} has no module named {module}")
            return text.format(python=self._python, module=absent[1]), TEST
        return translate("the worker ended by itself, with exit code {code}").format(code=code), AGAIN


def _popen(python: str) -> subprocess.Popen[bytes]:
    hidden = {"creationflags": subprocess.CREATE_NO_WINDOW} if os.name == "nt" else {}
    # Blender's own settings of the interpreter are not the worker's; and no module is taken from the current folder.
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
