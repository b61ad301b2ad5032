"""Functions: shapes judged, one network on three domains, three architectures, and beyond the resolution of the training.

`python benchmarks/objects.py judge JUDGE.safetensors` trains the judge of shapes. `sample FOLDER` draws every noun in 4 colours
with the model of `pullback shape`, and `shapes FOLDER JUDGE` measures the meshes. `domains` trains one network on the plane, the
cube and the sphere, `architectures` three networks on the plane; `beyond` samples more finely than the training. `picture` writes
the picture of the documentation.

Real data: `temperatures FOLDER` writes maps of surface temperatures from the package `iris-sample-data`, as functions on the
sphere, and `lmconv.py folders FOLDER` the pictures of Fashion-MNIST.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
import typer
from objects import load_judge, rendered, requested
from pullback import functions
from pullback.generative.dpf.chain import Chain, Rule
from pullback.generative.dpf.data import EMPTY, Functions, Landscapes, Pictures, Shapes, chosen
from pullback.generative.dpf.design import Design, Preset, octaves_of, preset_of
from pullback.generative.dpf.domains import Cube, Plane, Sphere
from pullback.generative.dpf.model import load_model
from pullback.generative.dpf.network import Config, FieldNetwork
from pullback.generative.dpf.training import FieldTrainee
from pullback.generative.toybox.objects import solid
from pullback.generative.toybox.pictures import photograph
from pullback.generative.toybox.words import COLOURS, NOUNS, SIZES
from pullback.geometry.cameras import orbit
from pullback.mesh.glb import write_glb
from pullback.metrics import PictureTextFeatures, features_of, frechet_distance
from pullback.pictures import write_png
from pullback.settings import Settings
from pullback.training import loop
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
POINTS = 1024
"""Points on a surface by which meshes are compared."""
DATA = Path("data")
MODEST = Preset(Design(network=Config(width=96, latents=48, blocks=2, selfs=1, decoders=2, context=256)), 256, 16, 2e-3)
"""The sizes of the comparisons, which are trained in minutes."""
SHOWN = (
    "a red chair", "a blue car", "a green cactus", "a yellow duck", "an orange mug", "a purple rocket", "a pink house",
    "a red mushroom",
)  # fmt: skip
COMPONENTS = 32
"""Principal components of the values on the grid in which samples are compared with held-out functions."""


@app.command()
def sample(folder: Path, model: str = "dpf-shapes", steps: int = 16, guidance: float = 1.0, colours: int = 4) -> None:
    """Draw every noun in `colours` colours, each with another seed, as COLOUR-NOUN.glb. Files that exist are skipped."""
    folder.mkdir(parents=True, exist_ok=True)
    loaded, took = load_model(model, domain="cube"), []
    for seed, (noun, colour) in enumerate(requested(len(NOUNS), colours)):
        path = folder / f"{colour}-{noun}.glb"
        if not path.exists():
            start = time.perf_counter()
            try:
                write_glb(path, *functions.shape(loaded, f"{colour} {noun}", seed, steps, guidance), path.stem)
            except ValueError as error:
                print(f"{path.stem}: {error}")
            took.append(time.perf_counter() - start)
    if took:
        print(f"{len(took)} shapes, {np.mean(took):.1f} s each on {torch.get_num_threads()} threads")


def points_of(mesh: trimesh.Trimesh, seed: int) -> np.ndarray:
    """Points on a surface, (POINTS, 3), evenly by area."""
    return trimesh.sample.sample_surface(mesh, POINTS, seed=seed)[0]


def mesh_of(path: Path) -> trimesh.Trimesh:
    """The mesh of a GLB, Z up, without the seams of its texture."""
    mesh = next(iter(trimesh.load(path).geometry.values()))
    mesh.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0)))
    seamless = trimesh.Trimesh(mesh.vertices, mesh.faces)
    seamless.merge_vertices(merge_tex=True, merge_norm=True)
    return seamless


def chamfer(a: list[np.ndarray], b: list[np.ndarray]) -> np.ndarray:
    """Chamfer distances between sets of points, (len(a), len(b)): the mean squared distances to the nearest, both ways."""
    trees = [[cKDTree(points) for points in group] for group in (a, b)]
    table = [[(q.query(p.data)[0] ** 2).mean() + (p.query(q.data)[0] ** 2).mean() for q in trees[1]] for p in trees[0]]
    return np.array(table)


def coverage_and_mmd(made: list[np.ndarray], true: list[np.ndarray]) -> tuple[float, float]:
    """The share of true shapes that are nearest to a made one, and the mean distance from a true one to the nearest made one."""
    distances = chamfer(made, true)
    return len(set(distances.argmin(1).tolist())) / len(true), float(distances.min(0).mean())


def held_out(count: int, seed: int) -> list[np.ndarray]:
    """Points on `count` procedural shapes of every noun, of another seed than the training's."""
    rng = np.random.default_rng(seed)
    return [points_of(solid(noun, None, rng)[0], n) for noun in NOUNS for n in range(count)]


