"""Do generated objects look like what was asked for? The judge is a classifier trained on rendered pictures.

`python benchmarks/objects.py judge JUDGE.safetensors` trains the judge (a few minutes).
`python benchmarks/objects.py sample FOLDER [--colours 3] [--part 0 --parts 2]` generates every noun in some colours, first as
fields, then as GLBs. It skips files that exist, so it can be interrupted and continued. `score FOLDER JUDGE` renders each *mesh*
from 8 unseen cameras, lets the judge name noun and colour from all 8 pictures together, and prints a table. `pictures JUDGE` lets
it name single pictures, which toybox samples for the unseen cameras.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
import trimesh
import typer
from pullback import tasks
from pullback.generative.toybox.objects import build
from pullback.generative.toybox.pictures import photograph
from pullback.generative.toybox.words import COLOURS, NOUNS
from pullback.geometry.cameras import orbit
from pullback.mesh.glb import write_glb
from pullback.representation import TOP
from pullback.samplers import ddim
from pullback.schedules import log_linear
from pullback.storage import load_field, save_field
from pullback.tasks import Settings
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
COLOUR_NAMES = tuple(COLOURS)
UNSEEN = orbit(torch.arange(8) * math.pi / 4 + 0.2, torch.deg2rad(torch.tensor([5.0, 30, 15, 45, 5, 30, 15, 45])))


class Judge(nn.Module):
    """From pictures (B, channels, 64, 64) in [0, 1], here unlit and premultiplied, to logits of nouns and of colours."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        widths = (channels, 24, 48, 96, 128)
        layers = [
            layer
            for a, b in zip(widths, widths[1:], strict=False)
            for layer in (nn.Conv2d(a, b, 3, 2, 1), nn.GroupNorm(8, b), nn.SiLU(), nn.Conv2d(b, b, 3, 1, 1), nn.SiLU())
        ]
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.noun, self.colour = nn.Linear(512, len(NOUNS)), nn.Linear(512, len(COLOUR_NAMES))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        h = self.body(x)
        return self.noun(h), self.colour(h)


def flat(pictures: np.ndarray) -> Tensor:
    """Return the unlit RGB and alpha (N, 4, H, W) in [0, 1] of the renderer's seven channels."""
    return torch.from_numpy(pictures[:, 3:]).float() / 255


def degraded(x: Tensor, random: torch.Generator) -> Tensor:
    """Make pictures look as a sampled field may: a little blurred, and slightly wrong in size and colour."""
    blur = torch.rand(len(x), 1, 1, 1, generator=random)
    x = torch.lerp(x, F.avg_pool2d(x, 3, 1, 1), blur)
    scale = 1 + 0.1 * torch.randn(len(x), 1, 1, generator=random)
    theta = torch.eye(2, 3).expand(len(x), 2, 3) * scale
    x = F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), align_corners=False)
    return (x * (1 + 0.06 * torch.randn(len(x), 4, 1, 1, generator=random))).clamp(0, 1)


