"""Training toybox: `python -m pullback.generative.toybox.train DIR --minutes 120`.

Renders pictures into DIR (`render`, any number of processes, any time), trains the template on them (`template`),
and then the denoiser on whatever lies there.
The checkpoint in DIR is written by atomic rename every few minutes and continued from by itself;
`--minutes` counts training time over all continuations. Needs the extra `train`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
import typer
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ...files import atomic
from ..muon import Muon
from . import pictures
from .model import FORMAT
from .network import ANY, SIGMA_DATA, Config, Template, Toybox
from .words import LENGTH, PAD, START

app = typer.Typer(add_completion=False, help="Render toybox's pictures, train it, and export its weights.")
SHARD = 2048


@app.command()
def render(folder: Path, shards: int = 20, seed: int = 0, landscape_every: int = 6) -> None:
    """Write `shards` files of 2,048 pictures; every `landscape_every`-th holds landscapes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(seed, seed + shards):
        path = folder / f"shard-{number:04d}.npz"
        if path.exists():
            continue
        rng = np.random.default_rng(number)
        land = number % landscape_every == landscape_every - 1
        x, words, cameras = pictures.landscapes(SHARD // 4, rng) if land else pictures.objects(SHARD // 8, rng)
        part = path.with_suffix(".part.npz")
        np.savez(part, pictures=x, words=words, cameras=cameras)
        part.rename(path)


class Pictures:
    """All pictures that lie in a folder; `refresh` takes in the shards that came since."""

    def __init__(self, folder: Path):
        self.folder, self.seen = folder, set[Path]()
        self.arrays: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        self.refresh()

    def refresh(self) -> None:
        for path in sorted(set(self.folder.glob("shard-????.npz")) - self.seen):
            with np.load(path) as shard:
                self.arrays.append((shard["pictures"], shard["words"], shard["cameras"]))
            self.seen.add(path)
        if not self.arrays:
            raise FileNotFoundError(f"no shard-*.npz in {self.folder}: run the command `render` first")

    def shrink(self) -> None:
        """Halve the pictures: 32 x 32, means of 2 x 2 pixels."""
        self.arrays = [
            (x.reshape(*x.shape[:2], 32, 2, 32, 2).mean((3, 5)).round().astype(np.uint8), words, cameras)
            for x, words, cameras in self.arrays
        ]

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Random pictures (B, 4, 64, 64) in [-1, 1], words, cameras and lit flags, with conditions dropped at random."""
        n = torch.randint(len(self.arrays) * SHARD, (size,), generator=generator).tolist()
        x, words, cameras = (
            torch.from_numpy(np.stack([self.arrays[i // SHARD][k][i % SHARD] for i in n])) for k in range(3)
        )
        lit = (torch.rand(size, generator=generator) < 0.6).float()
        rgb = torch.where(lit[:, None, None, None] > 0.5, x[:, :3], x[:, 3:6])
        x = torch.cat([rgb, x[:, 6:]], 1).float() / 127.5 - 1
        words = words.long()
        words[torch.rand(size, generator=generator) < 0.1] = torch.tensor([START] + [PAD] * (LENGTH - 1))
        blind = torch.rand(size, generator=generator) < 0.1
        cameras[blind] = torch.tensor([0.0, 0.0, ANY])
        return x, words, cameras, lit


def loss(model: nn.Module, x: Tensor, conditions: tuple[Tensor, ...], generator: torch.Generator) -> Tensor:
    """EDM's weighted denoising error (Karras et al. 2022, eq. 8), ln sigma normal of mean 0.7 and deviation 1.4."""
    sigma = torch.exp(1.4 * torch.randn(len(x), 1, 1, 1, generator=generator) + 0.7)
    noise = torch.randn(x.shape, generator=generator)
    sigma, noise = sigma.to(x.device), noise.to(x.device)
    weight = (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2
    return (weight * (model(x + sigma * noise, sigma.flatten(), *conditions) - x) ** 2).mean()


def optimisers(model: Toybox, lr: float) -> list[torch.optim.Optimizer]:
    """Muon on the matrices that the transformer blocks multiply tokens by, AdamW on everything else."""
    matrices = [p for name, p in model.blocks.named_parameters() if p.ndim == 2 and "modulation" not in name]
    taken = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in taken and p.requires_grad]
    return [Muon(matrices, lr=lr), torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.99), weight_decay=0.01)]


def save(
    path: Path, model: nn.Module, ema: nn.Module, optims: list[torch.optim.Optimizer], progress: dict[str, float]
) -> None:
    """The whole training state as one safetensors file, by atomic rename."""
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
    """Take up the state that `save` wrote; returns its progress."""
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


def _fractions(minutes: float, spent: float, checkpoint_every: float = 180.0) -> Iterator[tuple[float, bool]]:
    """(fraction of the training time that is over, whether to save now) until it is all spent."""
    start = saved = time.monotonic()
    while (fraction := (spent + time.monotonic() - start) / (60 * minutes)) < 1:
        due = time.monotonic() - saved > checkpoint_every
        saved = time.monotonic() if due else saved
        yield fraction, due


