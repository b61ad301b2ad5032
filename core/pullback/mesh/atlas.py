"""Atlas: flat charts for the triangles of a surface, laid out by xatlas in a process of its own.

xatlas lets no other thread of its process run until it is done, which takes seconds, and cannot be stopped. In another
process it holds up nobody and can be ended. That process runs this file, so it loads numpy and xatlas and nothing else.
"""

from __future__ import annotations

import ctypes
import io
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import IO

import numpy as np
import xatlas

Charts = tuple[np.ndarray, np.ndarray, np.ndarray]

GUTTER = 4
TICK = 0.1
"""Seconds between two ticks."""
RAISED = (1, 2)
"""Exit codes of a Python that lacks what is loaded here, or that raised what will be raised here as well."""


def charts(vertices: np.ndarray, faces: np.ndarray, area: float, size: int) -> Charts:
    """Charts for vertices (V, 3) float32 and faces (F, 3) uint32, none larger than `area`, in a picture of size x size.

    Returns the vertex (N,) that each new one repeats, the faces (F, 3) of the new ones, and their uv (N, 2) in [0, 1].
    """
    atlas = xatlas.Atlas()
    how, pack = xatlas.ChartOptions(), xatlas.PackOptions()
    how.max_chart_area = area
    pack.resolution, pack.padding = size, GUTTER
    atlas.add_mesh(vertices, faces)
    atlas.generate(how, pack)
    return atlas.get_mesh(0)


def charts_apart(
    vertices: np.ndarray, faces: np.ndarray, area: float, size: int, tick: Callable[[], None] = lambda: None
) -> Charts:
    """`charts`, in a process of its own where one can be started. `tick` may raise, which ends that process.

    Raises ValueError where the process ends before it is done.
    """
    here = lambda: charts(vertices, faces, area, size)
    # In a program with Python inside, sys.executable may be that program.
    if not Path(sys.executable or "").stem.lower().startswith(("python", "pypy")):
        return here()
    try:
        with tempfile.TemporaryFile() as question:
            np.savez(question, vertices=vertices, faces=faces, area=area, size=size)
            question.seek(0)
            child = _started(question)
    except OSError:
        return here()
    with child:
        try:
            answer = _answer(child, tick)
        finally:
            child.kill()
    if child.returncode in RAISED:
        return here()
    if child.returncode:
        raise ValueError(
            f"xatlas, which unwraps the mesh, ended by itself (exit code {child.returncode}), most likely for want of "
            "memory: choose fewer faces"
        )
    found = _arrays(answer)
    return found["source"], found["faces"], found["uv"]


def _started(question: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve())],
        stdin=question,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _answer(child: subprocess.Popen[bytes], tick: Callable[[], None]) -> bytes:
    """What a process writes until it ends."""
    while True:
        tick()
        try:
            return child.communicate(timeout=TICK)[0]
        except subprocess.TimeoutExpired:
            pass


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def main() -> None:
    """The other process: arrays come by standard input, and the charts go by standard output."""
    if sys.platform == "linux":  # who is killed can end nobody; elsewhere this process then ends when it is done
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    given = _arrays(sys.stdin.buffer.read())
    source, faces, uv = charts(given["vertices"], given["faces"], float(given["area"]), int(given["size"]))
    answer = io.BytesIO()  # npz wants a file in which it can go back
    np.savez(answer, source=source, faces=faces, uv=uv)
    sys.stdout.buffer.write(answer.getvalue())


if __name__ == "__main__":
    main()
