"""Arguments: what a batch is asked for, as a list of things to make; one sentence for whatever is wrong with it."""

from __future__ import annotations

import argparse
import json
import string
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import presets, protocol

SAMPLES = 32
"""Of a picture that is rendered."""
KINDS = {"object": "prompt", "panorama": "panorama", "image": "image"}
"""The kinds of jobs and the options that name them."""
SETTINGS: dict[str, type] = {
    "negative": str, "steps": int, "guidance": float, "eta": float, "solver": str, "views": int,
}  # fmt: skip
OPTIONS: dict[str, dict[str, type]] = {
    "object": {"faces": int, "texture": int, "resolution": int, "bake_views": int, "bake_size": int},
    "panorama": {"width": int},
    "image": {"size": int},
}
PLACES = {"prompt", "seed", "kind", "index"}
"""What may stand in braces in the name of an output."""


class Mistake(ValueError):
    """Something wrong in what was asked for, in one sentence."""


@dataclass
class Item:
    """One thing to make. out: the file that is asked for. made: the file that the worker writes. error: why not."""

    index: int
    kind: str
    prompt: str
    seed: int
    settings: dict[str, Any]
    options: dict[str, Any]
    out: Path = Path()
    made: Path = Path()
    error: str = ""
    files: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f'{self.kind} "{self.prompt}" (seed {self.seed})'

    @property
    def name(self) -> str:
        return self.prompt[:60]

    def path(self, template: str) -> Path:
        """A template with its braces filled in."""
        values = {"prompt": protocol.slug(self.prompt), "seed": self.seed, "kind": self.kind, "index": self.index}
        return Path(template.format(**values)).absolute()


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="pullback", description="Sample textured objects, panorama worlds and images, and put them into files.",
        epilog="The exit code is 0 only if every job succeeded, 1 where one failed, 2 where the arguments are wrong.",
    )  # fmt: skip
    what = made.add_argument_group("what")
    what.add_argument("--prompt", action="append", default=[], metavar="TEXT", help="an object; may be repeated")
    what.add_argument("--panorama", action="append", default=[], metavar="TEXT", help="a world; may be repeated")
    what.add_argument("--image", action="append", default=[], metavar="TEXT", help="an image; may be repeated")
    what.add_argument("--prompts", metavar="FILE", help="objects: a .txt with one prompt a line, or any jobs: a .jsonl "
                      'with lines such as {"kind": "object", "prompt": "a red mushroom", "seed": 7, "steps": 30}')  # fmt: skip
    what.add_argument("--seed", type=int, nargs="+", default=[0], help="every prompt with each of these seeds (0)")
    where = made.add_argument_group("where")
    where.add_argument("-o", "--out", required=True, metavar="FILE", help="out.blend takes everything; with {prompt}, "
                       "{seed}, {kind} or {index} in its name each job gets its own .blend, .glb (objects) or .png")  # fmt: skip
    where.add_argument("--resume", action="store_true", help="do only what is missing, and continue what was begun")
    where.add_argument("--render", metavar="PNG", help="also a picture, by Cycles; takes the same names in braces")
    where.add_argument("--samples", type=int, default=SAMPLES, help=f"of that picture ({SAMPLES})")
    how = made.add_argument_group("how")
    how.add_argument("--quality", choices=presets.QUALITIES, default="normal", help="draft, normal or fine (normal)")
    for name, kind in {**SETTINGS, **{n: t for options in OPTIONS.values() for n, t in options.items()}}.items():
        how.add_argument(f"--{name.replace('_', '-')}", type=kind, help="in place of the quality's")
    how.add_argument("--model", default="toybox", help="toybox, a diffusers folder or a .safetensors checkpoint")
    how.add_argument("--device", default="cpu", help="cpu, cuda, mps (cpu)")
    how.add_argument("--python", metavar="FILE", help="the interpreter that has pullback; else the one that is found")
    return made


def items(asked: argparse.Namespace) -> list[Item]:
    """Every job with its files. Mistake where the arguments do not fit together."""
    wanted = [{"kind": kind, "prompt": prompt} for kind, option in KINDS.items() for prompt in getattr(asked, option)]
    wanted += _listed(Path(asked.prompts)) if asked.prompts else []
    if not wanted:
        raise Mistake("nothing to do: give --prompt, --panorama, --image or --prompts")
    spread = [{"seed": seed, **job} for job in wanted for seed in ([job["seed"]] if "seed" in job else asked.seed)]
    made = [_item(index, job, asked) for index, job in enumerate(spread)]
    _check_names(asked.out)
    for item in made:
        _give_files(item, asked)
    _check_files(made, asked)
    return made


