"""Locally masked convolutions: what orders are good for, and what the lean backward pass saves.

`python benchmarks/lmconv.py folders OUT` turns Debian's package `dataset-fashion-mnist` into folders of PNG files, `OUT/train`
and `OUT/test`; with `--binary` in black and white. `likelihood MODEL OUT/test` prints bits per value under every order of a model
and under their ensemble, and those of the unknown half of a picture under the order that begins with the known half, beside the
worst of the S-curves. `completions MODEL OUT/test PICTURE` draws pictures, what is known of them, and three ways to fill in the
rest. `backward` prints the memory and the time of a stack of layers with the lean and the naive backward pass.
"""

from __future__ import annotations

import gzip
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image
from pullback.generative.lmconv import orders
from pullback.generative.lmconv.conv import masked_conv, naive_conv
from pullback.generative.lmconv.levels import levels_of, shown
from pullback.generative.lmconv.likelihood import bits_per_dim, conditionals, mixed
from pullback.generative.lmconv.masks import local_mask
from pullback.generative.lmconv.model import load_model
from pullback.pictures import write_png
from pullback.training.folder import PictureFolder
from torch import Tensor

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
SOURCE = Path("/usr/share/datasets/fashion-mnist")
HEADER = 16
"""Bytes before the pixels of an IDX file."""
GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": "65536"}
"""Makes the C library give memory back at once, so that the peak is what is held and not how it was cut up."""
HIDDEN = 0.7, 0.2, 0.2
"""The colour of what is not known."""
FORMS = {"lean": masked_conv, "naive": naive_conv}


@app.command()
def folders(out: Path, train: int = 10000, test: int = 1000, binary: bool = False, source: Path = SOURCE) -> None:
    """Write Fashion-MNIST as PNG files of 28 x 28 pixels."""
    for name, file, count in (
        ("train", "train-images-idx3-ubyte.gz", train),
        ("test", "t10k-images-idx3-ubyte.gz", test),
    ):
        with gzip.open(source / file) as packed:
            pixels = np.frombuffer(packed.read(HEADER + count * 28 * 28)[HEADER:], np.uint8).reshape(-1, 28, 28)
        (out / name).mkdir(parents=True, exist_ok=True)
        for n, picture in enumerate(pixels):
            shown = np.where(picture < 128, 0, 255).astype(np.uint8) if binary else picture
            Image.fromarray(shown).save(out / name / f"{n:05d}.png")
        print(f"{out / name}: {len(pixels)} pictures")


