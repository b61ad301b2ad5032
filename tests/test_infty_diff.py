"""∞-Diff: the mollifier, its chain, the sparse operator against brute force, and the model in the core's terms."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from unittest import mock

import numpy as np
import pytest
import torch
from PIL import Image
from pullback import tasks
from pullback.cli import app
from pullback.generative.infty_diff import operator as operators
from pullback.generative.infty_diff import training, uses
from pullback.generative.infty_diff.autoencoder import Functions
from pullback.generative.infty_diff.chain import Chain, cosine_table
from pullback.generative.infty_diff.coarse import coarse_size, enlarged, factor, filled_up, reduced, unseen
from pullback.generative.infty_diff.denoiser import base, denoise, error, estimate, power
from pullback.generative.infty_diff.model import FORMAT, WEIGHTS, InftyDiffModel, mixed, toybox_under
from pullback.generative.infty_diff.model import load_model as load_file
from pullback.generative.infty_diff.mollifier import filtered, mollify, response, transformed, wiener
from pullback.generative.infty_diff.network import SKETCH, Condition, Config, Network, Sketch
from pullback.generative.infty_diff.operator import KERNEL, Neighbours, SparseOperator, reach, resized
from pullback.generative.infty_diff.points import Points, gathered, scattered
from pullback.generative.infty_diff.sampling import levels, sampled_mollified
from pullback.generative.infty_diff.training import InftyDiffTrainee
from pullback.generative.infty_diff.uses import between, filled, upscaled
from pullback.generative.toybox.model import STILL
from pullback.generative.toybox.model import network as toybox_network
from pullback.generative.toybox.network import stretched
from pullback.generative.toybox.words import encode
from pullback.geometry.cameras import orbit
from pullback.models import load_model
from pullback.samplers import ddim
from pullback.schedules import log_linear
from pullback.settings import Settings
from pullback.training.loop import Plan, export, train
from pullback.types import Scales
from typer.testing import CliRunner

torch.manual_seed(0)
HEIGHT, WIDTH = 5, 7


def random(seed=0):
    return torch.Generator().manual_seed(seed)


def matrix(function, height=HEIGHT, width=WIDTH):
    """The matrix of a linear map of pictures of one channel."""
    units = torch.eye(height * width, dtype=torch.float64).view(-1, 1, height, width)
    return function(units).flatten(1).mT


T = matrix(mollify)


# ---- the mollifier ----


def test_the_mollifier_is_the_formula_in_the_cosine_basis():
    cos = lambda n, k, i: math.cos(math.pi / n * (i + 0.5) * k) * math.sqrt((1 if k == 0 else 2) / n)
    wanted = torch.zeros_like(T)
    for k in range(HEIGHT):
        for m in range(WIDTH):
            down = torch.tensor([cos(HEIGHT, k, i) for i in range(HEIGHT)], dtype=torch.float64)
            wave = down[:, None] * torch.tensor([cos(WIDTH, m, j) for j in range(WIDTH)], dtype=torch.float64)
            q_down, q_right = HEIGHT / math.pi, WIDTH / math.pi
            factor = math.exp(-(k**2) / (2 * q_down**2) - m**2 / (2 * q_right**2))
            wanted += factor * torch.outer(wave.flatten(), wave.flatten())
    assert (T - wanted).abs().max() < 1e-14
    assert (T - T.mT).abs().max() < 1e-14
    assert (T.sum(0) - 1).abs().max() < 1e-13  # the mean of a picture stays


def test_the_smoothing_has_a_standard_deviation_of_one_pixel():
    impulse = torch.zeros(1, 1, 65, 65, dtype=torch.float64)
    impulse[..., 32, 32] = 1
    profile = mollify(impulse)[0, 0].sum(0)
    place = torch.arange(65) - 32
    assert (profile * place**2).sum() == pytest.approx(1, abs=1e-2)


def test_the_wiener_inverse_misses_by_its_known_factor():
    x = torch.randn(2, 3, HEIGHT, WIDTH, dtype=torch.float64)
    assert (wiener(mollify(x, 0.5), 0.5, 0.0) - x).abs().max() < 1e-11
    missed = matrix(lambda u: u - wiener(mollify(u), noise=0.05))
    g = response(HEIGHT, WIDTH).flatten()
    assert (torch.linalg.eigvalsh(missed) - (0.05**2 / (g**2 + 0.05**2)).sort().values).abs().max() < 1e-12


# ---- the chain ----


def test_marginals_and_posterior_are_those_of_direct_gaussian_algebra():
    std = 0.4  # the covariance that is inverted below has the square of T's condition number
    chain, smoothing = Chain(cosine_table(20), std), matrix(lambda u: mollify(u, std))
    n, t = HEIGHT * WIDTH, 8
    x0 = torch.randn(1, 1, HEIGHT, WIDTH, dtype=torch.float64)
    # x_t = sqrt(alpha_t) x_t-1 + sqrt(beta_t) T eps, step by step from x_0 = T x0
    covariance, mean, smooth = (
        torch.zeros(n, n, dtype=torch.float64),
        smoothing @ x0.flatten(),
        smoothing @ smoothing.mT,
    )
    for s in range(1, t + 1):
        alpha = chain.abar(s) / chain.abar(s - 1)
        if s == t:
            earlier, before = mean, covariance
        mean, covariance = math.sqrt(alpha) * mean, alpha * covariance + (1 - alpha) * smooth
    zero = torch.zeros_like(x0)
    assert (chain.diffuse(x0, t, zero).flatten() - mean).abs().max() < 1e-12
    unit = matrix(lambda noise: chain.diffuse(torch.zeros_like(noise), t, noise))
    assert (unit @ unit.mT - covariance).abs().max() < 1e-12
    # Bayes: x_t-1 given x_t and x0
    x_t = torch.randn(n, dtype=torch.float64)
    alpha = chain.abar(t) / chain.abar(t - 1)
    kalman = math.sqrt(alpha) * torch.linalg.solve(covariance, before).mT
    wanted_mean = earlier + kalman @ (x_t - math.sqrt(alpha) * earlier)
    wanted = before - kalman @ (math.sqrt(alpha) * before)
    q = chain.posterior(t)
    assert (q.from_clean * (smoothing @ x0.flatten()) + q.from_noisy * x_t - wanted_mean).abs().max() < 1e-12
    assert (q.variance * smooth - wanted).abs().max() < 1e-12


def prior(n=HEIGHT * WIDTH):
    """The covariance of a Gaussian prior over pictures."""
    root = torch.randn(n, n, dtype=torch.float64, generator=random(1)) / math.sqrt(n)
    return root @ root.mT + 0.05 * torch.eye(n, dtype=torch.float64)


def exact(covariance):
    """M(y, sigma) = E[T x0 | y = T (x0 + sigma eps)] for a Gaussian prior, as a matrix."""
    eye = torch.eye(len(covariance), dtype=torch.float64)
    return lambda sigma: T @ covariance @ torch.linalg.inv(covariance + sigma**2 * eye) @ torch.linalg.inv(T)


def test_the_ancestral_chain_recovers_the_covariance_of_a_gaussian_prior():
    chain, covariance = Chain(cosine_table(12)), prior()
    clean, eye = exact(covariance), torch.eye(len(T), dtype=torch.float64)
    smooth = T @ T.mT
    x = chain.abar(12) * T @ covariance @ T.mT + (1 - chain.abar(12)) * smooth
    for t in range(12, 0, -1):
        q, gain_t = chain.posterior(t), clean(chain.sigma(t)) / math.sqrt(chain.abar(t))
        move = q.from_clean * gain_t + q.from_noisy * eye
        # what is not known of T x0 given x_t has the covariance of the exact posterior
        left = T @ torch.linalg.inv(torch.linalg.inv(covariance) + eye / chain.sigma(t) ** 2) @ T.mT
        x = move @ x @ move.mT + q.from_clean**2 * left + q.variance * smooth
        wanted = chain.abar(t - 1) * T @ covariance @ T.mT + (1 - chain.abar(t - 1)) * smooth
        assert (x - wanted).abs().max() < 1e-11


def test_the_samplers_recover_the_covariance_of_a_gaussian_prior_through_the_mollifier():
    covariance = prior()
    clean = exact(covariance)

    def d(x, sigma, cond):  # D = W M T with the exact inverse
        y = mollify(x).flatten(1) @ clean(float(sigma)).mT
        return wiener(y.view(x.shape), noise=0.0)

    sampled = matrix(lambda noise: ddim(d, noise, log_linear(150, 1e-3, 80.0)))
    assert (sampled @ sampled.mT - covariance).abs().max() < 0.05 * covariance.abs().max()


def test_the_chain_takes_the_steps_of_the_cores_sampler():
    chain, covariance = Chain(cosine_table(50)), prior()
    clean = exact(covariance)
    m = lambda y, sigma: (y.flatten(1) @ clean(sigma).mT).view(y.shape)
    noise = torch.randn(3, 1, HEIGHT, WIDTH, dtype=torch.float64)
    times = [50, 40, 30, 20, 10]
    sigmas = torch.tensor([chain.sigma(t) for t in [*times, 0]], dtype=torch.float64)
    start = noise / (sigmas[0] * math.sqrt(chain.abar(50)))  # the chain starts at T eps, the core at sigma eps
    core = ddim(lambda x, sigma, cond: wiener(m(mollify(x), float(sigma)), noise=0.0), start, sigmas)
    assert (chain.ddim(m, noise, times) - mollify(core)).abs().max() < 1e-9
    q = chain.ancestral(m, noise, random(), times)
    assert q.shape == noise.shape


# ---- the operator ----


def brute(kernel, values, points):
    """The definition: for every point, 49 over the number of points in its window, times the weighted sum over them."""
    size = min(points.height, points.width)
    half, k = reach(size), resized(kernel, size)
    rows, columns = points.pixels // points.width, points.pixels % points.width
    out = torch.zeros_like(values)
    for p in range(len(points)):
        down, right = rows - rows[p], columns - columns[p]
        near = ((down.abs() <= half) & (right.abs() <= half)).nonzero()[:, 0]
        weights = k[:, down[near] + half, right[near] + half].mT
        out[:, p] = (weights * values[:, near]).sum(1) * KERNEL**2 / len(near)
    return out


@pytest.mark.parametrize("count", [60, 400, 600])
def test_every_way_computes_the_definition(count, monkeypatch):
    monkeypatch.setattr(operators, "BASE", 20)
    operators._interpolation.cache_clear()
    points = Points.random(20, 30, count, random())
    layer = SparseOperator(4)
    values = torch.randn(2, len(points), 4, requires_grad=True)
    wanted = brute(layer.kernel, values, points)
    gradients = torch.autograd.grad(wanted.square().sum(), [values, layer.kernel])
    for dense, large in ((0.0, 99), (1.1, 99), (0.0, 3), (0.0, None)):
        monkeypatch.setattr(operators, "DENSE", dense)
        monkeypatch.setattr(operators, "MANY", 999)
        if large is None:  # kernels whose values lie 2 pixels apart
            monkeypatch.setattr(operators, "BASE", 10)
            operators._interpolation.cache_clear()
            wanted = brute(layer.kernel, values, points)
            gradients = torch.autograd.grad(wanted.square().sum(), [values, layer.kernel])
            monkeypatch.setattr(operators, "_by_fourier", None)
        monkeypatch.setattr(operators, "LARGE", large)
        near = Neighbours(points)
        assert (near.pairs is None) == (dense == 0)
        found = layer(values, near)
        assert (found - wanted).abs().max() < 1e-6
        for ours, theirs in zip(
            torch.autograd.grad(found.square().sum(), [values, layer.kernel]), gradients, strict=True
        ):
            assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()
    operators._interpolation.cache_clear()


def test_the_kernel_is_one_function_at_all_resolutions():
    kernel = torch.randn(3, KERNEL, KERNEL)
    assert torch.equal(resized(kernel, 128), kernel)
    fine, coarse = resized(kernel, 256), resized(kernel, 64)
    assert fine.shape[-1] == 15 and coarse.shape[-1] == 3
    assert (fine[:, 1::2, 1::2] - kernel).abs().max() < 1e-6
    assert (fine[:, 0, 1::2] - kernel[:, 0] / 2).abs().max() < 1e-6  # half way to 0
    assert (coarse - kernel[:, 1::2, 1::2]).abs().max() < 1e-6


# ---- points and the grid ----


def test_the_way_to_the_grid_and_back_has_the_right_places():
    points = Points.random(64, 96, 700, random())
    plane = lambda at: torch.stack([at[:, 0], at[:, 1], at[:, 0] - 2 * at[:, 1]], -1)[None].float()
    rows, columns = 32, 48
    grid = Points(rows, columns).picture(plane(Points(rows, columns).places))
    inside = ((points.places > 0.5 / rows) & (points.places < 1 - 0.5 / rows)).all(1)
    assert (scattered(grid, points) - plane(points.places))[:, inside].abs().max() < 1e-5
    back = gathered(plane(points.places), points.nearest(rows, columns), rows, columns)
    assert (back - grid).abs().mean() < 0.02


@pytest.mark.parametrize("whole", [True, False])
def test_the_nearest_points_are_found(whole):
    points = Points(160, 224) if whole else Points.random(40, 56, 300, random())
    position, weight = points.nearest(32, 44)
    size = torch.tensor([points.height, points.width])
    cells = Points(32, 44).places * size
    distance = torch.cdist(cells, points.places * size)
    found = distance.gather(1, position)
    assert (found.sort().values - distance.topk(3, largest=False).values).abs().max() < 1e-9
    wanted = 1 / found**2
    assert (weight - wanted / wanted.sum(-1, keepdim=True)).abs().max() < 1e-5


def test_wrong_points_are_refused_in_one_line():
    for places, word in (
        (torch.tensor([[0.1, math.nan]]), "not numbers"),
        (torch.tensor([[0.1, 1.5]]), "not numbers"),
        (torch.tensor([[0.11, 0.11], [0.12, 0.12]]), "two points"),
        (torch.zeros(0, 2), "at least one"),
    ):
        with pytest.raises(ValueError, match=word):
            Points.at(places, 8, 8)
    assert Points.at(torch.tensor([[0.5, 0.25], [0.0, 0.0]]), 8, 8).pixels.tolist() == [0, 34]


# ---- the network and the model ----


def small(**more):
    torch.manual_seed(1)
    functions = Functions(Config(point_channels=8, blocks=1, latent=4, toybox=False, depth=1, **more))
    for p in functions.parameters():  # the zeros of a fresh network would hide mistakes
        if not p.any():
            torch.nn.init.normal_(p, std=0.05)
    return functions.eval().requires_grad_(False)


def condition(batch):
    words = torch.zeros(batch, 12, dtype=torch.long)
    words[:, 0] = 1
    return Condition(words, torch.zeros(batch, 3), torch.ones(batch))


def test_all_points_sparse_and_dense_give_the_same(monkeypatch):
    network = small().denoiser
    y, z, level = torch.randn(1, 40 * 48, 8), torch.randn(1, 4), torch.zeros(1)
    dense = network(y, level, Points(40, 48), condition(1), z)
    monkeypatch.setattr(operators, "DENSE", 1.1)
    listed = Points(40, 48, torch.arange(40 * 48))
    assert (network(y, level, listed, condition(1), z) - dense).abs().max() < 1e-5


def test_the_denoiser_adds_what_the_inverse_makes_of_the_networks_answer():
    network, x, z = small().denoiser, torch.randn(2, 4, 32, 40), torch.zeros(2, 4)
    sigma = torch.tensor([0.5, 3.0])
    points = Points(32, 40)
    b, more = estimate(network, x, sigma, points, condition(2), z)
    made = denoise(network, x, sigma, condition(2), z, shrink=0.0)
    assert torch.allclose(made, b + wiener(points.picture(more)), atol=1e-4) and more.abs().mean() > 0.01
    assert (denoise(network, x, torch.full((2,), 1e-4), condition(2), z) - x).abs().max() < 1e-2


def test_without_a_network_the_estimate_is_that_of_a_gaussian_prior():
    """Pictures of the assumed power: the error of the linear estimate is c_out², and no other multiple does better."""
    network = Network(Config(point_channels=8, blocks=1, latent=4, toybox=False, depth=1)).requires_grad_(False)
    x = filtered(torch.randn(400, 4, 32, 48, generator=random()), power(32, 48).sqrt())
    noise, sigma = torch.randn(x.shape, generator=random(1)), torch.full((400,), 0.7)
    points, z = Points.random(32, 48, 40, random()), torch.zeros(400, 4)
    assert float(error(network, x, sigma, noise, points, condition(400), z).mean()) == pytest.approx(1, abs=0.05)
    b, more = estimate(network, x + 0.7 * noise, sigma, points, condition(400), z)
    found, clean = points.of(mollify(b)) + more, points.of(mollify(x))
    missed = [float((scale * found - clean).square().mean()) for scale in (0.9, 1.0, 1.1)]
    assert missed[1] == min(missed)


def test_the_models_sampler_and_that_of_the_smoothed_state_agree():
    functions = small()
    model = InftyDiffModel(functions, "small", {}, inverse=0.0, std=0.3)
    noise, sigmas = torch.randn(1, 4, 32, 32, generator=random()), levels(32, 32, 3)
    given = model.condition(condition(1).words, torch.tensor([[0.0, 0.0, 0.0]]), torch.ones(1))
    z = torch.zeros(1, 4)
    theirs = sampled_mollified(functions.denoiser, noise, given, z, 3, 0.3, 0.0)
    d = lambda x, sigma, cond: denoise(functions.denoiser, x, sigma[None].float(), given, z, 0.3, 0.0)
    assert (ddim(d, noise, sigmas).clamp(-1, 1) - theirs).abs().max() < 1e-3


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A file of small networks without training."""
    path = tmp_path_factory.mktemp("infty") / "small.safetensors"
    functions = small()
    export(path, functions, {"format": FORMAT, "config": json.dumps(asdict(functions.config)), "std": "1.0"})
    return path


