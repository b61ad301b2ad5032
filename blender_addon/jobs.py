"""Jobs: a queue of things to make, driven by a timer on Blender's main thread.

The state is kept here and not in the scene, so that undo, saving and loading do not change it. One job runs at a time, in the
worker or on the ComfyUI server; both are polled without waiting. A result is placed when the user is in Object Mode and runs
no tool, so that it is one undo step.
"""

import atexit
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
from bpy.app.handlers import persistent
from bpy.app.translations import pgettext_rpt as translate

from . import backend, disk, learned, placing, preview, results, runs, windows
from .job import ALIVE, Job, State
from .protocol import Awake, Cancelled, Done, Error, Message, Note, Preview, Progress, Ready, Silent

EVERY = 0.1
"""Seconds between two polls of the backend."""
RARELY, KEPT = 5.0, 300.0
"""Seconds between two polls when there is nothing to do, and seconds after which an idle worker is stopped."""

queue: list[Job] = []
"""The jobs that the panel shows, oldest first: those that are not done, and those that are done and have notes."""
_number = 0
_paused = False
_idle = 0.0


# Called by the buttons


def add(request: dict[str, Any], place: dict[str, Any], copy: Callable[[Path], Path] | None = None) -> Job:
    """Append a job to the queue.

    Args:
        request: The kind, settings and options of the job.
        place: Where the result goes.
        copy: A function that writes the job's photographs into a folder and returns the path of their listing, or None.

    Raises:
        ValueError: If the folder of the job or of its photographs cannot be created.
    """
    global _paused
    out = results.output(request, place, _outputs())
    if copy is not None:
        source = {"source": str(copy(runs.beside(out, runs.PICTURES)))}
        request = request | {"options": request["options"] | source}
    _paused = False
    job = Job(_next_number(), request, place, out)
    queue.append(job)
    _start_timer()
    return job


def cancel(number: int = 0) -> None:
    """Stop a job and keep what it has done. Number 0 stands for the running job."""
    job = _of(number) if number else current()
    if job is None:
        return
    if job.status is State.RUNNING:
        job.stage = "stopping"
        backend.of(job).cancel(job.id)
    elif job.status in ALIVE:
        queue.remove(job)
        runs.forget_pictures(job.out)
    windows.redraw()


def resume(number: int = 0) -> None:
    """Continue a stopped job, or restart it if nothing was kept. Number 0 stands for all jobs left by earlier sessions."""
    global _paused
    for job in _stopped(number):
        _paused = job.wants_preferences = False
        job.resuming, job.status, job.stage = job.can_resume, State.WAITING, ""
        job.message, job.hint, job.log = "", "", []
        if not job.can_resume:
            job.move = job.total = 0
    _start_timer()


def dismiss(number: int = 0) -> None:
    """Forget a stopped job and its unfinished run. Number 0 stands for all jobs left by earlier sessions."""
    global _paused
    for job in _stopped(number):
        queue.remove(job)
        runs.discard(job)
    _paused = False  # the job that failed is gone, so the waiting ones may run
    if busy():
        _start_timer()
    windows.redraw()


def log_of(number: int) -> str:
    """Return everything known about a failed job, so that the user can ask for help."""
    job = _of(number)
    if job is None:
        return ""
    head = [f"Blender {bpy.app.version_string}", f"{job.title}: {job.message}", str(job.started())]
    return "\n".join(head + job.log)


def shown() -> list[Job]:
    """Return the jobs of this session, the running one first."""
    return sorted(
        (job for job in queue if job.status is not State.LEFT), key=lambda job: job.status is not State.RUNNING
    )


def left() -> list[Job]:
    """Return the jobs that earlier sessions did not finish."""
    return [job for job in queue if job.status is State.LEFT]


def current() -> Job | None:
    """Return the running job, else the first one that waits to be placed, else None."""
    return next((job for job in queue if job.status is State.RUNNING), None) or next(iter(_ready()), None)


def _ready() -> list[Job]:
    """Return the jobs that are done but not yet placed."""
    return [job for job in queue if job.status is State.READY]


def busy() -> bool:
    """Return whether any job is running or waiting."""
    return any(job.status in ALIVE for job in queue)


def run_to_end() -> None:
    """Run all jobs and wait for them. Blender without a window needs this because its timers do not fire."""
    while busy():
        _advance()
        time.sleep(0.02)


def recall() -> None:
    """Find the runs that earlier sessions left unfinished because Blender was closed or killed, or crashed."""
    for folder in results.folders():
        for job in runs.left(folder, _outputs()):
            job.number = _next_number()
            queue.append(job)


def _next_number() -> int:
    global _number
    _number += 1
    return _number


def _outputs() -> set[Path]:
    return {job.out for job in queue}


def _of(number: int) -> Job | None:
    return next((job for job in queue if job.number == number), None)


def _stopped(number: int) -> list[Job]:
    if number == 0:
        return left()
    return [job for job in queue if job.number == number and job.status not in ALIVE]


# The timer