@app.command()
def shapes(folder: Path, judge: Path, generated: Path | None = None, each: int = 4) -> None:
    """Print the table of shapes: closed meshes, names that the judge gives, coverage and MMD against `each` per noun."""
    net, true = load_judge(judge), held_out(each, 1_000_001)
    print(
        "| shapes | closed | noun right | colour right | coverage | MMD x 1000 |\n| --- | --- | --- | --- | --- | --- |"
    )
    other = coverage_and_mmd(held_out(each, 1_000_002), true)
    print(f"| (procedural, others) | | | | {other[0]:.0%} | {1000 * other[1]:.2f} |", flush=True)
    for where in (folder, generated) if generated else (folder,):
        paths = sorted(where.glob("*.glb"))
        right, closed, clouds, wrong = [], [], [], []
        for n, path in enumerate(paths):
            colour, noun = path.stem.split("-")
            mesh = mesh_of(path)
            closed.append(mesh.is_watertight)
            clouds.append(points_of(mesh, n))
            with torch.no_grad():
                said = [logits.log_softmax(1).sum(0).argmax().item() for logits in net(rendered(path))]
            right.append((NOUNS[said[0]] == noun, tuple(COLOURS)[said[1]] == colour))
            wrong += [] if right[-1][0] else [f"{noun}: {NOUNS[said[0]]}"]
        named = " | ".join(f"{np.mean([r[k] for r in right]):.1%}" for k in (0, 1))
        kinds = {path.stem.split("-")[1] for path in paths}
        same = [points for n, points in enumerate(true) if NOUNS[n // each] in kinds]
        found = coverage_and_mmd(clouds, same)
        print(
            f"| {where.name}, {len(paths)} | {np.mean(closed):.1%} | {named} | {found[0]:.0%} | {1000 * found[1]:.2f} |"
        )
        print("mistaken:", "; ".join(wrong), flush=True)


def trained(data: Functions, preset: Preset, steps: int, words: bool, architecture: str = "perceiver") -> FieldTrainee:
    """Train a network, and keep its averaged weights in the trainee."""
    torch.manual_seed(0)
    preset = preset_of(preset, data.domain, words, architecture)
    if data.side != preset.design.side:
        network = replace(preset.design.network, octaves=octaves_of(data.side))
        preset = replace(preset, design=replace(preset.design, side=data.side, network=network))
    trainee, plan = FieldTrainee(data, preset), loop.Plan(steps, warmup=20)
    average = FieldNetwork(preset.design.network)
    average.load_state_dict(trainee.networks["model"].state_dict())
    for n in range(steps):
        random = torch.Generator().manual_seed(n)
        with torch.autocast("cpu", torch.bfloat16, enabled=loop.faster_precision() == "bf16"):
            loss = next(trainee.losses(trainee.batch(np.random.default_rng(n)), random, n))
        loss.backward()
        for optimiser in trainee.optimisers[0]:
            for group in optimiser.param_groups:
                group["lr"] = preset.lr * plan.rate(n)
            optimiser.step()
            optimiser.zero_grad()
        with torch.no_grad():
            loop.follow(average, trainee.networks["model"], 0.99, n + 1)
    trainee.networks["model"] = average.eval().requires_grad_(False)
    return trainee


@torch.no_grad()
def loss_on(trainee: FieldTrainee, data: Functions, batches: int = 8) -> float:
    """The loss on held-out functions."""
    points, trainee.points.functions = trainee.points.functions, data
    losses = []
    for n in range(batches):
        batch = trainee.batch(np.random.default_rng(10_000 + n))
        losses.append(next(trainee.losses(batch, torch.Generator().manual_seed(n), 0)).item())
    trainee.points.functions = points
    return float(np.mean(losses))


@torch.no_grad()
def samples(trainee: FieldTrainee, count: int, side: int, steps: int, words: Tensor | None = None) -> Tensor:
    """Samples of a trained network on a grid of any side, (count, N, C)."""
    design, rng, random = trainee.design, np.random.default_rng(0), torch.Generator().manual_seed(0)
    network, domain = trainee.networks["model"], design.functions_of
    index = chosen(domain.areas(design.side).double().numpy(), trainee.points.context, rng)
    context = domain.grid(design.side)[torch.from_numpy(index)]
    said = torch.from_numpy(EMPTY).expand(count, -1) if words is None else words
    chain = Chain(
        network, trainee.process.spaced(steps), context, said, torch.from_numpy(EMPTY), Rule(design.predicted), random
    )
    return chain.at(domain.grid(side), random)


def drawn(data: Functions, count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Functions on their whole grid, (count, N, C), and their words."""
    rng, every = np.random.default_rng(seed), np.arange(len(data.domain.grid(data.side)))
    rows = [data.draw(lambda edge: every, rng) for _ in range(count)]
    return torch.from_numpy(np.stack([row[1] for row in rows]).astype(np.float32)), torch.from_numpy(
        np.stack([row[2] for row in rows]).astype(np.int64)
    )


def in_components(true: Tensor, *sets: Tensor) -> list[float]:
    """The Frechet distances of sets of functions to true ones in the first principal components of the latter."""
    mean = true.flatten(1).mean(0)
    _, scale, axes = torch.pca_lowrank(true.flatten(1) - mean, min(COMPONENTS, len(true) - 1), center=False)
    project = lambda each: (each.flatten(1) - mean) @ axes / scale[0] * len(true) ** 0.5
    return [frechet_distance(project(each), project(true)) for each in sets]


COLDEST, HOTTEST = 200.0, 322.0
"""Temperatures in kelvin that become black and white."""


@app.command()
def temperatures(folder: Path) -> None:
    """Write maps of global surface temperatures to FOLDER/temperatures, two of the forecasts to temperatures-test.

    They are the seasonal forecasts (GloSea4) of the package `iris-sample-data`: 6 months each of a dozen forecasts.
    """
    import iris_sample_data

    forecasts = sorted((Path(iris_sample_data.path) / "GloSea4").glob("*.pp"))
    for name, paths in (("temperatures", forecasts[:-2]), ("temperatures-test", forecasts[-2:])):
        maps = [each for path in paths for each in maps_of(path)]
        grey = [((each - COLDEST) / (HOTTEST - COLDEST)).clip(0, 1) * 255 for each in maps]
        values = [Sphere().read(each.round().astype(np.uint8)[..., None].repeat(3, -1), 64) for each in grey]
        pictures = np.stack([((each.reshape(64, 64, 3) + 1) * 127.5).round().astype(np.uint8) for each in values])
        (folder / name).mkdir(parents=True, exist_ok=True)
        words = np.tile(EMPTY.astype(np.uint8), (len(pictures), 1))
        np.savez_compressed(folder / name / "spheres-0000.npz", pictures=pictures, words=words)
        print(f"{folder / name}: {len(pictures)} months")


def maps_of(path: Path) -> list[np.ndarray]:
    """The maps (rows, columns) of a PP file of the Met Office, north at the top: records of a header and big-endian floats."""
    data, at, maps = path.read_bytes(), 0, []
    while at < len(data):
        header = np.frombuffer(data, ">i4", 45, at + 4)
        rows, columns = int(header[17]), int(header[18])
        at += 4 + 256 + 4  # every record lies between two lengths
        maps.append(np.frombuffer(data, ">f4", rows * columns, at + 4).reshape(rows, columns)[::-1])
        at += 4 + int.from_bytes(data[at : at + 4], "big") + 4
    return maps


def functions_in(folder: Path, domain: str) -> Functions:
    """The functions in a folder, on the domain of a name."""
    if domain == "plane":
        return Pictures(folder, Plane(), 16)
    return Shapes(folder, Cube()) if domain == "cube" else Landscapes(folder)


@app.command()
def domains(
    folder: Path = DATA, steps: int = 600, count: int = 96, sampled: int = 20, only: str = "", spheres: str = "spheres"
) -> None:
    """Print the table of one network on three domains.

    FOLDER holds the folders train and test (pictures), shapes and spheres with their held-out shapes-test and spheres-test.
    `--only` names one domain, and `--spheres` another folder of functions on the sphere.
    """
    print("| domain | D -> C | loss before | loss after | samples | independent noise | training functions |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name, train, test in (
        ("plane", "train", "test"),
        ("cube", "shapes", "shapes-test"),
        ("sphere", spheres, f"{spheres}-test"),
    ):
        if only not in ("", name):
            continue
        data, other = (functions_in(folder / each, name) for each in (train, test))
        fresh = trained(data, MODEST, 0, words=True)
        trainee = trained(data, MODEST, steps, words=True)
        true, words = drawn(other, count, 1)
        made = samples(trainee, count, data.side, sampled, words)
        noise = true.mean(0) + true.std(0) * torch.randn(true.shape, generator=torch.Generator().manual_seed(0))
        found = in_components(true, made, noise, drawn(data, count, 2)[0])
        domain = data.domain
        row = [domain.name, f"{domain.dimensions} -> {domain.channels}", f"{loss_on(fresh, other):.3f}",
               f"{loss_on(trainee, other):.3f}", *(f"{each:.3f}" for each in found)]  # fmt: skip
        print(f"| {' | '.join(row)} |", flush=True)


@app.command()
def architectures(folder: Path = DATA, steps: int = 600, count: int = 192, sampled: int = 50, side: int = 16) -> None:
    """Print the table of three architectures, and what they draw at twice the resolution of the training, beside bilinear."""
    data, test = Pictures(folder / "train", Plane(), side), Pictures(folder / "test", Plane(), side)
    fine = drawn(Pictures(folder / "test", Plane(), 2 * side), count, 1)[0]
    extract, true = PictureTextFeatures(), drawn(test, count, 1)[0]
    pictures = lambda values, size: (Plane().show(each, size) for each in values)
    distance = lambda made, wanted, size: frechet_distance(
        features_of(pictures(made, size), extract), features_of(pictures(wanted, size), extract)
    )
    print(f"| architecture | weights | s/step | loss | FID at {side} | FID at {2 * side} | bilinear |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    seen = distance(drawn(data, count, 2)[0], true, side)
    print(f"| (training pictures) | | | | {seen:.0f} | | |", flush=True)
    for architecture, blocks in (("perceiver", 2), ("transformer", 5), ("mixer", 3)):
        network = replace(MODEST.design.network, blocks=blocks, context=side * side, words=False)
        preset = replace(MODEST, design=replace(MODEST.design, network=network), queries=side * side)
        start = time.perf_counter()
        trainee = trained(data, preset, steps, words=False, architecture=architecture)
        took = (time.perf_counter() - start) / steps
        weights = sum(p.numel() for p in trainee.networks["model"].parameters())
        made = samples(trainee, count, side, sampled)
        native = samples(trainee, count, 2 * side, sampled)
        grids = made.permute(0, 2, 1).reshape(count, 3, side, side)
        bilinear = F.interpolate(grids, scale_factor=2, mode="bilinear").flatten(2).permute(0, 2, 1)
        found = [distance(made, true, side), *(distance(each, fine, 2 * side) for each in (native, bilinear))]
        row = [
            architecture,
            f"{weights / 1e6:.2f} M",
            f"{took:.2f}",
            f"{loss_on(trainee, test):.3f}",
            *(f"{f:.0f}" for f in found),
        ]
        print(f"| {' | '.join(row)} |", flush=True)


@app.command()
def beyond(folder: Path = DATA / "shapes-test", model: str = "dpf-shapes", count: int = 4, steps: int = 10) -> None:
    """Print how well finer cells than the training's are filled in, beside trilinear interpolation.

    Of held-out shapes the words and the values at the context's points, in coarse cells, are known, and the rest is sampled: in
    the finer cells, and, for comparison, in the coarse cells, between which is interpolated.
    """
    loaded, rng = load_model(model, domain="cube"), np.random.default_rng(0)
    data, side, rows = Shapes(folder, Cube()), loaded.design.side, []
    with np.load(sorted(folder.glob("shapes-????.npz"))[0]) as shard:
        binary = np.unpackbits(shard["cells"], axis=-1)
    areas = loaded.domain.areas(side).double().numpy()
    for n in rng.choice(len(binary), count, replace=False):
        index = chosen(areas, loaded.network.config.context, rng)
        known = torch.from_numpy(data.values(int(n), index, np.tile(COLOURS["red"], (2, 1)))).float()[None]
        noun, size = data.labels[n]
        words = loaded.encoded(f"{('', *SIZES)[size]} red {NOUNS[noun]}")[None]
        chain = Chain(
            loaded.network, loaded.design.process().spaced(steps), loaded.domain.grid(side)[torch.from_numpy(index)], words,
            torch.from_numpy(EMPTY), Rule(loaded.design.predicted), torch.Generator().manual_seed(int(n)), known=known,
        )  # fmt: skip
        native, coarse = (asked(chain, loaded.domain.grid(size), size) for size in (2 * side, side))
        linear = F.interpolate(coarse, scale_factor=2, mode="trilinear")
        # The network learned the mean of a coarse cell around a point; around the centre of a finer one this is:
        true = ndimage.convolve(binary[n].astype(np.float64), np.einsum("i,j,k->ijk", *[[0.25, 0.5, 0.25]] * 3))
        for each in (native, linear):
            filled, cells = each[0, 0].numpy(), binary[n] > 0
            found = filled > 0.5
            rows.append((((filled - true) ** 2).mean(), (found & cells).sum() / (found | cells).sum()))
    print("| finer cells | mean squared error | intersection over union |\n| --- | --- | --- |")
    for name, each in (("asked there", rows[::2]), ("trilinear", rows[1::2])):
        error, overlap = np.mean(each, 0)
        print(f"| {name} | {error:.4f} | {overlap:.3f} |")


def asked(chain: Chain, points: Tensor, side: int) -> Tensor:
    """The occupancy of a chain's shape on a grid, (1, 1, side, side, side) in [0, 1]."""
    values = chain.at(points, torch.Generator().manual_seed(1))[0, :, 0]
    return values.reshape(1, 1, side, side, side) / 2 + 0.5


@app.command()
def picture(
    model: str = "dpf-shapes", sphere: str = "dpf-sphere", path: Path = Path("docs/pictures/dpf.png"), side: int = 128
) -> None:
    """Write the picture of the documentation: eight shapes as meshes, and below them two panoramas."""
    loaded, views = load_model(model, domain="cube"), []
    camera = orbit(torch.tensor([-0.6]), torch.tensor([0.4]))
    for n, prompt in enumerate(SHOWN):
        mesh, texture = functions.shape(loaded, prompt, seed=n)
        uv = mesh.visual.uv[mesh.faces].mean(1)
        row, column = (((1 - uv[:, 1]) * (len(texture) - 1)).round(), (uv[:, 0] * (len(texture) - 1)).round())
        colours = texture[row.astype(int), column.astype(int)] / 255
        view = torch.from_numpy(photograph(mesh, colours, camera, side)[0]).float() / 255
        views.append(view[:3] + 1 - view[6:])
    rows = [torch.cat(views[:4], 2), torch.cat(views[4:], 2)]
    for n, prompt in enumerate(("mountains at sunset", "sea at noon")):
        settings = Settings(prompt, seed=n, steps=16, guidance=1.0)
        rows.append(torch.cat(list(functions.panorama(sphere, settings, 4 * side)), 1))
    sheet = torch.cat(rows, 1).clamp(0, 1)
    write_png(path, iter([sheet]), sheet.shape[2], sheet.shape[1])


if __name__ == "__main__":
    app()