def test_a_file_is_a_model_of_any_size(file):
    model = load_model(str(file))
    assert isinstance(model, InftyDiffModel) and isinstance(model, Scales)
    assert model.sigma_range(256, 512)[1] == 4 * model.sigma_range(64, 64)[1]
    recipe = tasks.recipe("image", model, Settings("a red ball"), view_width=128, view_height=96)
    assert recipe.sigma[1] == model.sigma_range(96, 128)[1]
    d = model.denoiser("a red ball", "", 2.0)
    for view in (None, orbit(torch.tensor([0.3]), torch.tensor([0.2]))):
        x0 = d(torch.randn(1, 4, 40, 72), torch.tensor(1.0), view)
        assert x0.shape == (1, 4, 40, 72) and x0.abs().max() <= 1
    assert model.decode(x0).shape == (1, 4, 40, 72)


def test_an_image_field_is_pulled_back_from_it(file, tmp_path):
    model = load_model(str(file))
    settings = Settings("", guidance=1.0, steps=2)
    recipe = tasks.recipe("image", model, settings, view_width=32, view_height=48, neurons=16, depth=1)
    state = tasks.sample(tasks.prepare(model, recipe, settings), 0)
    assert tasks.field_of(recipe, settings, model, state).diffrep.size == (48, 32)


