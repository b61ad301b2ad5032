"""What a command costs: `python benchmarks/cost.py` prints wall time and peak memory of the commands themselves.

`generate` with its defaults, and `render` of a SIREN field at growing sizes: memory must not grow with the size.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import typer


def cost(folder: str, *words: str) -> tuple[float, float]:
    """Seconds and peak megabytes of one run of `pullback`."""
    code = (
        "import resource, sys; from pullback.cli import main\n"
        "try: main()\n"
        "finally: print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(done.stderr)
    return time.perf_counter() - begun, int(done.stdout.split()[-1]) / 1024


def main(largest: int = 4096, generate: bool = True) -> None:
    """Print the table; `--largest 16384` takes some minutes more."""
    print("| command | seconds | peak memory |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        if generate:
            seconds, memory = cost(folder, "generate", "a red mushroom", "-o", "x.glb")
            print(f"| generate | {seconds:.0f} | {memory:.0f} MB |", flush=True)
        cost(folder, "image", "a red mushroom", "-o", "a.png", "--steps", "4", "--size", "64")
        size = 1024
        while size <= largest:
            seconds, memory = cost(folder, "render", "a.png.field.safetensors", "-o", "b.png", "--size", str(size))
            print(f"| render at {size} x {size} | {seconds:.0f} | {memory:.0f} MB |", flush=True)
            Path(folder, "b.png").unlink()
            size *= 4


if __name__ == "__main__":
    typer.run(main)
