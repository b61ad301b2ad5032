"""Measures of pictures: errors, distances between sets, seams, and whether pictures show what they should.

Pictures are (B, C, H, W) in [0, 1]. A feature extractor is any callable from pictures (B, 3, H, W) in [0, 1] to features (B, D).
The default is `PictureTextFeatures`; `inception` returns the one that papers use, if its weights are on this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from skimage.metrics import structural_similarity
from torch import Tensor
from torch.nn.functional import interpolate

from .generative.clip.model import WEIGHTS, network, scaled
from .regions import Box
from .types import CLIP

Features = Callable[[Tensor], Tensor]
"""Maps pictures (B, 3, H, W) in [0, 1] to features (B, D)."""
BATCH = 64
"""The largest number of pictures in a batch."""


# Errors of single pictures.


def psnr(pictures: Tensor, truth: Tensor) -> Tensor:
    """Return the peak signal-to-noise ratio of each picture in dB, (B,); infinite where they are equal."""
    _check_alike(pictures, truth)
    return -10 * (pictures.double() - truth.double()).square().mean((1, 2, 3)).log10()


def ssim(pictures: Tensor, truth: Tensor) -> Tensor:
    """Return the structural similarity of each picture, (B,), with the Gaussian window of Wang et al. 2004.

    Raises:
        ValueError: If pictures are smaller than the window, 11 pixels.
    """
    _check_alike(pictures, truth)
    if min(pictures.shape[2:]) < 11:
        raise ValueError(f"SSIM needs pictures of at least 11 x 11 pixels, got {tuple(pictures.shape[2:])}")
    settings: dict[str, Any] = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = zip(pictures.double().cpu().numpy(), truth.double().cpu().numpy(), strict=True)
    return torch.tensor([structural_similarity(a, b, channel_axis=0, data_range=1.0, **settings) for a, b in pairs])


def _check_alike(pictures: Tensor, truth: Tensor) -> None:
    if pictures.shape != truth.shape or pictures.ndim != 4:
        raise ValueError(
            f"pictures of the shape {tuple(pictures.shape)} cannot be compared with {tuple(truth.shape)}: expected two equal "
            "shapes (B, C, H, W)"
        )


# Distances between sets of pictures.


@dataclass(frozen=True)
class PictureTextFeatures:
    """Means and standard deviations, over all places, of the feature maps at several levels of the small picture-text model.

    The model's embedding does not distinguish sharp pictures from blurred ones, because its training blurs pictures at random.
    The feature maps do.

    Args:
        device: The device that the model runs on.
        path: The weights of the model.
        levels: The levels, where level 0 sees the finest detail.
    """

    device: str = "cpu"
    path: Path = WEIGHTS
    levels: tuple[int, ...] = (0, 1, 2, 3)

    @torch.no_grad()
    def __call__(self, pictures: Tensor) -> Tensor:
        net = network(self.path, self.device)
        maps = net.features(scaled(pictures.to(self.device), net.config.size))
        moments = [torch.var_mean(maps[level], (2, 3), correction=0) for level in self.levels]
        return torch.cat([each for variance, mean in moments for each in (mean, variance.sqrt())], 1)


def inception(weights: Path, device: str = "cpu") -> Features:
    """Return the 2048 features of FID's Inception network, from `torchmetrics` and `torch-fidelity`.

    Args:
        weights: A copy of torch-fidelity's file pt_inception-2015-12-05-6726825d.pth. Nothing is downloaded.
        device: The device that the network runs on.

    Raises:
        ImportError: If the packages are not installed.
        ValueError: If the file is missing.
    """
    try:
        import torch_fidelity  # noqa: F401
        from torchmetrics.image.fid import NoTrainInceptionV3
    except ImportError as error:
        raise ImportError(
            "Inception features need two more packages: pip install torchmetrics torch-fidelity"
        ) from error
    if not weights.is_file():
        raise ValueError(f"{weights} does not exist: give torch-fidelity's weights of Inception, a .pth file")
    net = NoTrainInceptionV3("inception-v3-compat", ["2048"], str(weights)).eval().to(device)
    return lambda pictures: net((pictures.clamp(0, 1) * 255).round().to(device, torch.uint8))


def features_of(pictures: Iterable[Tensor], features: Features) -> Tensor:
    """Return the features (N, D) of pictures, float64 on the CPU.

    Args:
        pictures: Pictures of any sizes, (3, H, W) each, or one tensor (N, 3, H, W).
        features: The extractor. Successive pictures of the same size are passed to it in one batch.

    Raises:
        ValueError: If there are no pictures.
    """
    found: list[Tensor] = []
    waiting: list[Tensor] = []
    for picture in pictures:
        if waiting and (len(waiting) == BATCH or picture.shape != waiting[0].shape):
            found.append(features(torch.stack(waiting)).double().cpu())
            waiting = []
        waiting.append(picture)
    if not waiting:
        raise ValueError("there are no pictures to measure")
    found.append(features(torch.stack(waiting)).double().cpu())
    return torch.cat(found)


def frechet_distance(a: Tensor, b: Tensor) -> float:
    """Return the Fréchet distance (FID of Heusel et al. 2017) between two sets of features, (N, D) and (M, D).

    It is the distance between two Gaussians with the means and covariances of the sets. It is biased upwards, and more so for
    fewer pictures, so compare only values for the same number of pictures.

    Raises:
        ValueError: If a set has fewer than two features.
    """
    _check_sets(a, b)
    a, b = a.double(), b.double()
    if max(len(a), len(b)) >= a.shape[1]:
        moments = [(each.mean(0), torch.cov(each.T).reshape(a.shape[1], -1)) for each in (a, b)]
        return frechet_of_gaussians(*moments[0], *moments[1])
    # With A = xᵀx and B = yᵀy, the nonzero eigenvalues of A B are the squares of the singular values of x yᵀ.
    x, y = ((each - each.mean(0)) / (len(each) - 1) ** 0.5 for each in (a, b))
    spread = x.square().sum() + y.square().sum() - 2 * torch.linalg.svdvals(x @ y.T).sum()
    return max(0.0, float((a.mean(0) - b.mean(0)).square().sum() + spread))


def frechet_of_gaussians(mean_a: Tensor, covariance_a: Tensor, mean_b: Tensor, covariance_b: Tensor) -> float:
    """Return the squared Fréchet distance of two Gaussians, |m - n|² + tr(A + B - 2 (A B)^½) (Dowson & Landau 1982)."""
    values, vectors = torch.linalg.eigh(covariance_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.mT
    between = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp(min=0).sqrt().sum()
    distance = (mean_a - mean_b).square().sum() + covariance_a.trace() + covariance_b.trace() - 2 * between
    return max(0.0, float(distance))


def kernel_distance(a: Tensor, b: Tensor) -> float:
    """Return the kernel distance (KID, Bińkowski et al. 2018) between two sets of features, (N, D) and (M, D).

    It is the unbiased estimate of the squared maximum mean discrepancy under the kernel (x·y / D + 1)³, over all pairs. It can
    be negative; its mean does not depend on the number of pictures.

    Raises:
        ValueError: If a set has fewer than two features.
    """
    _check_sets(a, b)

    def kernel(x: Tensor, y: Tensor) -> Tensor:
        return (x.double() @ y.double().T / x.shape[1] + 1) ** 3

    def within(x: Tensor) -> Tensor:
        similar = kernel(x, x)
        return (similar.sum() - similar.trace()) / (len(x) * (len(x) - 1))

    return float(within(a) + within(b) - 2 * kernel(a, b).mean())


def _check_sets(a: Tensor, b: Tensor) -> None:
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 2:
        raise ValueError(
            f"features of the shapes {tuple(a.shape)} and {tuple(b.shape)} cannot be compared: expected (N, D) and (M, D) of "
            "two pictures or more"
        )


def fid(made: Iterable[Tensor], true: Iterable[Tensor], features: Features = PictureTextFeatures()) -> float:
    """Return the Fréchet distance between the features of two sets of pictures (`features_of`)."""
    return frechet_distance(features_of(made, features), features_of(true, features))


def kid(made: Iterable[Tensor], true: Iterable[Tensor], features: Features = PictureTextFeatures()) -> float:
    """Return the kernel distance between the features of two sets of pictures (`features_of`)."""
    return kernel_distance(features_of(made, features), features_of(true, features))


def patches(pictures: Iterable[Tensor], side: int, each: int = 1, seed: int = 0) -> Iterable[Tensor]:
    """Yield square patches (C, side, side) at random places of pictures, `each` patches from every picture.

    With the same seed, pictures of the same sizes in the same order give patches at the same places.

    Raises:
        ValueError: If a picture is smaller than a patch.
    """
    random = np.random.default_rng(seed)
    for picture in pictures:
        height, width = picture.shape[1:]
        if min(height, width) < side:
            raise ValueError(
                f"a picture of {width} x {height} pixels has no patch of {side} x {side}: choose a smaller one"
            )
        for _ in range(each):
            y, x = int(random.integers(height - side + 1)), int(random.integers(width - side + 1))
            yield picture[:, y : y + side, x : x + side]


def patch_fid(
    made: Iterable[Tensor],
    true: Iterable[Tensor],
    side: int,
    each: int = 1,
    seed: int = 0,
    features: Features = PictureTextFeatures(),
) -> float:
    """Return the Fréchet distance between random patches (pFID of Chai et al. 2022), which sees detail at full resolution.

    Args:
        made: Pictures (3, H, W) in [0, 1].
        true: The pictures to compare with.
        side: Side of a patch in pixels.
        each: Patches per picture. The paper takes 1 from each of 50,000 pictures.
        seed: The seed of the places, which are the same in both sets.
        features: The extractor.
    """
    return fid(patches(made, side, each, seed), patches(true, side, each, seed), features)


# Seams.


def seam_error(picture: Tensor, tile: int | tuple[int, int]) -> float:
    """Return how much larger the step across the borders of tiles is than the steps on both sides of them.

    A step is the mean absolute difference between neighbouring pixels on the two sides of a line. The value for pictures
    without seams is near 0 and may be negative.

    Args:
        picture: A picture (C, H, W).
        tile: Side of the tiles in pixels, or their height and width. Tiles start in the upper left corner.

    Raises:
        ValueError: If no border has two pixels on both sides.
    """
    errors = []
    for dim, side in ((1, tile), (2, tile)) if isinstance(tile, int) else ((1, tile[0]), (2, tile[1])):
        steps = picture.double().diff(dim=dim).abs().mean((0, 3 - dim))
        borders = torch.arange(side, picture.shape[dim], side) - 1  # step n lies between the pixels n and n + 1
        borders = borders[(borders >= 1) & (borders < len(steps) - 1)]
        errors.append(steps[borders] - (steps[borders - 1] + steps[borders + 1]) / 2)
    if not (found := torch.cat(errors)).numel():
        raise ValueError(f"a picture of {tuple(picture.shape[1:])} has no border between tiles of {tile}")
    return float(found.mean())


# Pictures and words.


def clip_score(pictures: Tensor, texts: list[str], clip: CLIP) -> Tensor:
    """Return CLIPScore (Hessel et al. 2021) of pictures (B, 3, H, W) and B texts: 2.5 max(cosine similarity, 0), (B,)."""
    if len(pictures) != len(texts):
        raise ValueError(f"there are {len(pictures)} pictures and {len(texts)} texts: give one text for each picture")
    with torch.no_grad():
        return 2.5 * (clip.encode_image(pictures) * clip.encode_text(texts)).sum(1).clamp(min=0)


@dataclass(frozen=True)
class Wanted:
    """What a box of a picture should show."""

    box: Box
    noun: str
    colour: str


@dataclass(frozen=True)
class Layout:
    """The fractions of boxes that show the right noun, the right colour, and both."""

    noun: float
    colour: float
    both: float


Classify = Callable[[Tensor], Sequence[tuple[str, str]]]
"""Maps parts of pictures (B, C, side, side) to the noun and the colour of each."""


def layout_accuracy(
    pictures: Sequence[Tensor], layouts: Sequence[Sequence[Wanted]], classify: Classify, side: int = 64
) -> Layout:
    """Return how often a classifier finds the right noun and colour in boxes of pictures.

    Args:
        pictures: Pictures (C, H, W) in [0, 1].
        layouts: The boxes of each picture.
        classify: The classifier.
        side: Side of the parts that the classifier sees, in pixels.

    Raises:
        ValueError: If there are no boxes, or not as many layouts as pictures.
    """
    if len(pictures) != len(layouts) or not any(layouts):
        raise ValueError(f"there are {len(pictures)} pictures and {len(layouts)} layouts: give one with boxes for each")
    wanted = [each for layout in layouts for each in layout]
    seen = [part(picture, each.box, side) for picture, layout in zip(pictures, layouts, strict=True) for each in layout]
    found = [name for some in torch.stack(seen).split(BATCH) for name in classify(some)]
    right = [(noun == each.noun, colour == each.colour) for each, (noun, colour) in zip(wanted, found, strict=True)]
    nouns, colours = zip(*right, strict=True)
    return Layout(sum(nouns) / len(right), sum(colours) / len(right), sum(map(all, right)) / len(right))


def part(picture: Tensor, box: Box, side: int) -> Tensor:
    """Return the part of a picture (C, H, W) in a box, cut at whole pixels and scaled to (C, side, side)."""
    left, top, width, height = box
    rows, columns = picture.shape[1:]
    y, x = min(rows - 1, round(top * rows)), min(columns - 1, round(left * columns))
    cut = picture[:, y : max(y + 1, round((top + height) * rows)), x : max(x + 1, round((left + width) * columns))]
    return interpolate(cut[None], (side, side), mode="bilinear", antialias=True)[0]
