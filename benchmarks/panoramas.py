"""Does RePaint make the views of a panorama agree better than plain steps do, for the same number of network evaluations?

`python benchmarks/panoramas.py [PROMPT ...]` samples each cylinder twice: with RePaint, and with as many plain steps as RePaint
needs evaluations. It prints the *consistency* of each. For that, views of the result are noised to sigma 0.5, with noise that
overlapping views share, and denoised; consistency is the PSNR between two neighbouring denoised views where they overlap. It also
prints the difference between the two ends of the picture, which is 0 by construction.

A second table compares shares gamma of the residual that is carried from step to step, with plain steps. `--gammas` prints that
table alone.
"""

from __future__ import annotations

import sys
from dataclasses import replace

import torch
from pullback import tasks
from pullback.diffreps.panorama import SirenCylinder
from pullback.noise import Crops
from pullback.schedules import evaluations, repaint
from pullback.storage import Field, generator
from pullback.tasks import Settings

PROMPTS = ("mountains at noon", "sea at sunset", "town at night")
STEPS, JUMP, REPEATS, ETA = 20, 4, 3, 0.75


def sampled(prompt: str, settings: Settings, gamma: float | None = None) -> tuple[Field, float]:
    """Sample a cylinder, and return it with the root mean square of the residual of its last inner solve."""
    model = tasks.load_model()
    recipe = tasks.recipe("panorama", model, settings, "cylinder")
    recipe = recipe if gamma is None else replace(recipe, gamma=gamma)
    state = tasks.sample(tasks.prepare(model, recipe, settings), settings.seed)
    return tasks.field_of(recipe, settings, model, state), state.residual


def consistency(field: Field, sigma: float = 0.5) -> float:
    """Return the PSNR (dB, peak to peak 2) between the denoised halves that neighbouring views share."""
    strip, model = field.diffrep, tasks.load_model()
    assert isinstance(strip, SirenCylinder)
    columns = torch.arange(16) * strip.turn // 16
    noise = torch.randn(strip.channels, strip.height, strip.turn, generator=generator(7))
    index = (columns[:, None] + torch.arange(strip.height)) % strip.turn
    with torch.no_grad():
        views = strip(field.params, Crops(columns)) + sigma * noise[:, :, index].permute(2, 0, 1, 3)
        clean = model.denoiser(field.prompt, "", 1.0)(views, torch.tensor(sigma), Crops(columns))
    half = strip.height // 2
    return float(10 * torch.log10(4 / (clean[..., half:] - clean.roll(-1, 0)[..., :half]).square().mean()))


def wrap_error(field: Field) -> float:
    """Return the largest difference between the strip at 0 and at 360 degrees."""
    strip = field.diffrep
    assert isinstance(strip, SirenCylinder)
    y = torch.linspace(-1, 1, 257)
    with torch.no_grad():
        ends = [strip.at(field.params, torch.stack([torch.full((257,), u), y], -1)) for u in (0.0, 1.0)]
    return float((ends[0] - ends[1]).abs().max())


def repainted(prompts: list[str]) -> None:
    """Print the table that compares RePaint with plain steps."""
    walk = repaint(STEPS, JUMP, REPEATS)
    cost = evaluations(walk)
    print(f"| prompt | RePaint ({STEPS}, {JUMP}, {REPEATS}), {cost} evaluations | {cost} plain steps | wrap error |")
    print("| --- | --- | --- | --- |")
    for prompt in prompts:
        resampled, _ = sampled(prompt, Settings(prompt, steps=STEPS, eta=ETA, repaint=(JUMP, REPEATS), guidance=2.0))
        plain, _ = sampled(prompt, Settings(prompt, steps=cost, eta=ETA, guidance=2.0))
        scores = f"{consistency(resampled):.1f} dB | {consistency(plain):.1f} dB"
        print(f"| {prompt} | {scores} | {max(wrap_error(resampled), wrap_error(plain)):.1e} |", flush=True)


def carried(prompts: list[str]) -> None:
    """Print the table of gammas."""
    print("\n| prompt | gamma | consistency | residual |\n| --- | --- | --- | --- |")
    for prompt in prompts:
        for gamma in (0.0, 0.5, 1.0):
            field, residual = sampled(prompt, Settings(prompt, steps=STEPS, guidance=2.0), gamma)
            print(f"| {prompt} | {gamma:g} | {consistency(field):.1f} dB | {residual:.4f} |", flush=True)


def main() -> None:
    prompts = [word for word in sys.argv[1:] if not word.startswith("--")] or list(PROMPTS)
    if "--gammas" not in sys.argv:
        repainted(prompts)
    carried(prompts)


if __name__ == "__main__":
    main()
