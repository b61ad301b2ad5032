"""How well do Gaussians show an object, compared with voxels? `python benchmarks/splats.py [NOUN ...]` prints the table.

Every representation of `generate` is fitted to rendered pictures, without a diffusion model, with the cameras, the inner solver
and the passes of its recipe. The PSNR (peak to peak 2, RGBA) is that of views that were not fitted.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import typer
from pullback import tasks
from pullback.generative.toybox.objects import build
from pullback.generative.toybox.pictures import photograph
from pullback.geometry.cameras import Cameras, orbit
from pullback.representation import Representation
from pullback.representations import of_command
from pullback.storage import generator
from torch import Tensor
from trimesh import Trimesh

UNSEEN = orbit(torch.arange(16) * math.pi / 8 + 0.2, torch.deg2rad(torch.tensor([5.0, 30, 15, 45]).repeat(4)))
OBJECTS = (("mushroom", "red"), ("chair", "blue"), ("car", "green"), ("flower", "yellow"), ("robot", "orange"))


def signals(mesh: Trimesh, colours: np.ndarray, cameras: Cameras) -> Tensor:
    """Render an unlit object as signals of toybox, (B, 4, 64, 64) in [-1, 1]."""
    return torch.from_numpy(photograph(mesh, colours, cameras)[:, 3:]).float() / 127.5 - 1


def fitted(kind: type[Representation], mesh: Trimesh, colours: np.ndarray, steps: int) -> tuple[int, float]:
    """Fit an object; return the number of passes, and the PSNR in dB of views that were not fitted."""
    model, random = tasks.load_model(), generator(0)
    recipe = kind.suited(model).recipe(model, kind.views, 0)
    params, solver, passes = recipe.diffrep.init(random), recipe.solver, 0
    state = solver.init(params)
    for step in range(steps):
        last = step == steps - 1
        cameras = (recipe.last_views if last and recipe.last_views else recipe.views).draw(random)
        residual = recipe.fit(params, cameras, signals(mesh, colours, cameras), random)
        params, state, more = solver(residual, params, state, last)
        passes += more
    with torch.no_grad():
        error = recipe.diffrep(params, UNSEEN) - signals(mesh, colours, UNSEEN)
    return passes, float(10 * torch.log10(4 / error.square().mean()))


def main(nouns: list[str] = typer.Argument(None), steps: int = 30) -> None:
    """Print the table for those of the five objects that have the given nouns, or for all five."""
    print("| object | field | passes | PSNR of unseen views |\n| --- | --- | --- | --- |")
    for noun, colour in OBJECTS:
        if nouns and noun not in nouns:
            continue
        made = build(noun, colour, None, None, np.random.default_rng(0))
        for kind in of_command("generate"):
            passes, quality = fitted(kind, *made, steps)
            print(f"| {colour} {noun} | {kind.choice} | {passes} | {quality:.1f} dB |", flush=True)


if __name__ == "__main__":
    typer.run(main)