def _start_timer() -> None:
    if not bpy.app.background:
        if bpy.app.timers.is_registered(_tick):  # its next call may be RARELY seconds away
            bpy.app.timers.unregister(_tick)
        bpy.app.timers.register(_tick, first_interval=EVERY, persistent=True)
    windows.redraw()


def _tick() -> float | None:
    """Poll once, without waiting. An idle worker is kept for a while because starting one is slow."""
    global _idle
    _advance()
    if busy():
        _idle = 0.0
        return EVERY
    _idle += RARELY
    if _idle > KEPT:
        backend.stop_worker()
    return RARELY if backend.has_worker() else None


def _advance() -> None:
    """Poll the running job or start the next one, then place what is ready. A job that waits to be placed blocks no other."""
    job = next((job for job in queue if job.status is State.RUNNING), None)
    if job is None and not _paused:
        job = next((job for job in queue if job.status is State.WAITING), None)
        if job is not None:
            job.status, job.stage, job.sent, job.tries = State.RUNNING, "", False, job.tries + 1
    if job is not None:
        _run(job)
    for made in _ready():
        _place(made)
    _redraw_if_changed()


def _run(job: Job) -> None:
    global _paused
    worker = backend.of(job)
    barred = backend.barred(worker.address) if job.on_server else ""
    if barred:
        backend.stop_server()
        _end(job, State.FAILED, barred)
        _paused = job.wants_preferences = True
        return
    if worker is None:
        text = translate("No Python in which Pullback is installed was found")
        _end(job, State.FAILED, text, translate("choose one in the preferences, or create an environment there"))
        _paused = job.wants_preferences = True
        return
    if not job.sent:
        worker.submit(job.started())
        job.sent = True
    for message in worker.poll():
        if message.id in (None, job.id) and job.status is State.RUNNING:
            _take(job, message)
            if isinstance(message, Error):
                _paused = job.wants_preferences = not worker.ready  # the next job would fail in the same way


def _take(job: Job, message: Message) -> None:
    """Update the running job after a message from its backend."""
    match message:
        case Progress():
            job.stage, job.move, job.total = message.stage, message.move, message.total
            job.seconds_left, job.heard = message.seconds_left, time.monotonic()
            if job.stage == "sampling" and runs.unfinished(job.out):  # jobs on the server and shapes cannot be resumed
                runs.keep(job)
        case Preview():
            job.preview_icon = preview.show(message.path) or job.preview_icon
        case Note():
            job.notes.append(message.text)
        case Silent():
            job.message, job.hint, job.log = message.text, message.hint, message.log
        case Awake():
            job.message, job.hint, job.log = "", "", []
        case Ready():
            learned.hear(message.representations)
        case Done():
            job.files, job.status = message.files, State.READY
            job.message, job.hint, job.log = "", "", []
        case Cancelled():
            _end(job, State.CANCELLED, translate("Cancelled"), resumable=message.resumable)
        case Error():
            _end(job, State.FAILED, message.text, message.hint, message.log, message.resumable)


def _place(job: Job) -> None:
    """Place the result of a job in the scene, unless the user is busy."""
    try:
        if not placing.place(job):
            return
    except (OSError, ValueError, RuntimeError) as error:
        _end(job, State.FAILED, str(error))
        return
    _end(job, State.DONE, " ".join(job.notes))
    runs.forget_pictures(job.out)
    disk.look()
    if not job.notes:
        queue.remove(job)


def _end(
    job: Job, status: State, text: str, hint: str = "", log: list[str] | None = None, resumable: bool = False
) -> None:
    job.status, job.message, job.hint, job.log, job.can_resume = status, text, hint, log or [], resumable
    job.preview_icon = 0
    preview.clear()
    if resumable:
        runs.keep(job)
    else:
        runs.release(job)


_drawn: object = None


def _redraw_if_changed() -> None:
    """Redraw the sidebars if the panel would now show something different."""
    global _drawn
    now = [
        (j.number, j.status, j.stage, j.move, j.progress_text, j.preview_icon, j.message, tuple(j.notes)) for j in queue
    ]
    if now != _drawn:
        _drawn = now
        windows.redraw()


# Starting and stopping


def _stop(why: str) -> None:
    """Stop the backends and cancel all jobs. Those with an unfinished run can be resumed."""
    backend.stop()
    for job in queue:
        if job.status in ALIVE:
            _end(job, State.CANCELLED, why, resumable=runs.unfinished(job.out))


@persistent
def _before_load(*_: object) -> None:
    _stop(translate("Stopped, because another file was opened"))


@persistent
def _after_load(*_: object) -> None:
    recall()


def register() -> None:
    if not bpy.app.background:
        recall()
        bpy.app.handlers.load_post.append(_after_load)
    bpy.app.handlers.load_pre.append(_before_load)
    atexit.register(_stop, "")


def unregister() -> None:
    atexit.unregister(_stop)
    bpy.app.handlers.load_pre.remove(_before_load)
    if _after_load in bpy.app.handlers.load_post:
        bpy.app.handlers.load_post.remove(_after_load)
    if bpy.app.timers.is_registered(_tick):
        bpy.app.timers.unregister(_tick)
    _stop("")
    queue.clear()
