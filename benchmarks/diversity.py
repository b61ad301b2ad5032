"""Does the pullback keep the diversity of the model, where SJC seeks a mode?

`python benchmarks/diversity.py [PROMPT ...]` prints, per prompt, the mean pairwise root-mean-square distance between
the samples of 8 seeds: image-space DDIM, the pulled-back SIREN, and a SIREN optimised by SJC in 500 iterations.

`--objects` prints the same of radiance fields instead, as seen from four cameras: by new cameras with new noise at every
step (the default), and by a fixed bank of 8 cameras that keep their noise.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from dataclasses import replace

import torch
from pullback import tasks
from pullback.baselines import ascend
from pullback.geometry.cameras import turntable
from pullback.noise import FixedViews
from pullback.samplers import ddim
from pullback.schedules import log_linear
from pullback.storage import generator
from pullback.tasks import Settings
from torch import Tensor

PROMPTS = ("mushroom", "a red car", "mountains")
SEEDS, STEPS, CLIMB, GUIDANCE = 8, 20, 500, 3.0


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
        climbed = ascend("sjc", recipe.diffrep, pull.denoise, recipe.views, start, table, CLIMB, 1e-3, random)
        with torch.no_grad():
            found["SJC"].append(recipe.diffrep(climbed))
    return found


def objects(prompt: str) -> dict[str, list[Tensor]]:
    """The same of radiance fields: (4, C, H, W) views from four sides for every seed."""
    model, sides = tasks.load_model(), turntable(4)
    found: dict[str, list[Tensor]] = {"image space": [], "new noise": [], "kept noise": []}
    for seed in range(SEEDS):
        settings = Settings(prompt, seed=seed, steps=STEPS, guidance=GUIDANCE)
        recipe = tasks.object_recipe(model, settings)
        sigmas = log_linear(STEPS, *recipe.sigma)
        denoise = model.denoiser(prompt, "", GUIDANCE)
        noise = torch.randn(4, model.channels, model.size, model.size, generator=generator(1000 + seed))
        found["image space"].append(ddim(denoise, noise, sigmas, sides))
        bank = tasks.orbiting(settings.views, generator(seed))
        kept = FixedViews(bank, (settings.views, model.channels, model.size, model.size))
        for name, views in (("new noise", recipe.views), ("kept noise", kept)):
            pull = tasks.prepare(model, replace(recipe, views=views, last_views=None), settings)
            with torch.no_grad():
                found[name].append(recipe.diffrep(tasks.sample(pull, seed).params, sides))
    return found


def table(prompts: list[str], kinds: list[str], sampled: Callable[[str], dict[str, list[Tensor]]]) -> None:
    """One row per prompt: the spread in image space, then those of `kinds` and their parts of it."""
    print(f"| prompt | image space |{''.join(f' {kind} | of image space |' for kind in kinds)}")
    print("| --- " * (2 * len(kinds) + 2) + "|")
    for prompt in prompts:
        image, *others = (spread(s) for s in sampled(prompt).values())
        print(f"| {prompt} | {image:.3f} |" + "".join(f" {s:.3f} | {s / image:.2f} |" for s in others), flush=True)


def main() -> None:
    words = [word for word in sys.argv[1:] if word != "--objects"]
    if "--objects" in sys.argv:
        table(words or ["mushroom", "car"], ["new noise", "kept noise"], objects)
    else:
        table(words or list(PROMPTS), ["pullback", "SJC"], samples)


if __name__ == "__main__":
    main()
