"""Built-in: infd as a genuine MODEL, CLIP and VAE, with the core's own networks and words.

The CLIP's conditioning is the encoded prompt (B, LENGTH, width). Its pooled output (B, 1 + LENGTH) says whether the prompt is
of a landscape, and then the numbers of its words, from which comes the picture that the latent model expects. A guide with
boxes says what it expects where (LAYOUT).
"""

from __future__ import annotations

import copy
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

from ..core.pullback.generative.infd.decoder import FieldDecoder, display
from ..core.pullback.generative.infd.latent import SIGMA_DATA
from ..core.pullback.generative.infd.model import UNSEEN as NO_CAMERA
from ..core.pullback.generative.infd.model import InfdModel, decoder, expected_latents, network
from ..core.pullback.generative.toybox import words
from ..core.pullback.generative.toybox.model import camera_tensor
from ..core.pullback.generative.toybox.network import PITCH
from .builtin import Tokenizer, hosted, landscape, unseen
from .signals import CAMERA, LAYOUT, UNSEEN, InfdFormat


class Net(nn.Module):
    """Infd's denoiser, its plain layers replaced by ComfyUI's operations, so that offloading and casting know them."""

    def __init__(self, dtype: Any = None, device: Any = None, operations: Any = None, **_: Any):
        super().__init__()
        self.dtype = dtype
        self.latent = copy.deepcopy(network()[0])
        with torch.no_grad():
            nothing = self.latent.words(torch.tensor([words.encode("")]))
        self.register_buffer("nothing", nothing, persistent=False)
        del self.latent.words  # they are the CLIP
        hosted(self.latent, operations)
        self.to(device)

    nothing: Tensor

    def forward(
        self, x: Tensor, t: Tensor, context: Tensor | None = None, control: Any = None,
        transformer_options: dict[str, Any] | None = None, numbers: Tensor | None = None, **_: Any,
    ) -> Tensor:  # fmt: skip
        """The network's output for x (B, 4, h, w) in EDM's scaling, t (B,) = ln(sigma) / 4."""
        if context is None or numbers is None or context.shape[-1] != self.nothing.shape[-1]:
            raise ValueError("infd was given another model's conditioning: encode the prompt with Infd Loader's CLIP")
        if x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(f"infd's latents have even sides, not {x.shape[3]} x {x.shape[2]}: use Empty Infd Latent")
        options = transformer_options or {}
        camera = options.get(CAMERA, camera_tensor(None, 1)).to(x)
        layout, view = options.get(LAYOUT, (None, None))
        parts = options.get("cond_or_uncond") or [0]  # 0 for what is wanted, of which a guide says what stands where
        count = len(x) // len(parts)
        if layout is not None and options.get(UNSEEN, CAMERA not in options):
            camera = torch.where(camera[:, 2:] == PITCH, camera, torch.tensor(NO_CAMERA).to(camera))
        camera = camera.repeat(count // len(camera), 1)
        contexts, expected = [], []
        for n, part in enumerate(parts):
            rows = slice(n * count, (n + 1) * count)
            read, said = context[rows].to(x), numbers[rows].round().long()
            told = layout if part == 0 else None
            if told is not None and not all(landscape(row) for row in said.tolist()):
                read, said = self.nothing.to(x).expand_as(read), torch.tensor([words.encode("")] * count)
            contexts.append(read)
            with torch.inference_mode(False):  # what is computed here is kept, and autograd may follow a later step
                shape = (x.shape[2], x.shape[3])
                expected.append(expected_latents(said.clone(), camera.clone(), shape, told, view).to(x))
        lit = torch.ones(len(x)).to(x)
        cameras = camera.repeat(len(parts), 1)
        return self.latent.predict(x, t.to(x), torch.cat(contexts), torch.cat(expected), cameras, lit)


class Base(comfy.model_base.BaseModel):
    """Infd in EDM's preconditioning."""

    def __init__(self, config: Any, device: Any = None):
        super().__init__(config, model_type=comfy.model_base.ModelType.EDM, device=device, unet_model=Net)

    def extra_conds(self, **given: Any) -> dict[str, Any]:
        """The conditions of the network, with the numbers of the words."""
        conditions = super().extra_conds(**given)
        pooled = given.get("pooled_output")
        if pooled is not None and pooled.shape[-1] == 1 + words.LENGTH:
            conditions["numbers"] = comfy.conds.CONDRegular(pooled[:, 1:])
        return conditions


class Config(comfy.supported_models_base.BASE):
    """How ComfyUI sees infd."""

    unet_config: dict[str, Any] = {}  # noqa: RUF012
    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012
    latent_format = InfdFormat
    memory_usage_factor = 1.0
    sampling_settings = {  # noqa: RUF012
        "sigma_min": InfdModel.sigma_min, "sigma_max": InfdModel.sigma_max, "sigma_data": SIGMA_DATA,
    }  # fmt: skip


class Encoder(nn.Module):
    """Infd's reading of a prompt, as a text encoder."""

    disable_offload = True  # a few hundred kilobytes

    def __init__(self, dtype: Any = None, device: Any = None, model_options: Any = None):
        super().__init__()
        self.words = copy.deepcopy(network()[0].words)
        self.dtypes = {torch.float32}
        self.to(device)

    def set_clip_options(self, options: dict[str, Any]) -> None:
        """There are no layers to choose from."""

    def reset_clip_options(self) -> None:
        """See above."""

    @torch.no_grad()
    def encode_token_weights(self, tokens: dict[str, list[list[tuple[int, float]]]]) -> tuple[Tensor, Tensor]:
        """Context (B, LENGTH, width), and whether it is a landscape and the words' numbers (B, 1 + LENGTH)."""
        rows, device = tokens["toybox"], self.words.position.device
        numbers = torch.tensor([[token for token, _ in row] for row in rows], device=device)
        strength = torch.tensor([[weight for _, weight in row] for row in rows], device=device)
        context = self.words(numbers) * strength[..., None]
        level = torch.tensor([[landscape([token for token, _ in row])] for row in rows], device=device)
        target = comfy.model_management.intermediate_device()
        return context.float().to(target), torch.cat([level, numbers], 1).float().to(target)

    def load_sd(self, sd: dict[str, Tensor]) -> Any:
        """Other weights for the same words."""
        return self.load_state_dict(sd, strict=False)


class Pictures(nn.Module):
    """Infd's latents to RGB on white at four times their size, and back; pictures in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.autoencoder = copy.deepcopy(decoder().autoencoder)

    def decode(self, samples: Tensor, *_: Any, **__: Any) -> Tensor:
        field = FieldDecoder(self.autoencoder, "infd", {})
        size = field.scale * samples.shape[2], field.scale * samples.shape[3]
        rgba = torch.cat([display(field.draw(each[None], *size)) for each in self.autoencoder.features(samples)])
        return 2 * (rgba[:, :3] + 1 - rgba[:, 3:]).clamp(0, 1) - 1

    def encode(self, pixels: Tensor, *_: Any, **__: Any) -> Tensor:
        return self.autoencoder.encode(torch.cat([pixels[:, :3], torch.ones_like(pixels[:, :1])], 1))


def load() -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE, new ones each time, on the devices that ComfyUI wants."""
    with torch.inference_mode(False):  # or autograd could not take the weights that the core keeps
        network(), decoder()
    return _model(), _clip(), _vae()


def _model() -> Any:
    device, offload = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
    config = Config({})
    config.set_inference_dtype(torch.float32, None)
    patcher = comfy.model_patcher.ModelPatcher(Base(config, offload), load_device=device, offload_device=offload)
    patcher.add_wrapper(comfy.patcher_extension.WrappersMP.PREDICT_NOISE, unseen)
    return patcher


def _clip() -> Any:
    target = comfy.supported_models_base.ClipTarget(Tokenizer, Encoder)
    return comfy.sd.CLIP(target, model_options={"dtype": torch.float32})


def _vae() -> Any:
    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.ones(())})
    vae.first_stage_model, vae.latent_channels = Pictures(), InfdFormat.latent_channels
    vae.upscale_ratio = vae.downscale_ratio = InfdFormat.spacial_downscale_ratio
    vae.vae_dtype, vae.working_dtypes = torch.float32, [torch.float32]
    old = vae.patcher
    vae.patcher = comfy.model_patcher.ModelPatcher(
        vae.first_stage_model, load_device=old.load_device, offload_device=old.offload_device
    )
    return vae
