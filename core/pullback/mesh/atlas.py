"""Flat charts for the triangles of a surface, made by xatlas in a separate process.

xatlas runs for seconds, blocks all other threads of its process and cannot be stopped. A separate process blocks nobody and can
be killed. It runs this file as a script, so it loads only numpy and xatlas.
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

"""For each new vertex the old one that it repeats (N,), the faces (F, 3), and the uv (N, 2) in [0, 1]."""

GUTTER_PIXELS = 4
"""Space between two charts."""
TICK_SECONDS = 0.1
"""Time between two ticks."""
RAISED = (1, 2)
"""Exit codes of a Python that cannot load this file, or that raised an error which this process will raise as well."""


def charts(vertices: np.ndarray, faces: np.ndarray, area: float, size: int) -> Charts:
    """Make charts in this process.

    Args:
        vertices: Vertices (V, 3) float32.
        faces: Faces (F, 3) uint32.
        area: The largest area of a chart.
        size: Side of the texture in pixels.
    """
    atlas = xatlas.Atlas()
    chart_options, pack_options = xatlas.ChartOptions(), xatlas.PackOptions()
    chart_options.max_chart_area = area
    pack_options.resolution, pack_options.padding = size, GUTTER_PIXELS
    atlas.add_mesh(vertices, faces)
    atlas.generate(chart_options, pack_options)
    return atlas.get_mesh(0)


def charts_apart(
    vertices: np.ndarray, faces: np.ndarray, area: float, size: int, tick: Callable[[], None] = lambda: None
) -> Charts:
    """Make charts in a separate process, or in this one if none can be started.

    Args:
        vertices, faces, area, size: As in `charts`.
        tick: Called often. If it raises, the process is killed.

    Raises:
        ValueError: If the process dies.
    """
    # In a program with Python inside, sys.executable may be that program.
    if not Path(sys.executable or "").stem.lower().startswith(("python", "pypy")):
        return charts(vertices, faces, area, size)
    try:
        with tempfile.TemporaryFile() as question:
            np.savez(question, vertices=vertices, faces=faces, area=area, size=size)
            question.seek(0)
            child = _start_process(question)
    except OSError:
        return charts(vertices, faces, area, size)
    with child:
        try:
            answer = _read_answer(child, tick)
        finally:
            child.kill()
    if child.returncode in RAISED:
        return charts(vertices, faces, area, size)
    if child.returncode:
        raise ValueError(
            f"xatlas, which unwraps the mesh, ended by itself (exit code {child.returncode}), most likely for want of "
            "memory: choose fewer faces"
        )
    found = _arrays(answer)
    return found["source"], found["faces"], found["uv"]


def _start_process(question: IO[bytes]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, str(Path(__file__).resolve())],
        stdin=question,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    )


def _read_answer(child: subprocess.Popen[bytes], tick: Callable[[], None]) -> bytes:
    """Read what a process writes until it ends."""
    while True:
        tick()
        try:
            return child.communicate(timeout=TICK_SECONDS)[0]
        except subprocess.TimeoutExpired:
            pass


def _arrays(data: bytes) -> dict[str, np.ndarray]:
    with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
        return dict(arrays)


def main() -> None:
    """Run as the separate process: arrays come from standard input, and the charts go to standard output."""
    if sys.platform == "linux":  # ends with its parent, even if that is killed; elsewhere it ends when it is done
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    given = _arrays(sys.stdin.buffer.read())
    source, faces, uv = charts(given["vertices"], given["faces"], float(given["area"]), int(given["size"]))
    answer = io.BytesIO()  # npz needs a file that can seek
    np.savez(answer, source=source, faces=faces, uv=uv)
    sys.stdout.buffer.write(answer.getvalue())


if __name__ == "__main__":
    main()