def _listed(path: Path) -> list[dict[str, Any]]:
    """The jobs that a .txt or .jsonl file lists; empty lines and lines that begin with # are left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Mistake(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from None
    kept = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    if path.suffix == ".jsonl":
        return [_described(line, f"line {n} of {path.name}") for n, line in kept]
    if path.suffix == ".txt":
        return [{"kind": "object", "prompt": line} for _, line in kept]
    raise Mistake(f"{path.name} should be a .txt with one prompt a line, or a .jsonl with one job a line")


def _described(line: str, place: str) -> dict[str, Any]:
    """One line of a .jsonl file, its names and types checked."""
    try:
        job = json.loads(line)
    except ValueError:
        job = None
    if not isinstance(job, dict) or not isinstance(job.get("prompt"), str):
        raise Mistake(f'{place} should be a job such as {{"prompt": "a red mushroom"}}')
    job = {"kind": "object", **job}
    if job["kind"] not in KINDS:
        raise Mistake(f"{place} has the kind {job['kind']!r}; it must be one of {', '.join(KINDS)}")
    known = {"kind": str, "prompt": str, "seed": int, **SETTINGS, **OPTIONS[job["kind"]], "quality": str, "model": str,
             "device": str}  # fmt: skip
    for name, value in job.items():
        if name not in known:
            raise Mistake(f"{place} has {name!r}, which a job of the kind {job['kind']} does not take")
        if type(value) is not known[name] and not (known[name] is float and type(value) is int):
            raise Mistake(f"{place} has {name} {value!r}, which should be of the type {known[name].__name__}")
    if job.get("quality", "normal") not in presets.QUALITIES:
        raise Mistake(f"{place} has the quality {job['quality']!r}; it must be one of {', '.join(presets.QUALITIES)}")
    return job


def _item(index: int, job: dict[str, Any], asked: argparse.Namespace) -> Item:
    """A job with all its values: its own, else the arguments', else the quality's."""
    value = lambda name: job.get(name, getattr(asked, name))
    kind, quality = job["kind"], value("quality")
    own = lambda names: {name: value(name) for name in names if value(name) is not None}
    model = value("model")
    model = model if model == "toybox" else str(Path(model).absolute())
    settings = presets.settings(kind, quality) | own(SETTINGS) | {"prompt": job["prompt"], "seed": job["seed"]}
    options = presets.options(kind, quality) | own(OPTIONS[kind]) | {"model": model, "device": value("device")}
    return Item(index, kind, job["prompt"], job["seed"], settings, options)


def _check_names(template: str) -> None:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError:
        names = {""}
    unknown = sorted(names - PLACES)
    if unknown:
        raise Mistake(
            f"the name {template} has {{{unknown[0]}}}; known are " + ", ".join(f"{{{n}}}" for n in sorted(PLACES))
        )


def _give_files(item: Item, asked: argparse.Namespace) -> None:
    """What is asked for, and what the worker writes: the same, or a part beside the .blend file that takes it in."""
    item.out = item.path(asked.out)
    suffix = protocol.SUFFIX[item.kind]
    if item.out.suffix.lower() == ".blend":
        folder = item.out.with_suffix(".pullback")
        item.made = folder / f"{item.kind}-{protocol.slug(item.prompt)}-{item.seed}{suffix}"
    elif item.out.suffix.lower() == suffix:
        item.made = item.out
    else:
        raise Mistake(f"the output {item.out.name} should end in .blend or, for the {item.title}, in {suffix}")


def _check_files(items: list[Item], asked: argparse.Namespace) -> None:
    """No two jobs may write one file."""
    first: dict[Path, Item] = {}
    for item in items:
        other = first.setdefault(item.made, item)
        if other is not item:
            raise Mistake(
                f"{other.title} and {item.title} would both write {item.made.name}: put {{index}} or {{seed}} into -o"
            )
    if asked.render:
        _check_names(asked.render)
        if Path(asked.render).suffix.lower() != ".png":
            raise Mistake(f"--render is {asked.render}; it should end in .png")
        pictures = {item.out: item.path(asked.render) for item in items}
        if len(set(pictures.values())) < len(pictures):
            raise Mistake(
                f"--render {asked.render} would be written {len(pictures)} times: put {{prompt}} or {{index}} into it"
            )