@app.command()
def template(folder: Path, minutes: float = 6, batch: int = 128, lr: float = 2e-3, width: int = 192) -> None:
    """Train the template alone, by least squares on pictures of 32 x 32, into FOLDER/template.safetensors.

    Goes on from that file if it is there.
    """
    torch.set_flush_denormal(True)
    model, data, out = Template(width), Pictures(folder), folder / "template.safetensors"
    if out.exists():
        model.load_state_dict(load_file(out))
    data.shrink()
    generator = torch.Generator().manual_seed(0)
    optim = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    running, step = 0.0, 0
    for fraction, _ in _fractions(minutes, 0.0):
        for group in optim.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 100, 2 * (1 - fraction))
        x, words, cameras, lit = data.batch(batch, generator)
        value = (model(model.words(words), cameras, lit) - x).square().mean()
        optim.zero_grad()
        value.backward()
        optim.step()
        step, running = step + 1, running + value.item()
        if step % 200 == 0:
            typer.echo(f"step {step}  error {running / 200:.4f}  {100 * fraction:.0f} %")
            running = 0.0
    with atomic(out) as part:
        save_file(model.state_dict(), part)


@app.command()
def train(
    folder: Path,
    minutes: float = 120,
    batch: int = 32,
    lr: float = 1e-3,
    decay: float = 0.55,
    width: int = 192,
    depth: int = 8,
    start_from: Path | None = None,
) -> None:
    """Train on the folder's pictures, continuing from its checkpoint if there is one.

    `start_from` takes exported weights (the shipped ones, say) where there is none. The learning rate falls linearly to
    zero over the last part `decay` of the time.
    """
    torch.set_flush_denormal(True)  # before the first parallel operation, so that its threads inherit it
    accelerator = Accelerator()
    model, ema = Toybox(Config(width=width, depth=depth)), Toybox(Config(width=width, depth=depth))
    if start_from is not None:
        model.load_state_dict({k: v.float() for k, v in load_file(start_from).items()})
    if (folder / "template.safetensors").exists():
        model.template.load_state_dict(load_file(folder / "template.safetensors"))
    model.template.requires_grad_(False)
    ema.load_state_dict(model.state_dict())
    optims = optimisers(model, lr)
    path = folder / "checkpoint.safetensors"
    progress = load(path, model, ema, optims) if path.exists() else {"step": 0.0, "seconds": 0.0}
    model, ema, *optims = accelerator.prepare(model, ema, *optims)
    data, step, running = Pictures(folder), int(progress["step"]), 0.0
    generator = torch.Generator().manual_seed(step + accelerator.process_index)
    start = time.monotonic()
    for fraction, due in _fractions(minutes, progress["seconds"]):
        rate = lr * min(1.0, (step + 1) / 100, (1 - fraction) / decay)
        for group in (group for optim in optims for group in optim.param_groups):
            group["lr"] = rate
        x, *conditions = (t.to(accelerator.device) for t in data.batch(batch, generator))
        with accelerator.autocast():
            value = loss(model, x, tuple(conditions), generator)
        accelerator.backward(value)
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        for optim in optims:
            optim.step()
            optim.zero_grad()
        step += 1
        with torch.no_grad():
            for average, p in zip(ema.parameters(), model.parameters(), strict=True):
                average.lerp_(p, max(0.001, 19 / (step + 20)))
        running += value.item()
        if step % 20 == 0:
            seconds = progress["seconds"] + time.monotonic() - start
            accelerator.print(
                f"step {step}  loss {running / 20:.4f}  {step * batch / seconds:.1f} pictures/s  {100 * fraction:.0f} %",
                flush=True,
            )
            running = 0.0
        if due and accelerator.is_main_process:
            save(path, model, ema, optims, {"step": step, "seconds": progress["seconds"] + time.monotonic() - start})
            data.refresh()
    if accelerator.is_main_process:
        save(path, model, ema, optims, {"step": step, "seconds": 60 * minutes})


@app.command()
def export(
    folder: Path, out: Path = Path(__file__).with_name("toybox.safetensors"), width: int = 192, depth: int = 8
) -> None:
    """Write the averaged weights of the folder's checkpoint, in float16, where the package looks for them."""
    config = Config(width=width, depth=depth)
    with safe_open(folder / "checkpoint.safetensors", "pt") as file:
        tensors = {k.removeprefix("ema."): file.get_tensor(k).half() for k in file.keys() if k.startswith("ema.")}  # noqa: SIM118
        step = file.metadata()["step"]
    sizes = {k: str(v) for k, v in asdict(config).items()}
    with atomic(out) as part:
        save_file(tensors, part, {"format": FORMAT, "step": step, **sizes})
    size = math.ceil(out.stat().st_size / 1e6)
    typer.echo(f"{out}: {size} MB")


if __name__ == "__main__":
    app()
