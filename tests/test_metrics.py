"""Measures of pictures, by identities and closed forms."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from pullback import metrics
from pullback.generative.clip.model import SmallCLIP
from pullback.metrics import Wanted


def _random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_psnr_by_hand():
    a = torch.zeros(2, 3, 4, 4)
    b = torch.stack([torch.full((3, 4, 4), 0.1), torch.zeros(3, 4, 4)])
    assert float(metrics.psnr(a, b)[0]) == pytest.approx(20.0, abs=1e-5)
    assert float(metrics.psnr(a, b)[1]) == math.inf
    with pytest.raises(ValueError, match="cannot be compared"):
        metrics.psnr(a, b[:1])


def test_ssim_of_constants_is_that_of_their_means():
    """Without variance only the term of the means is left: (2 m n + c) / (m² + n² + c) with c = 0.01²."""
    a, b = torch.full((1, 3, 16, 16), 0.2), torch.full((1, 3, 16, 16), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert float(metrics.ssim(a, b)) == pytest.approx(expected, abs=1e-6)
    x = _random(2, 3, 16, 16)
    torch.testing.assert_close(metrics.ssim(x, x), torch.ones(2, dtype=torch.float64))
    assert (metrics.ssim(x, 1 - x) < 0).all()
    with pytest.raises(ValueError, match="at least 11 x 11"):
        metrics.ssim(x[..., :8], x[..., :8])


def test_the_frechet_distance_of_gaussians_is_the_closed_form():
    # Covariances with common axes: the distance is the sum over axes of (sqrt a - sqrt b)², and of the means'.
    axes = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64))[0]
    a, b = torch.tensor([1.0, 4.0, 9.0, 0.0, 2.0]).double(), torch.tensor([4.0, 1.0, 9.0, 1.0, 0.5]).double()
    mean = torch.arange(5.0).double()
    found = metrics.frechet_of_gaussians(mean, axes * a @ axes.T, mean + 2, axes * b @ axes.T)
    assert found == pytest.approx(float((a.sqrt() - b.sqrt()).square().sum()) + 20, rel=1e-9)


@pytest.mark.parametrize("counts", [(4, 5), (4, 9)], ids=["fewer than features", "more"])
def test_the_frechet_distance_of_sets_is_that_of_their_moments(counts):
    random = torch.Generator().manual_seed(1)
    a, b = (torch.randn(n, 6, generator=random, dtype=torch.float64) for n in counts)
    # The square root of A B from its eigenvalues, without the symmetric form.
    between = torch.linalg.eigvals(torch.cov(a.T) @ torch.cov(b.T)).real.clamp(min=0).sqrt().sum()
    expected = (a.mean(0) - b.mean(0)).square().sum() + a.var(0).sum() + b.var(0).sum() - 2 * between
    assert metrics.frechet_distance(a, b) == pytest.approx(float(expected), rel=1e-6)
    assert metrics.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert metrics.frechet_distance(a, a + 3) == pytest.approx(6 * 9, rel=1e-6)


def test_the_kernel_distance_is_the_mean_over_pairs():
    random = torch.Generator().manual_seed(2)
    a, b = torch.randn(4, 3, generator=random), torch.randn(3, 3, generator=random) + 1
    kernel = lambda x, y: (float(x.double() @ y.double()) / 3 + 1) ** 3
    within = [np.mean([kernel(x, y) for x, y in itertools.permutations(each, 2)]) for each in (a, b)]
    across = np.mean([kernel(x, y) for x, y in itertools.product(a, b)])
    assert metrics.kernel_distance(a, b) == pytest.approx(sum(within) - 2 * across)


def test_the_kernel_distance_is_unbiased():
    """The mean over small sets is the distance of the populations; the Fréchet distance's is far above it."""
    random = np.random.default_rng(0)
    population = torch.from_numpy(random.normal(size=(6, 2)))  # all of it: sets are drawn from it, one by one
    other = population * 0.5 + 1
    kernel = lambda x, y: (x @ y.T / 2 + 1) ** 3
    exact = float(kernel(population, population).mean() + kernel(other, other).mean())
    exact -= 2 * float(kernel(population, other).mean())
    found = [
        metrics.kernel_distance(population[random.integers(6, size=3)], other[random.integers(6, size=3)])
        for _ in range(2000)
    ]
    assert abs(np.mean(found) - exact) < 4 * np.std(found) / len(found) ** 0.5
    assert abs(exact) > 5 * np.std(found) / len(found) ** 0.5


