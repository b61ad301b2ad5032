"""Regions in Blender, with the bpy wheel: from the lists of the panel and the options of the batch to the worker's jobs."""

from __future__ import annotations

import json
import math
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from blender_layout import Layout

bpy = pytest.importorskip("bpy", reason="needs Blender as a module: pip install bpy==5.0.1 (Python 3.11)")
ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from pullback.regions import MOST, Region, parsed  # noqa: E402

import blender_addon  # noqa: E402
from blender_addon import arguments, batch, descriptions, jobs, operators, panel, preferences, regions  # noqa: E402
from blender_addon.job import State  # noqa: E402

NOUNS = ("object", "panorama", "image", "tile")


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder of this test's own, a fresh file, the extension at work with the stand-in for the worker."""

    def made(name):
        (tmp_path / name).mkdir(exist_ok=True)
        return tmp_path / name

    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "stand_in"))
    monkeypatch.setattr(preferences, "interpreter", lambda: Path(sys.executable))
    monkeypatch.setattr(preferences, "user_folder", made)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    blender_addon.register()
    settings().prompt = "a fish"
    yield tmp_path
    blender_addon.unregister()


def settings():
    return bpy.context.scene.pullback


def kind(noun):
    return descriptions.kinds()[noun]


def add(noun, text="a red mushroom", **values):
    """Add a region as the button does, and set its values."""
    assert bpy.ops.pullback.add_region(noun=noun) == {"FINISHED"}
    region = regions.list_of(settings(), kind(noun))[-1]
    for name, value in {"text": text, **values}.items():
        setattr(region, name, value)
    return region


def guide(noun):
    """The guide of the job that the button would start."""
    return operators.sampling(bpy.context, kind(noun))["settings"].get("guide")


@pytest.mark.parametrize("noun", NOUNS)
def test_without_regions_the_job_says_nothing_of_a_guide(home, noun):
    before = json.dumps(operators.sampling(bpy.context, kind(noun)))
    assert "guide" not in before
    add(noun)
    assert len(guide(noun)) == 1
    bpy.ops.pullback.remove_region(noun=noun)
    assert json.dumps(operators.sampling(bpy.context, kind(noun))) == before


def test_the_core_reads_what_the_lists_say(home):
    box = {"left": 10, "top": 50, "width": 30, "height": 40}
    add("image", **box)
    add("image", " a car ", **box, weight=2.5)
    add("image", "0,0: a sentence that begins like a box", everywhere=True)
    assert guide("image") == ["0.1,0.5,0.3,0.4: a red mushroom", "0.1,0.5,0.3,0.4*2.5: a car",
                              "*1: 0,0: a sentence that begins like a box"]  # fmt: skip
    read = [parsed(each) for each in guide("image")]
    assert read == [Region("a red mushroom", (0.1, 0.5, 0.3, 0.4)), Region("a car", (0.1, 0.5, 0.3, 0.4), weight=2.5),
                    Region("0,0: a sentence that begins like a box")]  # fmt: skip
    assert guide("tile") is None, "each kind has its own list"
    angles = {"azimuth": math.radians(90), "elevation": math.radians(20)}
    add("object", **angles, weight=0)
    (region,) = map(parsed, guide("object"))
    assert region.side == pytest.approx((math.pi / 2, math.pi / 9)) and region.weight == 0
    add("panorama", **angles, angular_width=math.radians(36), angular_height=math.radians(18))
    assert guide("panorama") == ["90,20,36,18: a red mushroom"]


@pytest.mark.parametrize("end", ["hard_min", "hard_max"])
@pytest.mark.parametrize("noun", NOUNS)
def test_the_core_takes_the_ends_of_every_range(home, noun, end):
    """One value at its end, the others such that the box stays inside."""
    inside = {"left": 0, "top": 0, "width": 2, "height": 2, "elevation": 0, "angular_height": math.radians(3)}
    for name in (*regions.places_of(kind(noun)), "weight"):
        if name == "elevation" and noun == "panorama":
            continue  # the box would reach over a pole
        region = add(noun, **inside)
        setattr(region, name, getattr(region.bl_rna.properties[name], end))
        parsed(guide(noun)[-1], panorama=2.0 if noun == "panorama" else 0.0)
        getattr(settings(), kind(noun).prop("regions")).clear()


