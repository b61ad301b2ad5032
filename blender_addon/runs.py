"""Runs: the files of unfinished jobs, from which they can be resumed even if Blender crashed.

The worker writes `<out>.run`. The extension writes the note `<out>.job.json` beside it: the request, the place and the progress.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from .job import Job, State

RUN, PREVIEW, NOTE, LOCK, PICTURES = ".run", ".preview.png", ".job.json", ".lock", ".pictures"
"""Suffixes that the files of an unfinished run, and the folder of its photographs, add to the name of the output."""
PARTS = (".field.safetensors", ".turntable.png")
"""Suffixes of files that the worker writes before the output itself."""


def beside(out: Path, end: str) -> Path:
    """Return the path of a file that belongs to an output, with the suffix `end` added to its name."""
    return out.with_name(out.name + end)


def output_of(name: str) -> str:
    """Return the name of the output that a file is or belongs to."""
    end = next((end for end in (RUN, PREVIEW, NOTE, LOCK, PICTURES, *PARTS) if name.endswith(end)), "")
    return name.removesuffix(end)


def unfinished(out: Path) -> bool:
    """Return whether an output has an unfinished run that can be continued."""
    return beside(out, RUN).exists()


def keep(job: Job) -> None:
    """Write the note of a running job. It is updated with every progress message because Blender may crash."""
    note = beside(job.out, NOTE)
    note_data = {"request": job.request, "place": job.place, "move": job.move, "total": job.total}
    with contextlib.suppress(OSError):  # without a note, the job can be resumed only in this session
        part = beside(note, ".part")
        part.write_text(json.dumps(note_data), encoding="utf-8")
        part.replace(note)


def release(job: Job) -> None:
    """Delete the note of a job that has ended, so that later sessions do not ask about it."""
    beside(job.out, NOTE).unlink(missing_ok=True)


def forget_pictures(out: Path) -> None:
    """Delete the photographs that were copied for a job, when it is done or dismissed."""
    shutil.rmtree(beside(out, PICTURES), ignore_errors=True)


def discard(job: Job) -> None:
    """Delete an unfinished run and its files. If the output exists, keep the files that belong to it."""
    forget_pictures(job.out)
    for end in (RUN, PREVIEW, NOTE, *(() if job.out.exists() else (LOCK, *PARTS))):
        beside(job.out, end).unlink(missing_ok=True)


def left(folder: Path, known: Collection[Path]) -> Iterator[Job]:
    """Yield the jobs in a folder that earlier sessions did not finish and no worker is running, except outputs in `known`."""
    for note in sorted(folder.glob(f"*{NOTE}")):
        out = note.with_name(note.name.removesuffix(NOTE))
        if out in known or _worked_on(out):
            continue
        try:
            note_data = json.loads(note.read_text(encoding="utf-8"))
            job = Job(0, dict(note_data["request"]), dict(note_data["place"]), out, State.LEFT, can_resume=True)
            job.move, job.total = int(note_data["move"]), int(note_data["total"])
            _ = job.title, job.started()  # these fail if the note lacks something
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            continue
        if unfinished(out):
            yield job


def _worked_on(out: Path) -> bool:
    """Return whether a worker of another Blender is running the job: it keeps the lock file locked while it is alive."""
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
