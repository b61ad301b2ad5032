"""What models of functions draw: shapes in the cube as textured meshes, and functions on the sphere as panoramas.

No view is rendered and no field is fitted: the function itself is sampled (`generative/dpf/`), in seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy import ndimage
from torch import Generator, Tensor
from trimesh import Trimesh

from .generative.dpf.chain import Chain, Tick
from .generative.dpf.model import FORMAT, SHIPPED, FieldModel, load_model
from .generative.weights import format_of
from .mesh.bake import painted
from .mesh.surface import LEVEL, extract
from .mesh.unwrap import unwrap
from .representation import Recipe, Setting, Shaped
from .settings import MESH, RUN, Settings
from .training.precision import faster_precision
from .types import Params, Progress

SHAPE = (
    RUN["seed"],
    Setting("steps", 16, "Steps from noise to shape.", 1, 1000),
    Setting("guidance", 1.0, "How strictly to follow the prompt: 0 not at all, 1 as trained.", 0.0, 20.0, 0.5),
    Setting("resolution", 64, "Cells along each side of the grid on which the surface is found.", 8, 128),
    *MESH[:2],
)
"""The settings of `shape`."""
SURE = 0.9
"""Coarse cells whose occupancy is within SURE of 0 are refined, and so are neighbours of which one is inside and one outside."""
FILLED = 0.42
"""The occupancy of the surface, in [0, 1]. At one half, parts that are thinner than a cell would vanish."""
EMPTY = 0.1
"""Cells with a lower occupancy count as empty, because a little of it everywhere would look like fog that hides the inside."""
BEGIN = 2.0
"""The noise level at which a run begins that starts from a shape. At higher levels little of the shape would remain."""
GREY = 0.7
"""The colour of shapes whose model knows none."""
LARGEST_PANORAMA = 128
"""The largest height of a panorama that is sampled. Larger pictures are enlarged from it."""
AVERAGED = 2
"""Directions along each side of a pixel whose mean is shown, against the grain of what the context leaves open."""


def draws_functions(name: str) -> bool:
    """Return whether a model's name, or the file of that name, is a model of functions."""
    return name in SHIPPED or format_of(Path(name).expanduser()) == FORMAT


def shape(
    model: FieldModel,
    prompt: str,
    seed: int = 0,
    steps: int = 16,
    guidance: float = 1.0,
    resolution: int = 64,
    faces: int = 20_000,
    texture: int = 1024,
    progress: Progress = lambda done, total, state: None,
    tick: Callable[[], None] = lambda: None,
) -> tuple[Trimesh, np.ndarray]:
    """Sample a shape as a mesh.

    Args:
        model: A model of the cube.
        prompt: What to draw, in toybox's words; it may be empty.
        seed, steps, guidance, resolution, faces, texture: As in `SHAPE`.
        progress: Called after every step on the grid, with `total` only at the end of the sampling.
        tick: Called often, also while the mesh is made; it may raise to stop.

    Returns:
        A watertight mesh with UVs, and its texture, (texture, texture, 3) uint8.

    Raises:
        ValueError: If the prompt or a number is wrong, or the shape is empty.
    """
    random = Generator().manual_seed(seed + 1)
    side = min(resolution, model.design.side)
    grids = 1 if side == resolution else 2
    with _precision(model.device):
        chain = model.chain([prompt], seed, steps, guidance, tick=lambda done, total: tick())
        coarse = _cells(chain, model, side, random, lambda n, total: progress(n, grids * total, None))
        filled = coarse[0]
        if grids == 2:
            filled = _refined(
                chain, filled, resolution, random, lambda n, total: progress(total + n, grids * total, None)
            )
    occupancy = (filled + 1) / 2
    opacity = torch.where(occupancy < EMPTY, 0.0, occupancy / (2 * FILLED)).clamp(0, 0.999)
    density = -LEVEL * torch.log2(1 - opacity)  # as if a cell of that opacity were one unit of `extract` deep

    def at(points: Tensor) -> Tensor:
        tick()
        x, y, z = ((points + 1) * resolution / 2 - 0.5).round().long().clamp(0, resolution - 1).T
        return density[x, y, z]

    def colours(points: np.ndarray) -> np.ndarray:
        places = torch.from_numpy(points).float().flip(-1)[None, None, None]  # the last axis of a volume comes first
        read = F.grid_sample(coarse[None, 1:], places, padding_mode="border", align_corners=False)
        return (read[0, :, 0, 0].T / 2 + 0.5).clamp(0, 1).double().numpy()

    mesh = unwrap(extract(at, resolution, faces=faces, tick=tick), texture, tick)
    grey = len(coarse) == 1
    return mesh, painted(mesh, (lambda points: np.full((len(points), 3), GREY)) if grey else colours, texture)