@app.command()
def judge(path: Path, pictures: int = 24_000, epochs: int = 4, batch: int = 64) -> None:
    """Train the judge on newly rendered objects, and print how often it is right about held-out pictures."""
    rng, random = np.random.default_rng(12345), torch.Generator().manual_seed(0)
    x, y = [], []
    for _ in range(pictures // 8):
        noun, colour = rng.integers(len(NOUNS)), rng.integers(len(COLOUR_NAMES))
        angles = torch.from_numpy(rng.uniform((-np.pi, -0.35), (np.pi, 1.1), (8, 2))).T
        x.append(photograph(*build(NOUNS[noun], COLOUR_NAMES[colour], None, None, rng), orbit(*angles)))
        y += [(noun, colour)] * 8
    images, labels = flat(np.concatenate(x)), torch.tensor(y)
    held = len(images) // 10
    torch.manual_seed(0)
    net, steps = Judge(), epochs * (len(images) - held) // batch
    optim = torch.optim.AdamW(net.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optim, 2e-3, total_steps=steps)
    for _ in range(steps):
        i = held + torch.randint(len(images) - held, (batch,), generator=random)
        nouns, colours = net(degraded(images[i], random))
        loss = F.cross_entropy(nouns, labels[i, 0]) + F.cross_entropy(colours, labels[i, 1])
        optim.zero_grad()
        loss.backward()
        optim.step()
        schedule.step()
    with torch.no_grad():
        nouns, colours = (logits.argmax(1) for logits in net(images[:held]))
    right = [(said == labels[:held, k]).float().mean() for k, said in enumerate((nouns, colours))]
    print(f"held out, one view: noun {right[0]:.3f}, colour {right[1]:.3f}")
    save_file(net.state_dict(), path)


def load_judge(path: Path) -> Judge:
    """Load a judge from a file."""
    weights = load_file(path)
    net = Judge(weights["body.0.weight"].shape[1])
    net.load_state_dict(weights)
    return net


@app.command()
def pictures(judge_path: Path, each: int = 16, steps: int = 30) -> None:
    """Print how many single pictures the judge names correctly.

    Every noun gets `each` pictures, rounded up to a multiple of 8: one from each of the 8 unseen cameras, in colours that
    change from picture to picture.
    """
    net, model, mistakes = load_judge(judge_path), tasks.load_model(), []
    right = torch.zeros(0, 2)
    for i, noun in enumerate(NOUNS):
        for start in range(0, each, 8):
            chosen = [(i + start + k) % len(COLOUR_NAMES) for k in range(8)]
            random = torch.Generator().manual_seed(1000 * i + start)
            x = torch.randn(8, model.channels, model.size, model.size, generator=random)
            for k, colour in enumerate(chosen):
                denoise = model.denoiser(f"{COLOUR_NAMES[colour]} {noun}", "", 1.0)
                x[k] = ddim(denoise, x[k : k + 1], log_linear(steps, 0.05, TOP), UNSEEN[k : k + 1])[0]
            with torch.no_grad():
                nouns, colours = (logits.argmax(1) for logits in net(model.decode(x)))
            found = torch.stack([nouns == i, colours == torch.tensor(chosen)], 1)
            right = torch.cat([right, found.float()])
            mistakes += [f"{noun}: {NOUNS[int(n)]}" for n, ok in zip(nouns, found[:, 0], strict=True) if not ok]
    both = right.prod(1).mean()
    print(f"{len(right)} pictures: noun {right[:, 0].mean():.1%}, colour {right[:, 1].mean():.1%}, both {both:.1%}")
    print("mistaken:", "; ".join(mistakes))


def requested(nouns: int, colours: int) -> list[tuple[str, str]]:
    """Return pairs of a noun and a colour: the first `nouns` nouns, each in `colours` colours, which change from noun to noun."""
    return [(n, COLOUR_NAMES[(3 * i + k * 3) % 10]) for i, n in enumerate(NOUNS[:nouns]) for k in range(colours)]


@app.command()
def sample(
    folder: Path, nouns: int = 24, colours: int = 3, seed: int = 0, steps: int = 30, part: int = 0, parts: int = 1,
    field: str = "",
) -> None:  # fmt: skip
    """Sample the fields that do not exist yet, then mesh them.

    To share the work between `--parts` processes, give each another `--part`, from 0 to parts - 1. `--field` chooses one of
    the representations of `generate`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    model, share = tasks.load_model(), requested(nouns, colours)[part::parts]
    fields = {f"{colour}-{noun}": folder / f"{colour}-{noun}.field.safetensors" for noun, colour in share}
    for name, path in fields.items():
        if not path.exists():
            settings = Settings(name.replace("-", " "), seed=seed, guidance=1.0, steps=steps)
            recipe = tasks.recipe("generate", model, settings, field)
            state = tasks.sample(tasks.prepare(model, recipe, settings), settings.seed)
            save_field(path, tasks.field_of(recipe, settings, model, state))
    for name, path in fields.items():
        out = folder / f"{name}.glb"
        if not out.exists():
            write_glb(out, *tasks.textured_mesh(load_field(path), model), name)


def rendered(path: Path) -> Tensor:
    """Render unlit pictures (8, 4, 64, 64) of a GLB's textured surface from the unseen cameras."""
    mesh = next(iter(trimesh.load(path).geometry.values()))
    mesh.apply_transform(trimesh.transformations.rotation_matrix(np.pi / 2, (1, 0, 0)))  # glTF's Y up to Z up
    picture = np.asarray(mesh.visual.material.baseColorTexture.convert("RGB"), dtype=np.float64) / 255
    uv = mesh.visual.uv[mesh.faces].mean(1)
    row, column = ((1 - uv[:, 1]) * (len(picture) - 1)).round(), (uv[:, 0] * (len(picture) - 1)).round()
    return flat(photograph(mesh, picture[row.astype(int), column.astype(int)], UNSEEN))


@app.command()
def score(folder: Path, judge_path: Path) -> None:
    """Print how many of the folder's meshes the judge names correctly."""
    net = load_judge(judge_path)
    rows: dict[str, list[tuple[bool, bool, str]]] = {}
    for path in sorted(folder.glob("*.glb")):
        colour, noun = path.stem.split("-")
        with torch.no_grad():
            nouns, colours = (logits.log_softmax(1).sum(0) for logits in net(rendered(path)))
        said_noun, said_colour = NOUNS[int(nouns.argmax())], COLOUR_NAMES[int(colours.argmax())]
        note = "" if (said_noun, said_colour) == (noun, colour) else f"{colour}: {said_colour} {said_noun}"
        rows.setdefault(noun, []).append((said_noun == noun, said_colour == colour, note))
    print("| noun | noun right | colour right | mistaken for |\n| --- | --- | --- | --- |")
    for noun, results in rows.items():
        notes = ", ".join(note for _, _, note in results if note)
        counts = " | ".join(f"{sum(r[k] for r in results)}/{len(results)}" for k in (0, 1))
        print(f"| {noun} | {counts} | {notes} |")
    total = [r for results in rows.values() for r in results]
    shares = " | ".join(f"{np.mean([r[k] for r in total]):.1%}" for k in (0, 1))
    print(f"| **all {len(total)}** | {shares} | both right: {np.mean([r[0] and r[1] for r in total]):.1%} |")


if __name__ == "__main__":
    app()
