"""Do layouts come out as they were asked for, and what does a guide cost? Needs the extra `train`.

`python benchmarks/layouts.py judge SHARDS JUDGE.safetensors` trains the judge, a classifier of nouns and colours, on toybox's
rendered pictures (`python -m pullback.generative.toybox.train render SHARDS`). It shares no weights with the picture-text model
that guides. It takes transparent pictures; `judge --opaque` trains one for objects in front of landscapes, for panoramas.

`measure JUDGE SHARDS` samples random layouts of two objects. It prints how often the judge finds the right noun and the right
colour in a box. For comparison, the first row is about rendered objects in such boxes.

`cost` prints the time of a guided evaluation divided by that of an unguided one, and the fraction of it that each part takes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import typer
from objects import COLOUR_NAMES, Judge, degraded, load_judge
from pullback import tasks
from pullback.generative.clip.model import load_clip
from pullback.generative.infd.latent import put
from pullback.generative.toybox.data import Pictures
from pullback.generative.toybox.words import INDEX, NOUNS
from pullback.pictures import write_png
from pullback.regions import Guide, Region, cut, located, locator, shown_by, whole
from pullback.samplers import ddim
from pullback.tasks import Settings
from pullback.types import Box, Denoiser, LaysOut, Model
from safetensors.torch import save_file
from torch import Tensor

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
SIDES = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2}
LANDSCAPE = "sea at noon"
GUIDANCE = 3.0
DEGREES = 90
"""The side, in degrees, of the square that a layout fills in a panorama."""
WAYS = {
    "none": "two sentences as the prompt", "guided": "picture-text model alone", "told": "model's condition alone",
    "both": "both",
}  # fmt: skip
IGNORED = -100
"""The label that `cross_entropy` ignores."""


def labels(numbers: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numbers of the nouns and of the first colours (B,) in word numbers (B, LENGTH), `IGNORED` if there is none."""

    def first(names: tuple[str, ...]) -> Tensor:
        lowest = INDEX[names[0]]
        known = (numbers >= lowest) & (numbers < lowest + len(names))
        place = known.float().argmax(1, keepdim=True)
        return torch.where(known.any(1), numbers.gather(1, place)[:, 0] - lowest, IGNORED)

    return first(NOUNS), first(COLOUR_NAMES)


@app.command()
def judge(shards: Path, path: Path, steps: int = 2500, batch: int = 64, opaque: bool = False) -> None:
    """Train the judge on transparent pictures or, if `opaque`, on pictures of objects in front of landscapes."""
    torch.manual_seed(0)
    data, random, rng = Pictures(shards), torch.Generator().manual_seed(5), np.random.default_rng(5)
    net = Judge(3 if opaque else 4)
    optim = torch.optim.AdamW(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optim, 2e-3, total_steps=steps)
    for step in range(1, steps + 1):
        drawn = data.batch(batch, rng, dropped=0.0)
        pictures, known = degraded(drawn.x / 2 + 0.5, random), labels(drawn.words)
        if opaque:
            pictures, known = before_landscapes(pictures, known)
        pairs = list(zip(net(pictures), known, strict=True))
        loss = torch.stack([F.cross_entropy(said, true) for said, true in pairs]).sum()
        optim.zero_grad()
        loss.backward()
        optim.step()
        schedule.step()
        if step % 100 == 0:
            noun, colour = (float((said.argmax(1) == true)[true >= 0].float().mean()) for said, true in pairs)
            print(f"step {step}: noun {noun:.2f}, colour {colour:.2f}", flush=True)
    save_file(net.state_dict(), path)


