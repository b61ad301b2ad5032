"""∞-Diff: one set of weights at several resolutions, subsets of points, ablations, cost, super-resolution and filling.

Held-out pictures are rendered first:

    python -m pullback.generative.toybox.train render held-out --shards 1 --seed 9000 --landscape-every 100000 \\
        --pictures-each 400 --side 256

`resolutions` compares samples at 64, 128 and 256 pixels with renders of that size (claim C9). `points` shows what fewer points
cost and gain (C10). `ablations` trains small models for equal numbers of steps: mollified against white noise (C11), and other
operators and gathers (C12). `cost` prints time and memory from 64 to 1024 pixels. `enlarging` and `filling` measure the uses.
`pictures` writes the picture of the documentation.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any
from unittest import mock

import numpy as np
import torch
import typer
from PIL import Image
from pullback.generative.clip.perceptual import perceptual_distance
from pullback.generative.infty_diff import operator, points, training
from pullback.generative.infty_diff.coarse import enlarged, factor, unseen
from pullback.generative.infty_diff.denoiser import SHRINK, denoise, error
from pullback.generative.infty_diff.model import InftyDiffModel, load_model, toybox_under
from pullback.generative.infty_diff.mollifier import STD, WIENER_NOISE
from pullback.generative.infty_diff.network import Condition, Network
from pullback.generative.infty_diff.points import Points
from pullback.generative.infty_diff.training import Drawn, InftyDiffTrainee, RenderedPictures
from pullback.generative.infty_diff.uses import between, filled, upscaled, with_means
from pullback.generative.toybox import model as toybox
from pullback.metrics import patch_fid, psnr
from pullback.pictures import straight, write_png
from pullback.samplers import ddim
from pullback.schedules import log_linear
from pullback.training.loop import Plan, train
from torch import Generator, Tensor
from torch.nn.functional import avg_pool2d, conv2d, interpolate

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
Weights = Annotated[Path, typer.Option(help="A file that `pullback train infty-diff` wrote.")]
SHIPPED = Path(training.__file__).with_name("infty.safetensors")
HELD_OUT, TRAIN = Path("held-out"), Path("renders")
SIZES = (64, 128, 256)


def shown(signals: Tensor) -> Tensor:
    """Put signals (B, 4, H, W) on white, (B, 3, H, W) in [0, 1]."""
    rgba = (signals / 2 + 0.5).clamp(0, 1)
    return (rgba[:, :3] + 1 - rgba[:, 3:]).clamp(0, 1)


def held_out(folder: Path, count: int, seed: int = 0) -> Drawn:
    """Held-out pictures of 256 pixels and their conditions, none of them dropped."""
    source = RenderedPictures(folder).pictures
    batch = source.batch(count, np.random.default_rng(seed), 0.0, SIZES[-1])
    return Drawn(batch.x, batch.words, batch.cameras, batch.lit)


def reduced(x: Tensor, size: int) -> Tensor:
    """Average squares of pixels, to `size` pixels."""
    return avg_pool2d(x, x.shape[-1] // size)


def noise_of(coarse: Tensor, size: int, seed: int = 1) -> Tensor:
    """White noise (B, C, size, size) that toybox sees as `coarse`, white noise (B, C, 64, 64)."""
    drawn = torch.randn((*coarse.shape[:2], size, size), generator=Generator().manual_seed(seed))
    large = factor(size, size) * enlarged(coarse, size, size)
    return large + unseen(drawn - large)


@torch.no_grad()
def sampled(model: InftyDiffModel, drawn: Drawn, noise: Tensor, steps: int) -> Tensor:
    """Samples, of the size of the noise, for the conditions of pictures."""
    given = model.condition(drawn.words, drawn.cameras, drawn.lit)
    z = torch.zeros(len(drawn.words), model.functions.config.latent)

    def d(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        level = sigma.float().expand(len(x))
        return denoise(model.functions.denoiser, x, level, given, z, model.std, model.inverse, model.shrink).clamp(
            -1, 1
        )

    return ddim(d, noise, log_linear(steps, *model.sigma_range(*noise.shape[-2:])))


@torch.no_grad()
def sampled_by_toybox(drawn: Drawn, noise: Tensor, steps: int) -> Tensor:
    """Samples of toybox for the conditions of pictures, from noise (B, 4, 64, 64)."""
    net = toybox.network()

    def d(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return net(x, sigma.float().expand(len(x)), drawn.words, drawn.cameras, drawn.lit).clamp(-1, 1)

    return ddim(d, noise, log_linear(steps, 0.03, 80.0))


@app.command()
def resolutions(weights: Weights = SHIPPED, folder: Path = HELD_OUT, count: int = 32, steps: int = 20) -> None:
    """Print the Frechet distance of patches of samples to patches of renders, at 64, 128 and 256 pixels.

    All samples of a caption begin with the same noise, as far as toybox sees it.
    """
    model, drawn = load_model(weights), held_out(folder, count)
    other = held_out(folder, count, seed=1)
    coarse = torch.randn((count, 4, 64, 64), generator=Generator().manual_seed(0))
    ours, plain = sampled(model, drawn, coarse, steps), sampled_by_toybox(drawn, coarse, steps)
    print("| pixels | other renders | infty-diff at this size | infty-diff at 64, bicubic | toybox (64), bicubic |")
    print("| --- | --- | --- | --- | --- |")
    for size in SIZES:
        true = shown(reduced(drawn.x, size))
        native = sampled(model, drawn, noise_of(coarse, size), steps) if size > 64 else ours
        sets = [reduced(other.x, size), native]
        sets += [interpolate(each, (size, size), mode="bicubic") for each in (ours, plain)]
        values = [patch_fid(shown(each), true, 64, size // 64) for each in sets]
        print(f"| {size} | {' | '.join(f'{value:.0f}' for value in values)} |", flush=True)


LEVELS = (0.01, 0.03, 0.1)
"""Noise levels, on a picture of 64 pixels, at which detail appears."""


def denoising_error(network: Network, drawn: Drawn, size: int, std: float, shrink: float = SHRINK) -> list[float]:
    """The mean squared error of D, in pictures of `size` pixels, at `LEVELS`."""
    x, z = reduced(drawn.x, size), torch.zeros(len(drawn.x), network.config.latent)
    noise = torch.randn(x.shape, generator=Generator().manual_seed(0))
    told = drawn.words, drawn.cameras, drawn.lit
    given = Condition(*told, toybox_under(toybox.network(), *told) if network.config.toybox else None)
    found = []
    for sigma in LEVELS:
        level = torch.full((len(x),), sigma * size / 64)
        with torch.no_grad():
            made = denoise(network, x + sigma * size / 64 * noise, level, given, z, std, WIENER_NOISE, shrink)
        found.append(float((made.clamp(-1, 1) - x).square().mean()))
    return found


@app.command("points")
def subsets(weights: Weights = SHIPPED, folder: Path = HELD_OUT, count: int = 24, size: int = 128) -> None:
    """Print error and speed with 1, 1/2, 1/4 and 1/8 of the points, of an evaluation and of a training step."""
    model, drawn = load_model(weights), held_out(folder, count)
    network, x = model.functions.denoiser, reduced(drawn.x, size)
    noise = torch.randn(x.shape, generator=Generator().manual_seed(0))
    given = model.condition(drawn.words, drawn.cameras, drawn.lit)
    z = torch.zeros(count, model.functions.config.latent)
    print(
        "| points | weighted error at levels 0.01 / 0.03 / 0.1 | evaluations/s | training pictures/s |\n| --- | --- | --- | --- |"
    )
    for part in (1, 2, 4, 8):
        some = Points.random(size, size, size * size // part, Generator().manual_seed(0))
        errors, started = [], time.process_time()
        for sigma in LEVELS:
            level = torch.full((count,), sigma * size / 64)
            with torch.no_grad():
                errors.append(float(error(network, x, level, noise, some, given, z, model.std).mean()))
        speed = 3 * count / (time.process_time() - started)
        network.requires_grad_(True)
        started = time.process_time()
        error(network, x, level, noise, some, given, z, model.std).mean().backward()
        trained = count / (time.process_time() - started)
        network.requires_grad_(False)
        print(f"| 1/{part} | {' / '.join(f'{e:.3f}' for e in errors)} | {speed:.1f} | {trained:.1f} |", flush=True)


@app.command()
def ablations(
    folder: Path = TRAIN,
    test: Path = HELD_OUT,
    steps: int = 150,
    batch: int = 16,
    count: int = 24,
    out: Path = Path("ablations"),
    arms: str = "all",
) -> None:
    """Train networks on 128 pixels for equal numbers of steps, and print the errors of D on held-out pictures.

    256 pixels are a resolution that no arm has seen.
    """
    drawn = held_out(test, count)
    out.mkdir(exist_ok=True)
    fixed = lambda size: 3
    ways: dict[str, tuple[float, Callable[[], Any]]] = {
        "as it is": (STD, mock.MagicMock),
        "white noise (no mollifier)": (0.0, mock.MagicMock),
        "kernel of 7 pixels at every size": (
            STD,
            lambda: mock.patch.multiple(operator, reach=fixed, _interpolation=_identity, _by_hats=_seven_pixels),
        ),
        "gather from 1 point": (STD, lambda: mock.patch.object(points, "NEAREST", 1)),
        "no operator (points alone)": (STD, lambda: mock.patch.object(operator.SparseOperator, "forward", _nothing)),
    }
    untrained = Network(training.InftyDiffTrainee(folder).config).eval().requires_grad_(False)
    columns = [denoising_error(untrained, drawn, size, STD) for size in (128, 256)]
    print("| arm | 128 pixels, levels 0.01 / 0.03 / 0.1 | 256 pixels |\n| --- | --- | --- |")
    print(
        f"| (nothing added) | {' | '.join(' / '.join(f'{1e3 * e:.3f}' for e in errors) for errors in columns)} |",
        flush=True,
    )
    for n, (name, (std, change)) in enumerate(ways.items()):
        if arms != "all" and str(n) not in arms.split(","):
            continue
        torch.manual_seed(0)
        with change(), mock.patch.object(training, "SHOWN", 1):
            trainee = InftyDiffTrainee(folder, batch_size=batch, std=std)
            trainee.data.sizes = [128]
            checkpoint = out / f"arm-{n}.training.safetensors"
            functions = train(trainee, checkpoint, Plan(steps, warmup=20, every=steps, precision="bf16", average=0.98))
            columns = [denoising_error(functions.denoiser, drawn, size, std) for size in (128, 256)]  # type: ignore[union-attr,arg-type]
        print(
            f"| {name} | {' | '.join(' / '.join(f'{1e3 * e:.3f}' for e in errors) for errors in columns)} |", flush=True
        )


def _identity(size: int) -> Tensor:
    return torch.eye(7)


def _seven_pixels(picture: Tensor, kernel: Tensor, d: int) -> Tensor:
    return conv2d(picture, kernel[:, None], padding=3, groups=len(kernel))


def _nothing(self: Any, values: Tensor, near: Any) -> Tensor:
    return torch.zeros_like(values)


@app.command()
def cost(weights: Weights = SHIPPED, size: int = 0) -> None:
    """Print time and peak memory of one evaluation at 64 to 1024 pixels, each in a process of its own."""
    if not size:
        print("| pixels | seconds per step | µs per point | peak memory (GB) |\n| --- | --- | --- | --- |", flush=True)
        for each in (64, 128, 256, 512, 1024):
            subprocess.run(
                [sys.executable, __file__, "cost", "--weights", str(weights), "--size", str(each)], check=True
            )
        return
    torch.set_num_threads(1)
    d = load_model(weights).denoiser("a red ball", "", 1.0)
    x = torch.randn(1, 4, size, size)
    with torch.no_grad():
        d(x, torch.tensor(1.0), None)
        started = time.process_time()
        d(x, torch.tensor(1.0), None)
    spent = time.process_time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"| {size} | {spent:.2f} | {1e6 * spent / size**2:.1f} | {peak:.2f} |", flush=True)


def _pixels(x: Tensor) -> np.ndarray:
    """A signal (4, H, W) as pixels (H, W, 4)."""
    return ((x / 2 + 0.5) * 255).round().byte().permute(1, 2, 0).numpy()


@app.command()
def enlarging(weights: Weights = SHIPPED, folder: Path = HELD_OUT, count: int = 16, scale: int = 4) -> None:
    """Print PSNR and perceptual distance of enlarged held-out pictures, beside bicubic and Lanczos."""
    model, drawn = load_model(weights), held_out(folder, count)
    rows: dict[str, list[Tensor]] = {"bicubic": [], "lanczos": [], "bicubic, means set": [], "infty-diff": []}
    for x in drawn.x:
        small = _pixels(reduced(x[None], 256 // scale)[0])
        for name, way in (("bicubic", Image.Resampling.BICUBIC), ("lanczos", Image.Resampling.LANCZOS)):
            planes = [np.asarray(Image.fromarray(small[..., c]).resize((256, 256), way)) for c in range(4)]
            rows[name].append(torch.from_numpy(np.stack(planes)).float() / 127.5 - 1)
        given = torch.from_numpy(small).permute(2, 0, 1)[None].float() / 127.5 - 1
        rows["bicubic, means set"].append(with_means(rows["bicubic"][-1][None], given, scale)[0].clamp(-1, 1))
        rows["infty-diff"].append(2 * upscaled(model, small, scale) - 1)
    print(f"| x{scale} | PSNR (dB) | perceptual distance |\n| --- | --- | --- |")
    for name, made in rows.items():
        pictures = torch.stack(made)
        distance = float(perceptual_distance(pictures, drawn.x))
        print(f"| {name} | {psnr(shown(pictures), shown(drawn.x)).mean():.2f} | {distance:.4f} |", flush=True)


def on_white(pixels: np.ndarray) -> np.ndarray:
    """Straight RGBA (H, W, 4) uint8 on white, (H, W, 3) in [0, 1]."""
    alpha = pixels[..., 3:] / 255
    return pixels[..., :3] / 255 * alpha + 1 - alpha


@app.command()
def filling(weights: Weights = SHIPPED, folder: Path = HELD_OUT, count: int = 8, size: int = 64) -> None:
    """Print the error in filled squares of held-out pictures beside that of the biharmonic equation."""
    from skimage.restoration import inpaint_biharmonic

    model, drawn = load_model(weights), held_out(folder, count)
    hole = np.zeros((size, size, 3), np.uint8)
    hole[size // 3 : 2 * size // 3, size // 3 : 2 * size // 3] = 255
    inside, errors, kept = hole[..., 0] > 0, {"biharmonic": 0.0, "infty-diff": 0.0}, True
    for n, x in enumerate(reduced(drawn.x, size)):
        rgba = straight(x / 2 + 0.5).mul(255).round().byte()
        picture = rgba.permute(1, 2, 0).numpy()
        words = " ".join(toybox.words.VOCABULARY[number] for number in drawn.words[n].tolist() if number > 1)
        made = filled(model, picture, hole, words, guidance=1.0)
        kept &= bool((made[~inside] == picture[~inside]).all())
        true, ours = on_white(picture), on_white(made)
        smooth = inpaint_biharmonic(true, inside, channel_axis=-1)
        for name, found in (("biharmonic", smooth), ("infty-diff", ours)):
            errors[name] += float(np.square(found[inside] - true[inside]).mean()) / count
    print("| filled | mean squared error in the hole |\n| --- | --- |")
    for name, value in errors.items():
        print(f"| {name} | {value:.4f} |")
    print(f"known pixels unchanged: {kept}")


@app.command()
def pictures(weights: Weights = SHIPPED, folder: Path = HELD_OUT, out: Path = Path("docs/pictures")) -> None:
    """Write samples at three sizes, pictures between two, an enlarged picture and a filled one."""
    model, rows = load_model(weights), []
    for size in SIZES:
        noise = torch.randn((1, 4, size, size), generator=Generator().manual_seed(3))
        made = []
        for prompt in ("a red mushroom", "a blue car", "a yellow duck", "mountains at sunset"):
            with torch.no_grad():
                x = ddim(model.denoiser(prompt, "", 1.0), noise, log_linear(12, *model.sigma_range(size, size)))
            made.append(interpolate(shown(x), (256, 256), mode="nearest"))
        rows.append(torch.cat(made, -1))
    true = held_out(folder, 4, seed=5)
    mixed = interpolate(2 * between(model, *reduced(true.x[:2], 64), 4, steps=12) - 1, (256, 256), mode="bicubic")
    rows.append(torch.cat(list(shown(mixed)), -1)[None])
    small = reduced(true.x[2:3], 64)
    enlarged = 2 * upscaled(model, _pixels(small[0]), 4)[None] - 1
    hole, whole = np.zeros((64, 64, 3), np.uint8), reduced(true.x[3:], 64)[0]
    hole[22:42, 22:42] = 255
    rgba = straight(whole / 2 + 0.5)
    made = filled(model, rgba.mul(255).round().byte().permute(1, 2, 0).numpy(), hole)
    missing = torch.from_numpy(hole[..., 0] > 0)
    masked = torch.where(missing, torch.tensor([-0.2, -0.2, -0.2, 1.0])[:, None, None], whole)[None]
    completed = torch.from_numpy(made).permute(2, 0, 1)[None].float() / 255
    completed = 2 * torch.cat([completed[:, :3] * completed[:, 3:], completed[:, 3:]], 1) - 1
    row = [interpolate(each, (256, 256), mode="nearest") for each in (small, enlarged, masked, completed)]
    rows.append(torch.cat([shown(each) for each in row], -1))
    sheet = torch.cat(rows, -2)[0]
    write_png(out / "infty-diff.png", iter([sheet]), sheet.shape[2], sheet.shape[1])


if __name__ == "__main__":
    app()
