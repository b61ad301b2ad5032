"""Diffusion models: Gaussian algebra, the exact bound of Gaussian data, samples, codes, interpolation and diffusers' folders."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from pullback import cli, errors
from pullback.generative.ddpm import coding, plots
from pullback.generative.ddpm.bound import decoder_log_likelihood, gaussian_kl, prior_term, term
from pullback.generative.ddpm.design import OBJECTIVES, PRESETS, Design, Preset, objective_of
from pullback.generative.ddpm.model import FORMAT, WEIGHTS, load_model, signal_of
from pullback.generative.ddpm.network import Config, UNet
from pullback.generative.ddpm.process import SCHEDULES, Process, diffuse, linear, posterior_mean
from pullback.generative.ddpm.reverse import Reverse, target, times
from pullback.generative.ddpm.sampling import ancestral, interpolate, progressive
from pullback.models import load_model as model_of
from pullback.samplers import ddim
from pullback.schedules import log_linear, vp_table
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

SMALL = Config(1, 8, 8, (1, 2), 1, (4,), groups=4)
TABLES = [linear(20, 1e-3, 0.4), SCHEDULES["cosine"](12, 0, 0), SCHEDULES["quadratic"](15, 1e-3, 0.3)]


@pytest.fixture(autouse=True)
def _one_thread(_threads) -> None:
    torch.set_num_threads(1)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=_generator(seed), dtype=torch.float64)


def _gaussian(process: Process, variance: torch.Tensor, predicted: str = "eps", sigma: str = "small") -> Reverse:
    """The exact reverse process of data N(0, diag(variance)), as if a network predicted it. `variance` is (C, H, W)."""

    def network(x, time):
        abar = process.abar[time + 1].reshape(-1, 1, 1, 1)
        x0 = abar.sqrt() * variance / (abar * variance + 1 - abar) * x
        if predicted == "mean":
            return posterior_mean(process, x0, x, time + 1)
        return x0 if predicted == "x0" else (x - abar.sqrt() * x0) / (1 - abar).sqrt()

    return Reverse(process, network, predicted, sigma, clip=False)


@pytest.mark.parametrize("betas", TABLES)
def test_the_posterior_is_that_of_gaussian_algebra(betas):
    process = Process(betas)
    x0, x = _normal(2, 1, 2, 2), _normal(2, 1, 2, 2, seed=1)
    for t in range(2, process.steps + 1):
        # x_{t-1} ~ N(a x_0, s), x_t ~ N(b x_{t-1}, beta): precisions add
        a, s = process.abar[t - 1].sqrt(), 1 - process.abar[t - 1]
        b, beta = (1 - process.beta[t]).sqrt(), process.beta[t]
        variance = 1 / (1 / s + b**2 / beta)
        mean = variance * (a * x0 / s + b * x / beta)
        torch.testing.assert_close(process.posterior_variance[t], variance, rtol=1e-12, atol=0)
        torch.testing.assert_close(posterior_mean(process, x0, x, times(2, t)), mean, rtol=0, atol=1e-12)
    torch.testing.assert_close(posterior_mean(process, x0, x, times(2, 1)), x0, rtol=0, atol=1e-12)
    assert process.posterior_variance[1] == 0


def test_the_tables_are_the_papers():
    process = Process(linear())
    assert process.beta[1] == 1e-4 and process.beta[1000] == 0.02 and process.abar[0] == 1
    torch.testing.assert_close(process.sigma[1:], vp_table(1e-4, 0.02, power=1), rtol=1e-12, atol=0)
    last = prior_term(process, torch.full((1, 3, 4, 4), 0.5, dtype=torch.float64))
    assert 1e-6 < float(last) < 1e-4  # about 1e-5 bits per value, section 4


@pytest.mark.parametrize("predicted", ["eps", "x0", "mean"])
def test_what_is_predicted_gives_back_the_picture(predicted):
    process = Process(TABLES[0])
    x0, eps, t = _normal(5, 1, 2, 2).clamp(-1, 1), _normal(5, 1, 2, 2, seed=1), torch.tensor([1, 2, 7, 19, 20])
    x = diffuse(process, x0, t, eps)
    wanted = target(process, predicted, x0, x, t, eps)
    reverse = Reverse(process, lambda *_: wanted, predicted)
    torch.testing.assert_close(reverse(x, t).x0, x0, rtol=0, atol=1e-9)
    torch.testing.assert_close(reverse(x, t).mean, posterior_mean(process, x0, x, t), rtol=0, atol=1e-9)
    if predicted == "eps":  # equation 11
        beta, abar = process.beta[t].reshape(-1, 1, 1, 1), process.abar[t].reshape(-1, 1, 1, 1)
        mean = (x - beta / (1 - abar).sqrt() * eps) / (1 - beta).sqrt()
        torch.testing.assert_close(reverse(x, t).mean, mean, rtol=0, atol=1e-9)


def test_terms_of_the_bound_are_weighted_squared_errors_of_the_noise():
    process, t = Process(TABLES[0]), torch.tensor([2, 5, 20])
    x0, eps, wrong = (_normal(3, 1, 2, 2, seed=seed) for seed in range(3))
    for sigma, table in (("large", process.beta), ("small", process.posterior_variance)):
        reverse = Reverse(process, lambda *_: wrong, "eps", sigma, clip=False)
        exact = Reverse(process, lambda *_: eps, "eps", sigma, clip=False)
        found = term(reverse, x0, t, eps)[0] - term(exact, x0, t, eps)[0]
        beta = process.beta[t]  # equation 12
        weight = beta**2 / (2 * table[t] * (1 - beta) * (1 - process.abar[t]))
        torch.testing.assert_close(
            found * math.log(2), weight * (eps - wrong).square().mean((1, 2, 3)), rtol=1e-10, atol=0
        )


@pytest.mark.parametrize("sigma", ["large", "small"])
def test_fixed_variances_are_the_two_bounds_and_at_the_last_step_both_the_lower(sigma):
    process, x = Process(TABLES[0]), _normal(3, 1, 2, 2)
    found = Reverse(process, lambda x, _: x, "eps", sigma)(x, torch.tensor([1, 2, 20])).log_variance.exp().flatten()
    table = process.beta if sigma == "large" else process.posterior_variance
    expected = torch.stack([process.posterior_variance[2], table[2], table[20]])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_the_divergence_is_that_of_torch():
    a, b = _normal(6), _normal(6, seed=1)
    p, q = (torch.distributions.Normal(each, (0.5 * log).exp()) for each, log in ((a, b), (b, a)))
    expected = torch.distributions.kl_divergence(p, q)
    torch.testing.assert_close(gaussian_kl(a, b, b, a), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("mean", [-3.0, -1.0, -0.302, 0.0, 0.7, 1.0, 1.4])
@pytest.mark.parametrize("scale", [1e-3, 0.007, 0.3, 30.0])
def test_the_decoders_probabilities_sum_to_one(mean, scale):
    levels = torch.arange(256, dtype=torch.float64) / 127.5 - 1
    log_variance = torch.full_like(levels, 2 * math.log(scale))
    logs = decoder_log_likelihood(levels, torch.full_like(levels, mean), log_variance)
    assert float(logs.exp().sum()) == pytest.approx(1, abs=1e-9) and logs.isfinite().all()
    cdf = torch.distributions.Normal(*torch.tensor([mean, scale], dtype=torch.float64)).cdf
    inner = cdf(levels[1:-1] + 1 / 255) - cdf(levels[1:-1] - 1 / 255)
    likely = inner > 1e-6
    torch.testing.assert_close(logs.exp()[1:-1][likely], inner[likely], rtol=1e-6, atol=0)


def test_the_decoder_has_gradients_at_the_ends_and_far_off():
    x0 = torch.tensor([-1.0, 1.0, 0.0, 1.0]).reshape(1, 1, 2, 2)
    mean = torch.tensor([-1.0, 1.2, 0.9, -1.0]).reshape(1, 1, 2, 2).requires_grad_()
    log_variance = torch.full((1, 1, 2, 2), -9.8, requires_grad=True)
    logs = decoder_log_likelihood(x0, mean, log_variance)
    logs.sum().backward()
    assert logs.isfinite().all() and mean.grad.isfinite().all() and log_variance.grad.isfinite().all()
    assert mean.grad[0, 0, 1, 0] < 0 < mean.grad[0, 0, 1, 1]  # towards the pictures


@pytest.mark.parametrize("predicted", ["eps", "x0", "mean"])
def test_the_bound_of_gaussian_data_is_the_exact_one(predicted):
    """Of N(0, v) the optimal p(x_{t-1} | x_t) is known in closed form, and so is every expected divergence."""
    process, v = Process(TABLES[0]), torch.tensor([[[0.04, 0.25], [1.0, 0.01]]], dtype=torch.float64)
    for sigma, table in (("small", process.posterior_variance), ("large", process.beta)):
        reverse = _gaussian(process, v, predicted, sigma)
        n = 20_000
        x0 = v.sqrt() * _normal(n, 1, 2, 2)
        for t in (2, 9, process.steps):
            found = term(reverse, x0, times(n, t), _normal(n, 1, 2, 2, seed=t))[0]
            abar = process.abar[t]
            unknown = v * (1 - abar) / (abar * v + 1 - abar)  # the variance of x_0 given x_t
            of_x0 = process.abar[t - 1].sqrt() * process.beta[t] / (1 - abar)
            ratio = process.posterior_variance[t] / table[t]
            nats = 0.5 * (of_x0**2 * unknown / table[t] + ratio - 1 - ratio.log())
            error = 5 * float(found.std()) / n**0.5
            assert float(found.mean()) == pytest.approx(float(nats.mean()) / math.log(2), abs=error)


def test_the_bound_is_the_entropy_where_the_reverse_process_is_exact():
    """With a learned variance the reverse steps of Gaussian data are exact, and the code is as long as -log p(x_0)."""
    process, v = Process(linear(20, 1e-3, 0.4)), torch.full((1, 2, 2), 0.09, dtype=torch.float64)
    fixed = _gaussian(process, v)

    def network(x, time):
        t = time + 1
        unknown = v * (1 - process.abar[t]) / (process.abar[t] * v + 1 - process.abar[t])
        of_x0 = process.abar[t - 1].sqrt() * process.beta[t] / (1 - process.abar[t])
        exact = process.posterior_variance[t] + of_x0**2 * unknown
        first = process.posterior_variance[2] if int(t[0]) == 1 else process.beta[t]
        ratio = (exact / first).log().expand_as(x) if exact.ndim == 3 else (exact / first).log()
        return torch.cat([fixed.network(x, time), ratio], 1)

    reverse = Reverse(process, lambda x, time: network(x, time[:1]), "eps", "learned", clip=False)
    n = 20_000
    x0 = (0.3 * _normal(n, 1, 2, 2) * 127.5).round() / 127.5  # levels, of which none lies at an end
    found = coding.code(reverse, x0, _generator(1))
    density = 0.5 * math.log2(2 * math.pi * math.e * 0.09)  # of a value, in bits
    assert float(found.bits_per_dim.mean()) == pytest.approx(density - math.log2(2 / 255), abs=0.02)


def test_rates_and_distortions_add_up():
    process, v = Process(TABLES[0]), torch.tensor([[[0.04, 0.25], [0.01, 0.09]]], dtype=torch.float64)
    reverse = replace(_gaussian(process, v), clip=True)
    x0 = (v.sqrt() * _normal(64, 1, 2, 2)).clamp(-1, 1)
    done = []
    found = coding.code(reverse, x0, _generator(3), lambda *each: done.append(each))
    assert found.bits.shape == (64, 21) and found.errors.shape == (64, 20) and done[-1] == (20, 20)
    assert float(found.rate[0]) + found.remainder == pytest.approx(float(found.bits_per_dim.mean()), abs=1e-12)
    torch.testing.assert_close(found.bits[:, -1], prior_term(process, x0), rtol=0, atol=0)
    assert float(found.rate[-1]) == pytest.approx(float(prior_term(process, x0).mean()), abs=1e-12)
    torch.testing.assert_close(-found.rate.diff(), found.bits.mean(0)[1:-1], rtol=0, atol=1e-12)
    assert (found.rate.diff() < 0).all()  # the later, the more bits
    assert found.distortion[0] < 0.2 * found.distortion[-1]
    eps = _normal(64, 1, 2, 2, seed=3)  # what `code` draws first, for x_T
    last = reverse(diffuse(process, x0, times(64, 20), eps), times(64, 20)).x0
    error = (((last - x0) * 127.5) ** 2).mean().sqrt()
    assert float(found.distortion[-1]) == pytest.approx(float(error), abs=1e-9)
    shown = coding.received(reverse, x0, (20, 1), _generator(3))
    torch.testing.assert_close(shown[0], last, rtol=0, atol=1e-12)
    assert (shown[1] - x0).abs().mean() < (shown[0] - x0).abs().mean()


def test_ancestral_sampling_of_gaussian_data_has_its_moments():
    """The variances of the samples are those that the chain's own recursion gives, near the data's."""
    process, v = Process(linear(200, 1e-4, 0.1)), torch.tensor([[[0.04, 0.25], [1.0, 0.5]]], dtype=torch.float64)
    n = 8000
    for sigma, table in (("large", process.beta), ("small", process.posterior_variance)):
        made = ancestral(_gaussian(process, v, "eps", sigma), _normal(n, 1, 2, 2), _generator(1))
        variance = torch.ones_like(v)
        for t in range(200, 0, -1):
            abar, before = process.abar[t], process.abar[t - 1]
            gain = before.sqrt() * process.beta[t] / (1 - abar) * abar.sqrt() * v / (abar * v + 1 - abar)
            gain = gain + (1 - process.beta[t]).sqrt() * (1 - before) / (1 - abar)
            variance = gain**2 * variance + (table[t] if t > 1 else 0)
        torch.testing.assert_close(made.var(0), variance, rtol=5 * (2 / n) ** 0.5, atol=0)
        torch.testing.assert_close(variance, v, rtol=0.1, atol=2e-3)
        covariance = torch.cov(made.flatten(1).T)
        off = covariance - covariance.diag().diag()
        assert float(off.abs().max()) < 5 / n**0.5
        assert float(made.mean(0).abs().max()) < 5 / n**0.5


def test_fewer_steps_are_a_process_of_their_own():
    process = Process(linear())
    few = process.spaced(50)
    assert few.steps == 50 and few.time(torch.tensor([1, 50])).tolist() == [0, 999]
    kept = few.time(torch.arange(1, 51)) + 1
    torch.testing.assert_close(few.abar[1:], process.abar[kept], rtol=1e-10, atol=0)
    assert process.spaced(1000) is process and process.spaced(1).time(torch.tensor([1])).tolist() == [999]
    assert few.spaced(10).time(torch.tensor([10])).tolist() == [999]
    with pytest.raises(ValueError, match="1001 steps cannot be chosen of 1000"):
        process.spaced(1001)


def test_samples_and_expectations_on_the_way_end_alike():
    reverse = _gaussian(Process(TABLES[0]), torch.full((1, 2, 2), 0.25, dtype=torch.float64))
    noise = _normal(3, 1, 2, 2)
    steps = list(progressive(reverse, noise, _generator(1)))
    assert len(steps) == 20
    torch.testing.assert_close(steps[-1][0], ancestral(reverse, noise, _generator(1)), rtol=0, atol=0)
    torch.testing.assert_close(steps[-1][0], steps[-1][1], rtol=0, atol=1e-12)  # no noise at the end: the mean is x0


def test_interpolation_is_pixels_at_depth_0_and_reconstructions_at_its_ends():
    process = Process(TABLES[0])
    reverse = _gaussian(process, torch.full((1, 4, 4), 0.25, dtype=torch.float64))
    a, b = 0.5 * _normal(1, 4, 4), 0.5 * _normal(1, 4, 4, seed=1)
    parts = torch.tensor([0.0, 0.25, 1.0])
    flat = interpolate(reverse, a, b, parts, 0, _generator())
    torch.testing.assert_close(flat, torch.stack([a, 0.75 * a + 0.25 * b, b]), rtol=0, atol=1e-12)
    deep = interpolate(reverse, a, b, parts, 3, _generator())
    for picture, other, found in ((a, b, deep[0]), (b, a, deep[2])):  # diffused with that noise, and denoised
        random = _generator()
        noise = torch.randn(a.shape, generator=random, dtype=a.dtype)
        x = diffuse(process, picture[None], times(1, 3), noise[None])
        expected = ancestral(reverse, x, random, 3)[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
        assert (found - picture).abs().mean() < 0.7 * (found - other).abs().mean()
    torch.testing.assert_close(deep[1], 0.75 * deep[0] + 0.25 * deep[2], rtol=0, atol=1e-12)  # this denoiser is linear
    with pytest.raises(ValueError, match="the depth is 21; it must be between 0, where pixels are mixed, and 20"):
        interpolate(reverse, a, b, parts, 21, _generator())


def _unet(config: Config = SMALL, seed: int = 0) -> UNet:
    torch.manual_seed(seed)
    network = UNet(config)
    for p in network.parameters():
        p.data = 0.2 * torch.randn(p.shape)
    return network.eval().requires_grad_(False)


def test_the_presets_are_as_large_as_the_paper_says():
    with torch.device("meta"):
        weights = {
            name: sum(p.numel() for p in UNet(preset.design.network).parameters()) for name, preset in PRESETS.items()
        }
    assert weights["paper-cifar10"] == 35_746_307 and weights["paper-256"] == 113_673_219
    assert 250e6 < weights["paper-256-large"] < 262e6
    assert weights["small"] < 1.5e6


def test_untrained_networks_predict_nothing_yet():
    network = UNet(replace(SMALL, learned=True))
    out = network(torch.randn(2, 1, 8, 12), torch.tensor([0, 999]))
    assert out.shape == (2, 2, 8, 12) and (out == 0).all()


def test_objectives_are_those_of_the_papers_table():
    design = PRESETS["tiny"].design
    for name in OBJECTIVES:
        chosen = design.with_objective(name)
        assert name.startswith(chosen.predicted)
        assert (chosen.objective == "bound") == ("-" in name)
        assert objective_of(chosen) == name and (chosen.variance == "large" or name.endswith("learned"))
        assert chosen.network.learned == (chosen.variance == "learned") == name.endswith("learned")
    with pytest.raises(ValueError, match="--objective is 'v'; it must be one of eps, eps-bound"):
        design.with_objective("v")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"size": 10, "multipliers": (1, 2, 2)}, "multiple of 4"),
        ({"groups": 3}, "do not divide into 3 groups"),
        ({"head": 5}, "heads of 5 channels"),
    ],
)
def test_sizes_that_do_not_fit_are_said(change, said):
    with pytest.raises(ValueError, match=said):
        replace(SMALL, **change)


# Files, the command line, and training.


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for n in range(3):
        Image.fromarray(random.integers(0, 256, (12, 9, 3), dtype=np.uint8)).save(tmp_path / "pictures" / f"{n}.png")
    return tmp_path / "pictures"


def _file(path, design: Design = Design(SMALL, steps=10), seed: int = 0):
    tensors = {name: value.clone().contiguous() for name, value in _unet(design.network, seed).state_dict().items()}
    save_file(tensors, path, {"format": FORMAT, "design": json.dumps(asdict(design)), "step": "3"})
    return path


def _run(*words: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(words))
    return result.exit_code, errors.sentence(result.exception) or "" if result.exception else result.output


def test_pictures_are_seen_as_the_largest_square_of_256_levels():
    pixels = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(6, 4, 3)
    seen = signal_of(pixels, 3, 4)
    torch.testing.assert_close(((seen + 1) * 127.5).movedim(0, -1), torch.from_numpy(pixels[1:5]).float())
    assert signal_of(pixels, 1, 2).shape == (1, 2, 2)


@pytest.mark.parametrize("predicted", ["eps", "x0", "mean"])
def test_the_denoiser_expects_what_the_reverse_process_does(tmp_path, predicted):
    model = model_of(str(_file(tmp_path / "a.safetensors", Design(SMALL, predicted, steps=10))))
    process, denoise = model.reverse.process, model.denoiser("")
    assert (model.channels, model.size, model.scale) == (1, 8, 1)
    assert (model.sigma_min, model.sigma_max) == (float(process.sigma[1]), float(process.sigma[-1]))
    t, x = torch.tensor([1, 4, 10]), torch.randn(3, 1, 8, 8, generator=_generator())
    sigma = process.sigma[t]
    found = denoise(x * (1 + sigma.float() ** 2).sqrt().reshape(-1, 1, 1, 1), sigma, None)
    torch.testing.assert_close(found, model.reverse(x, t).x0, rtol=0, atol=2e-4)
    assert model.decode(found).shape == (3, 3, 8, 8)
    made = ddim(denoise, torch.randn(1, 1, 8, 16, generator=_generator()), log_linear(3, 0.02, 0.3))
    assert made.shape == (1, 1, 8, 16) and made.abs().max() <= 1


def test_a_picture_is_sampled_without_words(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _file(tmp_path / "a.safetensors")
    command = ("image", "", "--model", "a.safetensors", "--steps", "2", "--size", "32", "-o", "a.png")
    code, said = _run(*command)
    assert code == 0, said
    assert Image.open("a.png").size == (32, 32)
    code, said = _run("image", "a red car", *command[2:])
    assert code == 1 and said.endswith("knows no words, and cannot draw 'a red car': give an empty prompt, \"\"")


def test_the_shipped_model_finds_its_samples_likelier_than_their_pixels_in_disorder():
    model = model_of("ddpm")
    assert model.name == "ddpm" and WEIGHTS.stat().st_size < 4e6
    few, random = model.reverse.spaced(40), _generator()
    made = ancestral(few, torch.randn(6, model.channels, model.size, model.size, generator=random), random)
    levels = ((made + 1) * 127.5).round() / 127.5 - 1
    mixed = levels.flatten(2)[:, :, torch.randperm(model.size**2, generator=random)].view_as(levels)
    bits = [coding.code(few, each, _generator()).bits_per_dim for each in (levels, mixed)]
    assert (bits[0] < bits[1] - 0.5).all()


def test_wrong_files_are_one_sentence(tmp_path):
    whole = _file(tmp_path / "a.safetensors")
    (tmp_path / "cut.safetensors").write_bytes(whole.read_bytes()[:-10])
    save_file(load_file(whole), tmp_path / "other.safetensors", {"format": "pullback-lmconv-1"})
    larger = replace(Design(SMALL, steps=10), network=replace(SMALL, width=16))
    save_file(
        load_file(whole), tmp_path / "sizes.safetensors", {"format": FORMAT, "design": json.dumps(asdict(larger))}
    )
    for name, said in (
        ("none", "does not exist"), ("cut", "is truncated"), ("other", "is no ddpm model"),
        ("sizes", "does not hold a ddpm model of this version"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=said):
            load_model(tmp_path / f"{name}.safetensors")


def _trainee(folder, objective: str, network: Config = SMALL):
    pytest.importorskip("accelerate", reason="training needs accelerate: pip install pullback[train]")
    from pullback.generative.ddpm.training import DDPMTrainee
    from pullback.training.folder import PictureFolder

    torch.manual_seed(0)
    design = Design(network, steps=10).with_objective(objective)
    return DDPMTrainee(PictureFolder(folder), Preset(design, 4, 1e-2))


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_is_lowered_by_training(folder, objective):
    trainee = _trainee(folder, objective)
    batch, optimiser = trainee.batch(np.random.default_rng(0)), trainee.optimisers[0][0]
    assert batch.shape == (4, 1, 8, 8) and batch.abs().max() <= 1
    losses = []
    for step in range(25):
        loss = next(trainee.losses(batch, _generator(), step))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.9 * losses[0]
    assert trainee.sheet(trainee.networks["model"]).shape == (3, 16, 64)


def test_a_resumed_training_with_dropout_ends_in_the_same_bytes(folder, tmp_path):
    pytest.importorskip("accelerate", reason="training needs accelerate: pip install pullback[train]")
    from pullback.training.loop import Plan, train

    network = replace(SMALL, dropout=0.5)
    paths = [tmp_path / f"{name}.safetensors" for name in "ab"]
    for path, steps, seed in ((paths[0], 4, 1), (paths[1], 2, 2), (paths[1], 4, 3)):
        trainee = _trainee(folder, "eps", network)
        torch.manual_seed(seed)  # what else is drawn does not matter
        train(trainee, path, Plan(steps, every=2, warmup=1, decay=0))
    a, b = (load_file(path) for path in paths)
    assert all(torch.equal(a[key], b[key]) for key in a)


def test_the_command_line_trains_a_file_that_draws(folder, tmp_path, monkeypatch):
    pytest.importorskip("accelerate", reason="training needs accelerate: pip install pullback[train]")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(PRESETS, "tiny", Preset(Design(SMALL, steps=10), 2, 1e-3))
    options = ("--preset", "tiny", "--steps", "2", "--precision", "no", "-o", "a.safetensors")
    code, said = _run("train", "ddpm", str(folder), *options, "--objective", "x0-learned")
    assert code == 0, said
    model = load_model(tmp_path / "a.safetensors")
    assert model.design.predicted == "x0" and model.design.network.learned and model.card["step"] == "2"
    more = ("train", "ddpm", str(folder), *options[:-1], "b.safetensors", "--start-from", "a.safetensors")
    assert _run(*more)[0] == 0 and load_model(tmp_path / "b.safetensors").design == model.design
    code, said = _run(*more, "--objective", "eps")
    assert code == 1 and said == "a.safetensors was trained on x0-learned, not on eps: leave out --objective"
    code, said = _run("train", "ddpm", str(folder), *options, "--objective", "L")
    assert code == 1 and said.startswith("--objective is 'L'; it must be one of eps, eps-bound")
    code, said = _run("train", "ddpm", str(folder), "--preset", "huge")
    assert code == 1 and said.startswith("--preset is 'huge'; it must be one of tiny, small")


# Folders of diffusers.

PLAIN = {"down_block_types": ("DownBlock2D", "AttnDownBlock2D"), "up_block_types": ("AttnUpBlock2D", "UpBlock2D")}
PAPERS = {
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "attention_head_dim": None,
    "norm_eps": 1e-6,
}


def _pipeline(tmp_path, network=None, **scheduler):
    diffusers = pytest.importorskip("diffusers", reason='needs diffusers: pip install "pullback[diffusers]"')
    torch.manual_seed(0)
    sizes = {"sample_size": 8, "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4, **PLAIN}
    unet = diffusers.UNet2DModel(**{**sizes, **(network or {})})
    pipe = diffusers.DDPMPipeline(unet, diffusers.DDPMScheduler(**scheduler))
    pipe.save_pretrained(tmp_path / "folder")
    return pipe, tmp_path / "folder"


@pytest.mark.parametrize("own", [{}, PAPERS, {"attention_head_dim": 4, "layers_per_block": 2}])
@pytest.mark.parametrize("scheduler", [{}, {"variance_type": "fixed_large", "beta_schedule": "squaredcos_cap_v2"}])
def test_a_folder_of_diffusers_gives_its_numbers(tmp_path, own, scheduler):
    pipe, path = _pipeline(tmp_path, own, **scheduler)
    model = model_of(str(path))
    network, unet = model.network.double(), pipe.unet.double().eval()
    x = _normal(3, 3, 8, 8)
    time = torch.tensor([0, 500, 999])
    with torch.no_grad():
        out = unet(x, time).sample
        torch.testing.assert_close(network(x, time), out, rtol=0, atol=3e-7)  # diffusers embeds times in float32
        for n, t in enumerate((0, 500, 999)):
            torch.testing.assert_close(
                model.reverse.process.abar[t + 1], pipe.scheduler.alphas_cumprod[t].double(), rtol=2e-4, atol=1e-7
            )
            step = pipe.scheduler.step(out[n : n + 1], t, x[n : n + 1], _generator(n))
            p = model.reverse(x[n : n + 1], torch.tensor([t + 1]))
            noise = torch.randn(1, 3, 8, 8, generator=_generator(n), dtype=torch.float64) * (t > 0)
            torch.testing.assert_close(p.x0, step.pred_original_sample, rtol=0, atol=2e-3)
            made = p.mean + (0.5 * p.log_variance).exp() * noise
            torch.testing.assert_close(made, step.prev_sample, rtol=0, atol=2e-3)


def test_old_folders_without_inner_ones_are_read_too(tmp_path):
    _, path = _pipeline(tmp_path)
    old = tmp_path / "old"
    old.mkdir()
    for name in ("model_index.json", "scheduler/scheduler_config.json", "unet/config.json"):
        (old / name.split("/")[-1]).write_text((path / name).read_text())
    tensors = load_file(path / "unet" / "diffusion_pytorch_model.safetensors")
    names = {".to_q.": ".query.", ".to_k.": ".key.", ".to_v.": ".value.", ".to_out.0.": ".proj_attn."}
    for new, former in names.items():
        tensors = {key.replace(new, former): value for key, value in tensors.items()}
    save_file(tensors, old / "diffusion_pytorch_model.safetensors")
    x = torch.randn(1, 3, 8, 8, generator=_generator())
    a, b = (model_of(str(each)).denoiser("")(x, torch.tensor(0.5), None) for each in (path, old))
    assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("unet/config.json", {"act_fn": "gelu"}, "a network whose act_fn is 'gelu'"),
        ("unet/config.json", {"down_block_types": ["DownBlock2D", "SkipDownBlock2D"]}, "SkipDownBlock2D"),
        ("unet/config.json", {"up_block_types": ["UpBlock2D", "AttnUpBlock2D"]}, "attends at other sizes"),
        ("unet/config.json", {"in_channels": 4}, "no network that we can take over"),
        ("unet/config.json", {"block_out_channels": [8, 32]}, "does not hold the weights"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "sigmoid"}, "whose beta_schedule is 'sigmoid'"),
        ("scheduler/scheduler_config.json", {"prediction_type": "v_prediction"}, "a scheduler of another kind"),
        ("scheduler/scheduler_config.json", {"trained_betas": [0.1]}, "betas of its own"),
    ],
)
def test_folders_that_cannot_be_taken_over_say_why(tmp_path, file, change, said):
    _, path = _pipeline(tmp_path)
    content = json.loads((path / file).read_text())
    (path / file).write_text(json.dumps(content | change))
    with pytest.raises(ValueError, match=said):
        model_of(str(path))


def test_folders_with_missing_parts_say_which(tmp_path):
    _, path = _pipeline(tmp_path)
    (path / "unet" / "diffusion_pytorch_model.safetensors").rename(path / "unet" / "diffusion_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"has no diffusion_pytorch_model\.safetensors, and pickled weights"):
        model_of(str(path))
    (path / "unet" / "config.json").write_text("{")
    with pytest.raises(ValueError, match=r"config\.json is missing or no JSON"):
        model_of(str(path))


# Plots.


def test_plots_show_every_curve_and_pictures_keep_their_places():
    process = Process(TABLES[0])
    reverse = _gaussian(process, torch.full((1, 2, 2), 0.1, dtype=torch.float64))
    found = coding.code(reverse, 0.3 * _normal(8, 1, 2, 2), _generator())
    one, two = plots.rate_distortion({"a": found}), plots.rate_distortion({"a": found, "b": found})
    assert one.size == (3 * 360, 260) and np.asarray(one).std() > 0
    red = np.array([0xDC, 0x26, 0x26])  # the second curve's
    assert (
        np.abs(np.asarray(two).astype(int) - red).sum(-1).min()
        < 30
        < np.abs(np.asarray(one).astype(int) - red).sum(-1).min()
    )
    rows = torch.tensor([-1.0, 1.0, 0.0, 1.0]).reshape(2, 2, 1, 1, 1)
    picture = np.asarray(plots.sheet(rows, scale=2, gap=0))
    assert picture.shape == (4, 4, 3) and picture[::2, ::2, 0].tolist() == [[0, 255], [128, 255]]
    assert plots.ticks(1.0) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0]) and plots.ticks(70)[-1] == 60
