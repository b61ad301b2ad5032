"""Training of toybox: `python -m pullback.generative.toybox.train COMMAND`. Needs the extra `train`.

`render` renders pictures into a folder; any number of processes may do so at any time. `template` trains the template on them,
`train` the denoiser, and `export` writes the weights where the package looks for them. Checkpoints are written every few minutes
by atomic rename, and training continues from them; `--minutes` counts the time of all continuations.
"""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import typer
from accelerate import Accelerator
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...files import atomic
from ...pictures import straight
from ..muon import Muon
from . import pictures
from .data import SHARD, Batch, Pictures
from .model import FORMAT
from .network import SIGMA_DATA, Config, Template, Toybox
from .words import parted

app = typer.Typer(add_completion=False, help="Render toybox's pictures, train it, and export its weights.")


@app.command()
def render(folder: Path, shards: int = 20, seed: int = 0, landscape_every: int = 4) -> None:
    """Write `shards` files of 2,048 pictures of objects; every `landscape_every`-th holds landscapes instead."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(seed, seed + shards):
        land = number % landscape_every == landscape_every - 1
        path = folder / f"{'landscapes' if land else 'objects'}-{number:04d}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        make = pictures.landscapes if land else pictures.sketches
        x, labels, cameras = make(SHARD // 4, rng)
        part = path.with_suffix(".part.npz")
        np.savez(part, pictures=x[:, :3] if land else x, labels=labels, cameras=cameras)
        part.rename(path)


@app.command("pictures")
def render_scenes(folder: Path, count: int = 1000, seed: int = 0, sizes: str = "64,128,256,512,512,512,1024") -> None:
    """Write `count` PNGs of random scenes and their captions (`metadata.jsonl`, as Hugging Face's imagefolder has it).

    Every picture is rendered at its own size, drawn from `sizes`. Pictures that exist already are not rendered again, and any
    number of processes with other seeds may write to the same folder.
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


def loss(model: nn.Module, batch: Batch, generator: torch.Generator) -> Tensor:
    """Return EDM's weighted denoising error (Karras et al. 2022, eq. 8), with ln sigma normal around 0.8 and deviation 1.5."""
    x = batch.x
    sigma = torch.exp(1.5 * torch.randn(len(x), 1, 1, 1, generator=generator) + 0.8)
    noise = torch.randn(x.shape, generator=generator)
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    denoised = model(x + sigma * noise, sigma.flatten(), batch.words, batch.cameras, batch.lit)
    return (weight * (denoised - x) ** 2).mean()


def optimisers(model: Toybox, lr: float) -> list[torch.optim.Optimizer]:
    """Return the optimisers: Muon for the matrices of the transformer blocks, AdamW for all other parameters."""
    matrices = [p for name, p in model.blocks.named_parameters() if p.ndim == 2 and "modulation" not in name]
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken and p.requires_grad]
    return [Muon(matrices, lr=lr), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.99), weight_decay=0.01)]


def save(
    path: Path, model: nn.Module, ema: nn.Module, optims: list[torch.optim.Optimizer], progress: dict[str, float]
) -> None:
    """Write the whole training state as one safetensors file, by atomic rename."""
    state = {f"model.{k}": v for k, v in model.state_dict().items()} | {
        f"ema.{k}": v for k, v in ema.state_dict().items()
    }
    for n, optim in enumerate(optims):
        for i, slots in optim.state_dict()["state"].items():
            state |= {f"optim.{n}.{i}.{name}": torch.as_tensor(v) for name, v in slots.items()}
    part = path.with_suffix(".part")
    save_file({k: v.contiguous() for k, v in state.items()}, part, {k: str(v) for k, v in progress.items()})
    part.rename(path)


def load(path: Path, model: nn.Module, ema: nn.Module, optims: list[torch.optim.Optimizer]) -> dict[str, float]:
    """Restore the state that `save` wrote, and return its progress."""
    with safe_open(path, "pt") as file:
        state = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        progress = {k: float(v) for k, v in file.metadata().items()}
    for prefix, module in (("model.", model), ("ema.", ema)):
        module.load_state_dict({k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)})
    for n, optim in enumerate(optims):
        slots: dict[int, dict[str, Tensor]] = {}
        for key in (k for k in state if k.startswith(f"optim.{n}.")):
            _, _, i, name = key.split(".")
            slots.setdefault(int(i), {})[name] = state[key]
        optim.load_state_dict(optim.state_dict() | {"state": slots})
    return progress


def faster_precision() -> str:
    """Return the precision in which this machine multiplies faster: "bf16" or "no" (float32).

    CPUs without bfloat16 emulate it, several times slower.
    """
    if torch.cuda.is_available():
        return "bf16"

    def seconds(dtype: torch.dtype) -> float:
        x = torch.randn(8, 32, 64, 64).to(dtype)
        weight = torch.randn(32, 32, 3, 3).to(dtype)
        times = []
        for _ in range(3):
            start = time.perf_counter()
            nn.functional.conv2d(x, weight)
            times.append(time.perf_counter() - start)
        return min(times)

    return "bf16" if seconds(torch.bfloat16) < seconds(torch.float32) else "no"


def _fractions(minutes: float, spent: float, checkpoint_every: float = 180.0) -> Iterator[tuple[float, bool]]:
    """Yield the elapsed fraction of the training time, and whether to save now, until the time is over."""
    start = saved = time.monotonic()
    while (fraction := (spent + time.monotonic() - start) / (60 * minutes)) < 1:
        due = time.monotonic() - saved > checkpoint_every
        saved = time.monotonic() if due else saved
        yield fraction, due


