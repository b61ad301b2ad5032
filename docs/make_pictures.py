"""Make the documentation's pictures: `python docs/make_pictures.py [training objects panorama layouts]`.

training.png: what toybox is trained on (needs the extra `train`). objects.png: sampled objects, a row of seeds for each
prompt, two sides each.
panorama.png: a sampled sphere. layouts.png: what `infd` draws of layouts, below their boxes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from pullback import tasks
from pullback.geometry.cameras import turntable
from pullback.pictures import write_png
from pullback.regions import located
from pullback.storage import Field
from pullback.tasks import Recipe, Settings
from pullback.types import Model
from torch import Tensor

HERE = Path(__file__).with_name("pictures")
OBJECTS, SEEDS = ("mushroom", "chair", "rocket", "duck"), 4
LAYOUTS = (
    ("", ("0.05,0.3,0.4,0.4: a red mushroom", "0.55,0.3,0.4,0.4: a blue chair")),
    ("", ("0.05,0.05,0.3,0.3: a yellow duck", "0.4,0.4,0.5,0.5: a green car")),
    ("sea at noon", ("0.1,0.4,0.4,0.4: a red boat", "0.6,0.5,0.25,0.25: a purple ball")),
    ("", ("0.3,0.02,0.4,0.4: a purple mug", "0.3,0.55,0.4,0.4: an orange house")),
)
BOXES = (0.85, 0.45, 0.4), (0.4, 0.55, 0.85)


def save(name: str, picture: Tensor) -> None:
    """Write display RGB (3, H, W)."""
    HERE.mkdir(exist_ok=True)
    write_png(HERE / name, iter([picture.clamp(0, 1)]), picture.shape[-1], picture.shape[-2])


def sampled(settings: Settings, recipe: Recipe, model: Model | None = None) -> Field:
    model = model or tasks.load_model()
    state = tasks.sample(tasks.prepare(model, recipe, settings), settings.seed)
    return tasks.field_of(recipe, settings, model, state)


def training() -> None:
    """Six rows of objects from eight sides, and two of landscapes."""
    from pullback.generative.toybox import pictures

    rng = np.random.default_rng(11)
    toys, places = pictures.objects(9, rng)[0][:, :3], pictures.landscapes(8, rng)[0][:, :3]
    alpha = pictures.objects(9, np.random.default_rng(11))[0][:, 6:]
    x = np.concatenate([toys + (255 - alpha), places])[:96]
    save(
        "training.png",
        torch.from_numpy(x).float().view(6, 16, 3, 64, 64).permute(2, 0, 3, 1, 4).reshape(3, 384, 1024) / 255,
    )


def layouts() -> None:
    """Layouts, and below each what infd draws."""
    model, columns = tasks.load_model("infd"), []
    for seed, (prompt, guide) in enumerate(LAYOUTS):
        settings = Settings(prompt, seed=seed, guidance=2.0, guide=guide)
        field = sampled(settings, tasks.recipe("image", model, settings), model)
        plan = torch.ones(3, 256, 256)
        for k, region in enumerate(located(field.diffrep, guide)):
            left, top, width, height = (round(256 * value) for value in region.box or (0, 0, 1, 1))
            plan[:, top : top + height, left : left + width] = torch.tensor(BOXES[k])[:, None, None]
        picture = torch.cat(list(tasks.bands(field, 256, 256, model)), 1)
        columns.append(torch.cat([plan, tasks.on_white(picture)], 1))
    save("layouts.png", torch.cat(columns, 2))


def objects() -> None:
    """A row for each prompt, with as many seeds of it, each from two sides."""
    model, rows = tasks.load_model(), []
    for prompt in OBJECTS:
        row = []
        for seed in range(SEEDS):
            settings = Settings(prompt, guidance=1.0, seed=seed)
            field = sampled(settings, tasks.recipe("generate", model, settings))
            row += list(tasks.on_white(tasks.views_of(field, turntable(4)[1:4:2], 160, model)))
        rows.append(torch.cat(row, -1))
    save("objects.png", torch.cat(rows, -2))


def panorama() -> None:
    """An equirectangular picture of 1024 x 512."""
    settings = Settings("mountains at sunset", guidance=1.0, views=12)
    model = tasks.load_model()
    field = sampled(settings, tasks.recipe("panorama", model, settings))
    save("panorama.png", tasks.on_white(torch.cat(list(tasks.bands(field, 512, 1024, model)), 1)))


if __name__ == "__main__":
    made = {each.__name__: each for each in (training, objects, panorama, layouts)}
    for name in sys.argv[1:] or made:
        made[name]()
