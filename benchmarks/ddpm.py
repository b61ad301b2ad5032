"""Diffusion models: what they learn from which objective, and their progressive code.

`python benchmarks/lmconv.py folders data` makes folders of Fashion-MNIST, `data/train` and `data/test`. `compare MODEL...` prints
a table of models: distances of their samples to test pictures, and their bits per value. `code MODEL` prints the rate and the
distortion at every tenth of the steps. `plot MODEL...` and `pictures MODEL` write the pictures of the documentation.
"""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Annotated

import torch
import typer
from pullback.generative.ddpm import coding, plots
from pullback.generative.ddpm.model import DDPMModel, display, load_model, signal_of
from pullback.generative.ddpm.sampling import ancestral, interpolate, progressive
from pullback.metrics import PictureTextFeatures, features_of, frechet_distance, kernel_distance
from pullback.training.folder import PictureFolder
from torch import Tensor

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Models = Annotated[list[Path], typer.Argument(help="Files that `pullback train ddpm` wrote.")]
TRAIN, TEST, PICTURES = Path("data/train"), Path("data/test"), Path("docs/pictures")


def pictures_of(folder: Path, model: DDPMModel, count: int) -> Tensor:
    """The first pictures of a folder as the model sees them."""
    pictures = PictureFolder(folder)
    each = (signal_of(pictures.read(path), model.channels, model.size) for path in islice(pictures.paths, count))
    return torch.stack(list(each))


def noise(model: DDPMModel, count: int, seed: int = 0) -> Tensor:
    """Unit-normal noise that becomes pictures."""
    return torch.randn(count, model.channels, model.size, model.size, generator=torch.Generator().manual_seed(seed))


def name_of(model: DDPMModel) -> str:
    """What a model was trained on."""
    design = model.design
    simple = "L_simple" if design.predicted == "eps" else "squared error"
    return f"{design.predicted}, {simple if design.objective == 'simple' else 'L'}"


@app.command()
def compare(
    models: Models,
    train: Path = TRAIN,
    test: Path = TEST,
    made: int = 192,
    coded: int = 48,
    steps: int = 200,
    seed: int = 0,
) -> None:
    """Print distances of samples to test pictures, and bits per value of test pictures."""
    extract = PictureTextFeatures()
    print(
        "| model | steps of training | FID | KID | bits/dim | rate | L_0 |\n| --- | --- | --- | --- | --- | --- | --- |"
    )
    first = load_model(models[0])
    true = features_of(display(pictures_of(test, first, made)), extract)
    seen = features_of(display(pictures_of(train, first, made)), extract)
    print(f"| (training pictures) | | {distances(seen, true)} | | | |", flush=True)
    for path in models:
        model = load_model(path)
        samples = ancestral(model.reverse.spaced(steps), noise(model, made, seed), torch.Generator().manual_seed(seed))
        found = coding.code(model.reverse, pictures_of(test, model, coded), torch.Generator().manual_seed(seed))
        bits, error = found.bits_per_dim, found.bits_per_dim.std() / coded**0.5
        print(
            f"| {name_of(model)} | {model.card['step']} | {distances(features_of(display(samples), extract), true)} | "
            f"{bits.mean():.3f} ± {error:.3f} | {found.rate[0]:.3f} | {found.remainder:.3f} |",
            flush=True,
        )


def distances(a: Tensor, b: Tensor) -> str:
    """Fréchet and kernel distance of two sets of features, as columns."""
    return f"{frechet_distance(a, b):.0f} | {kernel_distance(a, b):.3g}"


@app.command("code")
def print_code(model: Path, test: Path = TEST, coded: int = 48, seed: int = 0) -> None:
    """Print the rate and the distortion at every tenth of the steps, as table 6 of the paper's appendix."""
    loaded = load_model(model)
    found = coding.code(loaded.reverse, pictures_of(test, loaded, coded), torch.Generator().manual_seed(seed))
    count = len(found.rate)
    print("| reverse process time (T - t + 1) | rate (bits/dim) | distortion (RMSE [0, 255]) |\n| --- | --- | --- |")
    for done in range(count, 0, -count // 10 or -1):
        t = count - done  # the index of x_{t+1}
        print(f"| {done} | {found.rate[t]:.5f} | {found.distortion[t]:.3f} |")


@app.command()
def plot(models: Models, test: Path = TEST, out: Path = PICTURES, coded: int = 16, seed: int = 0) -> None:
    """Write the rate-distortion plot of models."""
    codes = {}
    for path in models:
        model = load_model(path)
        true = pictures_of(test, model, coded)
        codes[name_of(model)] = coding.code(model.reverse, true, torch.Generator().manual_seed(seed))
    plots.rate_distortion(codes).save(out / "ddpm-rate-distortion.png", optimize=True)


@app.command()
def pictures(model: Path, test: Path = TEST, out: Path = PICTURES, steps: int = 200, seed: int = 0) -> None:
    """Write samples, and pictures of progressive coding and generation and of interpolations."""
    loaded, random = load_model(model), torch.Generator().manual_seed(seed)
    true, few = pictures_of(test, loaded, 4), loaded.reverse.spaced(steps)

    made = ancestral(few, noise(loaded, 48, seed), random)
    plots.sheet(made.unflatten(0, (3, 16)), 3).save(out / "ddpm-samples.png", optimize=True)

    whole = loaded.reverse.process.steps
    shown = [max(1, round(whole * part)) for part in (1, 0.8, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1, 0.02)]
    rows = torch.cat([coding.received(loaded.reverse, true, shown, random), true[None]]).transpose(0, 1)
    plots.sheet(rows, 4).save(out / "ddpm-received.png", optimize=True)

    kept = {round(steps * part) for part in (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1)}
    expected = [x0 for n, (_, x0) in enumerate(progressive(few, noise(loaded, 4, seed + 1), random), 1) if n in kept]
    plots.sheet(torch.stack(expected, 1), 4).save(out / "ddpm-progressive.png", optimize=True)

    parts = torch.linspace(0, 1, 9)
    depths = [round(steps * part) for part in (0, 0.25, 0.5, 0.75, 1)]
    between = [
        interpolate(few, true[1], true[2], parts, depth, torch.Generator().manual_seed(seed)) for depth in depths
    ]
    plots.sheet(torch.stack(between), 4).save(out / "ddpm-interpolation.png", optimize=True)


if __name__ == "__main__":
    app()
