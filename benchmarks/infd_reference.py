"""Our image neural fields compared with the authors' code, on the same random weights.

`python benchmarks/infd_reference.py CHECKOUT` prints the largest differences. CHECKOUT is a clone of
https://github.com/yinboc/infd; no part of that code is in pullback. It needs `pip install einops`, but neither torchvision nor a
GPU, because the comparisons do not use what it imports of them.
"""

from __future__ import annotations

import random
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import torch
import typer
from PIL import Image
from pullback.generative.infd.convert import VAE, _renamed, converted
from pullback.generative.infd.decoder import FieldDecoder
from pullback.generative.infd.discriminator import PatchDiscriminator, adaptive_weight, hinge
from pullback.generative.infd.network import VQ, Autoencoder, Config
from pullback.generative.infd.renderers import CLIF, places
from torch import Tensor, nn

FEATURES, HIDDEN = 32, 64
ABSENT = ("torchvision", "torch_fidelity", "tqdm", "tensorboardX", "wandb", "blobfile", "mpi4py", "omegaconf")
"""Packages that the authors' modules import and these comparisons do not use."""


def randomised(module: nn.Module) -> nn.Module:
    """Give a module random weights, about as large as those of a trained network, also in norms and biases."""
    generator = torch.Generator().manual_seed(0)
    for p in module.parameters():
        p.data = torch.randn(p.shape, generator=generator) / max(1, p[0].numel()) ** 0.5
    return module.eval()


def with_weights(ours: nn.Module, theirs: nn.Module) -> nn.Module:
    """Copy the weights of their module to ours. The two have tensors of the same shapes, in the same order."""
    sources = [value for value in theirs.state_dict().values() if value.is_floating_point()]
    targets = [value for value in ours.state_dict().values() if value.is_floating_point()]
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
    return ours.eval()


def gap(a: Tensor, b: Tensor) -> str:
    """Format the largest difference of two tensors, and the largest value of the second for comparison."""
    return f"{(a - b).detach().abs().max().item():.1e} | {b.detach().abs().max().item():.2g}"


def renderers() -> tuple[CLIF, Any]:
    """Return our renderer and theirs, with the same random weights."""
    net = {"name": "simple_renderer_net", "args": {"hidden_channels": HIDDEN}}
    wrapper = {"name": "renderer_concat_wrapper", "args": {"net": net, "z_dec_channels": FEATURES}}
    theirs = randomised(import_module("models").make(wrapper))
    ours = CLIF(FEATURES, 3, HIDDEN, grouped=True)
    get = theirs.state_dict()
    name = {"enter": "net.model.0", "norm": "net.norm_out", "last": "net.conv_out"}
    name |= {
        f"blocks.{n}.{part}": f"net.model.{n + 1}.{part}"
        for n in (0, 1)
        for part in ("norm1", "conv1", "norm2", "conv2")
    }
    ours.load_state_dict({f"{a}.{kind}": get[f"{b}.{kind}"] for a, b in name.items() for kind in ("weight", "bias")})
    return ours.eval(), theirs


@torch.no_grad()
def forwards() -> None:
    """Compare what the renderers draw at several sizes."""
    ours, theirs = renderers()
    grid = import_module("utils.geometry").make_coord_cell_grid
    phi = torch.randn(2, FEATURES, 16, 16, generator=torch.Generator().manual_seed(1))
    for side in (16, 37, 64):
        at, cell = grid((side, side), bs=2)
        mine = ours(phi, places(side, side)[None].expand(2, -1, -1, -1), torch.full((2, 2), 2 / side))
        wanted = theirs(phi, at.contiguous(), cell.contiguous())
        print(f"| CLIF, 16 x 16 features at {side} x {side} pixels | {gap(mine, wanted)} |")


def sampling() -> None:
    """Compare the places of the pixels of random patches, for the sizes and corners that their code draws."""
    module = import_module("datasets.wrapper_cae")
    module.transforms.Compose = lambda _: lambda image: torch.from_numpy(np.array(image)).movedim(-1, 0) / 127.5 - 1
    module.datasets.make = lambda _: None
    wrapper = module.BaseWrapperCAE(None, 16, resize_gt_lb=16, resize_gt_ub=60, final_crop_gt=16)
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8))
    worst_places = worst_cells = 0.0
    draw, drawn = random.randint, []
    module.random = SimpleNamespace(random=random.random, randint=lambda a, b: drawn.append(draw(a, b)) or drawn[-1])
    for seed in range(50):
        random.seed(seed)
        drawn.clear()
        found = wrapper.process(picture)
        side, top, left = drawn
        mine = places(side, side, (top, left, 16, 16))
        worst_places = max(worst_places, float((mine - found["gt_coord"]).abs().max()))
        worst_cells = max(worst_cells, float((found["gt_cell"] - 2 / side).abs().max()))
    print(f"| places of 50 random patches | {worst_places:.1e} | 1 |\n| their cells | {worst_cells:.1e} | 0.12 |")


