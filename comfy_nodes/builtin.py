"""Built-in: toybox as a genuine MODEL, CLIP and VAE, with the core's own network and words.

The CLIP's conditioning is the encoded prompt (B, LENGTH, context), and its pooled output (B, 1) says whether the prompt
describes a landscape. Field Sampler passes cameras with each call (signals.CAMERA); `unseen` provides one for other samplers.
"""

from __future__ import annotations

import copy
import re
import warnings
from typing import Any

import comfy.conds
import comfy.model_base
import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.sd
import comfy.supported_models_base
import torch
from torch import Tensor, nn

from ..core.pullback.generative.toybox import words
from ..core.pullback.generative.toybox.model import LEVEL, STILL, ToyboxModel, camera_tensor, check, network
from ..core.pullback.generative.toybox.network import ANY, ORBIT, PALETTE, SIGMA_DATA
from ..core.pullback.generative.toybox.network import Config as NetConfig
from ..core.pullback.generative.toybox.network import encode as encoded
from . import notes
from .signals import CAMERA, UNSEEN, ToyboxFormat

NO_WORDS = -1.0
"""What the pooled output of an empty prompt begins with, for models that were trained on pictures without words."""
UNKNOWN = (0.0, 0.0, float(ANY))
"""The camera condition of pictures without words."""


