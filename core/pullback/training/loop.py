"""The training loop of all models.

A model says what it needs in one small object, a `Trainee`: its networks, its optimisers, how a batch is drawn, and its losses.
The loop does the rest: devices and processes (`accelerate`), averaged weights, checkpoints that are never half-written, a
progress bar, sample sheets, and stopping when a loss is no longer a number.

All random numbers of a step follow from the seed, the step and the process, so that a training that was stopped and resumed has
the same losses as an uninterrupted one.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.text import Text
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from ..files import atomic
from ..pictures import write_png
from .precision import faster_precision

SHEET = ".sheet.png"
"""The suffix of the sample sheet that is written next to a checkpoint."""


class Trainee(Protocol):
    """A model in training.

    Attributes:
        networks: Its modules by name. The averaged weights of "model" are the result of the training.
        optimisers: A list of optimisers for each loss, in the order of the losses. Their learning rates are the highest ones;
            the schedule scales them down.
    """

    networks: dict[str, Any]
    optimisers: list[list[torch.optim.Optimizer]]

    def batch(self, random: np.random.Generator) -> Any:
        """Draw a batch on the CPU: a tensor, or an object with a method `to(device)`."""
        ...

    def losses(self, batch: Any, random: torch.Generator, step: int) -> Iterator[Tensor]:
        """Yield the losses, one after the other. The optimisers of a loss take a step before the next loss is requested."""
        ...

    def sheet(self, model: Any) -> Tensor:
        """Return a picture (3, H, W) in [0, 1] that shows what the averaged model can do, for the same inputs every time."""
        ...

    def metadata(self) -> dict[str, str]:
        """Return the metadata that the checkpoints and the exported file carry."""
        ...


@dataclass(frozen=True)
class Plan:
    """How long and how fast to train.

    Args:
        steps: The total number of steps, including those before a resume.
        warmup: The number of steps at the beginning over which the learning rate rises.
        decay: The fraction of the steps, at the end, over which the learning rate falls to zero.
        average: The decay of the averaged weights; it is lower in the first steps.
        clip: The largest gradient norm; larger gradients are scaled down to it.
        every: The number of steps between checkpoints.
        seed: The seed of all random numbers.
        precision: "no" (float32), "bf16", "fp16", or "auto" for bfloat16 if this machine multiplies faster in it.
    """

    steps: int
    warmup: int = 100
    decay: float = 0.5
    average: float = 0.999
    clip: float = 1.0
    every: int = 500
    seed: int = 0
    precision: str = "no"

    def rate(self, step: int) -> float:
        """Return the factor, in [0, 1], by which the learning rates are multiplied at a step."""
        left = 1 - step / self.steps
        return min(1.0, (step + 1) / self.warmup, left / self.decay if self.decay else 1.0)


def train(
    trainee: Trainee,
    checkpoint: Path,
    plan: Plan,
    console: Console | None = None,
    tracker: str | None = None,
) -> nn.Module:
    """Train a model, continuing from a checkpoint if it exists.

    Args:
        trainee: The model.
        checkpoint: The file that keeps the state. A sheet of samples is written next to it.
        plan: How long and how fast to train.
        console: Where the progress bar is shown.
        tracker: A tracker of `accelerate` that records losses and rates, such as "tensorboard".

    Returns:
        The model with averaged weights.

    Raises:
        ValueError: If the checkpoint belongs to another model, or a loss is no longer a number. The last good checkpoint
            is kept.
    """
    torch.set_flush_denormal(True)  # before the first parallel operation, so that worker threads inherit it
    AcceleratorState._reset_state()  # an earlier training in this process may have had another precision
    accelerator = Accelerator(
        mixed_precision=faster_precision() if plan.precision == "auto" else plan.precision,
        cpu=not torch.cuda.is_available(),
        log_with=tracker,
        project_dir=str(checkpoint.parent) if tracker else None,
    )
    if tracker:
        accelerator.init_trackers(checkpoint.stem)
    average = copy.deepcopy(trainee.networks["model"]).requires_grad_(False).to(accelerator.device)
    step = load(checkpoint, trainee, average) if checkpoint.exists() else 0
    for name, network in trainee.networks.items():
        trainee.networks[name] = accelerator.prepare(network)
    optimisers = [[accelerator.prepare(each) for each in group] for group in trainee.optimisers]
    highest = [[group["lr"] for each in optimisers for group in each.param_groups] for optimisers in trainee.optimisers]
    with _bar(console) as bar:
        task = bar.add_task("training", total=plan.steps, completed=step, loss=math.nan)
        while step < plan.steps:
            seeds = (plan.seed, step, accelerator.process_index)
            batch = trainee.batch(np.random.default_rng(seeds)).to(accelerator.device)
            random = torch.Generator().manual_seed(hash(seeds) & (2**63 - 1))
            values = []
            losses = trainee.losses(batch, random, step)
            for loss_optimisers, rates in zip(optimisers, highest, strict=True):
                with accelerator.autocast():
                    loss = next(losses)
                if not math.isfinite(value := loss.item()):
                    raise ValueError(
                        f"training diverged: the loss is {value} at step {step}; {checkpoint} holds the last good state, "
                        "continue from it with a lower learning rate"
                    )
                groups = [group for optimiser in loss_optimisers for group in optimiser.param_groups]
                for group, rate in zip(groups, rates, strict=True):
                    group["lr"] = rate * plan.rate(step)
                for optimiser in loss_optimisers:
                    optimiser.zero_grad()
                accelerator.backward(loss)
                accelerator.clip_grad_norm_([p for group in groups for p in group["params"]], plan.clip)
                with accelerator.autocast():  # because a step of Muon multiplies matrices
                    for optimiser in loss_optimisers:
                        optimiser.step()
                values.append(value)
            step += 1
            follow(average, accelerator.unwrap_model(trainee.networks["model"]), plan.average, step)
            accelerator.log({f"loss {n}": value for n, value in enumerate(values)}, step=step)
            bar.update(task, completed=step, loss=values[0])
            if (step % plan.every == 0 or step == plan.steps) and accelerator.is_main_process:
                save(checkpoint, trainee, average, step)
                if not bar.console.is_terminal:  # a log file shows no bar
                    bar.console.print(f"step {step} of {plan.steps}: loss {values[0]:.4f}")
                picture = trainee.sheet(average).cpu()
                write_png(checkpoint.with_suffix(SHEET), iter([picture]), picture.shape[2], picture.shape[1])
    accelerator.end_training()
    return average


def follow(average: nn.Module, model: nn.Module, decay: float, step: int) -> None:
    """Move averaged weights towards the model's, and faster in the first steps, so that the initial weights are forgotten."""
    rate = max(1 - decay, 19 / (step + 20))
    with torch.no_grad():
        for mean, p in zip(average.parameters(), model.parameters(), strict=True):
            mean.lerp_(p.to(mean), rate)
        for kept, buffer in zip(average.buffers(), model.buffers(), strict=True):
            kept.copy_(buffer)


