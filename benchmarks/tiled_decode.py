"""Tiled decoding of a latent: `python benchmarks/tiled_decode.py` compares ways to decode it with decoding it at once.

The decoder has random weights in the layout of Stable Diffusion's, a quarter as wide. Every way runs in a process of its own,
so that its peak of resident memory is its own; what the process has before it decodes is subtracted. Differences are in units
of the standard deviation of the picture's values.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
import typer
from safetensors.torch import load_file, save_file
from torch import Tensor

WAYS = ("at once", "diffusers' tiles", "ComfyUI's tiles", "exact tiles", "exact tiles, 64 MB kept")
TILE = 256
"""Side of a tile in pixels, for all ways."""
SCALE = 8


def autoencoder(width: int) -> Any:
    """diffusers' AutoencoderKL in the layout of Stable Diffusion's, with random weights. width: 128 in the original."""
    import diffusers

    torch.manual_seed(0)
    widths = (width, 2 * width, 4 * width, 4 * width)
    vae = diffusers.AutoencoderKL(
        block_out_channels=widths, down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=4, norm_num_groups=32, layers_per_block=2, sample_size=TILE,
    )  # fmt: skip
    return vae.eval().requires_grad_(False)


def latent(size: int) -> Tensor:
    """A latent (1, 4, size, size) whose left and right, upper and lower halves differ, as those of pictures do."""
    z = torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(1))
    z[..., : size // 2] += 1.5
    z[:, :2, size // 2 :] -= 1.5
    return z


def blended(vae: Any, z: Tensor) -> Tensor:
    """What ComfyUI's tiled decoding does: three layouts of tiles that fade into each other, and their mean."""
    overlap, side = TILE // SCALE // 4, TILE // SCALE
    layouts = ((side // 2, side * 2), (side * 2, side // 2), (side, side))
    return sum(_tiled_scale(vae, z, wide, high, overlap) for wide, high in layouts) / len(layouts)  # type: ignore[return-value]


def _tiled_scale(vae: Any, z: Tensor, wide: int, high: int, overlap: int) -> Tensor:
    """What `comfy.utils.tiled_scale` does: tiles fade into their neighbours linearly over the overlap."""
    height, width = z.shape[2:]
    total = torch.zeros(1, 3, height * SCALE, width * SCALE)
    weight = torch.zeros(1, 1, height * SCALE, width * SCALE)
    for top in _starts(height, high, overlap):
        for left in _starts(width, wide, overlap):
            tile = vae.decode(z[..., top : top + high, left : left + wide]).sample
            mask, feather = torch.ones_like(tile[:, :1]), overlap * SCALE
            for t in range(feather):
                part = (t + 1) / feather
                for dim in (dim for dim in (2, 3) if feather < mask.shape[dim]):
                    mask.narrow(dim, t, 1).mul_(part)
                    mask.narrow(dim, mask.shape[dim] - 1 - t, 1).mul_(part)
            rows = slice(top * SCALE, top * SCALE + tile.shape[2])
            columns = slice(left * SCALE, left * SCALE + tile.shape[3])
            total[..., rows, columns] += tile * mask
            weight[..., rows, columns] += mask
    return total / weight


def _starts(length: int, side: int, overlap: int) -> list[int]:
    if length <= side:
        return [0]
    return [max(0, min(length - overlap, start)) for start in range(0, length - overlap, side - overlap)]


def decoded(way: str, vae: Any, z: Tensor) -> Tensor:
    """The picture (1, 3, H, W) that a way makes of a latent."""
    from pullback import exact_tiles

    if way == WAYS[0]:
        return vae.decode(z).sample
    if way == WAYS[1]:
        vae.enable_tiling()
        vae.tile_sample_min_size, vae.tile_latent_min_size = TILE, TILE // SCALE
        return vae.decode(z).sample
    if way == WAYS[2]:
        return blended(vae, z)
    read = exact_tiles.input_of(vae.decoder, vae.decode, z)
    chain = exact_tiles.chain_of(vae.decoder, read[..., :3, :3])
    return exact_tiles.whole(
        chain, exact_tiles.held(read), TILE, budget=64_000_000 if way == WAYS[4] else exact_tiles.BUDGET
    )


def megabytes() -> float:
    """The peak of this process's resident memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seam(picture: Tensor, whole: Tensor) -> float:
    """How much the mean jump from one column or row to the next exceeds that of the whole, where it does so most.

    All columns and rows are looked at, as every way has its borders elsewhere.
    """
    jumps = (
        [each.diff(dim=-1).abs().mean((0, 1, 2)), each.diff(dim=-2).abs().mean((0, 1, 3))] for each in (picture, whole)
    )
    return max(float((a - b).max()) for a, b in zip(*jumps, strict=True))


def drift(picture: Tensor, whole: Tensor) -> float:
    """The largest difference of the mean colour of a tile from the whole's."""
    difference = (picture - whole).unfold(2, TILE, TILE).unfold(3, TILE, TILE)
    return float(difference.mean((-1, -2)).abs().max())


def measure(way: str, size: int, width: int, folder: str) -> None:
    """Decode in this process, write the picture and print megabytes and seconds."""
    vae, z = autoencoder(width), latent(size)
    with torch.no_grad():
        vae.decode(z[..., :4, :4])
        before, begun = megabytes(), time.perf_counter()
        picture = decoded(way, vae, z)
        seconds = time.perf_counter() - begun
    save_file({"picture": picture.contiguous()}, Path(folder, f"{WAYS.index(way)}.safetensors"))
    print(json.dumps([megabytes() - before, seconds]))


def main(size: int = 128, width: int = 32, way: str = "", folder: str = "") -> None:
    """Print the table. `--size` is the latent's side, `--width` the decoder's; the rest is for the processes that it starts."""
    if way:
        return measure(way, size, width, folder)
    pixels = SCALE * size
    print(f"{size} x {size} latents, {pixels} x {pixels} pixels, tiles of {TILE}\n")
    print(
        "| way | seam | colour of a tile | worst pixel | peak memory | seconds |\n| --- | --- | --- | --- | --- | --- |"
    )
    with tempfile.TemporaryDirectory() as made:
        for each in WAYS:
            command = [
                sys.executable,
                __file__,
                "--size",
                str(size),
                "--width",
                str(width),
                "--way",
                each,
                "--folder",
                made,
            ]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode:
                raise SystemExit(done.stderr)
            memory, seconds = json.loads(done.stdout.splitlines()[-1])
            picture, whole = (load_file(Path(made, f"{n}.safetensors"))["picture"] for n in (WAYS.index(each), 0))
            worst = float((picture - whole).abs().max() / whole.std())
            figures = [f"{f(picture, whole) / float(whole.std()):.1e}" for f in (seam, drift)]
            print(f"| {each} | {' | '.join(figures)} | {worst:.1e} | {memory:.0f} MB | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
