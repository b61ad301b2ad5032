"""Built-in: infd as a genuine MODEL, CLIP and VAE, with the core's own networks and words.

The CLIP's conditioning is the encoded prompt (B, LENGTH, width). Its pooled output (B, 1 + LENGTH) says whether the prompt
describes a landscape, followed by the indices of its words. From these comes the picture that the latent model expects. A guide
with boxes tells the model what to expect in which box (LAYOUT).
"""

from __future__ import annotations

import copy
from typing import Any

import comfy.model_base
import comfy.model_management
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
from .builtin import WordEncoder, WordNumbers, clip_of, hosted, indices_and_weights, landscape, model_of, vae_of
from .signals import CAMERA, LAYOUT, UNSEEN, InfdFormat


class Net(nn.Module):
    """Infd's denoiser. Its layers are ComfyUI's operations, so that ComfyUI can offload and cast them."""

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
        """Return the network's output for x (B, 4, h, w) in EDM's scaling and t (B,) = ln(sigma) / 4."""
        if context is None or numbers is None or context.shape[-1] != self.nothing.shape[-1]:
            raise ValueError("infd was given another model's conditioning: encode the prompt with Infd Loader's CLIP")
        if x.shape[2] % 2 or x.shape[3] % 2:
            raise ValueError(f"infd's latents have even sides, not {x.shape[3]} x {x.shape[2]}: use Empty Infd Latent")
        options = transformer_options or {}
        camera = options.get(CAMERA, camera_tensor(None, 1)).to(x)
        layout, view = options.get(LAYOUT, (None, None))
        parts = options.get("cond_or_uncond") or [0]  # 0: the positive prompt, the only one that a layout applies to
        count = len(x) // len(parts)
        if layout is not None and options.get(UNSEEN, CAMERA not in options):
            camera = torch.where(camera[:, 2:] == PITCH, camera, torch.tensor(NO_CAMERA).to(camera))
        camera = camera.repeat(count // len(camera), 1)
        contexts, expected = [], []
        for n, part in enumerate(parts):
            rows = slice(n * count, (n + 1) * count)
            encoded, indices = context[rows].to(x), numbers[rows].round().long()
            placed = layout if part == 0 else None
            if placed is not None and not all(landscape(row) for row in indices.tolist()):
                encoded, indices = self.nothing.to(x).expand_as(encoded), torch.tensor([words.encode("")] * count)
            contexts.append(encoded)
            with torch.inference_mode(
                False
            ):  # the core keeps what it computes here, and a later step may need gradients
                shape = (x.shape[2], x.shape[3])
                expected.append(expected_latents(indices.clone(), camera.clone(), shape, placed, view).to(x))
        lit = torch.ones(len(x)).to(x)
        cameras = camera.repeat(len(parts), 1)
        return self.latent.predict(x, t.to(x), torch.cat(contexts), torch.cat(expected), cameras, lit)


class Base(WordNumbers, comfy.model_base.BaseModel):
    """Infd in EDM's preconditioning."""

    def __init__(self, config: Any, device: Any = None):
        super().__init__(config, model_type=comfy.model_base.ModelType.EDM, device=device, unet_model=Net)


class Config(comfy.supported_models_base.BASE):
    """The description of infd that ComfyUI needs to load it."""

    unet_config: dict[str, Any] = {}  # noqa: RUF012
    unet_extra_config: dict[str, Any] = {}  # noqa: RUF012
    latent_format = InfdFormat
    memory_usage_factor = 1.0
    sampling_settings = {  # noqa: RUF012
        "sigma_min": InfdModel.sigma_min, "sigma_max": InfdModel.sigma_max, "sigma_data": SIGMA_DATA,
    }  # fmt: skip


class Encoder(WordEncoder):
    """Infd's encoding of a prompt, as a text encoder."""

    disable_offload = True  # it takes only a few hundred kilobytes

    def __init__(self, dtype: Any = None, device: Any = None, model_options: Any = None):
        super().__init__()
        self.words = copy.deepcopy(network()[0].words)
        self.dtypes = {torch.float32}
        self.to(device)

    @torch.no_grad()
    def encode_token_weights(self, tokens: dict[str, list[list[tuple[int, float]]]]) -> tuple[Tensor, Tensor]:
        """Return the encoded prompts (B, LENGTH, width) and the pooled output (B, 1 + LENGTH) described above."""
        indices, strength, level = indices_and_weights(tokens, self.words.position.device)
        context = self.words(indices) * strength[..., None]
        target = comfy.model_management.intermediate_device()
        pooled = torch.cat([torch.tensor(level).to(indices)[:, None], indices], 1)
        return context.float().to(target), pooled.float().to(target)


class Pictures(nn.Module):
    """Infd's VAE: decodes latents to RGB on white at four times their size, and encodes RGB. Pictures are in [-1, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.autoencoder = copy.deepcopy(decoder().autoencoder)

    def decode(self, samples: Tensor, *_: Any, **__: Any) -> Tensor:
        field = FieldDecoder(self.autoencoder, "infd", {})
        size = field.scale * samples.shape[2], field.scale * samples.shape[3]
        rgba = torch.cat([display(field.draw(phi[None], *size)) for phi in self.autoencoder.features(samples)])
        return 2 * (rgba[:, :3] + 1 - rgba[:, 3:]).clamp(0, 1) - 1

    def encode(self, pixels: Tensor, *_: Any, **__: Any) -> Tensor:
        return self.autoencoder.encode(torch.cat([pixels[:, :3], torch.ones_like(pixels[:, :1])], 1))


def load() -> tuple[Any, Any, Any]:
    """Return a new MODEL, CLIP and VAE on the devices that ComfyUI chooses."""
    with torch.inference_mode(False):  # autograd cannot use weights that were loaded in inference mode
        network(), decoder()
    return model_of(Base, Config), clip_of(Encoder), vae_of(Pictures(), InfdFormat)
