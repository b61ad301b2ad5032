"""Does the pullback keep the diversity of the model, where SJC seeks a mode?

`python benchmarks/diversity.py [PROMPT ...]` prints, per prompt, the mean pairwise root-mean-square distance between
the samples of 8 seeds: image-space DDIM, the pulled-back SIREN, and a SIREN optimised by SJC (same evaluations x 10).
"""

from __future__ import annotations

import itertools
import sys

import torch
from pullback import tasks
from pullback.baselines import ascend
from pullback.samplers import ddim
from pullback.schedules import log_linear
from pullback.storage import generator
from pullback.tasks import Settings
from torch import Tensor

PROMPTS = ("mushroom", "a red car", "mountains")
SEEDS, STEPS, GUIDANCE = 8, 20, 3.0


def spread(samples: list[Tensor]) -> float:
    """Mean distance between two of them, root mean square per value."""
    pairs = itertools.combinations(samples, 2)
    return float(torch.stack([(a - b).square().mean().sqrt() for a, b in pairs]).mean())


def samples(prompt: str) -> dict[str, list[Tensor]]:
    """The three kinds of samples for every seed."""
    model = tasks.load_model()
    found: dict[str, list[Tensor]] = {"image space": [], "pullback": [], "SJC": []}
    for seed in range(SEEDS):
        settings = Settings(prompt, seed=seed, steps=STEPS, guidance=GUIDANCE)
        recipe = tasks.image_recipe(model, settings)
        pull = tasks.prepare(model, recipe, settings)
        shape = (1, model.channels, model.size, model.size)
        noise = torch.randn(shape, generator=generator(1000 + seed))
        found["image space"].append(ddim(pull.denoise, noise, pull.sigmas))
        with torch.no_grad():
            found["pullback"].append(recipe.diffrep(tasks.sample(pull, seed).params))
        random = generator(seed)
        table = log_linear(100, 0.1, 12.0)[:-1]
        start = recipe.diffrep.init(random)
        climbed = ascend("sjc", recipe.diffrep, pull.denoise, recipe.views, start, table, 10 * STEPS, 1e-3, random)
        with torch.no_grad():
            found["SJC"].append(recipe.diffrep(climbed))
    return found


def main() -> None:
    print("| prompt | image space | pullback | of image space | SJC | of image space |")
    print("| --- | --- | --- | --- | --- | --- |")
    for prompt in sys.argv[1:] or PROMPTS:
        image, pulled, sjc = (spread(s) for s in samples(prompt).values())
        print(
            f"| {prompt} | {image:.3f} | {pulled:.3f} | {pulled / image:.2f} | {sjc:.3f} | {sjc / image:.2f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
