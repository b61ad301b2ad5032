"""Arguments: turns the command line of a batch into a list of jobs. Every mistake in it gets one sentence."""

from __future__ import annotations

import argparse
import json
import string
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import descriptions, presets, protocol
from .descriptions import OF_SHAPE, PIXELS, RECONSTRUCT, RECONSTRUCTION, RUN, SAMPLED, SHAPE, SHAPES, Kind, Makes

SAMPLES = 32
"""The default number of samples per pixel of a rendered picture."""
OBJECTS = "prompt"
"""The option for objects. The options for other kinds of jobs have the names of the kinds."""
PICTURES = "pictures"
"""The option for objects from photographs, and the key of their listing in a .jsonl file."""
DRAFTING: dict[str, type] = {"steps": int, "guidance": float, "resolution": int}
"""The settings of a shape, except the prompt and the seed, and their types."""
SETTINGS: dict[str, type] = {"negative": str, **{n: type(each.default) for n, each in RUN.items() if n != "seed"}}
"""The settings of every run, except the prompt and the seed, and their types."""
GUIDE = '"LEFT,TOP,WIDTH,HEIGHT: SENTENCE": what this part of the result should show; may be repeated'
RESERVED = {
    "prompts",
    "seed",
    "out",
    "resume",
    "render",
    "samples",
    "quality",
    "model",
    "device",
    "python",
    "guide",
} | {PICTURES, SHAPE}
"""Options of the batch itself. A setting of another package with one of these names can only be given in a .jsonl file."""
WORDS = {Makes.OBJECT: "an object", Makes.WORLD: "a world", Makes.MATERIAL: "a material", Makes.IMAGE: "an image"}
PLACES = {"prompt", "seed", "kind", "index"}
"""The placeholders that the name of an output may contain in braces."""


class Mistake(ValueError):
    """The arguments are wrong. The message says how, in one sentence."""


@dataclass
class Item:
    """One thing to make.

    Attributes:
        index: The position of the job among all jobs.
        out: The file that the user asked for.
        made: The file that the worker writes.
        error: Why the job failed, or "".
        files: The paths of the finished files, as in `protocol.Done`.
    """

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
    def makes(self) -> Makes:
        makes = descriptions.makes(self.kind)
        assert makes is not None, "a batch has no jobs for existing fields"
        return makes

    @property
    def title(self) -> str:
        return f'{self.kind} "{self.name}" (seed {self.seed})'

    @property
    def name(self) -> str:
        """The name of the result: its prompt, or the folder of its photographs."""
        source = Path(self.options.get("source", ""))
        return (self.prompt or (source if source.is_dir() else source.parent).name)[:60]

    @property
    def slug(self) -> str:
        return protocol.slug(self.prompt or self.name)

    def path(self, template: str) -> Path:
        """Return the absolute path that results from filling in the placeholders of a template."""
        values = {"prompt": self.slug, "seed": self.seed, "kind": self.kind, "index": self.index}
        return Path(template.format(**values)).absolute()


def named() -> dict[str, Kind]:
    """Return the kinds of jobs by the names of their options."""
    objects = descriptions.first(Makes.OBJECT)
    return {OBJECTS if kind == objects else kind.noun: kind for kind in descriptions.kinds().values()}


