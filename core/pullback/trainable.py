"""The models that `pullback train` trains, by name. Needs the extra `train`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from .generative.clip.perceptual import lpips, perceptual_distance
from .generative.clip.training import PictureTextTrainee
from .generative.ddpm.convert import load_folder as load_ddpm_folder
from .generative.ddpm.design import PRESETS as DDPM_PRESETS
from .generative.ddpm.design import objective_of
from .generative.ddpm.model import load_model as load_ddpm
from .generative.ddpm.training import DDPMTrainee
from .generative.dpf.data import Functions, Landscapes, Pictures, Shapes
from .generative.dpf.design import PRESETS as DPF_PRESETS
from .generative.dpf.design import SIDES, preset_of
from .generative.dpf.domains import Cube, Plane
from .generative.dpf.model import load_model as load_dpf
from .generative.dpf.training import FieldTrainee
from .generative.infd import convert
from .generative.infd.decoder import load_decoder
from .generative.infd.latent_training import LatentTrainee
from .generative.infd.model import network as load_latent
from .generative.infd.network import PRESETS, Autoencoder
from .generative.infd.training import AutoencoderTrainee, Weights
from .generative.infty_diff.model import load_model as load_infty_diff
from .generative.infty_diff.training import InftyDiffTrainee
from .generative.lmconv.model import load_model as load_pixel_model
from .generative.lmconv.network import PRESETS as PIXEL_PRESETS
from .generative.lmconv.training import PixelCNNTrainee
from .generative.toybox.training import TemplateTrainee, ToyboxTrainee
from .training.folder import PictureFolder
from .training.loop import Trainee

VAE_RATE = 2e-4
"""The learning rate of a converted VAE, by default: it is trained already."""

Sizes = TypeVar("Sizes")


@dataclass(frozen=True)
class Options:
    """What a model's training may be told; every model uses what it needs.

    Args:
        preset: The sizes of a field decoder (`generative/infd/network.py`), of lmconv (`generative/lmconv/network.py`) or of ddpm
            (`generative/ddpm/design.py`).
        batch: Pictures per step, 0 for the model's default.
        lr: The learning rate, 0 for the model's default.
        largest: The largest side in pixels that pictures are scaled to.
        adversarial: The weight of a field decoder's adversary, 0 for none.
        decoder: The field decoder whose latents a latent model learns.
        start_from: Exported weights to start from. A field decoder keeps the latents of those.
        template: The file of toybox's trained template.
        perceptual: The weight of a field decoder's perceptual distance, 0 for none.
        lpips: Whether that distance is LPIPS, with a weight of 1 if none is given, and not our own.
        vae: The VAE of another model, a folder or a file, that becomes a field decoder with the same latents.
        base: Side in pixels of the pictures that this VAE's encoder sees in training.
        objective: What ddpm is trained on (`generative/ddpm/design.py`), "" for "eps" or for that of `start_from`; or what a
            dpf predicts, "v" (the default), "eps" or "x0".
        architecture: A dpf's: "perceiver", "transformer" or "mixer".
    """

    preset: str = "small"
    batch: int = 0
    lr: float = 0.0
    largest: int = 1024
    adversarial: float = 0.0
    decoder: Path | None = None
    start_from: Path | None = None
    template: Path | None = None
    perceptual: float = 0.0
    lpips: bool = False
    vae: Path | None = None
    base: int = convert.BASE
    objective: str = ""
    architecture: str = "perceiver"

    def given(self) -> dict[str, int | float]:
        """Return batch size and learning rate where they are given, as the trainees call them."""
        return {name: value for name, value in (("batch_size", self.batch), ("lr", self.lr)) if value}


def _preset(presets: dict[str, Sizes], options: Options) -> Sizes:
    if options.preset not in presets:
        raise ValueError(f"--preset is {options.preset!r}; it must be one of {', '.join(presets)}")
    return presets[options.preset]


def _decoder(data: Path, options: Options) -> Trainee:
    preset = _preset(PRESETS, options)
    start, card = _start(options)
    config = preset if start is None else start.config
    weight = options.perceptual or float(options.lpips)
    distance = lpips() if options.lpips else perceptual_distance
    return AutoencoderTrainee(
        PictureFolder(data, config.channels),
        config,
        largest=options.largest,
        weights=Weights(adversarial=options.adversarial, perceptual=weight),
        start_from=start,
        octaves=not options.vae and not options.preset.startswith("paper"),
        perceptual=distance if weight else None,
        card=card,
        **({"lr": VAE_RATE} if options.vae else {}) | options.given(),  # type: ignore[arg-type]
    )


def _start(options: Options) -> tuple[Autoencoder | None, dict[str, str]]:
    """The autoencoder to start from, if any, and what its file says of its latents."""
    if options.vae and options.start_from:
        raise ValueError("--vae and --start-from both say where to start: give one of them")
    if options.vae:
        vae = convert.read_vae(options.vae)
        return convert.converted(vae, options.base), convert.card_of(vae)
    if options.start_from:
        loaded = load_decoder(options.start_from)
        return loaded.autoencoder, {name: loaded.card[name] for name in ("latents", "vae") if name in loaded.card}
    return None, {}


def _latent(data: Path, options: Options) -> Trainee:
    if options.decoder is None:
        raise ValueError("a latent model learns the latents of a field decoder: give it with --decoder")
    start = load_latent(options.start_from)[0] if options.start_from else None
    return LatentTrainee(data, load_decoder(options.decoder).autoencoder, start_from=start, **options.given())  # type: ignore[arg-type]


def _lmconv(data: Path, options: Options) -> Trainee:
    preset = _preset(PIXEL_PRESETS, options)
    start = load_pixel_model(options.start_from).network if options.start_from else None
    config = preset if start is None else start.config
    return PixelCNNTrainee(PictureFolder(data), config, start_from=start, **options.given())  # type: ignore[arg-type]


def _ddpm(data: Path, options: Options) -> Trainee:
    preset = _preset(DDPM_PRESETS, options)
    objective, start = options.objective or "eps", None
    if options.start_from:
        load = load_ddpm_folder if options.start_from.is_dir() else load_ddpm
        loaded = load(options.start_from)
        start, preset = loaded.network, replace(preset, design=loaded.design)
        objective = options.objective or objective_of(loaded.design)
    design = preset.design.with_objective(objective)
    if start and design != preset.design:
        raise ValueError(
            f"{options.start_from} was trained on {objective_of(preset.design)}, not on {objective}: leave out --objective"
        )
    return DDPMTrainee(PictureFolder(data), replace(preset, design=design), start_from=start, **options.given())  # type: ignore[arg-type]


def _dpf(functions: Functions, options: Options, words: bool) -> Trainee:
    preset = _preset(DPF_PRESETS, options)
    start = load_dpf(options.start_from, domain=functions.domain.name) if options.start_from else None
    if start is not None:
        preset = replace(preset, design=start.design)
    else:
        preset = preset_of(preset, functions.domain, words, options.architecture, options.objective or "v")
    network = start.network.requires_grad_(True) if start else None
    return FieldTrainee(functions, preset, start_from=network, **options.given())  # type: ignore[arg-type]


def _dpf_shapes(data: Path, options: Options) -> Trainee:
    return _dpf(Shapes(data, Cube()), options, words=True)


def _dpf_sphere(data: Path, options: Options) -> Trainee:
    return _dpf(Landscapes(data), options, words=True)


def _dpf_plane(data: Path, options: Options) -> Trainee:
    return _dpf(Pictures(data, Plane(), SIDES["plane"]), options, words=False)


def _clip(data: Path, options: Options) -> Trainee:
    return PictureTextTrainee(data, **options.given())  # type: ignore[arg-type]


def _toybox(data: Path, options: Options) -> Trainee:
    if options.start_from is None and options.template is None:
        raise ValueError(
            "toybox learns around a template: train it first (pullback train template), and give it with --template"
        )
    return ToyboxTrainee(data, start_from=options.start_from, template=options.template, **options.given())  # type: ignore[arg-type]


def _template(data: Path, options: Options) -> Trainee:
    return TemplateTrainee(data, **options.given())  # type: ignore[arg-type]


def _infty_diff(data: Path, options: Options) -> Trainee:
    start = load_infty_diff(options.start_from).functions if options.start_from else None
    return InftyDiffTrainee(data, start_from=start, **options.given())  # type: ignore[arg-type]


TRAINABLE: dict[str, Callable[[Path, Options], Trainee]] = {
    "decoder": _decoder, "latent": _latent, "lmconv": _lmconv, "ddpm": _ddpm, "clip": _clip, "toybox": _toybox,
    "template": _template, "infty-diff": _infty_diff, "dpf": _dpf_plane, "dpf-shapes": _dpf_shapes, "dpf-sphere": _dpf_sphere,
}  # fmt: skip


def trainee_of(model: str, data: Path, options: Options) -> Trainee:
    """Return a model ready to be trained.

    Args:
        model: Its name, a key of `TRAINABLE`.
        data: A folder: pictures for "decoder", "lmconv", "ddpm" and "dpf", shapes and landscapes (`generative/dpf/render.py`)
            for "dpf-shapes" and "dpf-sphere", toybox's rendered pictures for the others.
        options: The options.

    Raises:
        ValueError: If the name or an option is wrong, or the folder holds nothing to learn from.
        FileNotFoundError: If the folder holds none of toybox's pictures.
    """
    if model not in TRAINABLE:
        raise ValueError(f"there is no model {model!r} to train: choose one of {', '.join(TRAINABLE)}")
    return TRAINABLE[model](data, options)