def before_landscapes(pictures: Tensor, known: tuple[Tensor, Tensor]) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Put the objects of a batch in front of its landscapes.

    Args:
        pictures: Premultiplied RGBA (B, 4, H, W) in [0, 1].
        known: The nouns and the colours of the batch, from `labels`.

    Returns:
        RGB (b, 3, H, W) of the b objects, in front of white if the batch has no landscape; and their nouns and colours.
    """
    objects = known[0] >= 0
    behind = pictures[pictures[:, 3].amin((1, 2)) > 0.9]
    if not len(behind):
        behind = torch.ones_like(pictures[:1])
    front = pictures[objects]
    chosen = behind[torch.arange(len(front)) % len(behind)]
    return front[:, :3] + (1 - front[:, 3:]) * chosen[:, :3], (known[0][objects], known[1][objects])


@dataclass(frozen=True)
class Placed:
    """An object: the numbers of its noun and its colour, and its box."""

    noun: int
    colour: int
    box: Box

    @property
    def text(self) -> str:
        return f"a {COLOUR_NAMES[self.colour]} {NOUNS[self.noun]}"

    def region(self, panorama: bool) -> str:
        """Return the region as the command line takes it."""
        left, top, width, height = self.box
        if panorama:
            fractions = [0.5 - left - width / 2, 0.5 - top - height / 2, width, height]
            return f"{','.join(f'{DEGREES * fraction:g}' for fraction in fractions)}: {self.text}"
        return f"{left:g},{top:g},{width:g},{height:g}: {self.text}"


def layout(side: float, random: np.random.Generator) -> tuple[Placed, Placed]:
    """Draw two objects in square boxes that do not overlap, side by side or one above the other.

    Args:
        side: Side of a box, as a fraction of the picture's side, at most 1/2.
        random: Draws nouns, colours and positions.
    """
    across = bool(random.integers(2))
    nouns, colours = (random.choice(len(names), 2, replace=False).tolist() for names in (NOUNS, COLOUR_NAMES))
    placed = []
    for k, (noun, colour) in enumerate(zip(nouns, colours, strict=True)):
        free, along = float(random.uniform(0, 1 - side)), k / 2 + float(random.uniform(0, 0.5 - side))
        placed.append(Placed(noun, colour, (along, free, side, side) if across else (free, along, side, side)))
    return placed[0], placed[1]


def denoiser(way: str, model: Model, settings: Settings, diffrep: object) -> Denoiser:
    """Return the model's denoiser for the settings' regions, which take effect in one of `WAYS`."""
    regions, condition = located(diffrep, settings.guide), (settings.negative, settings.guidance)
    if way in ("told", "both") and isinstance(model, LaysOut):
        things = [(region.text, region.box) for region in regions if region.box is not None]
        prompt = settings.prompt if settings.prompt == LANDSCAPE else ""
        denoise = model.laid_out(prompt, *condition, things, diffrep.lookup, diffrep.aspect, diffrep.closed)  # type: ignore[attr-defined]
    else:
        denoise = model.denoiser(settings.prompt, *condition)
    guide = Guide(load_clip(), regions, tasks.BESIDE_LAYOUT if way == "both" else 1.0)
    return guide.guiding(denoise, shown_by(model), locator(diffrep)) if way in ("guided", "both") else denoise


def sampled(
    kind: str, name: str, way: str, placed: tuple[Placed, Placed], steps: int, seed: int
) -> tuple[Tensor, list[Box]]:
    """Sample a picture (3 or 4, H, W) in [0, 1] with a layout, and return it with the boxes in it.

    Args:
        kind: "latents" (the model's own picture), "siren" (a SIREN image) or "panorama".
        name: The model.
        way: One of `WAYS`.
        placed: The layout.
        steps: Sampling steps.
        seed: The seed.
    """
    model, panorama = tasks.load_model(name), kind == "panorama"
    prompt = LANDSCAPE if panorama else " and ".join(each.text for each in placed)
    settings = Settings(
        prompt, seed=seed, steps=steps, guidance=GUIDANCE, guide=tuple(e.region(panorama) for e in placed)
    )
    recipe = tasks.recipe("panorama" if panorama else "image", model, settings)
    pull = tasks.prepare(model, recipe, replace(settings, guide=()))
    pull = replace(pull, denoise=denoiser(way, model, settings, recipe.diffrep))
    boxes = [region.box or placed[0].box for region in located(recipe.diffrep, settings.guide)]
    if kind == "latents":
        noise = torch.randn(1, model.channels, model.size, model.size, generator=torch.Generator().manual_seed(seed))
        z = ddim(pull.denoise, noise, pull.sigmas, None)
        return torch.cat(list(model.any_size(z, 256, 256)), 1), boxes  # type: ignore[attr-defined]
    field = tasks.field_of(recipe, settings, model, tasks.sample(pull, seed))
    height = 512 if panorama else 256
    return torch.cat(list(tasks.bands(field, height, height * (1 + panorama), model)), 1), boxes


def boxed(picture: Tensor, boxes: list[Box]) -> Tensor:
    """Cut the boxes (B, C, 64, 64) out of a picture (C, H, W)."""
    return torch.cat([cut(picture[None], box, 64) for box in boxes])


def rendered(placed: tuple[Placed, Placed], data: Pictures, random: np.random.Generator, opaque: bool) -> Tensor:
    """Compose a picture (4, 256, 256) of two rendered objects in their boxes, in front of a rendered landscape if `opaque`."""
    scene = torch.zeros(4, 256, 256)
    while opaque and float(scene[3].min()) < 0.9:
        drawn = data.batch(64, random, dropped=0.0).x / 2 + 0.5
        scene = F.interpolate(drawn[drawn[:, 3].amin((1, 2)).argmax()][None], (256, 256), mode="bilinear")[0]
    for each in placed:
        while True:
            drawn = data.batch(64, random, dropped=0.0)
            noun, colour = labels(drawn.words)
            wanted = (noun == each.noun) & (colour == each.colour)
            if wanted.any():
                break
        left, top, side, _ = (round(256 * value) for value in each.box)
        put(scene, drawn.x[wanted][0] / 2 + 0.5, top, left, side)
    return scene


@app.command()
def measure(
    judge_path: Path, shards: Path, model: str = "infd", kinds: str = "latents,siren",
    ways: str = "none,guided,told,both", count: int = 50, steps: int = 20, sheet: Path = Path("layouts.png"),
) -> None:  # fmt: skip
    """Sample layouts and judge them. Each row of the picture `sheet` shows the last twelve pictures of a row of the table."""
    net, data, rows = load_judge(judge_path), Pictures(shards), []
    opaque = net.body[0].in_channels == 3
    print(f"| what | layouts | noun | colour | {' | '.join(f'both, boxes of {name}' for name in SIDES)} | both |")
    print("| --- " * (5 + len(SIDES)) + "|")
    for kind in ("rendered", *kinds.split(",")):
        for way in ("",) if kind == "rendered" else ways.split(","):
            random, right, pictures = np.random.default_rng(3), [], []
            for n in range(count):
                placed = layout(list(SIDES.values())[n % len(SIDES)], random)
                if kind == "rendered":
                    picture, boxes = (
                        rendered(placed, data, np.random.default_rng(n), opaque),
                        [each.box for each in placed],
                    )
                else:
                    picture, boxes = sampled(kind, model, way, placed, steps, n)
                if opaque or len(picture) == 4:
                    seen = tasks.on_white(picture[None])[0] if opaque else picture
                    with torch.no_grad():
                        said = torch.stack([logits.argmax(1) for logits in net(boxed(seen, boxes))], 1)
                    right.append(said == torch.tensor([[each.noun, each.colour] for each in placed]))
                middle = (picture.shape[2] - picture.shape[1]) // 2
                square = tasks.on_white(picture[None])[..., middle : middle + picture.shape[1]]
                pictures.append(F.interpolate(square, (128, 128), mode="area")[0])
            title, numbers = f"{kind}: {WAYS[way]}" if way else "the renderer's own objects", ["-"] * (3 + len(SIDES))
            if right:
                found = torch.stack(right).float()  # (layouts, objects, noun or colour)
                both = found.prod(-1).mean(-1)
                sides = [both[k :: len(SIDES)].mean() for k in range(len(SIDES))]
                numbers = [f"{float(each):.0%}" for each in (*found.mean((0, 1)), *sides, both.mean())]
            print(f"| {title} | {count} | {' | '.join(numbers)} |", flush=True)
            rows.append(torch.cat(pictures[-12:], -1))
            image = torch.cat(rows, -2)
            write_png(sheet, iter([image]), image.shape[2], image.shape[1])


@app.command()
def cost(model: str = "infd", repeats: int = 5) -> None:
    """Time an evaluation guided by two regions: the model, decoding the boxes, the picture-text model, and the gradient."""
    loaded, clip = tasks.load_model(model), load_clip()
    regions = (Region("a red mushroom", (0.0, 0.25, 0.5, 0.5)), Region("a blue chair", (0.5, 0.25, 0.5, 0.5)))
    denoise, show = loaded.denoiser("a mushroom", "", 3.0), shown_by(loaded)
    x, sigma = torch.randn(1, loaded.channels, loaded.size, loaded.size), torch.tensor(1.0)
    guided = Guide(clip, regions).guiding(denoise, show)
    spent = dict.fromkeys(("model", "showing", "picture-text model", "gradient"), 0.0)
    plain = total = 0.0
    for n in range(repeats + 1):
        start = time.perf_counter()
        with torch.no_grad():
            denoise(x, sigma, None)
        middle = time.perf_counter()
        guided(x, sigma, None)
        end = time.perf_counter()
        source = x.clone().requires_grad_()
        marks = [time.perf_counter()]
        clean = denoise(source, sigma, None)
        marks.append(time.perf_counter())
        parts = show(clean)
        shown = [parts(place.box, clip.size) for region in regions for place in whole(region, None, 1)]
        marks.append(time.perf_counter())
        loss = torch.stack(
            [
                1 - (clip.encode_image(each)[0] * text).sum()
                for each, text in zip(shown, clip.encode_text([r.text for r in regions]), strict=True)
            ]
        ).sum()
        marks.append(time.perf_counter())
        torch.autograd.grad(loss, source)
        marks.append(time.perf_counter())
        if n:  # the first evaluation warms up
            plain, total = plain + middle - start, total + end - middle
            for name, before, after in zip(spent, marks[:-1], marks[1:], strict=True):
                spent[name] += after - before
    whole_time = sum(spent.values())
    print(f"| model | guided / unguided | {' | '.join(spent)} |\n{'| --- ' * (2 + len(spent))}|")
    print(f"| {model} | {total / plain:.1f} | {' | '.join(f'{each / whole_time:.0%}' for each in spent.values())} |")


if __name__ == "__main__":
    app()
