"""How close does a pulled-back SIREN come to the image-space sample of the same noise, and at what cost?

`python benchmarks/images.py [--prompts 16] [--paper 4] [--steps 30]` prints, for every inner solver, the field passes per
diffusion step, the mean and the worst PSNR (peak to peak 2, over RGBA) to the image-space DDIM sample, and the time relative to
the first row. The paper's solver with 200 steps is about 24 times slower, so it gets only the first `--paper` prompts.
"""

from __future__ import annotations

import argparse
import time

import torch
from pullback import tasks
from pullback.generative.toybox.words import COLOURS, NOUNS
from pullback.pull import Pull, start
from pullback.samplers import ddim
from pullback.schedules import log_linear
from pullback.solvers import Adam, paper_adam
from pullback.storage import generator
from pullback.tasks import Settings

PAPER = "200 Adam steps, fresh"
BRIEF = "brief, in random pixels (the ComfyUI nodes')"
ADAM = "Adam, 10 steps, moments kept"
SOLVERS = {
    "ours": (None, 1.0),
    BRIEF: (None, 1.0),
    ADAM: (Adam(10, 100, 4e-3), 1.0),
    "ours, nothing carried": (None, 0.0),
    PAPER: (paper_adam(1e-3), 0.0),
}


def prompts(count: int) -> list[str]:
    """Return prompts of a colour and a noun, spread evenly over toybox's words. Every fourth prompt is a landscape."""
    colours, landscapes = list(COLOURS), ("mountains at sunset", "sea at noon", "town at night", "forest at dawn")
    objects = [f"{colours[(7 * i) % len(colours)]} {NOUNS[(5 * i) % len(NOUNS)]}" for i in range(count)]
    return [landscapes[i // 4 % 4] if i % 4 == 3 else text for i, text in enumerate(objects)]


def psnr(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(10 * torch.log10(4 / (a - b).square().mean()))


def run(prompt: str, steps: int, name: str, gamma: float, guidance: float) -> tuple[float, float]:
    """Sample a SIREN; return its PSNR to the image-space sample in dB, and the field passes per step."""
    model, settings = tasks.load_model(), Settings(prompt, steps=steps, guidance=guidance)
    recipe = tasks.recipe("image", model, settings)
    if name == BRIEF:
        recipe = recipe.diffrep.brief(recipe)
    solver = SOLVERS[name][0] or recipe.solver
    sigmas = log_linear(steps, *recipe.sigma)
    denoise, random = model.denoiser(prompt, "", guidance), generator(0)
    pull = Pull(recipe.diffrep, denoise, recipe.views, solver, sigmas, settings.walk, 0.0, gamma, recipe.fit)
    state = start(recipe.diffrep.init(random), recipe.views, solver, random)
    reference = ddim(denoise, state.noise, sigmas)
    final = pull(state, random)
    with torch.no_grad():
        return psnr(recipe.diffrep(final.params), reference), final.passes / steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--paper", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--rows", nargs="+", default=[""])
    arguments = parser.parse_args()
    print("| inner solve | prompts | passes / step | PSNR to the image-space sample, mean | worst | time, ours = 1 |")
    print("| --- | --- | --- | --- | --- | --- |")
    unit = None
    for name, (_, gamma) in SOLVERS.items():
        count = arguments.paper if name == PAPER else arguments.prompts
        if count == 0 or not name.startswith(tuple(arguments.rows)):
            continue
        begun = time.perf_counter()
        results = [run(p, arguments.steps, name, gamma, arguments.guidance) for p in prompts(count)]
        spent = (time.perf_counter() - begun) / count
        unit = unit or spent
        quality, passes = zip(*results, strict=True)
        figures = f"{sum(passes) / count:.1f} | {sum(quality) / count:.1f} dB | {min(quality):.1f} dB"
        print(f"| {name} | {count} | {figures} | {spent / unit:.1f} |", flush=True)


if __name__ == "__main__":
    main()
