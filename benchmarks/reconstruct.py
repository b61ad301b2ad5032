"""How well do the methods of `reconstruct` show an object from few photographs? Views that no method saw are compared.

`python benchmarks/reconstruct.py run` reconstructs every object with every method from 8, 4 and 2 photographs, and adds one line
of JSON for each to results.jsonl; what is there already is skipped, so that it may be stopped and called again, also for parts:
`... run --nouns chair,mug --known 8 --methods nerf,diet`. `... table` prints the tables.

The objects are procedural and unlit, since the built-in model draws unlit objects. Methods: "nerf", "diet" and "pullback" with
their last steps on the photographs, and "diet-" and "pullback-" without them (the former with as many steps; the latter is
measured on the way of "pullback").
"""

from __future__ import annotations

import json
import math
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from pullback import tasks
from pullback.generative.clip.model import SmallCLIP
from pullback.generative.toybox.objects import build
from pullback.generative.toybox.pictures import photograph
from pullback.geometry.cameras import Cameras, orbit
from pullback.metrics import psnr, ssim
from pullback.models import Pixels
from pullback.photographs import Photographs, gathered
from pullback.pull import State
from pullback.reconstruct import Plan, prepare, shown
from torch import Tensor

app = typer.Typer()
OBJECTS = {"chair": "blue", "mushroom": "red", "car": "green", "robot": "orange", "boat": "yellow", "mug": "purple",
           "duck": "yellow", "house": "red"}  # fmt: skip
METHODS = ("nerf", "diet-", "diet", "pullback-", "pullback")
RUN = ("nerf", "diet-", "diet", "pullback")
PHOTOGRAPHS = orbit(
    torch.arange(8) * 2 * math.pi / 8 * 3 + 0.3, torch.deg2rad(torch.tensor([15.0, 40, 0, 55, 25, 5, 45, 30]))
)
"""The first 2 are 135 degrees apart, the first 4 leave a gap of 90 degrees."""
HELD_OUT = orbit(torch.arange(16) * math.pi / 8 + 0.1, torch.deg2rad(torch.tensor([5.0, 30, 15, 45]).repeat(4)))
KEYS = ("noun", "known", "method", "field", "size", "steps", "grid", "masks")
"""What a line of the results is of."""
RESULTS = Path("results.jsonl")


def pictures(noun: str, cameras: Cameras, size: int) -> Tensor:
    """Unlit pictures of an object, premultiplied RGBA (B, 4, size, size) in [0, 1]."""
    made = build(noun, OBJECTS[noun], None, None, np.random.default_rng(0))
    return torch.from_numpy(photograph(*made, cameras, size)[:, 3:]).float() / 255


def known(noun: str, count: int, size: int, masks: bool) -> Photographs:
    """The first photographs of an object, in a ball that is given: what masks of two photographs say of it is little.

    Without masks they are opaque, with the object before white, as in the paper.
    """
    cameras = PHOTOGRAPHS[:count]
    seen = pictures(noun, cameras, size)
    if not masks:
        seen = torch.cat([seen[:, :3] + 1 - seen[:, 3:], torch.ones_like(seen[:, 3:])], 1)
    return gathered(cameras, seen, ball=(0.0, 0.0, 0.0, 1.0))


def plan_of(method: str, noun: str, field: str, size: int, steps: int, grid: int) -> Plan:
    """The settings of a method."""
    way = method.rstrip("-")
    alone = {"finetune": 0} if method == "diet-" else {"finetune": steps * 4 // 15} if steps and way == "diet" else {}
    words = {"prompt": f"a {OBJECTS[noun]} {noun}"} if way == "pullback" else {}
    more = words | alone | ({"steps": steps} if way != "pullback" else {})
    return Plan(way, field=field, size=size, grid=grid, **more)  # type: ignore[arg-type]


def measured(seen: Tensor, truth: Tensor) -> dict[str, float]:
    """PSNR and SSIM on white, and one minus the cosine of picture-text features, as means over views."""
    a, b = shown(2 * seen - 1), shown(2 * truth - 1)
    features = [SmallCLIP().encode_image(each) for each in (a, b)]
    return {
        "psnr": float(psnr(a, b).mean()),
        "ssim": float(ssim(a, b).mean()),
        "distance": float(1 - (features[0] * features[1]).sum(-1).mean()),
    }


@app.command()
def run(
    nouns: str = ",".join(OBJECTS),
    known_views: str = typer.Option("8,4,2", "--known"),
    methods: str = ",".join(RUN),
    field: str = "voxels",
    size: int = 128,
    steps: int = 0,
    grid: int = 64,
    masks: bool = True,
    results: Path = RESULTS,
) -> None:
    """Reconstruct what is not in the results yet."""
    done = {tuple(line[key] for key in KEYS) for line in _lines(results)}
    for count, noun, method in product(map(int, known_views.split(",")), nouns.split(","), methods.split(",")):
        if (noun, count, method, field, size, steps, grid, masks) in done:
            continue
        plan = plan_of(method, noun, field, size, steps, grid)
        model = tasks.load_model() if plan.way == "pullback" else Pixels()
        began, worked, stages = time.monotonic(), time.process_time(), {}
        recipe, sampler = prepare(known(noun, count, size, masks), plan, model, SmallCLIP())

        def keep(state: State, plan: Plan = plan, stages: dict[str, State] = stages) -> None:
            if state.move == plan.moves and plan.way == "pullback":
                stages["pullback-"] = state

        stages[method] = sampler(tasks.beginning(sampler, seed=plan.seed), save=keep)
        spent = {"seconds": time.monotonic() - began, "cpu_seconds": time.process_time() - worked}
        for name, state in stages.items():
            with torch.no_grad():
                seen = Pixels().decode(recipe.diffrep.through(state.params, HELD_OUT, size, size))
            line = dict(zip(KEYS, (noun, count, name, field, size, steps, grid, masks), strict=True))
            line |= {k: round(v, 4) for k, v in (measured(seen, pictures(noun, HELD_OUT, size)) | spent).items()}
            with results.open("a") as file:
                file.write(json.dumps(line) + "\n")
            print(line, flush=True)


@app.command()
def table(results: Path = RESULTS) -> None:
    """Print the means over objects."""
    lines = _lines(results)
    print("| photographs | masks | field | method | objects | PSNR | SSIM | feature distance | CPU time |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for line in lines:
        key = not line["masks"], line["field"], -line["known"], METHODS.index(line["method"])
        groups.setdefault(key, []).append(line)
    for (opaque, field, count, method), some in sorted(groups.items()):
        means = [np.mean([line[k] for line in some]) for k in ("psnr", "ssim", "distance", "cpu_seconds")]
        row = "| {} | {} | {} | {} | {} | {:.2f} dB | {:.3f} | {:.4f} | {:.0f} s |"
        print(row.format(-count, "no" if opaque else "yes", field, METHODS[method], len(some), *means))


def _lines(results: Path) -> list[dict[str, Any]]:
    lines = results.read_text().splitlines() if results.exists() else []
    return [{"masks": True} | json.loads(line) for line in lines]


if __name__ == "__main__":
    app()
