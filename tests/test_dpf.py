"""Functions: invariances of the networks, the chain against Gaussian algebra, domains, occupancy, weights and commands."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import trimesh
from PIL import Image
from pullback import cli, functions
from pullback.generative.ddpm.process import SCHEDULES, Process, diffuse, linear, posterior_mean
from pullback.generative.dpf import chain as chains
from pullback.generative.dpf.blocks import fourier
from pullback.generative.dpf.chain import Chain, Rule, expected, step, target
from pullback.generative.dpf.data import EMPTY, SIDE, Landscapes, Pictures, Points, Shapes, chosen
from pullback.generative.dpf.design import PRESETS, Design, octaves_of, preset_of
from pullback.generative.dpf.domains import SPHERE, Cube, Plane, domain_of
from pullback.generative.dpf.model import FORMAT, FieldModel, checked, load_model
from pullback.generative.dpf.network import Config, Encoding, FieldNetwork
from pullback.generative.dpf.occupancy import bodies, centres, nearest_faces, occupied
from pullback.generative.dpf.render import landscape, shape
from pullback.generative.dpf.training import FieldTrainee
from pullback.generative.toybox import objects
from pullback.generative.toybox.words import NOUNS, encode
from pullback.geometry.sphere import directions
from pullback.models import load_model as model_of
from pullback.settings import Settings
from pullback.training import loop
from typer.testing import CliRunner

ARCHITECTURES = ("perceiver", "transformer", "mixer")
SMALL = Config(2, 3, octaves=2, width=16, latents=5, blocks=2, selfs=1, decoders=2, heads=2, context=9)
WORDS = torch.tensor([encode("red chair"), encode("a blue and white fish")])


@pytest.fixture(autouse=True)
def _one_thread(_threads) -> None:
    torch.set_num_threads(1)


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=_generator(seed), dtype=torch.float64)


def _network(config: Config = SMALL, seed: int = 0) -> FieldNetwork:
    """A network in float64 whose output depends on everything."""
    torch.manual_seed(seed)
    network = FieldNetwork(config).double().eval().requires_grad_(False)
    torch.nn.init.normal_(network.out.weight, std=0.3)
    return network


def _pairs(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return _normal(2, count, 2, seed=seed).clamp(-2, 2) / 2, _normal(2, count, 3, seed=seed + 1)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_order_of_context_and_queries_means_nothing(architecture):
    network, time = _network(replace(SMALL, architecture=architecture)), torch.tensor([3, 700])
    context, query = _pairs(9), _pairs(7, seed=5)
    out = network(context, query, time, WORDS)
    a, b = torch.randperm(9, generator=_generator()), torch.randperm(7, generator=_generator())
    mixed = network(tuple(x[:, a] for x in context), tuple(x[:, b] for x in query), time, WORDS)
    torch.testing.assert_close(mixed, out[:, b], rtol=0, atol=1e-12)
    moved = network((context[0], context[1] + 0.1), query, time, WORDS)
    assert (moved - out).abs().max() > 1e-3  # and the context does mean something


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_queries_do_not_see_each_other(architecture):
    network, time = _network(replace(SMALL, architecture=architecture)), torch.tensor([3, 700])
    context, query = _pairs(9), _pairs(7, seed=5)
    encoding = network.encode(context, time, WORDS)
    alone = [network.decode(encoding, tuple(x[:, n : n + 1] for x in query)) for n in range(7)]
    torch.testing.assert_close(torch.cat(alone, 1), network.decode(encoding, query), rtol=0, atol=1e-12)


def test_time_and_words_and_their_order_matter():
    network, context, query = _network(), _pairs(9), _pairs(4, seed=5)
    said = torch.tensor([encode("red and white fish"), encode("white and red fish")])
    pair = tuple(x[:1].expand(2, -1, -1) for x in context), tuple(x[:1].expand(2, -1, -1) for x in query)
    out = network(*pair, torch.tensor([5, 5]), said)
    assert (out[0] - out[1]).abs().max() > 1e-4
    out = network(*pair, torch.tensor([5, 900]), said[:1].expand(2, -1))
    assert (out[0] - out[1]).abs().max() > 1e-4


@pytest.mark.parametrize("process", [Process(linear(20, 1e-3, 0.4)), Process(SCHEDULES["cosine"](12, 0, 0))])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_a_step_keeps_the_marginals(process, eta):
    """A step from x_t = a x_0 + s eps, with x_0 known, is a' x_0 + s' eps' with a unit-normal eps'."""
    one, nothing = torch.ones(1, 1, 1, dtype=torch.float64), torch.zeros(1, 1, 1, dtype=torch.float64)
    for t in range(2, process.steps + 1):
        now, before = process.abar[t].item(), process.abar[t - 1].item()
        mean = step(process, now**0.5 * one, one, t, eta, nothing)
        of_eps = step(process, (1 - now) ** 0.5 * one, nothing, t, eta, nothing)
        of_noise = step(process, nothing, nothing, t, eta, one)
        assert abs(mean.item() - before**0.5) < 1e-12
        assert abs(of_eps.item() ** 2 + of_noise.item() ** 2 - (1 - before)) < 1e-12


def test_eta_1_is_the_posterior_of_gaussian_algebra():
    process, x, x0 = Process(linear(20, 1e-3, 0.4)), _normal(2, 5, 3), _normal(2, 5, 3, seed=1)
    for t in (1, 2, 11, 20):
        mean = step(process, x, x0, t, 1.0, torch.zeros_like(x))
        torch.testing.assert_close(mean, posterior_mean(process, x0, x, torch.tensor([t, t])), rtol=0, atol=1e-12)
        deviation = step(process, x, x0, t, 1.0, torch.ones_like(x)) - mean
        assert (deviation**2 - process.posterior_variance[t]).abs().max() < 1e-12


@pytest.mark.parametrize("predicted", ["eps", "x0", "v"])
def test_what_is_predicted_gives_back_the_values(predicted):
    process, x0, eps, t = (
        Process(linear(20, 1e-3, 0.4)),
        _normal(3, 5, 4),
        _normal(3, 5, 4, seed=1),
        torch.tensor([1, 9, 20]),
    )
    x = diffuse(process, x0, t, eps)
    out = target(process, predicted, x0, t, eps)
    torch.testing.assert_close(expected(process, predicted, x, t, out), x0, rtol=0, atol=1e-11)


class _Gaussian:
    """The exact network of functions that are Gaussian with a covariance K at N points, asked at those points."""

    def __init__(self, process: Process, covariance: torch.Tensor):
        self.process, self.covariance = process, covariance
        self.pair, self.config = SimpleNamespace(weight=covariance), SimpleNamespace(channels=1, words=False)

    def encode(self, context, time, words):
        abar = self.process.abar[time[0] + 1]
        gain = (
            abar.sqrt()
            * self.covariance
            @ torch.linalg.inv(
                abar * self.covariance + (1 - abar) * torch.eye(len(self.covariance), dtype=torch.float64)
            )
        )
        return Encoding(words, torch.einsum("nm,bmc->bnc", gain, context[1]))

    def decode(self, encoding, query):
        return encoding.latents


@pytest.mark.parametrize(("steps", "most"), [(100, 0.05), (1000, 0.005)])
def test_sampling_a_gaussian_prior_recovers_its_covariance(steps, most, monkeypatch):
    points = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None]
    covariance = torch.exp(-((points - points.T) ** 2) / 0.5) + 0.05 * torch.eye(5, dtype=torch.float64)
    process = Process(linear(steps, 0.1 / steps, 20 / steps))
    # DDIM is a linear map of the noise: five samples from the unit vectors are its matrix.
    monkeypatch.setattr(Chain, "_noise", lambda self, count, random: torch.eye(5, dtype=torch.float64)[..., None])
    rule = Rule("x0", eta=0.0, clip=False)
    chain = Chain(
        _Gaussian(process, covariance), process, points, WORDS[:1].expand(5, -1), WORDS[0], rule, _generator()
    )
    matrix = chain.values[..., 0]
    assert (matrix.T @ matrix - covariance).abs().max() < most


def _chain(
    network: FieldNetwork, points: torch.Tensor, eta: float = 0.0, guidance: float = 1.0, steps: int = 6
) -> Chain:
    process = Process(linear(20, 1e-3, 0.4)).spaced(steps)
    rule = Rule("v", guidance, eta, clip=False)
    return Chain(network, process, points, WORDS, torch.from_numpy(EMPTY), rule, _generator())


@pytest.mark.parametrize("guidance", [0.0, 1.0, 2.5])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_a_chain_is_algorithm_2_of_the_paper(eta, guidance):
    """All queries together, the context refreshed from them at every step, give what the chain gives in two parts."""
    network, points = _network(), _pairs(20)[0][0]
    context, rest = points[:9], points[9:]
    chain = _chain(network, context, eta, guidance)
    late = chain.at(rest, _generator(7))
    process, streams = chain.process, (_generator(), _generator(7))
    draw = lambda: torch.cat(
        [torch.randn(2, n, 3, generator=g).double() for n, g in zip((9, 11), streams, strict=True)], 1
    )
    x = draw()
    for t in range(process.steps, 0, -1):
        time = process.time(torch.full((2,), t))
        pairs = (context.expand(2, -1, -1), x[:, :9]), (points.expand(2, -1, -1), x)
        told, untold = (network(*pairs, time, said) for said in (WORDS, torch.from_numpy(EMPTY).expand(2, -1)))
        x0 = expected(process, "v", x, torch.tensor([t, t]), untold + guidance * (told - untold))
        x = step(process, x, x0, t, eta, draw() if eta and t > 1 else None)
    torch.testing.assert_close(torch.cat([chain.values, late], 1), x, rtol=0, atol=1e-11)


def test_queries_in_chunks_are_all_queries_at_once(monkeypatch):
    chain, points = _chain(_network(), _pairs(9)[0][0]), _pairs(20, seed=4)[0][0]
    whole = chain.at(points, _generator(1))
    monkeypatch.setattr(chains, "CHUNK", 3)
    torch.testing.assert_close(chain.at(points, _generator(1)), whole, rtol=0, atol=1e-12)


def test_points_of_the_context_keep_their_values():
    context = _pairs(9)[0][0]
    chain = _chain(_network(), context)
    values = chain.at(torch.cat([_pairs(4, seed=6)[0][0], context.flip(0)]), _generator(1))
    assert torch.equal(values[:, 4:], chain.values.flip(1))


def test_a_known_context_stays_and_is_what_others_see():
    network, points, known = _network(), _pairs(9)[0][0], _normal(2, 9, 3, seed=8)
    process, rule = Process(linear(20, 1e-3, 0.4)).spaced(4), Rule(clip=False)
    made = lambda values: Chain(
        network, process, points, WORDS, torch.from_numpy(EMPTY), rule, _generator(), known=values
    )
    chain, others = made(known), _pairs(3, seed=4)[0][0]
    assert torch.equal(chain.values, known) and torch.equal(chain.at(points, _generator(1)), known)
    x = torch.randn(2, 3, 3, generator=_generator(1)).double()
    eps = torch.randn(2, 9, 3, generator=_generator()).double()
    for t in range(4, 0, -1):
        context = points.expand(2, -1, -1), diffuse(process, known, torch.tensor([t, t]), eps)
        out = network(context, (others.expand(2, -1, -1), x), process.time(torch.tensor([t, t])), WORDS)
        x = step(process, x, expected(process, "v", x, torch.tensor([t, t]), out), t, 0.0, None)
    torch.testing.assert_close(chain.at(others, _generator(1)), x, rtol=0, atol=1e-11)


@pytest.mark.parametrize("side", [16, 28, 32, 64])
def test_fourier_features_are_below_half_the_rate_of_the_grid(side):
    line = Plane().grid(side)[:side, :1].double()
    features = fourier(line, octaves_of(side))[:, 1:]
    assert (
        torch.linalg.matrix_rank(features) == features.shape[1]
    )  # no two of them are alike on the grid, and none vanishes
    more = fourier(line, octaves_of(side) + 1)[:, 1:]
    if side & (side - 1) == 0:
        assert torch.linalg.matrix_rank(more) < more.shape[1]


def test_the_grid_of_the_sphere_is_driscoll_and_healys():
    grid, areas = SPHERE.grid(8).reshape(8, 8, 3).double(), SPHERE.areas(8).reshape(8, 8).double()
    assert abs(areas.sum() - 1) < 1e-6
    for j, k in ((0, 0), (2, 1), (4, 6), (7, 5)):
        theta, phi = math.pi * j / 8, 2 * math.pi * k / 8
        sine = math.sin(theta)
        wanted = torch.tensor([sine * math.cos(phi), sine * math.sin(phi), math.cos(theta)]).double()
        assert (grid[j, k] - wanted).abs().max() < 1e-6
    # The shares are areas: the quadrature of a polynomial converges to its mean over the sphere.
    fine, weight = SPHERE.grid(128).double(), SPHERE.areas(128).double()
    assert abs((weight * fine[:, 2] ** 2).sum() - 1 / 3) < 1e-3 and abs((weight * fine[:, 0] ** 4).sum() - 1 / 5) < 1e-3


def test_the_sphere_is_shown_as_blender_maps_it():
    x = SPHERE.shown(8)
    picture = SPHERE.show(x, 8) * 2 - 1  # the direction of every pixel
    assert picture.shape == (3, 8, 16)
    assert picture[2, 0].min() > 0.9 and picture[2, -1].max() < -0.9  # up is on top
    assert picture[0, 4, 7:9].min() > 0.9  # azimuth 0, +X, in the middle
    assert picture[1, 4, 4] > 0.9 and picture[1, 4, 12] < -0.9  # azimuths grow to the left


def test_the_sphere_reads_equirectangular_pictures():
    pixels = ((SPHERE.shown(64).reshape(64, 128, 3) / 2 + 0.5) * 255).round().byte().numpy()
    inner = (slice(2, -2), slice(None))
    read, wanted = (x.reshape(32, 32, 3)[inner] for x in (SPHERE.read(pixels, 32), SPHERE.grid(32).numpy()))
    assert np.abs(read - wanted).max() < 0.02
    rgb, _ = landscape(np.random.default_rng(0))
    assert rgb.shape == (64, 64, 3) and rgb.std() > 10


def test_the_landscapes_of_the_sphere_are_up_side_up(monkeypatch):
    from pullback.generative.dpf import render

    axes = lambda place, time, azimuth, elevation, rng: (
        directions(torch.tensor(azimuth), torch.tensor(elevation)).numpy() / 2 + 0.5
    )
    monkeypatch.setattr(render.landscapes, "paint", axes)
    pixels, _ = landscape(np.random.default_rng(0))
    assert np.abs(pixels.reshape(-1, 3) / 127.5 - 1 - SPHERE.grid(64).numpy()).max() < 0.02


def test_pictures_and_grids_agree():
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    shown = Plane().show(torch.from_numpy(Plane().read(pixels, 8)), 8)
    assert np.abs(shown.permute(1, 2, 0).numpy() * 255 - pixels).max() < 0.01
    points = Plane().grid(8).reshape(8, 8, 2)
    assert points[0, -1].tolist() == [0.875, -0.875]  # x to the right, y down
    cells = Cube().grid(4).reshape(4, 4, 4, 3)
    assert cells[1, 2, 3].tolist() == [-0.25, 0.25, 0.75]


def test_shapes_are_shown_from_the_front():
    values = torch.full((4, 8, 8, 8), -1.0)
    values[0, :, 2, :4] = 1  # the lower half of the front is red,
    values[1, :, 2, :] = 1
    values[0, 4:, 6, :] = 1  # and the right half of the back is blue
    values[3, :, 6, :] = 1
    red, _, blue = Cube().show(values.reshape(4, -1).T, 8)
    assert red[5, 2] > 0.5 > blue[5, 2] and blue[2, 6] > 0.3 > red[2, 6] and red[2, 1] == blue[2, 1] == 1


def _winding(body: trimesh.Trimesh, points: np.ndarray) -> np.ndarray:
    """How often a closed surface winds around points: the solid angles of its faces (van Oosterom & Strackee 1983)."""
    a, b, c = (body.triangles[None, :, k] - points[:, None] for k in range(3))
    la, lb, lc = (np.linalg.norm(x, axis=-1) for x in (a, b, c))
    up = np.einsum("pfi,pfi->pf", a, np.cross(b, c))
    dots = [(x * y).sum(-1) * length for x, y, length in ((a, b, lc), (b, c, la), (c, a, lb))]
    return 2 * np.arctan2(up, la * lb * lc + sum(dots)).sum(1) / (4 * np.pi)


@pytest.mark.parametrize("noun", ["robot", "mushroom", "cactus"])
def test_occupancy_is_the_winding_number(noun):
    mesh, _ = objects.solid(noun, None, np.random.default_rng(1))
    side = 9
    grid = np.stack(np.meshgrid(*[centres(side)] * 3, indexing="ij"), -1).reshape(-1, 3)
    wanted, nudged = np.zeros((2, len(grid)), bool)
    for body in bodies(mesh):
        assert body.is_watertight
        wanted |= np.abs(_winding(body, grid)) > 0.5
        nudged |= np.abs(_winding(body, 1.004 * grid)) > 0.5
    clear = wanted == nudged  # a centre may lie on the surface
    assert clear.mean() > 0.9 and wanted.any()
    assert np.array_equal(occupied(mesh, side).reshape(-1)[clear], wanted[clear])


def test_an_open_band_leaves_nothing_outside_its_ball():
    mesh, _ = objects.solid("ball", None, np.random.default_rng(2))
    assert not all(body.is_watertight for body in bodies(mesh))
    radius = np.linalg.norm(np.stack(np.meshgrid(*[centres(48)] * 3, indexing="ij"), -1), axis=-1)
    filled = occupied(mesh, 48)
    largest = np.linalg.norm(mesh.vertices, axis=1).max()
    assert not filled[radius > largest].any() and filled[radius < 0.9 * largest].all()


def test_a_mug_is_hollow_above_its_coffee():
    mesh, _ = objects.solid("mug", None, np.random.default_rng(0))
    filled = occupied(mesh, 64)
    rim = filled.any((0, 1)).nonzero()[0].max() - 2
    x, y = (round(c) for c in np.argwhere(filled[:, :, rim]).mean(0))  # the centre of the cup
    column = filled[x, y].nonzero()[0]
    assert filled[:, :, rim].sum() > 50 and column.max() < rim - 4 and len(column) == np.ptp(column) + 1


def test_the_nearest_face_is_one_that_can_be_seen():
    inner, outer = trimesh.creation.box((0.8, 0.8, 0.8)), trimesh.creation.icosphere(2, 0.9)
    mesh = trimesh.util.concatenate([inner, outer])
    assert (nearest_faces(mesh, 8, np.random.default_rng(0)) >= len(inner.faces)).all()
    halves = trimesh.util.concatenate([trimesh.creation.box((0.5, 0.5, 0.5)), trimesh.creation.box((0.5, 0.5, 0.5))])
    halves.vertices[:8, 0] -= 0.5
    halves.vertices[8:, 0] += 0.5
    left = nearest_faces(halves, 8, np.random.default_rng(0)) < 12
    assert left[:4].all() and not left[4:].any()


def _write_shapes(folder) -> None:
    rng = np.random.default_rng(0)
    columns = [np.stack(column) for column in zip(*(shape(noun, rng) for noun in (1, 11)), strict=True)]
    np.savez(folder / "shapes-0000.npz", cells=np.packbits(columns[0], -1), paints=columns[1], palettes=columns[2],
             labels=columns[3])  # fmt: skip


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    _write_shapes(folder)
    return folder


def test_shapes_are_the_means_of_finer_cells_in_the_captions_colours(shapes):
    data, rng = Shapes(shapes, Cube()), np.random.default_rng(0)
    fine, paints, palette, label = shape(1, rng)
    assert label[0] == 1 and NOUNS[1] == "ball"
    colours = np.array([(1.0, 0, 0), (0, 1.0, 0)])
    values = data.values(0, np.arange(SIDE**3), colours)
    means = fine.reshape(SIDE, 2, SIDE, 2, SIDE, 2).mean((1, 3, 5))
    assert np.abs(values[:, 0].reshape(means.shape) - (2 * means - 1)).max() < 1e-6
    painted = objects.coloured(palette[paints.reshape(-1)], *colours)
    assert np.abs(values[:, 1:] - (2 * painted - 1)).max() < 1e-6


def test_points_are_different_and_even_by_area():
    areas, rng = SPHERE.areas(8).double().numpy(), np.random.default_rng(0)
    counts = np.zeros(64)
    for _ in range(4000):
        drawn = chosen(areas, 8, rng)
        assert len(set(drawn.tolist())) == 8
        counts[drawn[0]] += 1
    assert np.abs(counts / 4000 - areas).max() < 0.01


def test_context_and_queries_share_points(shapes):
    points = Points(Shapes(shapes, Cube()), 32, 40)
    batch = points.batch(2, np.random.default_rng(0))
    (context, queries), _ = points.split(batch.coordinates), points.split(batch.values)
    assert context.shape == (2, 32, 3) and queries.shape == (2, 40, 3)
    assert torch.equal(context[:, -5:], queries[:, :5])
    same = Points(SimpleNamespace(domain=Plane(), side=8), 64, 64)  # all points: the queries are the context
    assert same.shared == 64


def _model(domain: str = "cube", words: bool = True) -> FieldModel:
    of = domain_of(domain, {"cube": 4, "plane": 3, "sphere": 3}[domain])
    design = preset_of(PRESETS["tiny"], of, words).design
    torch.manual_seed(0)
    network = FieldNetwork(design.network).eval().requires_grad_(False)
    torch.nn.init.normal_(network.out.weight, std=0.1)
    return FieldModel(network, design, f"my-{domain}", {})


def test_weights_come_back(tmp_path, shapes):
    trainee = FieldTrainee(Shapes(shapes, Cube()), preset_of(PRESETS["tiny"], Cube(), True))
    network = trainee.networks["model"]
    torch.nn.init.normal_(network.out.weight, std=0.1)
    path = tmp_path / "m.safetensors"
    loop.export(path, network, trainee.metadata())
    model = load_model(path, domain="cube")
    assert model.design == trainee.design and model.card["format"] == FORMAT
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, network.state_dict()[name].half().float())
    assert torch.equal(model.chain(["red ball"], 3, 4).values, model.chain(["a red ball"], 3, 4).values)
    assert not torch.equal(model.chain(["red ball"], 3, 4).values, model.chain(["blue ball"], 3, 4).values)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("objective", ["v", "x0"])
def test_training_lowers_the_loss(shapes, architecture, objective):
    preset = preset_of(PRESETS["tiny"], Cube(), True, architecture, objective)
    trainee = FieldTrainee(Shapes(shapes, Cube()), preset, batch_size=4, lr=1e-2)
    fixed = trainee.batch(np.random.default_rng(99))
    with torch.no_grad():
        before = next(trainee.losses(fixed, _generator(99), 0)).item()
    for n in range(20):
        next(trainee.losses(trainee.batch(np.random.default_rng(n)), _generator(n), n)).backward()
        for optimiser in trainee.optimisers[0]:
            optimiser.step()
            optimiser.zero_grad()
    with torch.no_grad():
        assert next(trainee.losses(fixed, _generator(99), 0)).item() < 0.9 * before


def test_one_trainee_takes_three_domains(tmp_path, shapes):
    rgb, words = landscape(np.random.default_rng(0))
    np.savez(tmp_path / "spheres-0000.npz", pictures=rgb[None], words=words[None])
    Image.fromarray(rgb).save(tmp_path / "a.png")
    for data in (Shapes(shapes, Cube()), Landscapes(tmp_path), Pictures(tmp_path, Plane(), 32)):
        trainee = FieldTrainee(data, preset_of(PRESETS["tiny"], data.domain, True), batch_size=2)
        loss = next(trainee.losses(trainee.batch(np.random.default_rng(0)), _generator(), 0))
        assert loss.isfinite() and trainee.sheet(trainee.networks["model"]).shape[0] == 3


class _Ball(FieldNetwork):
    """A network that expects a ball of radius 0.6 whatever it sees, of colours that are its coordinates."""

    def decode(self, encoding, query):
        inside = ((0.6 - query[0].norm(dim=-1, keepdim=True)) * 20).clamp(-1, 1)
        return torch.cat([inside, query[0]], -1)


@pytest.mark.parametrize("resolution", [24, 32, 48])
def test_a_shape_becomes_a_closed_coloured_mesh(resolution):
    design = replace(_model().design, predicted="x0")
    model = FieldModel(_Ball(design.network), design, "ball", {})
    mesh, texture = functions.shape(model, "red ball", steps=2, resolution=resolution, texture=256)
    seamless = trimesh.Trimesh(mesh.vertices, mesh.faces)
    seamless.merge_vertices(merge_tex=True, merge_norm=True)
    assert seamless.is_watertight and abs(seamless.volume / (4 / 3 * math.pi * 0.6**3) - 1) < 0.12
    column, row = (mesh.visual.uv * 255).T.round().astype(int)
    assert texture.shape == (256, 256, 3)
    assert np.abs(texture[255 - row, column] - (mesh.vertices / 2 + 0.5) * 255).max() < 14


def test_a_panorama_wraps_around_at_any_width(tmp_path, monkeypatch):
    rows = torch.linspace(0, 1, 8)[None, :, None].expand(3, 8, 16)
    assert (functions.enlarged(rows, 8, 16) - rows).abs().max() < 1e-5
    waves = torch.cos(2 * math.pi * (torch.arange(32) + 0.5) / 32)[None, None].expand(3, 16, 32) / 2 + 0.5
    large = functions.enlarged(waves, 32, 64)
    wanted = torch.cos(2 * math.pi * (torch.arange(64) + 0.5) / 64) / 2 + 0.5
    assert (large - wanted).abs().max() < 0.01
    monkeypatch.setattr(functions, "load_model", lambda *args: _model("sphere"))
    bands = list(functions.panorama("m", Settings("sea", steps=2), 40))
    assert torch.cat(bands, 1).shape == (3, 20, 40)


@pytest.mark.parametrize(
    ("points", "said"),
    [
        (torch.zeros(0, 3), "at least one"),
        (torch.zeros(4, 2), "(N, 3)"),
        (torch.tensor([[0.0, 0, 0], [math.nan, 0, 0]]), "point 1"),
        (torch.tensor([[0.0, 0, 3.0]]), "from -1 to 1"),
        (torch.zeros(2, 3), "duplicates"),
    ],
)
def test_wrong_points_are_one_sentence(points, said):
    with pytest.raises(ValueError, match=said.replace("(", r"\(").replace(")", r"\)")):
        _model().chain(["ball"], steps=2, points=points)
    assert len(checked(torch.eye(3), Cube())) == 3


def test_wrong_words_and_numbers_are_one_sentence():
    with pytest.raises(ValueError, match=r"does not know 'muog': did you mean mug"):
        _model().chain(["a red muog"])
    with pytest.raises(ValueError, match="does not know 'mountains'"):
        _model().chain(["mountains"])
    with pytest.raises(ValueError, match="does not know 'chair'"):
        _model("sphere").chain(["a chair at noon"])
    with pytest.raises(ValueError, match="knows no words"):
        _model("plane", words=False).chain(["a chair"])
    with pytest.raises(ValueError, match="steps are 0"):
        _model().chain(["ball"], steps=0)
    with pytest.raises(ValueError, match="takes 9 context points"):
        _network(replace(SMALL, architecture="mixer")).encode(_pairs(8), torch.tensor([1, 1]), WORDS)
    with pytest.raises(ValueError, match="no multiple"):
        Config(width=10, heads=4)
    with pytest.raises(ValueError, match="none of the cube"):
        Design("cube", network=Config(dimensions=2, channels=4))
    with pytest.raises(ValueError, match="--architecture"):
        preset_of(PRESETS["tiny"], Cube(), True, "unet")


def _said(*arguments: str) -> str:
    result = CliRunner().invoke(cli.app, [str(each) for each in arguments])
    assert isinstance(result.exception, ValueError), result.output
    return str(result.exception)


def test_the_command_line_trains_and_draws_and_refuses(tmp_path, shapes, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file, sphere = tmp_path / "m.safetensors", tmp_path / "s.safetensors"
    done = CliRunner().invoke(
        cli.app,
        ["train", "dpf-shapes", str(shapes), "-o", str(file), "--steps", "2", "--preset", "tiny", "--batch", "2"],
    )
    assert done.exit_code == 0, done.output
    ball = _model("sphere")
    loop.export(sphere, ball.network, {"format": FORMAT, "design": json.dumps(asdict(ball.design))})
    done = CliRunner().invoke(
        cli.app, ["panorama", "sea at noon", "--model", str(sphere), "-o", "p.png", "--width", "64", "--steps", "2"]
    )
    assert done.exit_code == 0, done.output
    assert Image.open("p.png").size == (64, 32)
    assert "draws shapes, not panoramas" in _said("panorama", "sea", "--model", file, "-o", "p.png")
    assert "draws panoramas, not shapes" in _said("shape", "chair", "--model", sphere)
    assert "takes no --guide" in _said("panorama", "sea", "--model", sphere, "--guide", "0,0,90,90: sea")
    assert "leave out" in _said("panorama", "sea", "--model", sphere, "--projection", "cylinder")
    assert "does not know 'unicorn'" in _said("shape", "a unicorn", "--model", file)
    assert "--resolution" in _said("shape", "chair", "--model", file, "--resolution", "0")
    assert "does not exist" in _said("shape", "chair", "--model", "missing.safetensors")
    assert "draws functions" in _said("image", "chair", "--model", file)
    with pytest.raises(ValueError, match="draws functions"):
        model_of("dpf-shapes")
    sphere.write_bytes(sphere.read_bytes()[:1000])
    assert "truncated" in _said("shape", "chair", "--model", sphere)