class Net(nn.Module):
    """Toybox's denoiser. Its layers are ComfyUI's operations, so that ComfyUI can offload and cast them."""

    def __init__(self, dtype: Any = None, device: Any = None, operations: Any = None, **_: Any):
        super().__init__()
        self.dtype = dtype
        self.toybox = copy.deepcopy(network())
        del self.toybox.words, self.toybox.template.words  # they are the CLIP
        hosted(self.toybox, operations)
        self.toybox.to(device)

    def forward(
        self, x: Tensor, t: Tensor, context: Tensor | None = None, control: Any = None,
        transformer_options: dict[str, Any] | None = None, **_: Any,
    ) -> Tensor:  # fmt: skip
        """Return the network's output for x (B, 4, 64, 64) in EDM's scaling and t (B,) = ln(sigma) / 4."""
        if x.shape[1:] != (4, 64, 64):
            raise ValueError(
                f"toybox draws 64 x 64 pixels, not {x.shape[-1]} x {x.shape[-2]}: use Empty Toybox Latent, or a view size of 0"
            )
        if context is None or context.shape[-1] != NetConfig().context:
            raise ValueError(
                "toybox was given another model's conditioning: encode the prompt with Toybox Loader's CLIP"
            )
        options = transformer_options or {}
        camera = options.get(CAMERA, camera_tensor(None, 1))
        camera = camera.to(x).repeat(len(x) // len(camera), 1)
        dark = (camera[:, 2] == ORBIT) & (torch.exp(4 * t) < ToyboxModel.dark_below)
        dark &= not options.get(UNSEEN, CAMERA not in options)
        return self.toybox.predict(x, t.to(x), context.to(x), camera, (~dark).to(x))


def unseen(
    executor: Any, x: Tensor, timestep: Tensor, model_options: dict[str, Any] | None = None, seed: Any = None
) -> Tensor:
    """Wrap a guider's estimates. If no camera is given, choose the level one for landscapes and the still one for objects.

    The positive prompt decides for the negative prompt too, as in the core. If its pooled output begins with `NO_WORDS`, the
    camera is an unknown one.
    """
    options = model_options or {}
    pooled = [cond.get("pooled_output") for cond in executor.class_obj.conds.get("positive") or ()]
    kinds = [output[:, 0] for output in pooled if output is not None]
    level = any(bool((kind > 0.5).any()) for kind in kinds)
    nothing = bool(kinds) and all(bool((kind == NO_WORDS).all()) for kind in kinds)
    given = options.get("transformer_options", {})
    if CAMERA not in given:
        camera = LEVEL if level else UNKNOWN if nothing else STILL
        given = {**given, CAMERA: camera_tensor(None, 1, camera), UNSEEN: True}
    return executor(x, timestep, {**options, "transformer_options": given}, seed)


def hosted(module: nn.Module, operations: Any) -> None:
    """Replace the plain linear layers and convolutions of a module by ComfyUI's, with the same weights."""
    for name, child in module.named_children():
        if type(child) is nn.Linear:
            layer = operations.Linear(child.in_features, child.out_features, child.bias is not None)
        elif type(child) is nn.Conv2d:
            layer = operations.Conv2d(
                child.in_channels, child.out_channels, child.kernel_size, child.stride, child.padding
            )
        else:
            hosted(child, operations)
            continue
        layer.weight, layer.bias = child.weight, child.bias
        setattr(module, name, layer)


class Base(comfy.model_base.BaseModel):
    """Toybox in EDM's preconditioning."""

    def __init__(self, config: Any, device: Any = None):
        super().__init__(config, model_type=comfy.model_base.ModelType.EDM, device=device, unet_model=Net)


class Config(comfy.supported_models_base.BASE):
    """The description of toybox that ComfyUI needs to load it."""

    unet_config: dict[str, Any] = {}  # noqa: RUF012
    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012
    latent_format = ToyboxFormat
    memory_usage_factor = 0.3
    sampling_settings = {  # noqa: RUF012
        "sigma_min": ToyboxModel.sigma_min, "sigma_max": ToyboxModel.sigma_max, "sigma_data": SIGMA_DATA,
    }  # fmt: skip


class WordNumbers:
    """A BaseModel, to be inherited before ComfyUI's, of a network that also takes the indices of the words, as `numbers`."""

    def extra_conds(self, **given: Any) -> dict[str, Any]:
        """Return the conditions of the network, with the indices of the words."""
        conditions = super().extra_conds(**given)  # type: ignore[misc]
        pooled = given.get("pooled_output")
        if pooled is not None and pooled.shape[-1] == 1 + words.LENGTH:
            conditions["numbers"] = comfy.conds.CONDRegular(pooled[:, 1:])
        return conditions


class WordEncoder(nn.Module):
    """What text encoders of toybox's words share."""

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """Do nothing: there are no layers to choose from."""

    def reset_clip_options(self) -> None:
        """Do nothing, as in `set_clip_options`."""

    def load_sd(self, sd: dict[str, Tensor]) -> Any:
        """Load other weights for the same words."""
        return self.load_state_dict(sd, strict=False)


def indices_and_weights(
    tokens: dict[str, list[list[tuple[int, float]]]], device: torch.device
) -> tuple[Tensor, Tensor, list[bool]]:
    """Return the words of tokenized prompts, their weights, (B, LENGTH) each, and whether each prompt describes a landscape."""
    rows = tokens["toybox"]
    indices = torch.tensor([[token for token, _ in row] for row in rows], device=device)
    weights = torch.tensor([[weight for _, weight in row] for row in rows], device=device)
    return indices, weights, [landscape(row) for row in indices.tolist()]


class Encoder(WordEncoder):
    """Toybox's two encodings of a prompt, as a text encoder."""

    disable_offload = True  # it takes only a megabyte

    def __init__(self, dtype: Any = None, device: Any = None, model_options: Any = None):
        super().__init__()
        whole = copy.deepcopy(network())
        self.words, self.template = whole.words, whole.template.words
        self.dtypes = {torch.float32}
        self.to(device)

    @torch.no_grad()
    def encode_token_weights(self, tokens: dict[str, list[list[tuple[int, float]]]]) -> tuple[Tensor, Tensor]:
        """Return the encoded prompts (B, LENGTH, context), and whether each describes a landscape (B, 1).

        Weights scale the encodings of the words, but not the palette, the last PALETTE values of the context.
        """
        indices, strength, level = indices_and_weights(tokens, self.words.position.device)
        context = encoded(self.words, self.template, indices)
        context[..., :-PALETTE] *= strength[..., None]
        target = comfy.model_management.intermediate_device()
        return context.float().to(target), torch.tensor(level, device=target).float()[:, None]


class Tokenizer:
    """Turns prompts into indices of words. (word:1.3) gives a word a weight."""

    def __init__(self, embedding_directory: Any = None, tokenizer_data: Any = None):
        pass

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **_: Any) -> dict[str, Any]:
        """Return {"toybox": [[(index, weight), ...]]}. A note in the page names the words that toybox does not know.

        Raises:
            ValueError: If there are words and toybox knows none of them.
        """
        known_words(re.sub(r":\s*[\d.]+\)", ")", text))
        weighed = [(word, weight) for part, weight in _weights(text) for word in words.split(part)[0]]
        if len(weighed) > words.LENGTH - 1:
            words.encode(" ".join(word for word, _ in weighed))  # raises an error: the prompt is too long
        row = [(words.START, 1.0), *((words.INDEX[word], weight) for word, weight in weighed)]
        row += [(words.PAD, 1.0)] * (words.LENGTH - len(row))
        return {"toybox": [[(*pair, i) for i, pair in enumerate(row)] if return_word_ids else row]}

    def untokenize(self, tokens: list[tuple[int, float]]) -> list[tuple[tuple[int, float], str]]:
        """Return each token with its word."""
        return [(pair, words.VOCABULARY[pair[0]]) for pair in tokens]

    def state_dict(self) -> dict[str, Tensor]:
        """Return {}: the vocabulary has no tensors."""
        return {}


