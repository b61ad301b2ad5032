"""Does the pullback keep the diversity of the model, where SJC seeks a mode?

`python benchmarks/diversity.py [PROMPT ...]` prints, per prompt, the mean pairwise root-mean-square distance between
the samples of 8 seeds: image-space DDIM, the pulled-back SIREN, and a SIREN optimised by SJC in 500 iterations.

`--objects` prints the same of radiance fields instead, as seen from four cameras, at guidance 1: with an anchor (the
default), by new cameras with new noise at every step, by a fixed bank of 8 cameras that keep their noise, and of as many of
the renderer's own objects of that noun (a prompt is one noun then; needs the extra `train`). `--anchor` leaves out the two
that are not the default.
"""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from pullback import tasks, viewpoints
from pullback.baselines import ascend
from pullback.geometry.cameras import Cameras, turntable
from pullback.noise import FixedViews, FreshViews
from pullback.samplers import ddim
from pullback.schedules import log_linear
from pullback.storage import generator
from pullback.tasks import Settings
from torch import Tensor

PROMPTS = ("mushroom", "a red car", "mountains")
OBJECTS = ("anchor", "new noise", "kept noise")
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
        recipe = tasks.recipe("image", model, settings)
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


def objects(kinds: tuple[str, ...], prompt: str) -> dict[str, list[Tensor]]:
    """The same of radiance fields, sampled by `kinds` of `OBJECTS`: (4, C, H, W) views from four sides for every seed."""
    model, sides = tasks.load_model(), turntable(4)
    found: dict[str, list[Tensor]] = {kind: [] for kind in ("renderer", "image space", *kinds)}
    rng = np.random.default_rng(3)
    for seed in range(SEEDS):
        found["renderer"].append(own(prompt, sides, rng))
        settings = Settings(prompt, seed=seed, steps=STEPS, guidance=1.0)
        recipe = tasks.recipe("generate", model, settings)
        sigmas = log_linear(STEPS, *recipe.sigma)
        denoise = model.denoiser(prompt, "", 1.0)
        noise = torch.randn(4, model.channels, model.size, model.size, generator=generator(1000 + seed))
        found["image space"].append(ddim(denoise, noise, sigmas, sides))
        bank = viewpoints.orbiting(settings.views, generator(seed))
        kept = FixedViews(bank, (settings.views, model.channels, model.size, model.size))
        fresh = FreshViews(functools.partial(viewpoints.orbiting, settings.views), kept.shape)
        for name, views in zip(OBJECTS, (recipe.views, fresh, kept), strict=True):
            if name not in kinds:
                continue
            last = recipe.last_views if name == "anchor" else None
            gamma = 0.0 if name == "new noise" else recipe.gamma
            pull = tasks.prepare(model, replace(recipe, views=views, last_views=last, gamma=gamma), settings)
            with torch.no_grad():
                found[name].append(recipe.diffrep(tasks.sample(pull, seed).params, sides))
    return found


def own(noun: str, sides: Cameras, rng: np.random.Generator) -> Tensor:
    """One of the renderer's own objects in a random colour, without light, (4, 4, 64, 64) in [-1, 1]."""
    from pullback.generative.toybox import objects, pictures, words

    painted = objects.build(noun, str(rng.choice(list(words.COLOURS))), None, None, rng)
    return torch.from_numpy(pictures.photograph(*painted, sides)[:, 3:]).float() / 127.5 - 1


def table(prompts: list[str], kinds: list[str], sampled: Callable[[str], dict[str, list[Tensor]]]) -> None:
    """One row per prompt: the spread of the first kind, then those of the others and their parts of it."""
    first, *others = kinds
    print(f"| prompt | {first} |{''.join(f' {kind} | of {first} |' for kind in others)}")
    print("| --- " * (2 * len(kinds)) + "|")
    for prompt in prompts:
        all, *parts = (spread(s) for s in sampled(prompt).values())
        print(f"| {prompt} | {all:.3f} |" + "".join(f" {s:.3f} | {s / all:.2f} |" for s in parts), flush=True)


def main() -> None:
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    if "--objects" in sys.argv:
        kinds = OBJECTS[:1] if "--anchor" in sys.argv else OBJECTS
        table(words or ["mushroom", "car"], ["renderer", "image space", *kinds], functools.partial(objects, kinds))
    else:
        table(words or list(PROMPTS), ["image space", "pullback", "SJC"], samples)


if __name__ == "__main__":
    main()
