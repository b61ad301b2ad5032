"""Field decoders measured on held-out pictures. Needs the extra `train`.

Held-out pictures: `python -m pullback.generative.toybox.train pictures HELD512 --count 16 --seed 9 --sizes 512`, and the same
with 1024. They are encoded at the encoder's size, and the pictures that are drawn from the latents are compared with them.
Transparent pictures are put on white.

`python benchmarks/decoders.py consistency DECODER HELD512` draws every picture at 256 and at 1024 pixels. It prints the PSNR
between the first and the second, which is reduced to the same size by the mean over areas.

`python benchmarks/decoders.py patches DECODER HELD512 HELD1024 [--fixed FIXED]` prints the Fréchet distance between random
patches of drawn pictures and of the true ones, at the sizes of the true pictures. The drawn pictures are those of the field
decoder, those that it draws at the encoder's size, enlarged, and those of a decoder that was trained at one fixed size.

`python benchmarks/decoders.py train mixed|small|fixed PICTURES DECODER --steps 2000` trains a decoder on patches at all scales,
at the encoder's scale alone, or at `--size` alone. A run that was stopped continues. `python benchmarks/decoders.py mixed
PICTURES HELD512 FOLDER --steps 2000` trains the first two in FOLDER, and prints how close the pictures of each come to the true
ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
import typer
from PIL import Image
from pullback import metrics
from pullback.generative.infd.decoder import FieldDecoder, load_decoder
from pullback.generative.infd.network import PRESETS
from pullback.generative.infd.patches import patch, resized
from pullback.generative.infd.renderers import places
from pullback.generative.infd.training import AutoencoderTrainee, Pairs
from pullback.tasks import on_white
from pullback.training import loop
from pullback.training.folder import PictureFolder
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
ARMS = ("mixed", "small", "fixed")
PATCH = 64
"""Side of a patch in pixels: the size that the picture-text model takes."""


def held_out(folder: Path, channels: int) -> list[np.ndarray]:
    """Return the pictures of a folder, cropped to squares, (S, S, channels) uint8 each."""
    pictures = PictureFolder(folder, channels)
    read = [pictures.read(path) for path in pictures.paths]
    return [picture[: min(picture.shape[:2]), : min(picture.shape[:2])] for picture in read]


def shown(picture: np.ndarray) -> Tensor:
    """Return a picture as display RGB (3, S, S) in [0, 1]."""
    return on_white(torch.from_numpy(np.array(picture)).movedim(-1, 0).float() / 255)


def latents(decoder: FieldDecoder, picture: np.ndarray) -> Tensor:
    """Encode a picture as in training, at the encoder's size."""
    small = torch.from_numpy(np.array(resized(picture, decoder.autoencoder.config.base)))
    with torch.no_grad():
        return decoder.autoencoder.encode(small.movedim(-1, 0)[None].float() / 127.5 - 1)


def drawn(decoder: FieldDecoder, z: Tensor, size: int) -> Tensor:
    """Draw a picture of latents, as display RGB (3, size, size)."""
    return on_white(torch.cat(list(decoder.bands(decoder.features(z), size, size)), 1))


def plain(decoder: FieldDecoder, z: Tensor, size: int) -> Tensor:
    """Draw latents as an ordinary decoder would, whose pictures have a fixed number of pixels per latent: enlarge them first."""
    side = size // decoder.scale
    return drawn(decoder, interpolate(z, (side, side), mode="bicubic"), size)


def enlarged(picture: Tensor, size: int, how: Image.Resampling) -> Tensor:
    """Enlarge display RGB (3, S, S) with Pillow, channel by channel in floating point."""
    channels = [Image.fromarray(channel.numpy()).resize((size, size), how) for channel in picture]
    return torch.from_numpy(np.stack([np.asarray(channel) for channel in channels])).clamp(0, 1)