def known_words(text: str) -> str:
    """Return the words of a prompt that toybox knows. A note in the page names the others.

    Raises:
        ValueError: If there are words and toybox knows none of them.
    """
    if text.strip():
        with warnings.catch_warnings(record=True) as unknown:
            warnings.simplefilter("always")
            check(text, "the help page of Toybox Loader")
        for warning in unknown:
            notes.say(str(warning.message))
    return " ".join(words.split(text)[0])


def landscape(indices: list[int]) -> bool:
    """Return whether a prompt, as indices of words, describes a landscape."""
    named = {words.VOCABULARY[index] for index in indices}
    return bool(named & set(words.LANDSCAPES)) and not named & set(words.NOUNS)


def _weights(text: str) -> list[tuple[str, float]]:
    from comfy.sd1_clip import token_weights

    return token_weights(text, 1.0)


class Pixels(nn.Module):
    """Toybox's VAE: decodes its signals to RGB on white, and encodes RGB as opaque pictures. All values are in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Parameter(torch.ones(()), requires_grad=False)  # ComfyUI asks for a parameter's device

    def decode(self, samples: Tensor, *_: Any, **__: Any) -> Tensor:
        rgba = ToyboxModel().decode(samples)
        return 2 * (rgba[:, :3] + 1 - rgba[:, 3:]).clamp(0, 1) - 1

    def encode(self, pixels: Tensor, *_: Any, **__: Any) -> Tensor:
        return torch.cat([pixels[:, :3], torch.ones_like(pixels[:, :1])], 1)


def load() -> tuple[Any, Any, Any]:
    """Return a new MODEL, CLIP and VAE on the devices that ComfyUI chooses."""
    model = model_of(Base, Config)
    # The values of pictures are in [-1, 1]. The core clamps the guided estimate in the same way.
    model.set_model_sampler_post_cfg_function(lambda args: args["denoised"].clamp(-1, 1))
    return model, clip_of(Encoder), vae_of(Pixels(), ToyboxFormat)


def model_of(base: Any, description: Any) -> Any:
    """Return a new MODEL of a built-in model, whose camera is chosen by the prompt (`unseen`)."""
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    config = description({})
    config.set_inference_dtype(torch.float32, None)
    patcher = comfy.model_patcher.ModelPatcher(base(config, offload), load_device=device, offload_device=offload)
    patcher.add_wrapper(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, unseen)
    return patcher


def clip_of(encoder: Any) -> Any:
    """Return a new CLIP that encodes toybox's words with an encoder."""
    target = comfy.supported_models_base.ClipTarget(Tokenizer, encoder)
    return comfy.sd.CLIP(target, model_options={"dtype": torch.float32})


def vae_of(stage: nn.Module, fmt: Any) -> Any:
    """Return a new VAE whose decoding and encoding are those of a module, for latents of a format."""
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.ones(())})
    vae.first_stage_model, vae.latent_channels = stage, fmt.latent_channels
    vae.upscale_ratio = vae.downscale_ratio = fmt.spacial_downscale_ratio
    vae.vae_dtype, vae.working_dtypes = torch.float32, [torch.float32]
    old = vae.patcher
    vae.patcher = comfy.model_patcher.ModelPatcher(
        stage, load_device=old.load_device, offload_device=old.offload_device
    )
    return vae