def test_the_latent_is_a_condition_that_the_prior_samples(file):
    model = load_model(str(file))
    picture = torch.rand(1, 4, 48, 48) * 2 - 1
    z = model.encode(picture)
    assert z.shape == (1, 4) and torch.equal(z, model.encode(picture))
    assert model.sample_latent("a red ball", 0, 3).shape == (3, 4)
    x = torch.randn(1, 4, 48, 48)
    plain, told = (model.denoiser("", "", 1.0, latent=each)(x, torch.tensor(2.0), None) for each in (None, z))
    assert not torch.allclose(plain, told)
    assert torch.allclose(mixed(z, -z.roll(1, 1), 0.0), z, atol=1e-5)
    assert between(model, picture[0], -picture[0], 2, steps=1).shape == (2, 4, 48, 48)


def test_enlarged_pictures_keep_the_pixels_as_means(file):
    model = load_model(str(file))
    small = np.random.default_rng(0).integers(60, 190, (20, 32, 4), np.uint8)
    small[..., 3] = 255
    made = upscaled(model, small, 2, steps=2)
    assert made.shape == (4, 40, 64) and (made[3] == 1).all()
    means = torch.nn.functional.avg_pool2d(made, 2).permute(1, 2, 0)
    assert (means - torch.from_numpy(small) / 255).abs().median() < 1e-3


