"""Runs: what an unfinished job leaves on the disk, so that it can be resumed whatever became of Blender.

`<out>.run` is the worker's. Beside it lies our note `<out>.job.json`: what was asked for, where it goes, how far it was.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from .job import Job, State

RUN, PREVIEW, NOTE, LOCK, PICTURES = ".run", ".preview.png", ".job.json", ".lock", ".pictures"
"""What the names of an unfinished run and of what belongs to it add to the output's. PICTURES: the folder of photographs."""
PARTS = (".field.safetensors", ".turntable.png")
"""What the worker writes before the output itself."""


def beside(out: Path, end: str) -> Path:
    """A companion of an output."""
    return out.with_name(out.name + end)


def output_of(name: str) -> str:
    """The name of the output that a file is, or belongs to."""
    end = next((end for end in (RUN, PREVIEW, NOTE, LOCK, PICTURES, *PARTS) if name.endswith(end)), "")
    return name.removesuffix(end)


def unfinished(out: Path) -> bool:
    """Whether there is a run that can go on."""
    return beside(out, RUN).exists()


def keep(job: Job) -> None:
    """Write down what the run is of and how far it is: now, as nobody knows when Blender ends."""
    note = beside(job.out, NOTE)
    note_data = {"request": job.request, "place": job.place, "move": job.move, "total": job.total}
    with contextlib.suppress(OSError):  # then it can be resumed until Blender ends
        part = beside(note, ".part")
        part.write_text(json.dumps(note_data), encoding="utf-8")
        part.replace(note)


def release(job: Job) -> None:
    """The job has ended: no later session shall ask about it."""
    beside(job.out, NOTE).unlink(missing_ok=True)


def forget_pictures(out: Path) -> None:
    """Delete the photographs that were copied for a job: it is done, or nobody wants it any more."""
    shutil.rmtree(beside(out, PICTURES), ignore_errors=True)


def discard(job: Job) -> None:
    """Delete an unfinished run and all that belongs to it; what was finished stays."""
    forget_pictures(job.out)
    for end in (RUN, PREVIEW, NOTE, *(() if job.out.exists() else (LOCK, *PARTS))):
        beside(job.out, end).unlink(missing_ok=True)


def left(folder: Path, known: Collection[Path]) -> Iterator[Job]:
    """The runs that earlier sessions left in a folder and that nobody works on, less those whose output is known."""
    for note in sorted(folder.glob(f"*{NOTE}")):
        out = note.with_name(note.name.removesuffix(NOTE))
        if out in known or _worked_on(out):
            continue
        try:
            note_data = json.loads(note.read_text(encoding="utf-8"))
            job = Job(0, dict(note_data["request"]), dict(note_data["place"]), out, State.LEFT, can_resume=True)
            job.move, job.total = int(note_data["move"]), int(note_data["total"])
            _ = job.title, job.started()  # all that it takes to show it and to start it is there
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
        if unfinished(out):
            yield job


def _worked_on(out: Path) -> bool:
    """Whether a worker of another Blender holds the run: it keeps the lock file locked as long as it lives."""
    try:
        with beside(out, LOCK).open("rb+") as lock:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(lock.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False