def test_patches_have_the_same_places_in_both_sets():
    rows, columns = torch.meshgrid(torch.arange(20.0), torch.arange(30.0), indexing="ij")
    picture = torch.stack([rows, columns])
    found = list(metrics.patches([picture, picture], 8, each=3, seed=1))
    again = list(metrics.patches([picture, picture], 8, each=3, seed=1))
    assert len(found) == 6 and all(torch.equal(a, b) for a, b in zip(found, again, strict=True))
    corners = {tuple(int(value) for value in each[:, 0, 0]) for each in found}
    assert len(corners) > 3
    for each in found:
        assert torch.equal(each, picture[:, int(each[0, 0, 0]) :, int(each[1, 0, 0]) :][:, :8, :8])
    with pytest.raises(ValueError, match="no patch of 21 x 21"):
        list(metrics.patches([picture], 21))


def test_patch_fid_of_a_set_with_itself_is_0_and_sees_blur():
    pictures = _random(6, 3, 48, 48)
    blurred = torch.nn.functional.avg_pool2d(pictures, 3, 1, 1)
    assert metrics.patch_fid(pictures, pictures, 32, each=4) < 1e-4
    other = metrics.patch_fid(pictures, pictures, 32, each=4, seed=1)
    assert other < 1e-4  # the same places in both sets, whatever the seed
    assert metrics.patch_fid(blurred, pictures, 32, each=4) > 1
    spread = lambda x: x.std((2, 3))
    assert abs(metrics.kid(pictures, _random(6, 3, 48, 48, seed=1), spread)) < 1e-2 * metrics.kid(
        blurred, pictures, spread
    )


def test_features_of_pictures_of_several_sizes_keep_their_order():
    mean = lambda pictures: pictures.mean((2, 3))
    pictures = [torch.full((3, n, n), float(n)) for n in (4, 4, 6, 4)]
    assert metrics.features_of(pictures, mean)[:, 0].tolist() == [4, 4, 6, 4]
    with pytest.raises(ValueError, match="no pictures"):
        metrics.features_of([], mean)
    with pytest.raises(ValueError, match="two pictures or more"):
        metrics.fid(pictures[:1], pictures, mean)


def test_a_seam_is_its_step():
    smooth = torch.linspace(0, 1, 64).expand(3, 64, 64)
    assert metrics.seam_error(smooth, 16) == pytest.approx(0, abs=1e-6)
    seamed = smooth.clone()
    seamed[:, :, 16:32] += 0.3  # 2 of 3 vertical borders, of 6 in all
    steps = (0.3 + abs(-0.3 + 1 / 63) - 1 / 63) / 6
    assert metrics.seam_error(seamed, 16) == pytest.approx(steps, abs=1e-6)
    assert metrics.seam_error(seamed, (64, 16)) == pytest.approx(2 * steps, abs=1e-6)
    assert metrics.seam_error(seamed, 24) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="no border"):
        metrics.seam_error(smooth, 64)


def test_clip_score_is_the_cosine():
    class Known:
        size, temperature = 8, 1.0

        def encode_image(self, pictures):
            return torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, -1.0]])

        def encode_text(self, texts):
            return torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])

    score = metrics.clip_score(torch.zeros(3, 3, 8, 8), ["a", "b", "c"], Known())
    torch.testing.assert_close(score, torch.tensor([2.5, 2.0, 0.0]))
    assert metrics.clip_score(_random(1, 3, 64, 64), ["a red ball"], SmallCLIP()).shape == (1,)
    with pytest.raises(ValueError, match="one text for each picture"):
        metrics.clip_score(torch.zeros(3, 3, 8, 8), ["a"], Known())


def test_layouts_are_counted_box_by_box():
    picture = torch.zeros(3, 40, 40)
    picture[0, 20:, :10] = 1  # a red box, a blue one, and nothing
    picture[2, :10, 20:40] = 1

    def classify(parts):
        colours = ("red", "green", "blue")
        return [("ball", colours[int(each.mean((1, 2)).argmax())]) if each.mean() > 0.3 else ("", "") for each in parts]

    red, blue = Wanted((0, 0.5, 0.25, 0.5), "ball", "red"), Wanted((0.5, 0, 0.5, 0.25), "cube", "blue")
    none = Wanted((0.5, 0.5, 0.5, 0.5), "ball", "red")
    found = metrics.layout_accuracy([picture, picture], [[red, blue], [red, none]], classify)
    assert found == metrics.Layout(0.5, 0.75, 0.5)
    with pytest.raises(ValueError, match="one with boxes"):
        metrics.layout_accuracy([picture], [], classify)


def test_inception_without_its_packages_or_weights_is_one_sentence():
    with pytest.raises((ImportError, ValueError), match=r"pip install torchmetrics|does not exist"):
        metrics.inception(Path("none.pth"))
