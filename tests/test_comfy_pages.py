"""ComfyUI's page in a headless browser: every saved workflow is dropped on the canvas, is whole, and runs."""

from __future__ import annotations

import json

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