@pytest.mark.parametrize("alpha", [255, 200])
def test_known_pixels_stay_bit_for_bit(file, alpha):
    model = load_model(str(file))
    picture = np.random.default_rng(0).integers(0, 256, (32, 40, 4), np.uint8)
    picture[..., 3] = alpha
    mask = np.zeros((32, 40, 3), np.uint8)
    mask[8:20, 10:30] = 255
    made = filled(model, picture, mask, steps=2)
    assert np.array_equal(made[mask[..., 0] == 0], picture[mask[..., 0] == 0])
    assert not np.array_equal(made, picture)
    assert (made[..., 3] == 255).all() or alpha < 255


def test_wrong_pictures_and_files_are_refused_in_one_line(file, tmp_path):
    model = load_model(str(file))
    picture, mask = np.zeros((64, 64, 4), np.uint8), np.zeros((64, 64, 3), np.uint8)
    half = mask.copy()
    half[:32] = 255
    thin = np.zeros((40, 2000, 4), np.uint8), np.tile(half, (1, 40, 1))[12:52, :2000]
    for given, hole, word in (
        (picture, mask, "black everywhere"),
        (picture, mask + 255, "white everywhere"),
        (picture, half[:60], "picture's size"),
        (picture[:16, :16], half[24:40, :16], "at least 32"),
        (*thin, "8 times"),
    ):
        with pytest.raises(ValueError, match=word):
            filled(model, given, hole)
    with pytest.raises(ValueError, match="--scale is 3"):
        upscaled(model, picture, 3)
    with pytest.raises(ValueError, match="at most"):
        upscaled(model, np.zeros((600, 600, 4), np.uint8), 8)
    with pytest.raises(ValueError, match="at least 32"):
        model.denoiser("", "", 1.0)(torch.zeros(1, 4, 1, 0), torch.tensor(1.0), None)
    other = tmp_path / "other.safetensors"
    export(other, small(), {"format": "pullback-dpf-1"})
    with pytest.raises(ValueError, match="no infty-diff model"):
        load_file(other)
    other.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(ValueError, match="truncated"):
        load_file(other)


