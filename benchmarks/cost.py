"""What commands cost: `python benchmarks/cost.py` runs commands in processes of their own, and prints their time and peak memory.

The commands are `generate` with its defaults, and `render` of a SIREN field at growing sizes. Memory must not grow with the size.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import typer


def cost(folder: str, *words: str) -> tuple[float, float]:
    """Run `pullback` once; return the elapsed seconds, and the peak of its resident memory in MiB."""
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
    """Print the table. Sizes are multiplied by four up to `--largest`; 16384 takes more than an hour on one core."""
    print("| command | seconds | peak memory |\n| --- | --- | --- |")
    with tempfile.TemporaryDirectory() as folder:
        if generate:
            seconds, memory = cost(folder, "generate", "a red mushroom", "-o", "x.glb")
            print(f"| generate | {seconds:.0f} | {memory:.0f} MiB |", flush=True)
        cost(folder, "image", "a red mushroom", "-o", "a.png", "--steps", "4", "--size", "64")
        size = 1024
        while size <= largest:
            seconds, memory = cost(folder, "render", "a.png.field.safetensors", "-o", "b.png", "--size", str(size))
            print(f"| render at {size} x {size} | {seconds:.0f} | {memory:.0f} MiB |", flush=True)
            Path(folder, "b.png").unlink()
            size *= 4


if __name__ == "__main__":
    typer.run(main)
