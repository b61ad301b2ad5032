"""Latent diffusion models from a diffusers folder or a single file on this machine.

The signal is the scaled latent that the network sees, (B, channels, h, w); `decode` undoes the VAE's scaling and shift.
Classifier-free guidance follows `guidance.py`, and both halves share one network call. The latents z of a diffusers pipeline at
noise level sigma correspond to x = sqrt(1 + sigma^2) z here (SD, SDXL), or x = (1 + sigma) z (SD3).

Nothing is downloaded, pickled weights are not read, and no code of a checkpoint is run. Safety checkers are not loaded.
"""

from __future__ import annotations

import functools
import inspect
import json
import math
import re
import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .. import denoisers
from ..schedules import table_of, time_in_table
from ..types import Denoiser, Model
from ..viewpoints import ELEVATIONS
from .view_words import with_view

Parameterisation = Callable[[denoisers.Network], Denoiser]

T5_LENGTH = 256
"""The number of tokens that the third text encoder of SD3 reads, as in diffusers."""


class StableDiffusion:
    """Stable Diffusion 1 and 2, as a `Model`: a U-Net with a variance-preserving schedule that predicts eps or v.

    Pictures from `decode` are RGB. For `Cameras`, each view's prompt is followed by its view words.

    Args:
        pipe: The diffusers pipeline.
        name: The path of the model.

    Raises:
        ValueError: If the network needs more than latents, a text and a time.
    """

    pipeline: ClassVar[str] = "StableDiffusionPipeline"
    network: ClassVar[tuple[str, str]] = ("unet", "UNet2DConditionModel")
    parts: ClassVar[tuple[str, ...]] = ("text_encoder", "tokenizer", "vae", "scheduler")
    optional: ClassVar[tuple[str, ...]] = ()
    elevations: tuple[float, float] = ELEVATIONS

    def __init__(self, pipe: Any, name: str):
        self._pipe = pipe
        self._network = getattr(pipe, self.network[0])
        self.name = name  # the whole path: a field is decoded, and a run continued, by the same model only
        self._short = Path(name).name
        self.device = str(self._network.device)
        self.channels: int = self._network.config.in_channels
        distilled = getattr(self._network.config, "time_cond_proj_dim", None) is not None
        if self.channels != pipe.vae.config.latent_channels or distilled:
            raise ValueError(
                f"{name} wants more than noisy latents, a text and a time, as inpainting and LCM models do; "
                "expected a plain text-to-image model: choose another checkpoint"
            )
        size = self._network.config.sample_size
        self.size: int = size if isinstance(size, int) else size[0]
        self.scale: int = 2 ** (len(pipe.vae.config.block_out_channels) - 1)
        self._parameterisation, self.sigma_min, self.sigma_max = self._noise(pipe.scheduler.config)
        for number in ("", "_2"):
            tokenizer, encoder = getattr(pipe, f"tokenizer{number}", None), getattr(pipe, f"text_encoder{number}", None)
            if tokenizer is not None and encoder is not None:
                tokenizer.model_max_length = min(tokenizer.model_max_length, encoder.config.max_position_embeddings)
        self._embedding = functools.lru_cache(maxsize=64)(self._checked_embedding)

    def denoiser(self, prompt: str, negative: str, guidance: float) -> Denoiser:
        """Return the denoiser D(x, sigma, view) of latents for a prompt.

        Args:
            prompt: The prompt.
            negative: The negative prompt, which may be empty.
            guidance: 0 is unconditional, 1 is conditional, and larger values exaggerate (`guidance.py`).

        Raises:
            ValueError: If the prompt is empty, or longer than the text encoder reads.
        """
        if not prompt.strip():
            raise ValueError("the prompt is empty; expected a description of what to make: write one")
        for text in [prompt] * (guidance != 0) + [negative] * (guidance != 1):
            self._embedding(text)

        def network(x: Tensor, t: Tensor, cond: Any) -> Tensor:
            self._check(x)
            without, with_words = [negative] * len(x), with_view(prompt, cond, len(x))
            if guidance in (0, 1):
                return self._evaluate(x, t, with_words if guidance else without)
            base, full = self._evaluate(torch.cat([x, x]), torch.cat([t, t]), without + with_words).chunk(2)
            return base + guidance * (full - base)

        return self._parameterisation(network)

    def decode(self, signal: Tensor) -> Tensor:
        """Decode latents (B, channels, h, w), one at a time, to RGB (B, 3, scale h, scale w) in [0, 1] on the CPU.

        It is differentiable in the latents, for guides (`regions.py`).
        """
        self._check(signal)
        vae = self._pipe.vae
        shift = getattr(vae.config, "shift_factor", None) or 0.0
        latents = signal.to(vae.device, vae.dtype) / vae.config.scaling_factor + shift
        pictures = [vae.decode(latent, return_dict=False)[0].float().cpu() for latent in latents.split(1)]
        return (torch.cat(pictures) / 2 + 0.5).clamp(0, 1)

    def _check(self, x: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.channels:
            expected = f"(B, {self.channels}, h, w)"
            raise ValueError(
                f"latents have shape {tuple(x.shape)}; {self._short} takes {expected}: give a signal of this shape"
            )

    def _evaluate(self, x: Tensor, t: Tensor, prompts: list[str]) -> Tensor:
        """Return the network's output for x (B, C, h, w), t (B,) and B prompts, in the dtype and on the device of x."""
        net = self._network
        embeddings = [torch.cat(each) for each in zip(*map(self._embedding, prompts), strict=True)]
        return self._predict(x.to(net.device, net.dtype), t.to(net.device), *embeddings).to(x)

    @torch.no_grad()
    def _checked_embedding(self, text: str) -> tuple[Tensor, ...]:
        """Return the (1, ...) embeddings of a text: the sequence and, if the network takes one, the pooled vector."""
        for tokenizer, limit in self._tokenizers():
            excess = len(tokenizer(text, verbose=False).input_ids) - limit
            if excess > 0:
                raise ValueError(
                    f"the prompt {text!r} is {excess} token{'s' * (excess > 1)} too long for {self._short}, "
                    f"which reads {limit} with its start and end: shorten it"
                )
        return tuple(each.to(self._network.device, self._network.dtype) for each in self._embed(text))

    def _tokenizers(self) -> Iterator[tuple[Any, int]]:
        pipe = self._pipe
        yield pipe.tokenizer, pipe.tokenizer.model_max_length
        if getattr(pipe, "tokenizer_2", None) is not None:
            yield pipe.tokenizer_2, pipe.tokenizer_2.model_max_length

    # What differs from family to family.

    def _noise(self, scheduler: Any) -> tuple[Parameterisation, float, float]:
        """Return the function that makes a denoiser from the network, and the smallest and largest sigma of its training."""
        kinds = {"epsilon": denoisers.epsilon, "v_prediction": denoisers.velocity}
        kind = scheduler.get("prediction_type", "epsilon")
        abar = getattr(self._pipe.scheduler, "alphas_cumprod", None)
        if kind not in kinds or abar is None:
            raise ValueError(
                f"scheduler {type(self._pipe.scheduler).__name__} with prediction type {kind!r} is not supported; "
                f"expected a variance-preserving one with {' or '.join(kinds)}: choose another checkpoint"
            )
        table = table_of(abar)
        table = table[table.isfinite()]  # a table that ends in pure noise (zero terminal SNR) ends in infinity
        make = functools.partial(kinds[kind], timestep=functools.partial(time_in_table, table))
        return make, float(table[0]), float(table[-1])

    def _embed(self, text: str) -> tuple[Tensor, ...]:
        return (self._pipe.encode_prompt(text, self._pipe.text_encoder.device, 1, False)[0],)

    def _predict(self, x: Tensor, t: Tensor, *embeddings: Tensor) -> Tensor:
        return self._network(x, t, embeddings[0], return_dict=False)[0]


class StableDiffusionXL(StableDiffusion):
    """SDXL: the network also takes the size of the picture and the pooled text embedding.

    The size is that of the signal. The "original size" is at least the model's own, because a smaller one makes pictures look
    enlarged. An empty negative prompt has a zero embedding if the model's configuration says so.
    """

    pipeline = "StableDiffusionXLPipeline"
    parts = (*StableDiffusion.parts, "text_encoder_2", "tokenizer_2")

    def _embed(self, text: str) -> tuple[Tensor, ...]:
        out = self._pipe.encode_prompt(text, device=self._pipe.text_encoder.device, do_classifier_free_guidance=False)
        if not text.strip() and self._pipe.config.force_zeros_for_empty_prompt:
            return torch.zeros_like(out[0]), torch.zeros_like(out[2])
        return out[0], out[2]

    def _predict(self, x: Tensor, t: Tensor, *embeddings: Tensor) -> Tensor:
        height, width = (self.scale * n for n in x.shape[-2:])
        native = self.scale * self.size
        ids = torch.tensor([[max(height, native), max(width, native), 0, 0, height, width]]).to(x).expand(len(x), -1)
        added = {"text_embeds": embeddings[1], "time_ids": ids}
        return self._network(x, t, embeddings[0], added_cond_kwargs=added, return_dict=False)[0]


class StableDiffusion3(StableDiffusion):
    """SD3: a transformer that predicts flow velocity, with up to three text encoders (the third may be left out)."""

    pipeline = "StableDiffusion3Pipeline"
    network = ("transformer", "SD3Transformer2DModel")
    parts = StableDiffusionXL.parts
    optional = ("text_encoder_3", "tokenizer_3")

    def _noise(self, scheduler: Any) -> tuple[Parameterisation, float, float]:
        count, shift = scheduler.num_train_timesteps, scheduler.get("shift", 1.0)
        make = functools.partial(denoisers.flow, timestep=lambda sigma: count * sigma / (1 + sigma))
        return make, shift / (count - 1), shift * (count - 1)  # t = 1 / count and 1 - 1 / count, shifted

    def _tokenizers(self) -> Iterator[tuple[Any, int]]:
        yield from super()._tokenizers()
        if self._pipe.tokenizer_3 is not None:
            yield self._pipe.tokenizer_3, T5_LENGTH

    def _embed(self, text: str) -> tuple[Tensor, ...]:
        device = self._pipe.text_encoder.device
        out = self._pipe.encode_prompt(text, text, text, device, 1, False, max_sequence_length=T5_LENGTH)
        return out[0], out[2]

    def _predict(self, x: Tensor, t: Tensor, *embeddings: Tensor) -> Tensor:
        return self._network(x, embeddings[0], embeddings[1], t, return_dict=False)[0]


FAMILIES = {family.pipeline: family for family in (StableDiffusion, StableDiffusionXL, StableDiffusion3)}


def load(
    path: str | Path,
    device: str | torch.device = "cpu",
    dtype: torch.dtype = torch.float32,
    config: str | Path | None = None,
) -> Model:
    """Load a model from a diffusers folder or from a single-file checkpoint.

    Args:
        path: A diffusers folder or a .safetensors file. As in diffusers, a single file of SD 2 is assumed to be the
            v-prediction model.
        device: Where the model runs.
        dtype: The type of the network. The VAE stays in float32 if it would overflow in half precision.
        config: For a single file, a diffusers folder of the same family with its configuration and tokenizers; its weights
            are not read. By default, the configuration that an earlier use of diffusers left on this machine.

    Raises:
        ValueError: If something is missing, damaged or not supported.
        ImportError: If diffusers is not installed.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        family, pipe = _from_folder(path, dtype)
    elif path.is_file():
        family, pipe = _from_file(path, dtype, config)
    else:
        raise ValueError(
            f"{path} does not exist; expected a diffusers folder or a .safetensors file on this machine, as nothing is "
            "downloaded: get one with `hf download OWNER/NAME --local-dir FOLDER`"
        )
    for part, module in pipe.components.items():
        if isinstance(module, torch.nn.Module):
            if any(weight.is_meta for weight in module.parameters()):
                raise ValueError(f"{path} lacks some weights of its {part}; expected all: download it again, whole")
            module.requires_grad_(False).eval().to(device)
    if pipe.vae.config.force_upcast and dtype in (torch.float16, torch.bfloat16):
        pipe.vae.float()
    return family(pipe, str(path.resolve()))


def _from_folder(folder: Path, dtype: torch.dtype) -> tuple[type[StableDiffusion], Any]:
    family, index = _inspected(folder)
    held, variant = {}, None
    for part in index:
        if part in (family.network[0], "vae") or part.startswith("text_encoder"):
            files, found = _weight_files(folder / part)
            held[part], variant = sum(map(_elements, files)), variant or found
    pipe = _loaded(family, folder, "from_pretrained", index, dtype, use_safetensors=True, variant=variant)
    for part, count in held.items():  # diffusers fills in what is missing with random numbers
        needed = sum(p.numel() for p in getattr(pipe, part).parameters())
        if count < needed:
            raise ValueError(
                f"{folder / part} holds {count} weights; its config.json describes {needed}: "
                "download the model again, whole"
            )
    return family, pipe


def _from_file(file: Path, dtype: torch.dtype, config: str | Path | None) -> tuple[type[StableDiffusion], Any]:
    if file.suffix != ".safetensors":
        remedy = _conversion(file, StableDiffusion.pipeline)
        raise ValueError(f"{file} is not a .safetensors file; pickled weights are never loaded: {remedy}")
    file.open("rb").close()  # because safetensors says of a file without read permission that it does not exist
    _elements(file)
    with safe_open(file, framework="pt") as tensors:
        if not any(name.startswith("model.diffusion_model.") for name in tensors.keys()):  # noqa: SIM118
            raise ValueError(
                f"{file} is not a whole checkpoint; expected the network, text encoder and VAE in one file: "
                "load the model that this LoRA, VAE or part was made for"
            )
    folder = Path(config).expanduser() if config else _cached_config(file)
    family, index = _inspected(folder)
    return family, _loaded(family, file, "from_single_file", index, dtype, config=str(folder))


def _loaded(
    family: type[StableDiffusion], path: Path, method: str, index: dict[str, str], dtype: torch.dtype, **kwargs: Any
) -> Any:
    """Return the pipeline, without its safety checker and without the optional parts that `index` leaves out."""
    library = _library()
    pipeline = getattr(library, family.pipeline)
    optional = ("safety_checker", "feature_extractor", "image_encoder", "text_encoder_3", "tokenizer_3")
    taken = inspect.signature(pipeline.__init__).parameters
    absent = {part: None for part in optional if part in taken and part not in index}
    switches = {name: False for name in ("requires_safety_checker", "add_watermarker") if name in taken}
    kwargs["torch_dtype" if library.__version__.startswith("0.") else "dtype"] = dtype
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*torch_dtype", category=FutureWarning)
            return getattr(pipeline, method)(str(path), local_files_only=True, **kwargs, **absent, **switches)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, _component_error()) as error:
        reason = re.split(r"\.?\s*\n|\. ", str(error).strip())[0]
        raise ValueError(f"{path} could not be loaded as a {family.pipeline} ({reason}): download it again") from error


def _library() -> Any:
    try:
        import_module("transformers")
        return import_module("diffusers")
    except ImportError as error:
        raise ImportError('diffusers models need two more packages: pip install "pullback[diffusers]"') from error


def _component_error() -> type[Exception]:
    return import_module("diffusers.loaders.single_file_utils").SingleFileComponentError


# Checks of the files before diffusers reads them, so that the error messages are ours and no library downloads anything.


def _inspected(folder: Path) -> tuple[type[StableDiffusion], dict[str, str]]:
    """Return the family of a diffusers folder, and the class name of each of its parts that will be loaded."""
    if not (folder / "model_index.json").is_file():
        raise ValueError(f"{folder} has no model_index.json; expected a diffusers folder: choose the one that holds it")
    content = _json(folder / "model_index.json")
    name = content.get("_class_name")
    if not isinstance(name, str) or name not in FAMILIES:
        raise ValueError(f"{folder} is a {name}; supported are {', '.join(FAMILIES)}: choose one of these")
    family = FAMILIES[name]
    index = {}
    for part in (*family.parts, family.network[0], *family.optional):
        library, kind = content.get(part) or (None, None)
        if kind is None and part not in family.optional:
            raise ValueError(f"{folder} has no {part} in model_index.json; {name} needs it: download it again, whole")
        if kind is not None and library not in ("diffusers", "transformers"):
            raise ValueError(
                f"{folder} takes its {part} from {library!r}; only classes of diffusers and transformers are "
                "loaded, and no code of a checkpoint is run: choose another checkpoint"
            )
        if kind is not None:
            index[part] = kind
            _check_part(folder / part)
    if index[family.network[0]] != family.network[1]:
        raise ValueError(
            f"{folder} has a {index[family.network[0]]} as its {family.network[0]}; expected {family.network[1]}: "
            "choose another checkpoint"
        )
    return family, index


def _check_part(folder: Path) -> None:
    """Raise ValueError unless the folder of a component holds its configuration (or a tokenizer's vocabulary)."""
    names: tuple[str, ...] = ("config.json",)
    if folder.name == "scheduler":
        names = ("scheduler_config.json",)
    elif folder.name.startswith("tokenizer"):
        names = ("vocab.json", "tokenizer.json", "spiece.model")
    found = [folder / name for name in names if (folder / name).is_file()]
    if not found:
        what = f"lacks {' or '.join(names)}" if folder.is_dir() else "is missing"
        raise ValueError(f"component folder {folder} {what}, but model_index.json names it: download it again, whole")
    for file in found:
        if file.suffix == ".json":
            _json(file)


def _weight_files(folder: Path) -> tuple[list[Path], str | None]:
    """Return the safetensors files of a component, and their variant (such as "fp16"), or None for plain files."""
    found = {file.name: file for file in sorted(folder.glob("*.safetensors"))}
    if not found:
        pickled = [file.name for file in folder.iterdir() if file.suffix in (".bin", ".ckpt", ".pt", ".pth")]
        what = f"only pickled weights ({pickled[0]}), which are never loaded" if pickled else "no weights"
        remedy = _conversion(folder.parent) if pickled else "download it again, whole"
        raise ValueError(f"{folder} has {what}; expected a .safetensors file: {remedy}")
    # model.safetensors, model.fp16.safetensors, model-00001-of-00002.safetensors, model.fp16-00001-of-00002.safetensors
    pattern = re.compile(r"(?:diffusion_pytorch_)?model(?:\.(\w+))?(?:-\d+-of-\d+)?(?:\.(\w+))?\.safetensors")
    variants: dict[str, list[Path]] = {}
    for name, file in found.items():
        match = pattern.fullmatch(name)
        if match:
            variants.setdefault(match[1] or match[2] or "", []).append(file)
    if not variants:
        raise ValueError(
            f"{folder} has no model.safetensors or diffusion_pytorch_model.safetensors, only {', '.join(found)}: "
            "give its weights the name that diffusers gives them"
        )
    variant = min(variants)
    for file in folder.glob("*.safetensors.index*.json"):
        missing = set(_json(file).get("weight_map", {}).values()) - set(found)
        if missing and (f".{variant}." in file.name or not variant):
            raise ValueError(f"{folder} lacks {min(missing)}, which its index names: download the model again, whole")
    return variants[variant], variant or None


def _elements(file: Path) -> int:
    """Return the number of weights in a safetensors file, by its header. Position ids do not count as weights."""
    try:
        with safe_open(file, framework="pt") as tensors:
            names = [name for name in tensors.keys() if not name.endswith("position_ids")]  # noqa: SIM118
            return sum(math.prod(tensors.get_slice(name).get_shape()) for name in names)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{file} is not a whole safetensors file ({error}); it was cut off or never fetched: download it again"
        ) from error


def _json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not valid JSON ({error}); it was cut off or edited: download it again") from error
    if not isinstance(content, dict):
        raise ValueError(f"{file} holds a {type(content).__name__}; expected a JSON object: download it again")
    return content


def _cached_config(file: Path) -> Path:
    """Return the configuration of a single file's family that an earlier use of diffusers left on this machine."""
    _library()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError
    from safetensors.torch import load_file

    tensors = load_file(file)
    source = import_module("diffusers.loaders.single_file_utils").fetch_diffusers_config(tensors)
    repository = source["pretrained_model_name_or_path"]
    family = StableDiffusion3 if any("joint_blocks" in name for name in tensors) else StableDiffusion
    family = StableDiffusionXL if any(name.startswith("conditioner.") for name in tensors) else family
    try:
        return Path(snapshot_download(repository, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError) as error:
        raise ValueError(
            f"{file} is a single file, whose configuration ({repository}) is not on this machine, and nothing is "
            f"downloaded: give its diffusers folder as `config`, or {_conversion(file, family.pipeline)}"
        ) from error


def _conversion(path: Path, pipeline: str = "DiffusionPipeline") -> str:
    """Return instructions to make a diffusers folder with safetensors weights from the model at `path`."""
    call = f"P.{'from_pretrained' if path.is_dir() else 'from_single_file'}({str(path)!r})"
    code = f"from diffusers import {pipeline} as P; {call}.save_pretrained({path.stem + '-converted'!r})"
    return f'convert it once, online and if you trust its source, with `python -c "{code}"`, and load the new folder'
