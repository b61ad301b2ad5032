"""What the representations declare, as the extension has it. Needs no Blender; run as a program, it writes the file anew."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "core")]

import pytest  # noqa: E402
from pullback import jobs, representations  # noqa: E402

from blender_addon import arguments, descriptions, presets  # noqa: E402
from blender_addon.descriptions import Makes  # noqa: E402

FILE = ROOT / "blender_addon" / "descriptions.json"


def declared() -> str:
    """Return the text of descriptions.json: what the core declares of its own representations."""
    ours = {kind.name for kind in representations.BUILT_IN}
    said = jobs.described()
    said["representations"] = [each for each in said["representations"] if each["name"] in ours]
    return json.dumps(said, indent=1) + "\n"


def test_the_file_is_what_the_core_says():
    """Defaults, ranges and sentences stand in the core; this is how the extension, which cannot import it, knows them."""
    assert FILE.read_text(encoding="utf-8") == declared(), f"run python {Path(__file__).name}"


def test_no_module_names_a_representation_or_repeats_its_numbers():
    """But for the names that are released; "image" and "object" are words of Blender's."""
    kinds = json.loads(declared())["representations"]
    names = {kind[what] for kind in kinds for what in ("name", "title", "choice", "noun", "command")}
    names -= {"", "image", "object"}
    defaults = {each["default"] for kind in kinds for each in (*kind["made"], *kind["settings"])}
    numbers = {each for each in defaults if each >= 1000 or each in (3.2, 65.0)}  # smaller ones mean many things
    for path in (ROOT / "blender_addon").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str | int | float):
                assert node.value not in (names if isinstance(node.value, str) else numbers), (
                    f"{path.name}:{node.lineno}"
                )


def test_what_becomes_of_a_field_follows_from_what_it_has():
    made = {noun: (kind.makes, [each.choice for each in kind.choices]) for noun, kind in descriptions.kinds().items()}
    assert made == {
        "object": (Makes.OBJECT, ["voxels", "splats"]), "image": (Makes.IMAGE, [""]), "tile": (Makes.MATERIAL, [""]),
        "panorama": (Makes.WORLD, ["sphere"]),  # a cylinder has no up and down: no world can be made of it
    }  # fmt: skip


def test_qualities_are_what_they_were():
    seen = {
        noun: [presets.settings(kind, q) | presets.options(kind, q) for q in ("draft", "normal", "fine")]
        for noun, kind in descriptions.kinds().items()
    }
    assert [(q["steps"], q["views"], q["faces"], q["texture"], q["resolution"]) for q in seen["object"]] == [
        (12, 6, 5_000, 512, 96), (30, 8, 20_000, 1024, 128), (60, 12, 60_000, 2048, 192)]  # fmt: skip
    assert [(q["steps"], q["views"], q["width"]) for q in seen["panorama"]] == [
        (12, 8, 1024),
        (30, 12, 4096),
        (60, 18, 8192),
    ]
    assert [(q["steps"], q["size"], q["guidance"]) for q in seen["image"]] == [
        (12, 512, 3),
        (30, 2048, 3),
        (60, 4096, 3),
    ]


@pytest.fixture
def forgetful():
    yield
    descriptions.learn([])


def a_kind(**more):
    setting = {"name": "waves", "default": 12, "help": "Waves.", "low": 1, "high": 64, "step": 1}
    made = {"name": "size", "default": 64, "help": "Pixels.", "low": 8, "high": 65536, "unit": "pixels"}
    return {"name": "cosines", "title": "Cosines", "sentence": "S.", "command": "cosines", "noun": "cosines", "looks": "",
            "suffixes": [".png"], "settings": [setting], "made": [made], "closed": [False, False], "new": 1, **more}  # fmt: skip


@pytest.mark.parametrize(
    "wrong",
    [
        None, 7, {}, a_kind(noun="a b"), a_kind(noun="mesh"), a_kind(suffixes=[]), a_kind(settings=[{"name": "x"}]),
        a_kind(settings=[{"name": "a-b", "default": 1, "help": "h"}]),
        a_kind(settings=[{"name": "a", "default": 9, "help": "h", "low": 0, "high": 8}]),
        a_kind(settings=[{"name": "a", "default": "x", "help": "h", "choices": ["y"]}]),
        a_kind(name="siren-tile"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_left_out_and_takes_nothing_along(forgetful, wrong):
    before = descriptions.OURS
    assert descriptions.learn([wrong, a_kind()]) and not descriptions.learn([a_kind(), wrong])
    assert list(descriptions.kinds()) == ["object", "panorama", "image", "cosines", "tile"], "by what they make"
    assert before == descriptions.OURS


def test_a_second_representation_of_a_command_is_a_choice(forgetful):
    descriptions.learn([a_kind(name="rings", command="image", noun="image", choice="rings")])
    kind = descriptions.kinds()["image"]
    assert list(kind.words) == ["siren-image", "rings"] and kind.usual.name == "siren-image"
    assert kind.prop("waves") == "image_waves" and "neurons" in kind.own and "waves" in kind.own


def test_the_batch_knows_another_package_s(forgetful, tmp_path):
    """An option to ask for it and one for its setting; a name that the batch has itself stays the batch's."""
    taken = {"name": "samples", "default": 1, "help": "h", "low": 1, "high": 9}
    descriptions.learn([a_kind(settings=[*a_kind()["settings"], taken])])
    lines = tmp_path / "jobs.jsonl"
    lines.write_text('{"kind": "cosines", "prompt": "a fish", "waves": 5, "samples": 3}')
    asked = arguments.parser().parse_args(
        ["--cosines", "a ball", "--waves", "7", "--prompts", str(lines), "-o", "a.blend"]
    )
    one, two = arguments.items(asked)
    assert (one.kind, one.options["waves"], one.options["size"]) == ("cosines", 7, 64) and "samples" not in one.options
    assert (two.options["waves"], two.options["samples"], two.made.suffix) == (5, 3, ".png")
    assert asked.samples == arguments.SAMPLES


if __name__ == "__main__":
    FILE.write_text(declared(), encoding="utf-8")
