"""ComfyUI's page in a headless browser: every saved workflow is dropped on the canvas, is whole, and runs."""

from __future__ import annotations

import json
import re
import time

import comfyui
import pytest
from comfy_page import browser, browser_missing

REASON = comfyui.missing() or browser_missing()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON or "all is here")
WORKFLOWS = sorted((comfyui.ROOT / "workflows").glob("*.json"))


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    comfyui.saved_field(base / "output" / "fields" / "pullback_00001_.safetensors")
    comfyui.saved_decoder(base / "models" / "pullback_decoders" / "sd15.decoder.safetensors")
    with comfyui.Server(base, odd=True) as running:
        yield running


@pytest.fixture(scope="module")
def page(server):
    with browser() as opened:
        yield opened


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_dropped_workflow_is_whole_and_is_its_api_twin(server, page, path):
    page.open(server)
    page.console.clear()
    page.drop(path)
    page.loaded(path)
    assert not page.missing()
    twin = json.loads((path.parent / "api" / path.name).read_text(encoding="utf-8"))
    found = page.api()
    assert {k: (n["class_type"], n["inputs"]) for k, n in found.items()} == {
        k: (n["class_type"], n["inputs"]) for k, n in twin.items()
    }
    assert not page.errors()


RELEASED = sorted((comfyui.ROOT / "tests" / "released").glob("*/*.json"))


@pytest.mark.parametrize("path", RELEASED, ids=lambda path: f"{path.parent.name} {path.stem}")
def test_a_released_workflow_opens_and_is_sent_with_the_same_links(server, page, path):
    """Also where it lists sockets that are gone since."""
    page.open(server)
    page.console.clear()
    page.drop(path)
    page.loaded(path)
    assert not page.missing() and not page.errors()
    saved = json.loads(path.read_text(encoding="utf-8"))
    links = {number: [str(source), slot] for number, source, slot, *_ in saved["links"]}
    wanted = {
        str(node["id"]): {e["name"]: links[e["link"]] for e in node.get("inputs", []) if e.get("link") is not None}
        for node in saved["nodes"]
        if node["type"] != "MarkdownNote"
    }
    sent = {key: {k: v for k, v in node["inputs"].items() if isinstance(v, list)} for key, node in page.api().items()}
    assert sent == wanted


@pytest.mark.parametrize("path", [p for p in WORKFLOWS if "your checkpoint" not in p.stem], ids=lambda path: path.stem)
def test_run_shows_a_result(server, page, path, tmp_path):
    page.open(server)
    page.console.clear()
    page.drop(path)
    page.loaded(path)
    page.set(comfyui.quick_widgets())
    ended = page.run()
    assert ended["type"] == "execution_success", ended
    shown = page.shown()
    assert shown and all(count > 0 for count in shown.values()), shown
    assert not page.errors()
    page.fit()
    page.page.screenshot(path=tmp_path / "page.png")


@pytest.mark.parametrize("kind, pattern", [("field", "fields/*.safetensors"), ("GLB", "3d/*.glb")])
def test_a_saved_file_that_is_dropped_opens_its_workflow(server, page, kind, pattern):
    path = comfyui.ROOT / "workflows" / "Text to NeRF.json"
    page.open(server)
    page.drop(path)
    page.loaded(path)
    page.set(comfyui.quick_widgets())
    day = time.strftime("%Y-%m-%d")  # at midnight it may be another one by the time of the run
    page.set({name: {"filename_prefix": f"{pattern.split('/')[0]}/%date:yyyy-MM-dd%_{kind}"} for name in SAVERS})
    ended = page.run()
    assert ended["type"] == "execution_success", ended
    (saved,) = (server.base / "output").glob(pattern.replace("*", f"{day}_{kind}_*"))
    page.open(server)
    page.console.clear()
    page.drop(saved)
    page.loaded(path)
    assert not page.missing() and not page.errors()


SAVERS = ("PullbackSaveField", "PullbackSaveTexturedGlb")