def mean_psnr(pairs: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the PSNR in dB of the squared error, averaged over all pairs."""
    errors = [float((a - b).square().mean()) for a, b in pairs]
    with np.errstate(divide="ignore"):  # equal pictures: infinite
        return -10 * float(np.log10(np.mean(errors)))


@app.command()
def consistency(decoder: Path, held: Path, small: int = 256, large: int = 1024, plain_decoder: str = "") -> None:
    """Is the coarse picture the mean of the fine one?

    The row "convolutions on enlarged latents" is that of DECODER, or of the file `--plain-decoder`.
    """
    field, base = load_decoder(decoder), load_decoder(decoder).autoencoder.config.base
    other = load_decoder(Path(plain_decoder)) if plain_decoder else field
    pictures = held_out(held, field.autoencoder.config.channels)
    bicubic = lambda z, size: enlarged(drawn(field, z, base), size, Image.Resampling.BICUBIC)
    ways = {
        "field decoder": lambda picture, size: drawn(field, latents(field, picture), size),
        f"bicubic of its {base} pixels": lambda picture, size: bicubic(latents(field, picture), size),
        "convolutions on enlarged latents": lambda picture, size: plain(other, latents(other, picture), size),
    }
    print(f"| {small} pixels compared with {large}, {len(pictures)} pictures | PSNR | to the true picture at {small} |")
    print("| --- | --- | --- |")
    for name, make in ways.items():
        with_fine, with_true = [], []
        for picture in pictures:
            coarse, fine = make(picture, small), make(picture, large)
            with_fine.append((avg_pool2d(fine, large // small), coarse))
            with_true.append((coarse, shown(resized(picture, small))))
        print(f"| {name} | {mean_psnr(with_fine):.1f} dB | {mean_psnr(with_true):.1f} dB |", flush=True)


@app.command()
def patches(decoder: Path, held: list[Path], fixed: str = "", each: int = 16, side: int = PATCH) -> None:
    """Do patches look like true ones? All pictures of a folder must have the same size."""
    field = load_decoder(decoder)
    base, channels = field.autoencoder.config.base, field.autoencoder.config.channels
    print(f"| patches of {side} pixels | size | patch-FID | PSNR |\n| --- | --- | --- | --- |")
    for folder in held:
        pictures = held_out(folder, channels)
        size = len(pictures[0])
        known = [latents(field, picture) for picture in pictures]
        small = [drawn(field, z, base) for z in known]
        made = {"field decoder": [drawn(field, z, size) for z in known]}
        for how in (Image.Resampling.BICUBIC, Image.Resampling.LANCZOS):
            made[f"its {base} pixels, {how.name.lower()}"] = [enlarged(picture, size, how) for picture in small]
        if fixed:
            other = load_decoder(Path(fixed))
            made["trained at one size"] = [drawn(other, latents(other, picture), size) for picture in pictures]
        report(made, [shown(picture) for picture in pictures], side, each)


def report(made: dict[str, list[Tensor]], true: list[Tensor], side: int, each: int) -> None:
    """Print a row for each way in `made`: its patch-FID and its PSNR."""
    size = true[0].shape[-1]
    for name, pictures in made.items():
        distance = metrics.patch_fid(pictures, true, side, each)
        print(
            f"| {name} | {size} | {distance:.2f} | {mean_psnr(zip(pictures, true, strict=True)):.1f} dB |", flush=True
        )


class OneSize(AutoencoderTrainee):
    """The autoencoder in training, on patches of pictures that are all scaled to the same size."""

    size = 512

    def batch(self, random: np.random.Generator) -> Pairs:
        """Draw training pairs whose patches are cut from pictures at `size`."""
        pairs = []
        for _ in range(self.batch_size):
            picture = self.folder.draw(random)[0]
            small, *_ = patch(picture, self.config.base, self.side, self.config.base, random)
            whole = resized(picture[: min(picture.shape[:2]), : min(picture.shape[:2])], self.size)
            y, x = (int(random.integers(self.size - self.side + 1)) for _ in "yx")
            cut = torch.from_numpy(np.array(whole[y : y + self.side, x : x + self.side])).movedim(-1, 0)
            at = places(self.size, self.size, (y, x, self.side, self.side))
            pairs.append((small, cut.float() / 127.5 - 1, at, torch.full((2,), 2 / self.size)))
        return Pairs(*(torch.stack(tensors) for tensors in zip(*pairs, strict=True)))


@app.command()
def train(
    arm: str, pictures: Path, decoder: Path, steps: int = 2000, preset: str = "small", size: int = 512, batch: int = 12,
    seed: int = 0,
) -> None:  # fmt: skip
    """Train a decoder on mixed, small or fixed sizes. A run that was stopped continues."""
    if arm not in ARMS or preset not in PRESETS:
        raise SystemExit(f"{arm}, {preset}: expected one of {', '.join(ARMS)}, and a preset of {', '.join(PRESETS)}")
    config = PRESETS[preset]
    torch.manual_seed(seed)  # all arms start from the same weights
    kind = OneSize if arm == "fixed" else AutoencoderTrainee
    folder = PictureFolder(pictures, config.channels)
    trainee = kind(folder, config, batch, largest=config.base if arm == "small" else 1024)
    if isinstance(trainee, OneSize):
        trainee.size = size
    plan = loop.Plan(steps, warmup=min(100, max(1, steps // 10)), every=max(1, min(500, steps // 20)), seed=seed)
    average = loop.train(trainee, decoder.with_suffix(".training.safetensors"), plan)
    loop.export(decoder, average, {**trainee.metadata(), "step": str(steps)})


@app.command()
def mixed(
    pictures: Path, held: Path, folder: Path, steps: int = 2000, preset: str = "small", batch: int = 12, each: int = 16,
    side: int = PATCH,
) -> None:  # fmt: skip
    """Does training at all scales beat training on small pictures alone, in as many steps?"""
    folder.mkdir(parents=True, exist_ok=True)
    true = held_out(held, PRESETS[preset].channels)
    made = {}
    for arm in ("mixed", "small"):
        path = folder / f"{arm}.decoder.safetensors"
        train(arm, pictures, path, steps, preset, batch=batch)
        field = load_decoder(path)
        made[f"{arm} sizes, {steps} steps"] = [drawn(field, latents(field, picture), len(picture)) for picture in true]
    print("| trained on | size | patch-FID | PSNR |\n| --- | --- | --- | --- |")
    report(made, [shown(picture) for picture in true], side, each)


if __name__ == "__main__":
    app()