def test_the_commands_write_pictures(file, tmp_path):
    run = lambda *arguments: CliRunner().invoke(app, [str(each) for each in arguments])
    rgb = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    hole = np.zeros((32, 32), np.uint8)
    hole[:8] = 255
    Image.fromarray(rgb).save(tmp_path / "in.png")
    Image.fromarray(hole).save(tmp_path / "mask.png")
    out = tmp_path / "out.png"
    with mock.patch.object(uses, "repaint", lambda steps, jump, repeats: [(0, 1), (1, steps)]):
        result = run("fill", tmp_path / "in.png", "--mask", tmp_path / "mask.png", "--model", file, "-o", out)
    assert result.exit_code == 0, result.output
    made = np.asarray(Image.open(out))
    assert made.shape == rgb.shape and np.array_equal(made[8:], rgb[8:])
    result = run("upscale", tmp_path / "in.png", "--scale", 2, "--model", file, "-o", out)
    assert result.exit_code == 0, result.output
    assert Image.open(out).size == (64, 64)


def test_training_goes_on_from_any_pictures_with_captions(tmp_path):
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for n in range(3):
        Image.fromarray(np.full((70, 80, 3), 60 * n, np.uint8)).save(pictures / f"{n}.png")
    (pictures / "metadata.jsonl").write_text('{"file_name": "0.png", "text": "a red unicorn ball"}\n')
    config = Config(channels=3, point_channels=8, blocks=1, latent=4, depth=1)
    trainee = InftyDiffTrainee(pictures, config, batch_size=2, most=256)
    trainee.data.sizes = [64]
    start = {name: p.clone() for name, p in trainee.networks["model"].named_parameters()}
    with mock.patch.object(training, "SHOWN", 1):
        model = train(trainee, tmp_path / "state.safetensors", Plan(2, warmup=1))
    moved = [name for name, p in model.named_parameters() if not torch.equal(p, start[name])]
    assert {name.split(".")[0] for name in moved} == {"denoiser", "encoder", "sketcher", "prior"}
    export(tmp_path / "own.safetensors", model, trainee.metadata())
    assert load_file(tmp_path / "own.safetensors").channels == 3