def test_dates_are_those_of_core_s_savers(server, page):
    """In a page, where core's own are filled in before the graph is sent, and ours when the file is written."""
    path = comfyui.ROOT / "workflows" / "Field to mesh and viewer.json"
    page.open(server)
    page.drop(path)
    page.loaded(path)
    page.set(comfyui.quick_widgets())
    prefix = "both/%date:yyyyMMdd%-%date:yy_M d%-%year%%month%-%nonsense%/x"
    page.set({"PullbackSaveTexturedGlb": {"filename_prefix": prefix}})
    page.page.evaluate(ADD_SAVE_IMAGE, prefix)
    assert page.run()["type"] == "execution_success"
    (folder,) = (server.base / "output" / "both").iterdir()
    assert {file.suffix for file in folder.iterdir()} == {".glb", ".png"}
    assert re.fullmatch(r"\d{8}-\d\d_\d+ \d+-\d{6}-%nonsense%", folder.name)


ADD_SAVE_IMAGE = """prefix => {
  const shown = app.graph._nodes.find(node => node.type === "PreviewImage");
  const [source, slot] = [shown.getInputNode(0), shown.getInputLink(0).origin_slot];
  const node = LiteGraph.createNode("SaveImage");
  app.graph.add(node);
  source.connect(slot, node, 0);
  node.widgets.find(widget => widget.name === "filename_prefix").value = prefix;
}"""


def test_bad_names_are_refused_in_the_page_before_anything_is_sampled(server, page):
    path = comfyui.ROOT / "workflows" / "Text to NeRF.json"
    page.open(server)
    page.drop(path)
    page.loaded(path)
    page.set({**comfyui.quick_widgets(), "PullbackSaveField": {"filename_prefix": "../x"}})
    page.page.evaluate("() => { app.lastNodeErrors = null; app.queuePrompt(0, 1) }")
    page.page.wait_for_function("() => app.lastNodeErrors", timeout=30_000)
    assert "is not the name of a file" in json.dumps(page.page.evaluate("() => app.lastNodeErrors"))


NEWER = {"he", "it"}
"""Languages that pages older than 1.58 or so do not ship."""


@pytest.mark.parametrize("language", sorted(path.name for path in (comfyui.ROOT / "locales").iterdir()))
def test_every_language_is_one_that_the_page_shows(server, page, language):
    words = json.loads((comfyui.ROOT / "locales" / language / "nodeDefs.json").read_text(encoding="utf-8"))
    server.post("/settings/Comfy.Locale", language)
    try:
        page.open(server)
        title = "name => LiteGraph.registered_node_types[name].title"
        ours, core_s = (page.page.evaluate(title, name) for name in ("PullbackSaveTexturedGlb", "LoadImage"))
        if core_s == "Load Image" and language in NEWER:
            pytest.skip("this page is older than the language")
        assert ours == words["PullbackSaveTexturedGlb"]["display_name"]
    finally:
        server.post("/settings/Comfy.Locale", "en")


def test_a_mistake_turns_the_node_red_and_says_why(server, page):
    page.open(server)
    path = comfyui.ROOT / "workflows" / "Text to NeRF.json"
    page.drop(path)
    page.loaded(path)
    page.set({**comfyui.QUICK, "PullbackVoxelNerf": {"lowest": 40.0, "highest": 10.0}})
    ended = page.run()
    assert ended["type"] == "execution_error"
    assert "must be below" in ended["detail"]["exception_message"]
    page.page.get_by_text("must be below").first.wait_for(timeout=10_000)


def test_words_that_are_left_out_are_shown(server, page):
    page.open(server)
    page.console.clear()
    path = comfyui.ROOT / "workflows" / "Text to NeRF.json"
    page.drop(path)
    page.loaded(path)
    page.set({**comfyui.quick_widgets(), "CLIPTextEncode": {"text": "a red dragonfly mushroom"}})
    assert page.run()["type"] == "execution_success"
    page.page.get_by_text("does not know 'dragonfly'").first.wait_for(timeout=10_000)
    assert not page.errors()