@app.command()
def likelihood(model: str, folder: Path, count: int = 200, batch: int = 20) -> None:
    """Print bits per value: by order and of the ensemble, and of unknown halves by order."""
    loaded = load_model(model)
    network, config = loaded.network, loaded.config
    pictures = PictureFolder(folder)
    values = torch.stack([levels_of(pictures.read(path), config, config.size) for path in pictures.paths[:count]])
    print(f"{len(values)} pictures, {loaded.card}")
    size = config.size
    trained = {name: orders.named(name, size, size) for name in config.orders}
    novel = {name: orders.named(name, size, size) for name in orders.NAMES if name not in trained}

    def bits(nats: Tensor, dimensions: int) -> str:
        each = bits_per_dim(nats, dimensions)
        return f"{each.mean():.4f} ± {each.std() / len(each) ** 0.5:.4f}"

    @torch.no_grad()
    def nats(order: Tensor) -> Tensor:
        """Log probabilities (B, H, W) of all pixels."""
        masks = network.masks(order, size, size)
        return torch.cat([conditionals(network, part, masks).double() for part in values.split(batch)])

    dimensions = values[0].numel()
    print("\n| order | bits per value | more than the ensemble of all |\n| --- | --- | --- |")
    pixels = {name: nats(order) for name, order in (trained | novel).items()}
    alone = {name: each.sum((1, 2)) for name, each in pixels.items()}
    rows = {name + " (never trained)" * (name in novel): each for name, each in alone.items()}
    for number in (2, 4, len(trained)):
        rows[f"ensemble of {number}"] = mixed(torch.stack([alone[name] for name in list(trained)[:number]]))
    for name, each in rows.items():
        print(f"| {name} | {bits(each, dimensions)} | {bits(each - rows[f'ensemble of {len(trained)}'], dimensions)} |")

    print(
        "\n| unknown | max-context | worst S-curve | its difference | best S-curve |\n| --- | --- | --- | --- | --- |"
    )
    middle = torch.arange(size)
    for name, unknown in (
        ("top", (middle < size // 2)[:, None]), ("left", (middle < size // 2)[None, :]),
        ("bottom", (middle >= size // 2)[:, None]),
    ):  # fmt: skip
        known = ~unknown.expand(size, size)
        dimensions = int((~known).sum()) * network.head.channels
        context = (nats(orders.max_context(known)) * ~known).sum((1, 2))
        curves = sorted(
            ((pixels[name] * ~known).sum((1, 2)) for name in orders.S_CURVES), key=lambda each: -each.mean()
        )
        columns = (context, curves[-1], curves[-1] - context, curves[0])
        print(f"| {name} | {' | '.join(bits(each, dimensions) for each in columns)} |")


@app.command()
def completions(model: str, folder: Path, out: Path, count: int = 3, seeds: int = 3, scale: int = 3) -> None:
    """Draw pictures of a folder, what is known of them (the rest is red), and their completions, a row for each seed."""
    loaded = load_model(model)
    size, pictures = loaded.config.size, PictureFolder(folder)
    middle = torch.arange(size)
    inner = (middle >= size // 4) & (middle < size - size // 4)
    everywhere = torch.ones(size, size, dtype=torch.bool)
    unknown = (
        (middle < size // 2)[:, None],
        (middle < size // 2)[None],
        (middle >= size // 2)[:, None],
        inner[:, None] & inner,
    )
    parts = []
    for n, each in enumerate(unknown):
        mask = each & everywhere
        read = [pictures.read(path) for path in pictures.paths[n * count : (n + 1) * count]]
        given = shown(torch.stack([levels_of(pixels, loaded.config, size) for pixels in read]), loaded.network.head)
        pixels = (given.movedim(1, -1) * 255).round().byte().numpy()
        hole = mask[..., None].expand(-1, -1, 3).byte().mul(255).numpy()
        known = torch.where(mask, torch.tensor(HIDDEN)[:, None, None], given)
        rows = [given, known, *(loaded.fill(pixels, hole, seed) for seed in range(seeds))]
        parts += torch.cat(rows, 2).unbind()
    sheet = torch.cat(parts, 2).repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    write_png(out, iter([sheet]), sheet.shape[2], sheet.shape[1])


@app.command()
def backward(layers: int = 10, filters: int = 64, size: int = 32, batch: int = 16, repeats: int = 3) -> None:
    """Print peak memory and time of a stack of layers, each form in a process of its own."""
    print("| backward pass | peak memory | processor time of a step |\n| --- | --- | --- |")
    found = {}
    for form in FORMS:
        sizes = (str(each) for each in (layers, filters, size, batch, repeats))
        done = subprocess.run(
            [sys.executable, __file__, "step", form, *sizes], capture_output=True, text=True, check=True,
            env=os.environ | GIVEN_BACK,
        )  # fmt: skip
        found[form] = json.loads(done.stdout)
        print(f"| {form} | {found[form]['bytes'] / 2**20:.0f} MiB | {found[form]['seconds']:.2f} s |")
    lean, naive = found["lean"], found["naive"]
    print(f"{naive['bytes'] / lean['bytes']:.2f} x less memory, {lean['seconds'] / naive['seconds']:.2f} x the time")


@app.command()
def step(form: str, layers: int, filters: int, size: int, batch: int, repeats: int) -> None:
    """Measure one form; `backward` runs it."""
    conv = FORMS[form]
    torch.manual_seed(0)
    mask = local_mask(orders.s_curve(size, size), size, size, 3)
    weights = [torch.randn(filters, filters, 3, 3).div(3 * filters**0.5).requires_grad_() for _ in range(layers)]
    bias, x = torch.zeros(filters), torch.randn(batch, filters, size, size)
    conv(x[:, :, :2, :2], mask[:, :4], weights[0], bias).sum().backward()  # libraries load
    before, times = _peak(), []
    for _ in range(repeats):
        start = time.process_time()
        h = x
        for weight in weights:
            h = conv(h, mask, weight, bias).relu()
        h.square().mean().backward()
        times.append(time.process_time() - start)
    print(json.dumps({"bytes": _peak() - before, "seconds": min(times)}))


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    app()