# ---- with toybox ----


@pytest.mark.parametrize("size", [(128, 128), (96, 150), (48, 80)])
def test_reduced_noise_is_white_and_what_is_reduced_is_found_again(size):
    height, width = size
    rows, columns = coarse_size(height, width)
    assert min(rows, columns) == 64 and rows % 8 == columns % 8 == 0
    noise = torch.randn(1500, 1, height, width, dtype=torch.float64, generator=random())
    sigma = torch.full((1500,), 2.0, dtype=torch.float64)
    small = filled_up(2 * reduced(noise), height, width, sigma)
    small = small - small.mean(0)  # noise that is always the same does not vary
    level = factor(height, width) * 2
    if min(size) >= 64:
        deviation = small.std(0)
        assert (deviation.mean() / level - 1).abs() < 0.01 and (deviation / level - 1).abs().max() < 0.15
        near = (small[..., 1:] * small[..., :-1]).mean() / level**2
        assert near.abs() < 0.01
    pictures = torch.randn(2, 3, rows, columns, dtype=torch.float64) if min(size) >= 64 else reduced(noise[:2])
    assert (reduced(enlarged(pictures, height, width)) - pictures).abs().max() < 1e-12
    rest = unseen(noise[:2])
    assert reduced(rest).abs().max() < 1e-12 and (unseen(rest) - rest).abs().max() < 1e-12
    missing = max(0.0, 1 - rows * columns / (height * width))
    assert float(rest.square().sum() / noise[:2].square().sum()) == pytest.approx(missing, abs=0.02)
    assert (reduced(torch.ones(1, 1, height, width, dtype=torch.float64)) - 1).abs().max() < 0.03