def losses() -> None:
    """Compare the adversarial losses, the discriminator and the vector quantiser."""
    module = import_module("models.infd")
    infd, generator = module.INFD, torch.Generator().manual_seed(2)
    true, drawn = (torch.randn(4, 1, 6, 6, generator=generator) for _ in "ab")
    model = infd.__new__(infd)  # only their loss: the pictures that it compares are given
    nn.Module.__init__(model)
    model.run_renderer, model.disc, model.disc_cond_scale, model.loss_cfg = (lambda *_: drawn), nn.Identity(), False, {}
    model.z_dm = None
    module.INFDBase.forward = lambda *_, **__: (None, {})
    given = {"gt": true, "gt_coord": None, "gt_cell": None}
    print(f"| hinge loss | {gap(hinge(true, drawn), model(given, mode='disc_loss')['loss'])} |")
    ours, _ = renderers()
    at, cell = places(24, 24)[None], torch.full((1, 2), 2 / 24)
    adversary = randomised(import_module("models.vqgan.discriminator").make_discriminator())
    mine = with_weights(PatchDiscriminator(3), adversary)
    picture = ours(torch.randn(1, FEATURES, 8, 8, generator=generator), at, cell)
    shown = torch.nn.functional.interpolate(picture, scale_factor=2)
    error, fooling = picture.abs().mean(), -adversary(shown).mean()
    weight = infd.calculate_adaptive_g_w(None, error, fooling, ours.last.weight)
    print(f"| adaptive weight | {gap(adaptive_weight(error, fooling, ours.last.weight), weight)} |")
    print(f"| discriminator | {gap(mine(shown.detach()), adversary(shown.detach()))} |")
    quantizer = import_module("models.vqgan.quantizer").VectorQuantizer(64, 3, beta=0.25)
    quantizer.embedding.weight.data.normal_(generator=generator)
    vq = VQ(Config(latent=3, codes=64))
    vq.codes.weight.data = quantizer.embedding.weight.data
    z = torch.randn(2, 3, 8, 8, generator=generator)
    (a, b), (c, d, _) = vq(z, None), quantizer(z)
    print(f"| VQ: vectors | {gap(a, c)} |\n| VQ: loss | {gap(b, d)} |")


@torch.no_grad()
def trunks() -> None:
    """Compare the encoder and the decoder, with their weights converted as those of a VAE are."""
    model = import_module("models.vqgan.model")
    sizes = {"ch": 32, "ch_mult": [1, 2, 2], "num_res_blocks": 1, "attn_resolutions": [], "in_channels": 3, "resolution": 32,
             "z_channels": 3, "out_ch": 3, "give_pre_end": False, "dropout": 0.0}  # fmt: skip
    encoder = randomised(model.Encoder(**sizes | {"double_z": True}))
    decoder = randomised(model.Decoder(**sizes | {"double_z": False}))
    tensors = {f"encoder.{key}": value for key, value in encoder.state_dict().items()}
    tensors |= {f"decoder.{key}": value for key, value in decoder.state_dict().items()}
    ours: Autoencoder = converted(VAE(Path("theirs"), _renamed(tensors), {}), 32).eval()
    x = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(3)) * 2 - 1
    z = encoder(x).chunk(2, 1)[0]
    print(f"| encoder | {gap(ours.encode(x), z)} |")
    print(f"| decoder, and CLIF at its start at the decoder's size | {gap(ours.picture(z, 32), decoder(z))} |")


@torch.no_grad()
def tiles() -> None:
    """Compare pictures in tiles with whole pictures: their renderer with group norms, and ours without.

    Their tiles have 20 pixels and 8 more around them; ours are bands of 20 rows.
    """
    _, theirs = renderers()
    decode = import_module("gen_samples").render_output_patchwise
    phi = torch.randn(1, FEATURES, 16, 16, generator=torch.Generator().manual_seed(4))
    model = SimpleNamespace(decode_z=lambda z: z, run_renderer=theirs)
    whole, tiled = decode(phi, model, 50), decode(phi, model, 50, 20, 8)
    print(f"| their tiles compared with their whole picture, with group norms | {gap(tiled, whole)} |")
    plain = randomised(Autoencoder(Config(3, base=16, decoder=(FEATURES, 8, 8), hidden=HIDDEN)))
    decoder = FieldDecoder(plain, "plain", {})
    draw = lambda z_dec, coord, cell: plain.renderer(z_dec, coord, cell[:, 0, 0])
    model = SimpleNamespace(decode_z=lambda z: z, run_renderer=draw)
    parts = [decoder.draw(phi, 50, 50, (y, 0, min(20, 50 - y), 50)) for y in range(0, 50, 20)]
    print(
        f"| our tiles compared with our whole picture, without norms | {gap(torch.cat(parts, 2), decoder.draw(phi, 50, 50))} |"
    )
    print(
        f"| our tiles compared with their tiles of our renderer | {gap(torch.cat(parts, 2), decode(phi, model, 50, 20, 8))} |"
    )


def main(checkout: Path) -> None:
    """Print the table."""
    sys.path.insert(0, str(checkout))
    for name in ABSENT:
        sys.modules.setdefault(name, MagicMock())
    torch.set_num_threads(1)
    print("| what | largest difference | largest value |\n| --- | --- | --- |")
    forwards()
    sampling()
    losses()
    trunks()
    tiles()


if __name__ == "__main__":
    typer.run(main)
