"""Built-in: ∞-Diff as a genuine MODEL, CLIP and VAE, with the core's own networks and words. Any latent size is a picture size.

The network estimates pictures, so that ComfyUI's scaling of inputs and outputs is the identity (`Sampling`). A noise level of
ComfyUI is that of a picture of 64 pixels, and its samplers see larger noisy pictures divided by `signals.spread` (`Base`, `Net`).

The CLIP's conditioning is the encoded prompt (B, LENGTH, width), followed by toybox's encoding of it where the network corrects
toybox's estimates. Its pooled output (B, 1) is 1 for a landscape, 0 for an object, or `NO_WORDS`.
"""

from __future__ import annotations

import copy
import functools
from typing import Any

import comfy.model_base
import comfy.model_management
import comfy.model_sampling
import comfy.supported_models_base
import torch
from torch import Tensor, nn

from ..core.pullback.generative.infty_diff.denoiser import denoise
from ..core.pullback.generative.infty_diff.model import LOW, TOP, InftyDiffModel, check_size
from ..core.pullback.generative.infty_diff.network import WIDTHS, Condition
from ..core.pullback.generative.toybox import words
from ..core.pullback.generative.toybox.model import camera_tensor
from ..core.pullback.generative.toybox.model import network as toybox
from ..core.pullback.generative.toybox.network import ORBIT, PALETTE
from ..core.pullback.generative.toybox.network import Config as ToyboxConfig
from ..core.pullback.generative.toybox.network import encode as encoded
from .builtin import NO_WORDS, Pixels, WordEncoder, clip_of, hosted, indices_and_weights, model_of, vae_of
from .signals import CAMERA, UNSEEN, FunctionFormat, spread