def save(checkpoint: Path, trainee: Trainee, average: nn.Module, step: int) -> None:
    """Write the complete state of a training to a safetensors file."""
    state = {f"average.{name}": value for name, value in average.state_dict().items()}
    for name, network in trainee.networks.items():
        plain = getattr(network, "module", network)
        state |= {f"network.{name}.{key}": value for key, value in plain.state_dict().items()}
    for n, optimiser in enumerate(_all(trainee)):
        for i, slots in optimiser.state_dict()["state"].items():
            state |= {f"optimiser.{n}.{i}.{name}": torch.as_tensor(value) for name, value in slots.items()}
    with atomic(checkpoint) as part:
        save_file(
            {key: value.contiguous() for key, value in state.items()}, part, {**trainee.metadata(), "step": str(step)}
        )


def load(checkpoint: Path, trainee: Trainee, average: nn.Module) -> int:
    """Restore the state that `save` wrote, and return its step.

    Raises:
        ValueError: If the file is damaged, or holds another model.
    """
    try:
        with safe_open(checkpoint, "pt") as file:
            state = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            step = int((file.metadata() or {})["step"])
        average.load_state_dict(_below(state, "average."))
        for name, network in trainee.networks.items():
            network.load_state_dict(_below(state, f"network.{name}."))
        for n, optimiser in enumerate(_all(trainee)):
            slots: dict[int, dict[str, Tensor]] = {}
            for key, value in _below(state, f"optimiser.{n}.").items():
                i, name = key.split(".")
                slots.setdefault(int(i), {})[name] = value
            optimiser.load_state_dict(optimiser.state_dict() | {"state": slots})
    except (SafetensorError, OSError, KeyError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{checkpoint} is not a checkpoint of this model: move it away to start anew, or give the options that it was "
            "started with"
        ) from error
    return step


def export(path: Path, model: nn.Module, metadata: dict[str, str]) -> None:
    """Write the weights of a model in float16, with metadata, to a safetensors file."""
    with atomic(path) as part:
        save_file({key: value.half().cpu().contiguous() for key, value in model.state_dict().items()}, part, metadata)


def _all(trainee: Trainee) -> list[torch.optim.Optimizer]:
    return [optimiser for loss_optimisers in trainee.optimisers for optimiser in loss_optimisers]


def _below(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}


class _Speed(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.2f} steps/s" if task.speed else "")


def _bar(console: Console | None) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}"),
        _Speed(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("loss {task.fields[loss]:.4f}"),
    )
    return Progress(*columns, console=console or Console(stderr=True), refresh_per_second=1)