def test_a_box_up_to_the_pole_is_inside(home):
    for degrees in (29.9, 30.01, 45, 60.7):
        for sign in (1, -1):
            add("panorama", elevation=math.radians(sign * (90 - degrees / 2)), angular_height=math.radians(degrees))
    for each in guide("panorama"):
        parsed(each, panorama=2.0)


@pytest.mark.parametrize(
    ("noun", "values", "message"),
    [
        ("image", {"text": "  "}, "A region has no sentence"),
        ("image", {"left": 60, "width": 41}, '"a red mushroom" reaches over the edge'),
        ("image", {"top": 60, "height": 41}, "reaches over the edge"),
        ("tile", {"top": 60, "height": 41}, "reaches over the edge"),
        ("panorama", {"elevation": math.radians(61)}, "reaches over the edge"),
    ],
)
def test_mistakes_are_said_before_anything_starts(home, noun, values, message):
    add(noun, **values)
    with pytest.raises(RuntimeError, match=message) as raised:
        getattr(bpy.ops.pullback, f"generate_{noun}")()
    assert str(raised.value).strip().count("\n") == 0 and jobs.queue == [] and not jobs.backend.has_worker()


def test_a_box_may_cross_an_edge_that_joins_the_opposite_one(home):
    add("tile", left=60, width=60)
    parsed(guide("tile")[0])


def test_a_comfyui_server_has_no_regions(home):
    settings().model = "SERVER"
    assert guide("image") is None
    add("image")
    with pytest.raises(RuntimeError, match="Regions need the worker"):
        bpy.ops.pullback.generate_image()
    assert jobs.queue == []


def test_the_lists_are_kept_in_the_file(home):
    """Also those of a kind whose button is never pressed; a file from before there were lists opens with empty ones."""
    path = str(home / "a.blend")
    bpy.ops.wm.save_as_mainfile(filepath=path)
    for noun in NOUNS:
        add(noun, weight=2)
    add("image", "a car", everywhere=True)
    saved = {noun: guide(noun) for noun in NOUNS}
    bpy.ops.wm.save_as_mainfile(filepath=str(home / "b.blend"))
    bpy.ops.wm.open_mainfile(filepath=path)
    assert [guide(noun) for noun in NOUNS] == [None] * 4
    blender_addon.unregister()
    blender_addon.register()
    bpy.ops.wm.open_mainfile(filepath=str(home / "b.blend"))
    assert {noun: guide(noun) for noun in NOUNS} == saved and settings().image_region == 1


def test_the_buttons_of_a_list(home):
    for text in "abc":
        add("image", text)
    texts = lambda: ("".join(each.text for each in settings().image_regions), settings().image_region)
    assert texts() == ("abc", 2)
    bpy.ops.pullback.move_region(noun="image", direction="UP")
    assert texts() == ("acb", 1)
    bpy.ops.pullback.move_region(noun="image", direction="DOWN")
    bpy.ops.pullback.move_region(noun="image", direction="DOWN")
    assert texts() == ("abc", 2), "the last one stays where it is"
    bpy.ops.pullback.remove_region(noun="image")
    assert texts() == ("ab", 1)
    for _ in range(4):
        bpy.ops.pullback.remove_region(noun="image")
    assert texts() == ("", 0)
    for _ in range(MOST + 1):
        add("image")
    assert len(settings().image_regions) == MOST == regions.MOST


def test_the_panel_shows_what_a_region_of_a_kind_has(home):
    shown: set[str] = set()

    def drawn():
        shown.clear()
        panel.PULLBACK_PT_advanced.draw(SimpleNamespace(layout=Layout(shown)), bpy.context)
        return set(shown)

    assert "pullback.add_region" in drawn() and not {"text", "pullback.remove_region"} & shown
    add("image")
    assert {"text", "left", "top", "width", "height", "weight", "pullback.remove_region"} <= drawn()
    assert not {"azimuth", "pullback.move_region"} & shown
    settings().image_regions[0].everywhere = True
    assert "left" not in drawn() and "weight" in shown
    add("object")
    assert {"azimuth", "elevation"} <= drawn() and "angular_width" not in shown
    add("panorama")
    assert "angular_width" in drawn()