class Net(nn.Module):
    """∞-Diff's denoiser. Its layers are ComfyUI's operations, so that ComfyUI can offload and cast them."""

    def __init__(self, model: InftyDiffModel, dtype: Any = None, device: Any = None, operations: Any = None, **_: Any):
        super().__init__()
        self.dtype, self.name = dtype, model.name
        self.std, self.inverse, self.shrink = model.std, model.inverse, model.shrink
        self.config, self.network = model.functions.config, copy.deepcopy(model.functions.denoiser)
        self.network.conditioner.words = nn.Identity()  # they are the CLIP
        self.toybox = copy.deepcopy(toybox()) if self.config.toybox else None
        if self.toybox:
            del self.toybox.words, self.toybox.template.words
        hosted(self, operations)
        self.to(device)

    def forward(
        self, x: Tensor, t: Tensor, context: Tensor | None = None, control: Any = None,
        transformer_options: dict[str, Any] | None = None, **_: Any,
    ) -> Tensor:  # fmt: skip
        """Return the estimate of x0 for x (B, C, H, W) and t (B,) = ln(sigma) / 4, both divided by `spread`."""
        height, width = x.shape[-2:]
        check_size(height, width, self.name)
        width_of_words = WIDTHS[2] + (ToyboxConfig().context if self.toybox else 0)
        if context is None or context.shape[-1] != width_of_words:
            raise ValueError(
                f"{self.name} was given another model's conditioning: encode the prompt with Load Function Model's CLIP"
            )
        options = transformer_options or {}
        camera = options.get(CAMERA, camera_tensor(None, 1)).to(x)
        camera = camera.repeat(len(x) // len(camera), 1)
        seen = not options.get(UNSEEN, CAMERA not in options)
        lit = torch.where((camera[:, 2] == ORBIT) & seen, 0.0, 1.0).to(x)
        words, toyboxs = context.to(x).tensor_split((WIDTHS[2],), -1)
        coarse = (lambda small, level: self.toybox(small, level.to(x), toyboxs, camera, lit)) if self.toybox else None
        given = Condition(words, camera, lit, coarse)
        times, z = spread(height, width), x.new_zeros(len(x), self.config.latent)
        sigma = times * torch.exp(4 * t.to(x))
        return denoise(self.network, times * x, sigma, given, z, self.std, self.inverse, self.shrink) / times


class Sampling(comfy.model_sampling.ModelSamplingContinuousEDM, comfy.model_sampling.EPS):
    """The noise levels of a network that takes noisy pictures as they are and estimates the picture."""

    def calculate_input(self, sigma: Tensor, noise: Tensor) -> Tensor:
        return noise

    def calculate_denoised(self, sigma: Tensor, model_output: Tensor, model_input: Tensor) -> Tensor:
        return model_output


class Base(comfy.model_base.BaseModel):
    """∞-Diff with the noise levels of `Sampling`. Samplers see latents divided by `spread`."""

    def __init__(self, config: Any, device: Any = None, *, model: InftyDiffModel):
        kind = comfy.model_base.ModelType.EDM
        super().__init__(config, model_type=kind, device=device, unet_model=functools.partial(Net, model))
        self.model_sampling = Sampling(config)

    def process_latent_in(self, latent: Tensor) -> Tensor:
        return super().process_latent_in(latent) / spread(*latent.shape[-2:])

    def process_latent_out(self, latent: Tensor) -> Tensor:
        return super().process_latent_out(latent * spread(*latent.shape[-2:]))


class Config(comfy.supported_models_base.BASE):
    """The description of ∞-Diff that ComfyUI needs to load it."""

    unet_config: dict[str, Any] = {}  # noqa: RUF012
    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012
    latent_format = FunctionFormat
    memory_usage_factor = 0.1
    sampling_settings = {"sigma_min": LOW, "sigma_max": TOP, "sigma_data": 1.0}  # noqa: RUF012


class Encoder(WordEncoder):
    """∞-Diff's encoding of a prompt, as a text encoder."""

    disable_offload = True  # it takes only a few hundred kilobytes

    def __init__(self, model: InftyDiffModel, dtype: Any = None, device: Any = None, model_options: Any = None):
        super().__init__()
        self.words = copy.deepcopy(model.functions.denoiser.conditioner.words)
        whole = copy.deepcopy(toybox()) if model.functions.config.toybox else None
        self.toyboxs = nn.ModuleList([whole.words, whole.template.words] if whole else [])
        self.dtypes = {torch.float32}
        self.to(device)

    @torch.no_grad()
    def encode_token_weights(self, tokens: dict[str, list[list[tuple[int, float]]]]) -> tuple[Tensor, Tensor]:
        """Return the encoded prompts (B, LENGTH, width) and the pooled output (B, 1) described above.

        Weights scale the encodings of the words, but not toybox's palette, the last PALETTE values.
        """
        indices, strength, level = indices_and_weights(tokens, self.words.position.device)
        context = self.words(indices) * strength[..., None]
        if self.toyboxs:
            theirs = encoded(*self.toyboxs, indices)
            theirs[..., :-PALETTE] *= strength[..., None]
            context = torch.cat([context, theirs], -1)
        target = comfy.model_management.intermediate_device()
        nothing = indices == torch.tensor(words.encode("")).to(indices)
        kind = torch.where(nothing.all(1), NO_WORDS, torch.tensor(level).to(indices).float())
        return context.float().to(target), kind[:, None].to(target)


class Pictures(Pixels):
    """∞-Diff's VAE: decodes its signals to RGB on white, and encodes RGB as opaque pictures. All values are in [-1, 1]."""

    def __init__(self, channels: int):
        super().__init__()
        self.channels = channels

    def decode(self, samples: Tensor, *_: Any, **__: Any) -> Tensor:
        return super().decode(samples) if self.channels == 4 else samples.clamp(-1, 1)

    def encode(self, pixels: Tensor, *_: Any, **__: Any) -> Tensor:
        return super().encode(pixels)[:, : self.channels]


def load(model: InftyDiffModel) -> tuple[Any, Any, Any]:
    """Return a new MODEL, CLIP and VAE of a model of the core, on the devices that ComfyUI chooses."""
    with torch.inference_mode(False):  # autograd cannot use weights that were loaded in inference mode
        toybox()
    fmt = FunctionFormat(model.name, model.channels)

    def described(unet_config: dict[str, Any]) -> Config:
        config = Config(unet_config)
        config.latent_format = fmt
        return config

    patcher = model_of(functools.partial(Base, model=model), described)
    patcher.set_model_sampler_post_cfg_function(_clamped)
    return patcher, clip_of(functools.partial(Encoder, model)), vae_of(Pictures(model.channels), fmt)


def _clamped(args: dict[str, Any]) -> Tensor:
    """Clamp guided estimates to the values that pictures have, as the core does."""
    most = 1 / spread(*args["denoised"].shape[-2:])
    return args["denoised"].clamp(-most, most)