def test_means_of_squares_are_what_toybox_sees():
    x = torch.randn(1, 4, 128, 192, dtype=torch.float64)
    assert (reduced(x) - torch.nn.functional.avg_pool2d(x, 2)).abs().max() < 1e-12
    assert factor(128, 192) == 0.5


def test_the_noise_of_small_pictures_is_filled_up_to_white_noise():
    """The covariance of what the reduced noise has and of what is filled up is the unit matrix."""
    unit = torch.eye(40 * 40, dtype=torch.float64).view(-1, 1, 40, 40)
    has = reduced(unit).flatten(1).mT / factor(40, 40)
    seen = has @ has.mT
    fixed = filled_up(torch.zeros(1, 1, 64, 64, dtype=torch.float64), 40, 40, torch.ones(1)) / factor(40, 40)
    assert (seen @ seen - seen).abs().max() < 1e-12  # a projection
    assert (seen @ fixed.flatten()).abs().max() < 1e-12
    assert float(fixed.square().sum()) == pytest.approx(64 * 64 - 40 * 40, rel=0.05)


def fresh():
    torch.manual_seed(0)
    return InftyDiffModel(Functions(Config(blocks=1)).eval().requires_grad_(False), "fresh", {})


def test_without_a_network_pictures_of_toyboxs_size_are_toyboxs():
    numbers, camera, lit = torch.tensor([encode("red ball")]), torch.tensor([STILL]), torch.ones(1)
    x, sigma = torch.randn(1, 4, 64, 64), torch.tensor([3.0])
    made = fresh().denoiser("a red ball", "", 1.0)(x, sigma[0], None)
    wanted = toybox_network()(x, sigma, numbers, camera, lit).clamp(-1, 1)
    assert (made - wanted).abs().max() < 1e-5
    # a larger picture of the same: the noise of its means is toybox's noise, and what it shows in addition is not lost
    large = enlarged(x, 128, 128)
    made = fresh().denoiser("a red ball", "", 1.0)(large, 2 * sigma[0], None)
    assert (reduced(made) - wanted).abs().max() < 0.05
    almost = mollify(torch.rand(1, 4, 128, 128) * 2 - 1, 2.0)
    assert (fresh().denoiser("a red ball", "", 1.0)(almost, torch.tensor(1e-4), None) - almost).abs().max() < 0.1


