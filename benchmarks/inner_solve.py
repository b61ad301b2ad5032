"""The inner solve of radiance fields: few warm-started passes against the paper's 200, at equal everything else.

`python benchmarks/inner_solve.py [PROMPT ...]` samples the same object with each solver and prints field passes per
diffusion step, seconds relative to ours, and the multi-view PSNR: how well the final field's views agree with what the
model makes of them (noised to sigma 0.3 and denoised, 16 cameras, peak to peak 2).
"""

from __future__ import annotations

import sys
import time
from dataclasses import replace

import torch
from pullback import tasks
from pullback.geometry.cameras import turntable
from pullback.solvers import Adam, paper_adam
from pullback.storage import Field, generator
from pullback.tasks import Settings

PROMPTS = ("red mushroom", "blue car")
STEPS = 20


def agreement(field: Field, sigma: float = 0.3) -> float:
    """PSNR (dB) between the field's views and their denoised selves."""
    model, cameras = tasks.load_model(), turntable(16)
    with torch.no_grad():
        views = field.diffrep(field.params, cameras)
        noisy = views + sigma * torch.randn(views.shape, generator=generator(5))
        clean = model.denoiser(field.prompt, "", 1.0)(noisy, torch.tensor(sigma), cameras)
    return float(10 * torch.log10(4 / (views - clean).square().mean()))


def run(prompt: str, solver: Adam | None) -> tuple[float, float, float]:
    settings, model = Settings(prompt, steps=STEPS, guidance=1.0), tasks.load_model()
    recipe = tasks.recipe("generate", model, settings)
    pull = tasks.prepare(model, recipe, settings)
    pull = replace(pull, solver=solver) if solver else pull
    begun = time.perf_counter()
    state = tasks.sample(pull, settings.seed)
    spent = time.perf_counter() - begun
    return state.passes / STEPS, spent, agreement(tasks.field_of(recipe, settings, model, state))


def main() -> None:
    lr = {"density": 0.15, "features": 0.08, "background": 0.01}
    print(
        "| prompt | inner solve | passes / step | time, ours = 1 | multi-view PSNR |\n| --- | --- | --- | --- | --- |"
    )
    for prompt in sys.argv[1:] or PROMPTS:
        unit = None
        for name, solver in (("ours", None), ("200 Adam steps, fresh", paper_adam(lr))):
            passes, spent, quality = run(prompt, solver)
            unit = unit or spent
            print(f"| {prompt} | {name} | {passes:.0f} | {spent / unit:.1f} | {quality:.1f} dB |", flush=True)


if __name__ == "__main__":
    main()
