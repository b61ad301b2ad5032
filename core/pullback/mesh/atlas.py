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
"""The index of the old vertex that each new vertex repeats, (N,), the faces (F, 3), and the uv (N, 2) in [0, 1]."""

GUTTER_PIXELS = 4
"""The space between two charts, in pixels."""
TICK_SECONDS = 0.1
"""The time between two calls of `tick`, in seconds."""
RAISED = (1, 2)
"""Exit codes of a Python that could not run this file, or that raised an exception. The charts are then made in this process,
where such an exception is raised again."""


def charts(vertices: np.ndarray, faces: np.ndarray, area: float, size: int) -> Charts:
    """Make charts in this process.

    Args:
        vertices: Vertices (V, 3) float32.
        faces: Faces (F, 3) uint32.
        area: The largest area of a chart, in squared units of the vertices.
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
    """Make charts in a separate process, or in this process if no other can be started.

    Args:
        vertices, faces, area, size: As in `charts`.
        tick: Called often. If it raises, the separate process is killed.

    Raises:
        ValueError: If the separate process crashes or is killed.
    """
    # In a program that embeds Python, such as Blender, sys.executable may be that program.
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
            f"xatlas, which unwraps the mesh, ended unexpectedly (exit code {child.returncode}), most likely because memory "
            "ran out: choose fewer faces"
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
    """Return everything that a process writes until it ends."""
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
    if (
        sys.platform == "linux"
    ):  # end with the parent even if it is killed; on other systems, the work is finished first
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    given = _arrays(sys.stdin.buffer.read())
    source, faces, uv = charts(given["vertices"], given["faces"], float(given["area"]), int(given["size"]))
    answer = io.BytesIO()  # because npz needs a seekable file
    np.savez(answer, source=source, faces=faces, uv=uv)
    sys.stdout.buffer.write(answer.getvalue())


if __name__ == "__main__":
    main()