@app.command()
def template(
    folder: Path, out: Path, minutes: float = 20, batch: int = 128, lr: float = 2e-3, width: int = 192,
    precision: str = "auto",
) -> None:  # fmt: skip
    """Train the template alone, by least squares on the 32 x 32 pictures in FOLDER, and write it to OUT.

    Continues from OUT if it exists. For the precision, see `train`.
    """
    torch.set_flush_denormal(True)
    half = (faster_precision() if precision == "auto" else precision) == "bf16"
    model, data = Template(width), Pictures(folder, 32)
    if out.exists():
        model.load_state_dict(load_file(out))
    average = copy.deepcopy(model)
    rng = np.random.default_rng(0)
    optim = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    running, step = 0.0, 0
    for fraction, _ in _fractions(minutes, 0.0):
        for group in optim.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 100, 2 * (1 - fraction))
        drawn = data.batch(batch, rng)
        shapes = torch.tensor([parted(row)[0] for row in drawn.words.tolist()])
        with torch.autocast("cpu", torch.bfloat16, half):
            drawing = model(model.words(shapes), drawn.cameras, drawn.lit)
        value = (drawing.float() - drawn.layers).square().mean()
        optim.zero_grad()
        value.backward()
        optim.step()
        _follow(average, model, 0.005)
        step, running = step + 1, running + value.item()
        if step % 200 == 0:
            typer.echo(f"step {step}  error {running / 200:.5f}  {100 * fraction:.0f} %")
            running = 0.0
            data.refresh()
    with atomic(out) as part:
        save_file(average.state_dict(), part)


@torch.no_grad()
def _follow(average: nn.Module, model: nn.Module, rate: float) -> None:
    for mean, p in zip(average.parameters(), model.parameters(), strict=True):
        mean.lerp_(p, rate)


@app.command()
def train(
    folder: Path,
    checkpoint: Path,
    minutes: float = 120,
    batch: int = 32,
    lr: float = 1e-3,
    decay: float = 0.55,
    width: int = 192,
    depth: int = 8,
    start_from: Path | None = None,
    template: Path | None = None,
    precision: str = "auto",
) -> None:
    """Train the denoiser on the pictures in FOLDER, continuing from CHECKPOINT if it exists.

    A new training starts from exported weights if `start_from` names them, and from the file that the command `template` wrote
    if `template` does. The learning rate falls linearly to zero over the last part `decay` of the time. The precision of matrix
    products and convolutions is "bf16", "no" (float32), or "auto" for the faster one.
    """
    precision = faster_precision() if precision == "auto" else precision
    torch.set_flush_denormal(True)  # before the first parallel operation, so that its threads inherit it
    accelerator = Accelerator(mixed_precision=precision, cpu=not torch.cuda.is_available())
    model = Toybox(Config(width=width, depth=depth))
    if start_from is not None:
        model.load_state_dict({k: v.float() for k, v in load_file(start_from).items()})
    if template is not None:
        model.template.load_state_dict(load_file(template))
    model.template.requires_grad_(False)
    ema = copy.deepcopy(model)
    optims = optimisers(model, lr)
    progress = load(checkpoint, model, ema, optims) if checkpoint.exists() else {"step": 0.0, "seconds": 0.0}
    model, ema, *optims = accelerator.prepare(model, ema, *optims)
    data, step, running = Pictures(folder), int(progress["step"]), 0.0
    generator = torch.Generator().manual_seed(step + accelerator.process_index)
    rng = np.random.default_rng((step, accelerator.process_index))
    start = time.monotonic()
    for fraction, due in _fractions(minutes, progress["seconds"]):
        rate = lr * min(1.0, (step + 1) / 100, (1 - fraction) / decay)
        for group in (group for optim in optims for group in optim.param_groups):
            group["lr"] = rate
        drawn = data.batch(batch, rng)
        with accelerator.autocast():
            value = loss(model, drawn.to(accelerator.device), generator)
        accelerator.backward(value)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad()
        step += 1
        _follow(ema, model, max(0.001, 19 / (step + 20)))
        running += value.item()
        if step % 20 == 0:
            seconds = progress["seconds"] + time.monotonic() - start
            accelerator.print(
                f"step {step}  loss {running / 20:.4f}  {step * batch / seconds:.1f} pictures/s  {100 * fraction:.0f} %",
                flush=True,
            )
            running = 0.0
        if due and accelerator.is_main_process:
            now = {"step": step, "seconds": progress["seconds"] + time.monotonic() - start}
            save(checkpoint, model, ema, optims, now)
            data.refresh()
    if accelerator.is_main_process:
        save(checkpoint, model, ema, optims, {"step": step, "seconds": 60 * minutes})


@app.command()
def export(
    checkpoint: Path, out: Path = Path(__file__).with_name("toybox.safetensors"), width: int = 192, depth: int = 8
) -> None:
    """Write the averaged weights of a checkpoint in float16, where the package looks for them."""
    config = Config(width=width, depth=depth)
    with safe_open(checkpoint, "pt") as file:
        tensors = {k.removeprefix("ema."): file.get_tensor(k).half() for k in file.keys() if k.startswith("ema.")}  # noqa: SIM118
        step = file.metadata()["step"]
    sizes = {k: str(v) for k, v in asdict(config).items()}
    with atomic(out) as part:
        save_file(tensors, part, {"format": FORMAT, "step": step, **sizes})
    size = math.ceil(out.stat().st_size / 1e6)
    typer.echo(f"{out}: {size} MB")


if __name__ == "__main__":
    app()
