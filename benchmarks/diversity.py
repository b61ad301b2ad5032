"""Does the pullback keep the diversity of the model, where SJC seeks a mode?

`python benchmarks/diversity.py [PROMPT ...]` prints, for each prompt, how far the samples of 8 seeds are apart: the
root-mean-square distance between two samples, averaged over all pairs. The columns are "image space" (DDIM samples of the model
itself), "pullback" (a pulled-back SIREN) and "SJC" (a SIREN optimised by SJC in 500 iterations). Columns after the first are
followed by their ratio to it.

`--objects` prints the same for radiance fields, each seen from the same four sides, at guidance 1. Prompts are then single nouns.
The columns are

- "renderer": random objects of that noun from toybox's renderer (needs the extra `train`);
- "image space": the model's own pictures from the four sides, each with its own noise;
- "anchor": pulled-back fields with an anchor, the default;
- "new noise": with new cameras and new noise at every step;
- "kept noise": with a fixed bank of 8 cameras that keep their noise.

`--anchor` leaves out "new noise" and "kept noise".
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
    """Return the root-mean-square distance between two samples, averaged over all pairs."""
    pairs = itertools.combinations(samples, 2)
    return float(torch.stack([(a - b).square().mean().sqrt() for a, b in pairs]).mean())


def samples(prompt: str) -> dict[str, list[Tensor]]:
    """Sample pictures of a prompt in the three ways, one for every seed."""
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
        sigmas = log_linear(100, 0.1, 12.0)[:-1]
        start = recipe.diffrep.init(random)
        optimised = ascend("sjc", recipe.diffrep, pull.denoise, recipe.views, start, sigmas, CLIMB, 1e-3, random)
        with torch.no_grad():
            found["SJC"].append(recipe.diffrep(optimised))
    return found


def objects(kinds: tuple[str, ...], prompt: str) -> dict[str, list[Tensor]]:
    """Return views (4, C, H, W) of objects from four sides for every seed: rendered, in image space, and of `kinds` of fields."""
    model, sides = tasks.load_model(), turntable(4)
    found: dict[str, list[Tensor]] = {kind: [] for kind in ("renderer", "image space", *kinds)}
    rng = np.random.default_rng(3)
    for seed in range(SEEDS):
        found["renderer"].append(rendered(prompt, sides, rng))
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


def rendered(noun: str, sides: Cameras, rng: np.random.Generator) -> Tensor:
    """Render a random object of a noun in a random colour, without light, (4, 4, 64, 64) in [-1, 1]."""
    from pullback.generative.toybox import objects, pictures, words

    built = objects.build(noun, str(rng.choice(list(words.COLOURS))), None, None, rng)
    return torch.from_numpy(pictures.photograph(*built, sides)[:, 3:]).float() / 127.5 - 1


def table(prompts: list[str], kinds: list[str], sample: Callable[[str], dict[str, list[Tensor]]]) -> None:
    """Print a row per prompt: the spread of the first kind, and for each other kind its spread and the ratio to the first."""
    first, *others = kinds
    print(f"| prompt | {first} |{''.join(f' {kind} | of {first} |' for kind in others)}")
    print("| --- " * (2 * len(kinds)) + "|")
    for prompt in prompts:
        reference, *rest = (spread(found) for found in sample(prompt).values())
        cells = "".join(f" {value:.3f} | {value / reference:.2f} |" for value in rest)
        print(f"| {prompt} | {reference:.3f} |{cells}", flush=True)


def main() -> None:
    words = [word for word in sys.argv[1:] if not word.startswith("--")]
    if "--objects" in sys.argv:
        kinds = OBJECTS[:1] if "--anchor" in sys.argv else OBJECTS
        table(words or ["mushroom", "car"], ["renderer", "image space", *kinds], functools.partial(objects, kinds))
    else:
        table(words or list(PROMPTS), ["image space", "pullback", "SJC"], samples)


if __name__ == "__main__":
    main()