def test_a_wide_picture_has_its_object_in_the_middle():
    model, x = fresh(), 70.0 * torch.randn(1, 4, 64, 160, generator=random())
    rgba = model.decode(model.denoiser("a red ball", "", 1.0)(x, torch.tensor(70.0), None))[0]
    assert rgba[3, 20:44, 70:90].mean() > 0.6 and rgba[3, :, :30].mean() < 0.2 and rgba[3, :, -30:].mean() < 0.2
    places = torch.arange(8.0).expand(8, 8).reshape(1, 64, 1)  # the column of each place
    wide = stretched(places, 8, 16).view(8, 16)
    assert torch.equal(stretched(places, 8, 8), places)
    assert (wide[:, 1:-1] - (torch.arange(1, 15) / 2 - 0.25)).abs().max() < 1e-6


def test_a_latent_says_more_the_noisier_the_picture_is():
    """Where all is noise, the estimate is the sketch; where little is, it is toybox's."""
    sketch = Sketch(torch.randn(1, 4, SKETCH, SKETCH, generator=random()).clamp(-1, 1), torch.full((SKETCH,), 0.01))
    numbers, camera, lit = torch.tensor([encode("")]), torch.tensor([[0.0, 0.0, 0.0]]), torch.ones(1)
    coarse = toybox_under(toybox_network(), numbers, camera, lit)
    plain, told = (Condition(numbers, camera, lit, coarse, each) for each in (None, sketch))
    noise, low = torch.randn(1, 4, 64, 64, generator=random()), slice(0, 4)
    shares = []
    for sigma in (0.05, 1.0, 70.0):
        b, without = (
            transformed(base(sigma * noise, torch.tensor([sigma]), each))[..., low, low] for each in (told, plain)
        )
        picture = torch.nn.functional.interpolate(sketch.picture, (64, 64), mode="bicubic")
        target = transformed(picture)[..., low, low] - without
        shares.append(float(((b - without) * target).sum() / target.square().sum()))
    assert shares[0] < 0.35 and shares[0] < shares[1] < shares[2] and shares[2] > 0.99


def test_encoder_and_sketcher_learn_what_a_picture_shows():
    torch.manual_seed(0)
    functions = Functions(Config(channels=3, point_channels=8, blocks=1, latent=8, toybox=False, depth=1)).train()
    weights = [*functions.encoder.parameters(), *functions.sketcher.parameters()]
    optimiser, points = torch.optim.Adam(weights, 3e-3), Points.random(64, 64, 300, random())
    x = torch.randn(6, 3, 1, 1, generator=random()).expand(-1, -1, 64, 64).clamp(-1, 1)  # one colour each
    errors, before = [], functions.sketcher.power.clone()
    for _ in range(60):
        loss = functions.sketcher.error(functions.encoder(points.of(x), points), x)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        errors.append(float(loss.detach()))
    assert errors[-1] < 0.2 * errors[0]
    assert functions.sketcher.power[0] < before[0]
    after = functions.sketcher.power.clone()
    functions.eval().sketcher.error(functions.encoder(points.of(x), points), x)
    assert torch.equal(after, functions.sketcher.power)


def test_the_shipped_weights_draw_what_they_are_told_at_two_sizes():
    model = load_model("infty-diff")
    assert WEIGHTS.stat().st_size < 10e6
    for size in (64, 96):
        noise, sigmas = torch.randn(1, 4, size, size, generator=random()), log_linear(6, *model.sigma_range(size, size))
        for prompt, high, low in (("a red ball", 0, 2), ("a blue ball", 2, 0)):
            with torch.no_grad():
                rgba = model.decode(ddim(model.denoiser(prompt, "", 1.0), noise, sigmas))[0]
            middle = rgba[:, size // 3 : 2 * size // 3, size // 3 : 2 * size // 3].mean((1, 2))
            assert middle[3] > 0.8 and middle[high] > 2 * middle[low]
            assert rgba[3, :4, :4].mean() < 0.2
