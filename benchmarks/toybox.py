"""What toybox's answers depend on, how its samples are distributed, and how sharp they are. Needs the extra `train`.

`python benchmarks/toybox.py listens` prints the mean squared denoising error on new pictures (never trained on) at several noise
levels: with the right words and camera, with another picture's words or camera, and with no words at all.

`python benchmarks/toybox.py colours [NOUN ...] [--samples 100]` samples nouns without a colour, at guidance 1. It prints how
often the main colour is nearest to each of the ten colour names, and the total variation between these frequencies and those of
rendered pictures, in which all ten colours are equally frequent.

`python benchmarks/toybox.py edges [NOUN ...] [--samples 40]` prints how sharp samples are, compared with rendered pictures: the
number of pixels at edges, the median difference of neighbouring pixels there, and the distance between the histograms of these
differences.
"""

from __future__ import annotations

import numpy as np
import torch
import typer
from pullback.generative.toybox import model, objects, pictures, words
from pullback.generative.toybox.model import STILL
from pullback.geometry.cameras import orbit
from pullback.samplers import ddim
from pullback.schedules import log_linear
from torch import Tensor

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
NAMES = tuple(words.COLOURS)


@app.command()
def listens(count: int = 24) -> None:
    """Print the denoising error under right and wrong conditions."""
    net = model.network()
    x, texts, cameras = (torch.from_numpy(a) for a in pictures.objects(count, np.random.default_rng(987_654)))
    random = torch.Generator().manual_seed(0)
    other = torch.randperm(len(x), generator=random)
    clean = torch.cat([x[:, :3], x[:, 6:]], 1).float() / 127.5 - 1
    noise, texts, lit = torch.randn(clean.shape, generator=random), texts.long(), torch.ones(len(x))
    silence = torch.tensor([words.encode("")]).expand_as(texts)
    told = {
        "right": (texts, cameras), "another's words": (texts[other], cameras),
        "another's camera": (texts, cameras[other]), "no words": (silence, cameras),
    }  # fmt: skip
    print(f"| sigma | {' | '.join(told)} |\n| --- | --- | --- | --- | --- |")
    for sigma in (0.3, 1.0, 3.0, 10.0):
        with torch.no_grad():
            noisy, level = clean + sigma * noise, torch.full((len(x),), sigma)
            errors = [float((net(noisy, level, *said, lit) - clean).square().mean()) for said in told.values()]
        print(f"| {sigma:g} | {' | '.join(f'{e:.4f}' for e in errors)} |", flush=True)


def nearest_names(pictures: Tensor, layer: Tensor) -> Tensor:
    """Return the numbers (B,) of the colour names that are nearest to the mean colours of pictures.

    Args:
        pictures: Premultiplied RGBA (B, 4, H, W) in [0, 1].
        layer: Weights of the pixels, (B, H, W).
    """
    mean = (pictures[:, :3] * layer[:, None]).sum((2, 3)) / (pictures[:, 3] * layer).sum((1, 2)).clamp(min=1e-6)[
        :, None
    ]
    paints = torch.tensor([words.COLOURS[name] for name in NAMES])
    hue = mean / mean.amax(1, keepdim=True).clamp(min=1e-6)
    light = mean.amax(1)
    # Light and shadow make a colour darker than its name says: compare at the brightness that fits best.
    scale = torch.linspace(0.5, 1.05, 12)
    shaded = paints[:, None] * scale[:, None]
    return ((light[:, None] * hue)[:, None, None] - shaded).square().sum(-1).amin(2).argmin(1)


def sampled(noun: str, count: int, steps: int) -> Tensor:
    """Sample pictures (count, 4, 64, 64) in [0, 1] of a noun without a colour."""
    toybox = model.ToyboxModel()
    noise = torch.randn(count, 4, 64, 64, generator=torch.Generator().manual_seed(7))
    sigmas = log_linear(steps, 0.05, toybox.sigma_max)
    denoise = toybox.denoiser(noun, "", 1.0)
    return toybox.decode(torch.cat([ddim(denoise, part, sigmas, None) for part in noise.split(10)]))


def rendered(noun: str, count: int) -> tuple[Tensor, Tensor]:
    """Render pictures (count, 4, 64, 64) of a noun in all colours, and where their main paint is (count, 64, 64)."""
    rng, still = np.random.default_rng(5), orbit(*(torch.tensor([angle]) for angle in STILL[:2]))
    made, mains = [], []
    for k in range(count):
        mesh, material = objects.solid(noun, None, rng)
        main, accent = objects.paints(noun, NAMES[k % len(NAMES)], None, rng)
        values = np.concatenate([objects.coloured(material, main, accent), material[:, :1]], 1)
        channels = torch.from_numpy(pictures.photograph(mesh, values, still)[0]).float() / 255
        made.append(torch.cat([channels[:3], channels[8:]]))
        mains.append(channels[7])
    return torch.stack(made), torch.stack(mains)


@app.command()
def colours(nouns: list[str] = typer.Argument(None), samples: int = 100, steps: int = 20, renders: int = 100) -> None:
    """Print how evenly nouns without a colour are coloured."""
    print(f"| noun | {' | '.join(NAMES)} | total variation |\n{'| --- ' * 12}|")
    found = []
    for noun in nouns or words.NOUNS:
        reference, mains = rendered(noun, renders)
        where = (mains.mean(0) > 0.5 * mains.mean(0).max()).float()
        frequencies = [
            torch.bincount(nearest_names(x, where.expand(len(x), -1, -1)), minlength=len(NAMES)) / len(x)
            for x in (sampled(noun, samples, steps), reference)
        ]
        found.append(float((frequencies[0] - frequencies[1]).abs().sum()) / 2)
        print(f"| {noun} | {' | '.join(f'{f:.2f}' for f in frequencies[0])} | {found[-1]:.2f} |", flush=True)
    print(f"| mean | {' | ' * len(NAMES)} {np.mean(found):.2f} |")


def steep(pictures: Tensor) -> Tensor:
    """Return the differences of neighbouring pixels at edges, sorted.

    A difference is a distance in premultiplied RGBA. Those of at most 0.05 belong to flat surfaces and are left out.
    """
    across, down = pictures.diff(dim=-1).norm(dim=1).flatten(), pictures.diff(dim=-2).norm(dim=1).flatten()
    differences = torch.cat([across, down])
    return differences[differences > 0.05].sort().values


@app.command()
def edges(nouns: list[str] = typer.Argument(None), samples: int = 40, steps: int = 30) -> None:
    """Print how sharp the samples of nouns are, compared with rendered pictures."""
    bins = torch.linspace(0.05, 2.0, 40)
    print("| noun | edge pixels, of the renderer's | median step | the renderer's | distance of histograms |")
    print("| --- " * 5 + "|")
    distances = []
    for noun in nouns or ["car", "chair", "duck", "house", "mug", "robot"]:
        ours, reference = steep(sampled(noun, samples, steps)), steep(rendered(noun, samples)[0])
        shares = [torch.histogram(edges.clamp(max=2.0), bins).hist / len(edges) for edges in (ours, reference)]
        distances.append(float((shares[0] - shares[1]).abs().sum()) / 2)
        cells = f"{len(ours) / len(reference):.2f} | {ours.median():.3f} | {reference.median():.3f}"
        print(f"| {noun} | {cells} | {distances[-1]:.2f} |", flush=True)
    print(f"| mean | | | | {np.mean(distances):.2f} |")


if __name__ == "__main__":
    app()