def options_of(kind: Kind) -> dict[str, type]:
    """Return the types of a job's options by name. If its kind has several representations, one option chooses among them."""
    choice = {kind.usual.option: str} if len(kind.choices) > 1 else {}
    return choice | {name: type(each.default) for name, each in {**kind.own, **kind.made}.items()}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="pullback", description="Sample textured objects, panorama worlds and images, and put them into files.",
        epilog="The exit code is 0 if every job succeeded, 1 if one failed, and 2 if the arguments are wrong.",
    )  # fmt: skip
    what = made.add_argument_group("what")
    kinds = named()
    for option, kind in kinds.items():
        says = f"{WORDS[kind.makes]}; may be repeated"
        what.add_argument(f"--{option}", action="append", default=[], metavar="TEXT", help=says)
    what.add_argument(f"--{SHAPE}", action="append", default=[], metavar="TEXT", help="a rough shape, in seconds; may be "
                      "repeated")  # fmt: skip
    what.add_argument(f"--{PICTURES}", action="append", default=[], metavar="FILE", help="an object from photographs: a "
                      "transforms.json, or a folder with COLMAP's text files; may be repeated")  # fmt: skip
    what.add_argument("--prompts", metavar="FILE", help="a .txt with one prompt for an object per line, or a .jsonl with one "
                      'job per line, such as {"kind": "object", "prompt": "a red mushroom", "seed": 7, "steps": 30}')  # fmt: skip
    what.add_argument(
        "--seed", type=int, nargs="+", default=[0], help="sample every prompt with each of these seeds (0)"
    )
    where = made.add_argument_group("where")
    where.add_argument("-o", "--out", required=True, metavar="FILE", help="one .blend for all results or, with {prompt}, "
                       "{seed}, {kind} or {index} in the name, a .blend, .glb (objects) or .png for each job")  # fmt: skip
    where.add_argument("--resume", action="store_true", help="do only what is missing, and continue what was started")
    where.add_argument(
        "--render", metavar="PNG", help="render a picture with Cycles; the name may have braces as in -o"
    )
    where.add_argument("--samples", type=int, default=SAMPLES, help=f"samples per pixel of that picture ({SAMPLES})")
    how = made.add_argument_group("how")
    how.add_argument("--quality", choices=presets.QUALITIES, default="normal", help="draft, normal or fine (normal)")
    settings = SETTINGS | {name: type for kind in kinds.values() for name, type in options_of(kind).items()}
    settings = photographed() | settings
    for name in [name for name in settings if name not in RESERVED | kinds.keys()]:
        how.add_argument(
            f"--{name.replace('_', '-')}", type=settings[name], help="replaces the default or the value of --quality"
        )
    how.add_argument("--guide", action="append", metavar="REGION", help=GUIDE)
    how.add_argument("--model", default="toybox", help="toybox, dpf-sphere (panoramas), a diffusers folder or a .safetensors "
                     "checkpoint")  # fmt: skip
    how.add_argument("--device", default="cpu", help="cpu, cuda, mps (cpu)")
    how.add_argument(
        "--python", metavar="FILE", help="the Python in which Pullback is installed; by default it is searched for"
    )
    return made


def items(asked: argparse.Namespace) -> list[Item]:
    """Return all jobs with their files. Raise Mistake if the arguments do not fit together."""
    given = vars(asked)
    wanted = [{"kind": kind.noun, "prompt": prompt}
              for option, kind in named().items() for prompt in given[option.replace("-", "_")]]  # fmt: skip
    wanted += [{"kind": SHAPE, "prompt": prompt} for prompt in given[SHAPE]]
    wanted += [{"kind": RECONSTRUCTION, PICTURES: path} for path in asked.pictures]
    wanted += _listed(Path(asked.prompts)) if asked.prompts else []
    if not wanted:
        raise Mistake(
            f"nothing to do: give {', '.join(f'--{each}' for each in (*named(), SHAPE, PICTURES))} or --prompts"
        )
    spread = [{"seed": seed, **job} for job in wanted for seed in ([job["seed"]] if "seed" in job else asked.seed)]
    made = [_item(index, job, asked) for index, job in enumerate(spread)]
    _check_names(asked.out)
    for item in made:
        _give_files(item, asked)
    _check_files(made, asked)
    return made


