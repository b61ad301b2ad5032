"""Where does the time of a run with a large network go? Needs the extra `diffusers`; meant for a GPU.

`python benchmarks/device.py [sd15 sdxl] [--fields image panorama generate] [--steps 30]` samples fields with randomly initialised
networks of the sizes of Stable Diffusion 1.5 and SDXL (one evaluation per view, no VAE). It prints the seconds of plain sampling
of as many pictures as there are views, those of the run, and their ratio. The seconds of the run are then split into those in the
network, those in the fits (field passes with their derivatives), and the rest (views, noise, targets). `small` is a network for
trying the script on a CPU.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers import UNet2DConditionModel
from pullback import tasks
from pullback.schedules import log_linear
from pullback.solvers import Solver
from pullback.storage import generator
from pullback.tasks import Settings
from pullback.viewpoints import ELEVATIONS
from torch import Tensor

NETWORKS: dict[str, dict[str, Any]] = {
    "sd15": {"sample_size": 64, "cross_attention_dim": 768},
    "sdxl": {
        "sample_size": 128,
        "cross_attention_dim": 2048,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "use_linear_projection": True,
    },
    "small": {
        "sample_size": 32,
        "cross_attention_dim": 32,
        "block_out_channels": (32, 64),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    },
}


def synchronised(device: str) -> float:
    """Wait until the device has finished all its work, and return the time in seconds."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass
class Clock:
    """Adds up the seconds of the calls that it wraps."""

    device: str
    seconds: float = 0.0

    def timed(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any) -> Any:
            start = synchronised(self.device)
            result = call(*arguments)
            self.seconds += synchronised(self.device) - start
            return result

        return wrapped


@dataclass(frozen=True)
class TimedSolver:
    """A solver whose calls are timed by a clock."""

    solver: Solver
    clock: Clock

    def init(self, params: dict[str, Tensor]) -> dict[str, Tensor]:
        return self.solver.init(params)

    def __call__(self, *arguments: Any) -> Any:
        return self.clock.timed(self.solver)(*arguments)


@dataclass(frozen=True)
class RandomModel:
    """A latent model with a randomly initialised network, which ignores prompts and views."""

    name: str
    network: UNet2DConditionModel
    device: str
    channels: int = 4
    scale: int = 8
    sigma_min: float = 0.03
    sigma_max: float = 14.6
    elevations: tuple[float, float] = ELEVATIONS

    @property
    def size(self) -> int:
        return self.network.config.sample_size

    def denoiser(self, prompt: str, negative: str, guidance: float) -> Callable[[Tensor, Tensor, Any], Tensor]:
        def denoise(x: Tensor, sigma: Tensor, view: Any) -> Tensor:
            scaled = (x / (1 + float(sigma) ** 2) ** 0.5).to(self.network.dtype)
            words = scaled.new_zeros(len(x), 77, self.network.config.cross_attention_dim)
            return x - float(sigma) * self.network(scaled, 500, words).sample.to(x)

        return denoise

    def decode(self, signal: Tensor) -> Tensor:
        return signal[:, :3].clamp(0, 1)


def main(networks: list[str], commands: list[str], steps: int) -> None:
    device = tasks.load_model(device="auto").device
    dtype = torch.float16 if device == "cuda" else torch.float32
    print("| network | field | plain sampling | run | of plain | network | fits | rest |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name in networks:
        torch.manual_seed(0)
        network = UNet2DConditionModel(**NETWORKS[name]).to(device, dtype).eval()
        model = RandomModel(name, network, device)
        for command in commands:
            settings = Settings("x", steps=steps, views=8, guidance=1.0)
            recipe = tasks.recipe(command, model, settings)
            model_clock, fit_clock = Clock(device), Clock(device)
            pull = tasks.prepare(model, recipe, settings)
            pull = replace(
                pull,
                denoise=model_clock.timed(pull.denoise),
                solver=TimedSolver(pull.solver, fit_clock),
                last_views=None,
            )
            view = recipe.views.draw(generator(0))
            state = tasks.beginning(pull, device, 0)
            with torch.no_grad():
                x = pull.render(state.params, view).to(device)
                pull.denoise(x, torch.tensor(1.0), view)  # the first call is slower
                start = synchronised(device)
                for sigma in log_linear(steps, *recipe.sigma)[:-1]:
                    model.denoiser("", "", 1.0)(x, sigma, view)
                plain = synchronised(device) - start
            model_clock.seconds, start = 0.0, synchronised(device)
            tasks.sample(pull, 0, device=device)
            run = synchronised(device) - start
            rest = run - model_clock.seconds - fit_clock.seconds
            print(
                f"| {name} | {command} | {plain:.1f} s | {run:.1f} s | {run / plain:.2f} | {model_clock.seconds:.1f} s | "
                f"{fit_clock.seconds:.1f} s | {rest:.1f} s |",
                flush=True,
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("networks", nargs="*", default=["sd15", "sdxl"])
    parser.add_argument("--fields", nargs="+", default=["image", "panorama", "generate"])
    parser.add_argument("--steps", type=int, default=30)
    arguments = parser.parse_args()
    main(arguments.networks, arguments.fields, arguments.steps)
