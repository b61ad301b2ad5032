"""Rendering of training pictures: `python -m pullback.generative.toybox.train COMMAND`. Needs the extra `train`.

`render` writes the sketches and landscapes that toybox learns from. `pictures` writes scenes of various sizes, each rendered at
its own size, for training field decoders. Several processes may render into one folder at the same time if their `--seed`s keep
them from writing the same files (see each command). `pullback train` trains the models.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image

from ...files import atomic
from ...pictures import straight
from . import pictures
from .data import SHARD

app = typer.Typer(add_completion=False, help="Render the pictures that models are trained on.")


@app.command()
def render(
    folder: Path, shards: int = 20, seed: int = 0, landscape_every: int = 4, pictures_each: int = SHARD, side: int = 64
) -> None:
    """Write `shards` files of `pictures_each` pictures, each `side` pixels wide.

    Every `landscape_every`-th file holds landscapes, the others hold objects. Toybox needs files of 64 pixels; infty-diff learns
    larger sizes from files with larger pictures.

    `--seed` is the number of the first file; the number of a file is also the seed of its pictures. Files that exist already
    are not rendered again. Processes that run at the same time need separate ranges of numbers, because two processes that
    render the same number would write to the same temporary file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(seed, seed + shards):
        land = number % landscape_every == landscape_every - 1
        path = folder / f"{'landscapes' if land else 'objects'}-{number:04d}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        make = pictures.landscapes if land else pictures.sketches
        x, labels, cameras = make(pictures_each // 4, rng, size=side)
        part = path.with_suffix(".part.npz")
        save = np.savez if side == pictures.SIZE else np.savez_compressed
        save(part, pictures=x[:, :3] if land else x, labels=labels, cameras=cameras)
        part.rename(path)


@app.command("pictures")
def render_scenes(folder: Path, count: int = 1000, seed: int = 0, sizes: str = "64,128,256,512,512,512,1024") -> None:
    """Write `count` PNGs of random scenes and their captions (`metadata.jsonl`, in the layout of Hugging Face's imagefolder).

    Every picture is rendered at its own size, drawn from `sizes`. Pictures that exist already are not rendered again, and any
    number of processes with different seeds may write to the same folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    choices = [int(size) for size in sizes.split(",")]
    for number in range(count):
        path = folder / f"{seed:04d}-{number:06d}.png"
        if path.exists():
            continue
        rng = np.random.default_rng((seed, number))
        pixels, text = pictures.scene(int(rng.choice(choices)), rng)
        rgba = straight(torch.from_numpy(pixels / 255)).mul(255).round().byte().permute(1, 2, 0).numpy()
        with atomic(path) as part:
            Image.fromarray(rgba).save(part, compress_level=1)
        with (folder / "metadata.jsonl").open("a") as lines:
            lines.write(json.dumps({"file_name": path.name, "text": text}) + "\n")


if __name__ == "__main__":
    app()