@pytest.mark.parametrize("noun", NOUNS)
def test_a_row_is_drawn_for_its_kind(home, noun):
    """Blender hands a row the name of the property with the active row, from which it knows its kind."""
    region, told = add(noun), []

    class Layout:
        def split(self, **_):
            return self

        def prop(self, owner, name, **_):
            told.append(getattr(owner, name))

        def label(self, text, **_):
            told.append(text)

    draw = regions.PULLBACK_UL_regions.draw_item
    draw(None, bpy.context, Layout(), settings(), region, 0, settings(), kind(noun).prop("region"))
    assert told == ["a red mushroom", regions.summary(region, kind(noun))]


def test_rows_say_where_a_region_lies(home):
    box = {"left": 10, "top": 50, "width": 30, "height": 40}
    assert regions.summary(add("image", **box), kind("image")) == "30 x 40 %"
    assert regions.summary(add("object", azimuth=-math.pi / 2), kind("object")) == "-90°, 0°"
    assert regions.summary(add("panorama"), kind("panorama")) == "0°, 0°"
    assert regions.summary(add("tile", everywhere=True), kind("tile")) == "everywhere"


def test_the_batch_takes_regions(home, tmp_path):
    lines = [
        {"kind": "panorama", "prompt": "sea", "guide": ["90,0,36,20*2: a car"]},
        {"kind": "image", "prompt": "b", "guide": []},
    ]
    (tmp_path / "jobs.jsonl").write_text("\n".join(map(json.dumps, lines)))
    base = ["--image", "a", "--prompts", str(tmp_path / "jobs.jsonl"), "-o", "{index}.png"]
    given = [*base, "--guide", "0,0,0.5,1: a", "--guide", "a b"]
    own, of_line, none = arguments.items(arguments.parser().parse_args(given))
    assert own.settings["guide"] == ["0,0,0.5,1: a", "a b"]
    assert of_line.settings["guide"] == ["90,0,36,20*2: a car"] and "guide" not in none.settings
    assert all("guide" not in each.settings for each in arguments.items(arguments.parser().parse_args(base))[::2])


@pytest.mark.parametrize("wrong", ['"a"', "[1]", "{}"])
def test_a_guide_of_another_form_is_refused(home, tmp_path, capfd, wrong):
    (tmp_path / "jobs.jsonl").write_text(f'{{"kind": "image", "prompt": "a", "guide": {wrong}}}')
    assert batch.run(["--prompts", str(tmp_path / "jobs.jsonl"), "-o", str(tmp_path / "a.png")]) == 2
    said = capfd.readouterr().err
    assert "line 1 of jobs.jsonl has" in said and "guide" in said and said.count("\n") == 1


def test_regions_reach_the_real_worker_and_its_sentence_the_panel(home, monkeypatch):
    """A region that only the worker can judge stops the job with its sentence; a good one changes the picture."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT / "core")]))
    settings().steps, settings().image_size = 2, 32
    assert bpy.ops.pullback.generate_image() == {"FINISHED"}
    plain = list(bpy.data.images["a fish"].pixels)
    region = add("image", "qwertyuiop", left=0, top=0, width=50, height=100)
    with pytest.raises(RuntimeError, match="qwertyuiop"):
        bpy.ops.pullback.generate_image()
    (failed,) = jobs.queue
    assert failed.status is State.FAILED and "qwertyuiop" in failed.message and "\n" not in failed.message
    bpy.ops.pullback.dismiss(job=failed.number)
    region.text = "a red mushroom"
    assert bpy.ops.pullback.generate_image() == {"FINISHED"}
    assert list(bpy.data.images["a fish.001"].pixels) != plain
    region.weight = 0
    assert bpy.ops.pullback.generate_image() == {"FINISHED"}
    assert list(bpy.data.images["a fish.002"].pixels) == plain
