"""The inner solve of radiance fields: a few warm-started passes against the paper's 200, with everything else the same.

`python benchmarks/inner_solve.py [PROMPT ...] [--steps 20] [--rows ours ...]` samples the same object with each solver. It prints
the field passes per diffusion step, the processor time relative to the first row, and the multi-view PSNR (peak to peak 2): 16
views of the final field are compared with the model's estimates of them, after they were noised to sigma 0.3.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from pullback import tasks
from pullback.diffreps.radiance import RATES
from pullback.geometry.cameras import turntable
from pullback.solvers import Adam, paper_adam
from pullback.storage import Field, generator
from pullback.tasks import Settings

PROMPTS = ("red mushroom", "blue car")
SOLVERS = {
    "ours": None,
    "20 passes": Adam(20, 60, RATES, betas=(0.9, 0.95), last_rate=0.25),
    "200 Adam steps, fresh": paper_adam(RATES),
}


def agreement(field: Field, sigma: float = 0.3) -> float:
    """Return the PSNR in dB between views of a field and the same views, noised and denoised by the model."""
    model, cameras = tasks.load_model(), turntable(16)
    with torch.no_grad():
        views = field.diffrep(field.params, cameras)
        noisy = views + sigma * torch.randn(views.shape, generator=generator(5))
        clean = model.denoiser(field.prompt, "", 1.0)(noisy, torch.tensor(sigma), cameras)
    return float(10 * torch.log10(4 / (views - clean).square().mean()))


def run(prompt: str, steps: int, solver: Adam | None) -> tuple[float, float, float]:
    """Sample an object; return the passes per step, the seconds of processor time, and the multi-view PSNR in dB."""
    settings, model = Settings(prompt, steps=steps, guidance=1.0), tasks.load_model()
    recipe = tasks.recipe("generate", model, settings)
    pull = tasks.prepare(model, recipe, settings)
    pull = replace(pull, solver=solver) if solver else pull
    begun = time.process_time()
    state = tasks.sample(pull, settings.seed)
    spent = time.process_time() - begun
    return state.passes / steps, spent, agreement(tasks.field_of(recipe, settings, model, state))


def main(prompts: list[str], steps: int, rows: list[str]) -> None:
    print(
        "| prompt | inner solve | passes / step | time, ours = 1 | multi-view PSNR |\n| --- | --- | --- | --- | --- |"
    )
    for prompt in prompts:
        unit = None
        for name in rows:
            passes, spent, quality = run(prompt, steps, SOLVERS[name])
            unit = unit or spent
            print(f"| {prompt} | {name} | {passes:.1f} | {spent / unit:.1f} | {quality:.1f} dB |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", nargs="*", default=PROMPTS)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rows", nargs="+", default=list(SOLVERS), choices=list(SOLVERS))
    arguments = parser.parse_args()
    main(list(arguments.prompts), arguments.steps, arguments.rows)
