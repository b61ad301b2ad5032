"""Is a panorama as detailed as the model's own pictures?

`python benchmarks/panorama_detail.py ["mountains at sunset" ...] [--rows cylinder sphere]` prints, for each prompt, the gradient
energy (mean squared difference of neighbouring pixels) of views of sampled panoramas, divided by that of the model's image-space
samples with the same steps and guidance. The rows are a cylinder; the cylinder's canvas without a field, which is the most detail
that a cylinder can reach; a sphere whose noise is fixed to the world, with the default share of the residual carried from step to
step, with none and with all of it; and a sphere with new noise at every step.
"""

from __future__ import annotations

import argparse
import functools
import math
from dataclasses import replace
from itertools import pairwise
from typing import cast

import torch
from pullback import tasks, viewpoints
from pullback.diffreps.panorama import SirenSphere
from pullback.geometry.sphere import Headings, headings
from pullback.noise import CanvasViews, Crops, FreshViews
from pullback.samplers import ddim
from pullback.schedules import log_linear
from pullback.storage import generator
from pullback.tasks import Recipe, Settings
from pullback.types import Model
from torch import Tensor

PROMPTS = ("mountains at sunset", "town at noon")
VIEWS, GUIDANCE, STEPS = 12, 1.0, 30
ALONE = "cylinder's canvas"


def energy(pictures: Tensor) -> float:
    """Return the mean squared difference of horizontal neighbours plus that of vertical neighbours, in (B, C, H, W)."""
    return float(pictures.diff(dim=-1).square().mean() + pictures.diff(dim=-2).square().mean())


def level(count: int = 8) -> Headings:
    """Return `count` level views, evenly spread all around."""
    return headings(torch.arange(count) * (2 * math.pi / count), torch.zeros(count), viewpoints.SPHERE_FOV)


def image_space(model: Model, settings: Settings, view: Headings | Crops, sigmas: Tensor, count: int = 8) -> Tensor:
    """Sample the model's own pictures."""
    noise = torch.randn(count, model.channels, model.size, model.size, generator=generator(settings.seed))
    return ddim(model.denoiser(settings.prompt, "", settings.guidance), noise, sigmas, view)


def views_of(model: Model, recipe: Recipe, settings: Settings) -> Tensor:
    """Sample a panorama, and return eight views of it."""
    field = tasks.sample(tasks.prepare(model, recipe, settings), settings.seed).params
    sphere = isinstance(recipe.diffrep, SirenSphere)
    with torch.no_grad():
        return recipe.diffrep(field, level() if sphere else Crops(torch.arange(8) * model.size))


def canvas_alone(model: Model, recipe: Recipe, settings: Settings) -> Tensor:
    """Sample a canvas of pixels, to which every step writes its denoised crops, and return eight crops of it."""
    random, views = generator(settings.seed), cast(CanvasViews, recipe.views)
    sigmas = log_linear(settings.steps, *recipe.sigma)
    denoise = model.denoiser(settings.prompt, "", settings.guidance)
    canvas = sigmas[0] * views.noise(random)
    for sigma, sigma_next in pairwise(sigmas):
        view = views.draw(random)
        noisy = views.carried(canvas, view)
        clean = denoise(noisy, sigma, view)
        canvas = views.scatter(canvas, view, clean + sigma_next / sigma * (noisy - clean))
    return views.carried(canvas, Crops(torch.arange(8) * model.size))


def recipes(model: Model, settings: Settings) -> dict[str, Recipe]:
    """Return the recipe of every row of the table."""
    sphere = tasks.recipe("panorama", model, settings)
    shape = (settings.views, model.channels, model.size, model.size)
    fresh = FreshViews(functools.partial(viewpoints.around, settings.views), shape)
    return {
        "cylinder": tasks.recipe("panorama", model, settings, "cylinder"),
        ALONE: tasks.recipe("panorama", model, settings, "cylinder"),
        "sphere": sphere,
        "sphere, nothing carried": replace(sphere, gamma=0.0),
        "sphere, all carried": replace(sphere, gamma=1.0),
        "sphere, new noise at every step": replace(sphere, gamma=0.0, views=fresh, last_views=None),
    }


def main(prompts: list[str], rows: list[str]) -> None:
    model = tasks.load_model()
    print("| prompt | panorama | gradient energy, of image space |\n| --- | --- | --- |")
    for prompt in prompts:
        settings = Settings(prompt, guidance=GUIDANCE, views=VIEWS, steps=STEPS)
        for name, recipe in recipes(model, settings).items():
            if rows and name not in rows:
                continue
            view = Crops(torch.zeros(8)) if isinstance(recipe.views, CanvasViews) else level()
            reference = energy(image_space(model, settings, view, log_linear(STEPS, *recipe.sigma)))
            with torch.no_grad():
                sampled = (canvas_alone if name == ALONE else views_of)(model, recipe, settings)
            print(f"| {prompt} | {name} | {energy(sampled) / reference:.2f} |", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("prompts", nargs="*", default=PROMPTS)
    parser.add_argument("--rows", nargs="+", default=[])
    arguments = parser.parse_args()
    main(list(arguments.prompts), arguments.rows)
