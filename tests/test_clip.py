"""Models of open_clip as picture-text models: the numbers are open_clip's own. Needs `pip install ".[clip]"`."""

import json

import pytest
import torch
from PIL import Image
from pullback.generative.clip.model import load_clip
from safetensors.torch import save_file

open_clip = pytest.importorskip("open_clip", reason='needs open_clip: pip install ".[clip]"', exc_type=Exception)
image_transform_v2 = open_clip.transform.image_transform_v2
PreprocessCfg = open_clip.transform.PreprocessCfg
NAME = "pullback-tiny"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A file with random weights of a small architecture that open_clip is told of."""
    folder = tmp_path_factory.mktemp("open_clip")
    text = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1}
    vision = {"image_size": 32, "layers": 1, "width": 64, "patch_size": 8}
    (folder / f"{NAME}.json").write_text(json.dumps({"embed_dim": 16, "vision_cfg": vision, "text_cfg": text}))
    open_clip.add_model_config(folder / f"{NAME}.json")
    torch.manual_seed(0)
    save_file(open_clip.create_model(NAME, pretrained=None).state_dict(), folder / "weights.safetensors")
    return folder / "weights.safetensors"


def test_pictures_and_sentences_are_encoded_as_open_clip_does(weights):
    torch.manual_seed(0)
    theirs = open_clip.create_model(NAME, pretrained=None).eval()
    transform = image_transform_v2(PreprocessCfg(**open_clip.get_model_preprocess_cfg(theirs)), False)
    ours = load_clip(NAME, weights)
    pixels = torch.randint(256, (32, 32, 3), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    with torch.no_grad():
        image = theirs.encode_image(transform(Image.fromarray(pixels.numpy()))[None], normalize=True)
        text = theirs.encode_text(open_clip.get_tokenizer(NAME)(["a red fox in snow"]), normalize=True)
    assert ours.size == 32
    torch.testing.assert_close(ours.encode_image(pixels.movedim(-1, 0)[None] / 255), image)
    torch.testing.assert_close(ours.encode_text(["a red fox in snow"]), text)


def test_gradients_reach_pictures_of_any_size(weights):
    pictures = torch.rand(2, 3, 50, 40, requires_grad=True)
    load_clip(NAME, weights).encode_image(pictures).sum().backward()
    assert pictures.grad.abs().sum() > 0


@pytest.mark.parametrize(
    ("name", "file", "sentence"),
    [
        ("ViT-X", "weights.safetensors", "no model 'ViT-X'"),
        (NAME, "missing.safetensors", "needs its weights"),
        ("ViT-S-32-alt", "weights.safetensors", "does not hold the weights of ViT-S-32-alt"),
    ],
)
def test_wrong_models_are_one_sentence(weights, name, file, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        load_clip(name, weights.with_name(file))
    assert "\n" not in str(error.value)
