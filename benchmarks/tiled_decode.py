"""Tiled decoding of a latent: `python benchmarks/tiled_decode.py` compares ways to do it with decoding the latent in one piece.

The decoder has random weights in the layout of Stable Diffusion's, a quarter as wide. Every way runs in its own process. Its
memory is the peak of that process's resident memory, minus the peak before decoding. Differences are in units of the standard
deviation of the picture's values.
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

WAYS = ("in one piece", "diffusers' tiles", "ComfyUI's tiles", "exact tiles", "exact tiles, 64 MB kept")
TILE = 256
"""Side of a tile in pixels, for all ways."""
SCALE = 8


def autoencoder(width: int) -> Any:
    """Return diffusers' AutoencoderKL in the layout of Stable Diffusion's, with random weights. The original's width is 128."""
    import diffusers

    torch.manual_seed(0)
    widths = (width, 2 * width, 4 * width, 4 * width)
    vae = diffusers.AutoencoderKL(
        block_out_channels=widths, down_block_types=["DownEncoderBlock2D"] * 4, up_block_types=["UpDecoderBlock2D"] * 4,
        latent_channels=4, norm_num_groups=32, layers_per_block=2, sample_size=TILE,
    )  # fmt: skip
    return vae.eval().requires_grad_(False)


def latent(size: int) -> Tensor:
    """Return a latent (1, 4, size, size) whose left and right halves differ, and its upper and lower ones, as in pictures."""
    z = torch.randn(1, 4, size, size, generator=torch.Generator().manual_seed(1))
    z[..., : size // 2] += 1.5
    z[:, :2, size // 2 :] -= 1.5
    return z


def blended(vae: Any, z: Tensor) -> Tensor:
    """Decode as ComfyUI's tiled decoding does: the mean of three layouts of tiles that fade into each other."""
    overlap, side = TILE // SCALE // 4, TILE // SCALE
    layouts = ((side // 2, side * 2), (side * 2, side // 2), (side, side))
    return sum(_tiled_scale(vae, z, wide, high, overlap) for wide, high in layouts) / len(layouts)  # type: ignore[return-value]


def _tiled_scale(vae: Any, z: Tensor, wide: int, high: int, overlap: int) -> Tensor:
    """Decode as `comfy.utils.tiled_scale` does: tiles fade into their neighbours linearly over the overlap."""
    height, width = z.shape[2:]
    total = torch.zeros(1, 3, height * SCALE, width * SCALE)
    weight = torch.zeros(1, 1, height * SCALE, width * SCALE)
    for top in _starts(height, high, overlap):
        for left in _starts(width, wide, overlap):
            tile = vae.decode(z[..., top : top + high, left : left + wide]).sample
            mask, feather = torch.ones_like(tile[:, :1]), overlap * SCALE
            for t in range(feather):
                fade = (t + 1) / feather
                for dim in (dim for dim in (2, 3) if feather < mask.shape[dim]):
                    mask.narrow(dim, t, 1).mul_(fade)
                    mask.narrow(dim, mask.shape[dim] - 1 - t, 1).mul_(fade)
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
    """Decode a latent in one of `WAYS`, and return the picture (1, 3, H, W)."""
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


def mebibytes() -> float:
    """Return the peak of this process's resident memory until now, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def seam(picture: Tensor, whole: Tensor) -> float:
    """Return by how much the mean jump between two neighbouring columns or rows exceeds that in the whole picture, at most.

    All columns and rows are compared, because the borders of tiles are in different places in every way.
    """
    jumps = ([p.diff(dim=-1).abs().mean((0, 1, 2)), p.diff(dim=-2).abs().mean((0, 1, 3))] for p in (picture, whole))
    return max(float((a - b).max()) for a, b in zip(*jumps, strict=True))


def drift(picture: Tensor, whole: Tensor) -> float:
    """Return the largest difference between the mean of a tile's channel and that of the whole picture in the same place."""
    difference = (picture - whole).unfold(2, TILE, TILE).unfold(3, TILE, TILE)
    return float(difference.mean((-1, -2)).abs().max())


def measure(way: str, size: int, width: int, folder: str) -> None:
    """Decode in this process, write the picture, and print MiB and seconds."""
    vae, z = autoencoder(width), latent(size)
    with torch.no_grad():
        vae.decode(z[..., :4, :4])
        before, begun = mebibytes(), time.perf_counter()
        picture = decoded(way, vae, z)
        seconds = time.perf_counter() - begun
    save_file({"picture": picture.contiguous()}, Path(folder, f"{WAYS.index(way)}.safetensors"))
    print(json.dumps([mebibytes() - before, seconds]))


def main(size: int = 128, width: int = 32, way: str = "", folder: str = "") -> None:
    """Print the table. `--size` is the latent's side, `--width` the decoder's width. Other options are for child processes."""
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
            print(f"| {each} | {' | '.join(figures)} | {worst:.1e} | {memory:.0f} MiB | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    typer.run(main)
