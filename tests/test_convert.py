"""Field decoders made of the VAEs of other models: random weights in diffusers' own classes."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image
from pullback.generative.infd.convert import converted, read_vae
from pullback.generative.infd.decoder import FORMAT, FieldDecoder, describe, load_decoder
from safetensors.torch import load_file, save_file

diffusers = pytest.importorskip("diffusers", reason='pip install "pullback[diffusers]"')

# The layouts of Stable Diffusion 1.5 and SDXL, which differ in their scale, and of Flux, with fewer and narrower levels.
LAYOUTS = {
    "sd15": {"latent_channels": 4, "scaling_factor": 0.18215},
    "sdxl": {"latent_channels": 4, "scaling_factor": 0.13025, "force_upcast": True},
    "flux": {
        "latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159,
        "use_quant_conv": False, "use_post_quant_conv": False,
    },
}  # fmt: skip


def _vae(layout: str):
    torch.manual_seed(0)
    vae = diffusers.AutoencoderKL(
        block_out_channels=(32, 64), down_block_types=["DownEncoderBlock2D"] * 2,
        up_block_types=["UpDecoderBlock2D"] * 2, layers_per_block=2, norm_num_groups=32, sample_size=32, **LAYOUTS[layout],
    )  # fmt: skip
    for p in vae.parameters():  # norms and biases start as 1 and 0, which would hide a mistake
        p.data += 0.05 * torch.randn(p.shape)
    return vae.eval().requires_grad_(False)


def _original(vae) -> dict[str, torch.Tensor]:
    """Its tensors as the original code of latent diffusion names and shapes them."""
    levels, found = len(vae.config.block_out_channels), {}
    names = {
        r"down_blocks\.(\d+)\.resnets\.(\d+)": r"down.\1.block.\2",
        r"down_blocks\.(\d+)\.downsamplers\.0": r"down.\1.downsample",
        r"conv_shortcut": "nin_shortcut", r"conv_norm_out": "norm_out",
        r"mid_block\.resnets\.0": "mid.block_1", r"mid_block\.resnets\.1": "mid.block_2",
        r"mid_block\.attentions\.0\.group_norm": "mid.attn_1.norm", r"mid_block\.attentions\.0\.to_([qkv])": r"mid.attn_1.\1",
        r"mid_block\.attentions\.0\.to_out\.0": "mid.attn_1.proj_out",
    }  # fmt: skip
    for name, value in vae.state_dict().items():
        up = lambda match: (
            f"up.{levels - 1 - int(match[1])}." + (f"block.{match[3]}" if match[2] == "resnets" else "upsample")
        )
        new = re.sub(r"up_blocks\.(\d+)\.(resnets|upsamplers)\.(\d+)", up, name)
        for pattern, other in names.items():
            new = re.sub(pattern, other, new)
        found[new] = value[..., None, None] if "attn_1" in new and value.ndim == 2 else value
    return found


def _pictures(vae, side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.rand(1, 3, 2 * side, side, generator=torch.Generator().manual_seed(1)) * 2 - 1
    return x, vae.encode(x).latent_dist.mean


def _drawn(decoder: FieldDecoder, z: torch.Tensor, height: int, width: int) -> torch.Tensor:
    return decoder.draw(decoder.features(z), height, width)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_an_untrained_conversion_encodes_and_decodes_as_the_vae(layout, tmp_path):
    vae = _vae(layout)
    vae.save_pretrained(tmp_path / "vae")
    network = converted(read_vae(tmp_path / "vae"), 32).eval().requires_grad_(False)
    pictures, z = _pictures(vae)
    torch.testing.assert_close(network.encode(pictures), z, atol=1e-4, rtol=1e-4)

    seen = []
    vae.decoder.conv_out.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    wanted = vae.decode(z).sample
    torch.testing.assert_close(
        network.features(z), seen[0], atol=1e-4, rtol=1e-4
    )  # phi: what its last convolution reads
    drawn = _drawn(FieldDecoder(network, "converted", {}), z, *wanted.shape[2:])
    torch.testing.assert_close(drawn, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "vae."])
@pytest.mark.parametrize("layout", ["sd15", "flux"])
def test_files_of_the_original_code_and_whole_checkpoints_are_read(layout, prefix, tmp_path):
    vae = _vae(layout)
    original = _original(vae)
    if not prefix:  # diffusers takes this file for one of the original code, too
        single = pytest.importorskip("diffusers.loaders.single_file_utils")
        theirs = single.convert_ldm_vae_checkpoint(dict(original), vae.config)
        assert theirs.keys() == vae.state_dict().keys()
        assert all(torch.equal(theirs[name].reshape(value.shape), value) for name, value in vae.state_dict().items())
    more = {"model.diffusion_model.double_blocks.0.x": torch.zeros(1), "cond_stage_model.x": torch.zeros(1)}
    tensors = {f"{prefix}{name}": value.contiguous() for name, value in original.items()}
    save_file(tensors | (more if prefix else {}), tmp_path / "a.safetensors")
    read = read_vae(tmp_path / "a.safetensors")
    assert read.card.get("family") == ("Flux" if prefix else None) and read.card["channels"] == z_channels(layout)
    network = converted(read, 32)
    pictures, z = _pictures(vae)
    with torch.no_grad():
        torch.testing.assert_close(network.encode(pictures), z, atol=1e-4, rtol=1e-4)
        drawn = _drawn(FieldDecoder(network, "converted", {}), z, 32, 16)
    torch.testing.assert_close(drawn, vae.decode(z).sample, atol=1e-4, rtol=1e-4)


def z_channels(layout: str) -> int:
    return LAYOUTS[layout]["latent_channels"]


def test_diffusers_earlier_names_are_read(tmp_path):
    vae = _vae("sd15")
    earlier = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, value in vae.state_dict().items():
        for new, old in earlier.items():
            name = name.replace(f"attentions.0.{new}.", f"attentions.0.{old}.")
        tensors[name] = value
    save_file(tensors, tmp_path / "a.safetensors")
    _, z = _pictures(vae)
    network = converted(read_vae(tmp_path / "a.safetensors"), 32).eval().requires_grad_(False)
    drawn = _drawn(FieldDecoder(network, "converted", {}), z, 32, 16)
    torch.testing.assert_close(drawn, vae.decode(z).sample, atol=1e-4, rtol=1e-4)


def test_tiles_of_a_converted_decoder_equal_the_whole(tmp_path, monkeypatch):
    _vae("sd15").save_pretrained(tmp_path / "vae")
    network = converted(read_vae(tmp_path), 32).eval().requires_grad_(False)
    for p in network.renderer.parameters():
        p += 0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(2))
    decoder = FieldDecoder(network, "converted", {})
    phi = decoder.features(torch.randn(1, 4, 6, 5, generator=torch.Generator().manual_seed(3)))
    monkeypatch.setattr("pullback.generative.infd.decoder.TILE", 11)
    tiles = torch.cat(list(decoder.bands(phi, 30, 25)), 1)
    monkeypatch.setattr("pullback.generative.infd.decoder.TILE", 100)
    assert (tiles - torch.cat(list(decoder.bands(phi, 30, 25)), 1)).abs().max() < 1e-5


@pytest.mark.parametrize("layout", ["sd15", "flux"])
def test_the_command_converts_trains_and_exports(layout, tmp_path):
    pytest.importorskip("accelerate", reason='pip install "pullback[train]"')
    from pullback import cli
    from typer.testing import CliRunner

    vae, pictures, out = _vae(layout), tmp_path / "pictures", tmp_path / "my.decoder.safetensors"
    vae.save_pretrained(tmp_path / "model" / "vae")
    pictures.mkdir()
    for n, size in enumerate((40, 56)):
        pixels = np.random.default_rng(n).integers(0, 256, (size, size, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(pictures / f"{n}.png")
    train = lambda where, *more: CliRunner().invoke(
        cli.app, ["train", "decoder", str(pictures), "-o", str(where), "--batch", "1", "--precision", "no", *more]
    )
    done = train(out, "--vae", str(tmp_path / "model"), "--base", "16", "--steps", "2")
    assert done.exit_code == 0, done.exception
    loaded = load_decoder(out)
    card = json.loads(loaded.card["latents"])
    assert card == {"channels": z_channels(layout)} | {k: v for k, v in LAYOUTS[layout].items() if "factor" in k}
    x, z = _pictures(vae)
    torch.testing.assert_close(loaded.autoencoder.encode(x), z, atol=2e-2, rtol=2e-2)  # the file is in half precision
    for height, width in ((32, 16), (50, 25), (72, 36)):
        assert _drawn(loaded, z, height, width).shape == (1, 3, height, width)
    before = converted(read_vae(tmp_path / "model"), 16).state_dict()
    after = load_file(out)
    changed = {name.split(".")[0] for name, value in before.items() if not torch.equal(value.half(), after[name])}
    assert changed == {"decoder", "renderer"}

    further = tmp_path / "further.safetensors"
    assert train(further, "--start-from", str(out), "--steps", "1").exit_code == 0
    assert load_decoder(further).card["latents"] == loaded.card["latents"]


def test_what_is_no_vae_is_one_sentence(tmp_path):
    def refused(path, message: str, base: int = 32) -> None:
        with pytest.raises(ValueError, match=message) as caught:
            converted(read_vae(path), base)
        assert "\n" not in str(caught.value)

    vae, good = _vae("sd15"), tmp_path / "good.safetensors"
    tensors = vae.state_dict()
    save_file(tensors, good)
    refused(good, "multiple of 2", base=33)
    refused(tmp_path / "none.safetensors", "does not exist")
    (tmp_path / "a.ckpt").write_bytes(b"x")
    refused(tmp_path / "a.ckpt", "pickled weights are never loaded")
    (tmp_path / "cut.safetensors").write_bytes(good.read_bytes()[:-100])
    refused(tmp_path / "cut.safetensors", "truncated")
    save_file({"model.diffusion_model.x": torch.zeros(1)}, tmp_path / "unet.safetensors")
    refused(tmp_path / "unet.safetensors", "holds no VAE")
    refused(tmp_path, "config.json")
    for changed, message in (
        (
            {k: v for k, v in tensors.items() if k != "decoder.up_blocks.1.resnets.0.conv2.bias"},
            "conv2.bias is missing",
        ),
        ({k: v for k, v in tensors.items() if not k.startswith("encoder")}, "is missing"),
        (
            tensors | {"decoder.up_blocks.0.attentions.0.to_q.weight": torch.zeros(1)},
            "not supported, such as decoder.up",
        ),
        (tensors | {"decoder.conv_in.bias": torch.zeros(1)}, "shape differs"),
        (tensors | {"decoder.conv_in.weight": torch.zeros(64, 4, 1, 3, 3)}, "shape differs"),
    ):
        save_file(changed, tmp_path / "changed.safetensors")
        refused(tmp_path / "changed.safetensors", message)
    vae.save_pretrained(tmp_path / "folder")
    config = json.loads((tmp_path / "folder" / "config.json").read_text())
    for changed, message in (
        ({"_class_name": "AutoencoderTiny"}, "is a AutoencoderTiny"),
        ({"norm_num_groups": 8}, "of 8 groups"),
    ):
        (tmp_path / "folder" / "config.json").write_text(json.dumps(config | changed))
        refused(tmp_path / "folder", message)
    (tmp_path / "folder" / "config.json").write_text(json.dumps(config))
    next((tmp_path / "folder").glob("*.safetensors")).unlink()
    refused(tmp_path / "folder", "has no diffusion_pytorch_model")


def test_a_file_of_an_unknown_layout_is_refused(tmp_path):
    vae = _vae("sd15")
    vae.save_pretrained(tmp_path)
    network = converted(read_vae(tmp_path), 32)
    config = json.dumps(json.loads(describe(network.config)) | {"layout": "other"})
    save_file(network.state_dict(), tmp_path / "a.safetensors", {"format": FORMAT, "config": config})
    with pytest.raises(ValueError, match="does not hold"):
        load_decoder(tmp_path / "a.safetensors")