def _listed(path: Path) -> list[dict[str, Any]]:
    """Return the jobs that a .txt or .jsonl file lists. Empty lines and lines that begin with # are ignored."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise Mistake(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is not UTF-8 text'}") from None
    kept = [(n, line.strip()) for n, line in enumerate(lines, 1) if line.strip() and not line.lstrip().startswith("#")]
    if path.suffix == ".jsonl":
        return [_described(line, f"line {n} of {path.name}") for n, line in kept]
    if path.suffix == ".txt":
        return [{"kind": descriptions.first(Makes.OBJECT).noun, "prompt": line} for _, line in kept]
    raise Mistake(f"{path.name} should be a .txt with one prompt per line, or a .jsonl with one job per line")


def _described(line: str, place: str) -> dict[str, Any]:
    """Return the job in one line of a .jsonl file, after a check of its names and types."""
    try:
        job = json.loads(line)
    except ValueError:
        job = None
    needed = PICTURES if isinstance(job, dict) and job.get("kind") == RECONSTRUCTION else "prompt"
    if not isinstance(job, dict) or not isinstance(job.get(needed), str):
        example = (
            '"kind": "reconstruct", "pictures": "transforms.json"'
            if needed == PICTURES
            else '"prompt": "a red mushroom"'
        )
        raise Mistake(f"{place} should be a job such as {{{example}}}")
    job, kinds = {"kind": descriptions.first(Makes.OBJECT).noun, **job}, (*descriptions.kinds(), SHAPE, RECONSTRUCTION)
    if job["kind"] not in kinds:
        raise Mistake(f"{place} has the kind {job['kind']!r}; it must be one of {', '.join(kinds)}")
    known = {
        "kind": str,
        "prompt": str,
        "seed": int,
        "quality": str,
        "model": str,
        "device": str,
        **_values_of(job["kind"]),
    }
    for name, value in job.items():
        if name not in known:
            raise Mistake(f"{place} has {name!r}, which is not a setting of the kind {job['kind']}")
        if type(value) is not known[name] and not (known[name] is float and type(value) is int):
            raise Mistake(f"{place} has {name} {value!r}, which should be of the type {known[name].__name__}")
    if not all(isinstance(each, str) for each in job.get("guide", ())):
        raise Mistake(f'{place} has a guide that is not a list of regions such as ["0,0,0.5,1: a red mushroom"]')
    if job.get("quality", "normal") not in presets.QUALITIES:
        raise Mistake(f"{place} has the quality {job['quality']!r}; it must be one of {', '.join(presets.QUALITIES)}")
    return job


def _values_of(kind: str) -> dict[str, type]:
    """Return the types of the settings and options of a kind of job, by name."""
    if kind == RECONSTRUCTION:
        made = {name: type(each.default) for name, each in descriptions.mesh().items()}
        return {PICTURES: str, "negative": str, **photographed(), **made}
    if kind == SHAPE:
        return {**DRAFTING, **dict.fromkeys(OF_SHAPE, int)}
    return {**SETTINGS, **options_of(descriptions.kinds()[kind]), "guide": list}


def photographed() -> dict[str, type]:
    """Return the types of the settings of a reconstruction, without the seed, by name."""
    return {name: type(each.default) for name, each in RECONSTRUCT.items() if name != "seed"}


def _item(index: int, job: dict[str, Any], asked: argparse.Namespace) -> Item:
    """Return a job with all its values: from its line, else from the arguments, else from the quality preset."""
    given = {name: value for name, value in vars(asked).items() if value is not None} | job
    quality, model = given["quality"], given["model"]
    of_batch = RESERVED - job.keys()

    def asked_for(names: Iterable[str]) -> dict[str, Any]:
        """Return the values given for these names, without options of the batch that only share a name with a setting."""
        return {name: given[name] for name in names if name in given and name not in of_batch}

    model = str(Path(model).absolute()) if model != "toybox" and Path(model).exists() else model
    if job["kind"] == SHAPE:
        settings = {"prompt": job["prompt"], "seed": job["seed"], **asked_for(DRAFTING)}
        made = presets.options(descriptions.first(Makes.OBJECT), quality) | asked_for(OF_SHAPE)
        options = {name: made[name] for name in OF_SHAPE}
        options |= {"model": SHAPES if model == "toybox" else model, "device": given["device"]}
        return Item(index, SHAPE, job["prompt"], job["seed"], settings, options)
    if job["kind"] == RECONSTRUCTION:
        texts = {"prompt": job.get("prompt", ""), **asked_for(["negative"])}
        mesh = descriptions.first(Makes.OBJECT)
        options = presets.options(mesh, quality) | asked_for(mesh.made) | {"model": model, "device": given["device"]}
        options["source"] = str(Path(job[PICTURES]).absolute())
        settings = texts | asked_for(photographed()) | {"seed": job["seed"]}
        if settings.get("method", SAMPLED if texts["prompt"].strip() else "") != SAMPLED:
            options["model"] = PIXELS
        return Item(index, RECONSTRUCTION, texts["prompt"], job["seed"], settings, options)
    kind = descriptions.kinds()[job["kind"]]
    settings = presets.settings(kind, quality) | asked_for(SETTINGS) | {"prompt": job["prompt"], "seed": job["seed"]}
    if given.get("guide"):
        settings["guide"] = given["guide"]
    options = presets.options(kind, quality) | asked_for(options_of(kind)) | {"model": model, "device": given["device"]}
    return Item(index, kind.noun, job["prompt"], job["seed"], settings, options)


def _check_names(template: str) -> None:
    try:
        names = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    except ValueError:
        names = {""}
    unknown = sorted(names - PLACES)
    if unknown:
        raise Mistake(
            f"the name {template} has {{{unknown[0]}}}; it may have " + ", ".join(f"{{{n}}}" for n in sorted(PLACES))
        )


def _give_files(item: Item, asked: argparse.Namespace) -> None:
    """Set `out` and `made` of a job. They are the same file unless the result goes into a .blend file."""
    item.out = item.path(asked.out)
    suffix = descriptions.suffix(item.kind)
    if item.out.suffix.lower() == ".blend":
        folder = item.out.with_suffix(".pullback")
        item.made = folder / f"{item.kind}-{item.slug}-{item.seed}{suffix}"
    elif item.out.suffix.lower() == suffix:
        item.made = item.out
    else:
        raise Mistake(f"the output {item.out.name} should end in .blend or, for {item.title}, in {suffix}")


def _check_files(items: list[Item], asked: argparse.Namespace) -> None:
    """Raise Mistake if two jobs would write the same file."""
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