def begun(recipe: Recipe, settings: Settings, device: str, tick: Callable[[], None] = lambda: None) -> Params:
    """Return the parameters that an object begins with, if it begins as a shape: that of `shape` with the same prompt and seed.

    Args:
        recipe: How the object is sampled.
        settings: The settings of the run; `start` is the model of shapes.
        device: Where this model runs.
        tick: Called after every step; it may raise to stop.

    Raises:
        ValueError: If the model is none of the cube, it does not know the prompt, or the field cannot begin as a shape.
    """
    if not isinstance(recipe.diffrep, Shaped):
        raise ValueError(
            f"{type(recipe.diffrep).title} cannot begin as a shape: leave out the start, or choose a field of voxels"
        )
    model = load_model(settings.start, device, "cube")
    random = Generator().manual_seed(settings.seed + 1)
    with _precision(model.device):
        chain = model.chain([settings.prompt], settings.seed, tick=lambda done, total: tick())
        cells = _cells(chain, model, model.design.side, random, lambda done, total: tick()) / 2 + 0.5
    colours = cells[1:] if len(cells) == 4 else torch.full((3, *cells.shape[1:]), GREY)
    return recipe.diffrep.shaped(torch.cat([cells[:1] / (2 * FILLED), colours]).clamp(0, 1))


def _precision(device: str) -> torch.autocast:
    """Return the context in which a network runs in the precision that is faster on a device."""
    half = faster_precision(device) == "bf16"
    return torch.autocast(torch.device(device).type, torch.bfloat16, enabled=half)


def _cells(chain: Chain, model: FieldModel, side: int, random: Generator, tick: Tick) -> Tensor:
    """Return the values of a function in all cells of the cube, (C, side, side, side)."""
    values = chain.at(model.domain.grid(side).to(model.device), random, tick)
    return values[0].float().cpu().T.reshape(-1, side, side, side)


def _refined(chain: Chain, coarse: Tensor, side: int, random: Generator, tick: Tick) -> Tensor:
    """Return the occupancy in finer cells, (side, side, side). Only cells near the coarse surface are sampled."""
    grid = coarse.numpy()
    cross = ndimage.generate_binary_structure(3, 1)
    highest, lowest = (each(grid, footprint=cross) for each in (ndimage.maximum_filter, ndimage.minimum_filter))
    unsure = (np.abs(grid) < SURE) | ((highest > 0) & (lowest < 0))
    line = (torch.arange(side) * len(grid)).div(side, rounding_mode="floor")
    index = torch.meshgrid(line, line, line, indexing="ij")
    filled, near = coarse[index].clone(), torch.from_numpy(unsure)[index]
    points = (2 * near.nonzero() + 1) / side - 1
    if len(points):
        values = chain.at(points.to(chain.points), random, tick)
        filled[near] = values[0, :, 0].float().cpu()
    return filled


def panorama(
    name: str, settings: Settings, width: int, device: str = "cpu", progress: Progress = lambda done, total, state: None
) -> Iterator[Tensor]:
    """Sample a panorama with a model of the sphere.

    Args:
        name: The model's name or file.
        settings: The settings of the run; those of views and fits do not apply.
        width: Width of the equirectangular picture in pixels, twice its height.
        device: Where the model runs.
        progress: Called after every step.

    Returns:
        The picture as bands (3, rows, width) in [0, 1].

    Raises:
        ValueError: If the model is none of the sphere, or a setting has no meaning for it.
    """
    for setting, given in (("--negative", settings.negative), ("--guide", settings.guide)):
        if given:
            raise ValueError(f"{name} samples the whole sphere at once and takes no {setting}: leave it out")
    model = load_model(name, device, "sphere")
    height = max(1, width // 2)
    side = min(height, LARGEST_PANORAMA)
    fine = AVERAGED * side
    points, random = model.domain.shown(fine).to(device), Generator().manual_seed(settings.seed + 1)
    with _precision(device):
        chain = model.chain([settings.prompt], settings.seed, settings.steps, settings.guidance, settings.eta)
        values = chain.at(points, random, lambda n, total: progress(n, total, None))
    picture = F.avg_pool2d(model.domain.show(values[0].float().cpu(), fine)[None], AVERAGED)[0]
    if (height, width) != (side, 2 * side):
        picture = enlarged(picture, height, width)
    return iter(picture.split(64, 1))


def enlarged(picture: Tensor, height: int, width: int) -> Tensor:
    """Return an equirectangular picture (3, h, w) at another size, interpolated across its left and right edges too."""
    margin = 4
    wrapped = torch.cat([picture[..., -margin:], picture, picture[..., :margin]], -1)
    extra = margin * width / picture.shape[-1]
    rows = torch.linspace(-1 + 1 / height, 1 - 1 / height, height)
    columns = (2 * (torch.arange(width) + 0.5 + extra) / (width + 2 * extra)) - 1
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    read = F.grid_sample(
        wrapped[None], torch.stack([x, y], -1)[None], mode="bicubic", padding_mode="border", align_corners=False
    )
    return read[0].clamp(0, 1)
