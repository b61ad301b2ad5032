"""ComfyUI's page for tests, in a headless browser."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from comfyui import Server, importable

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-headless-shell", "google-chrome", "chromium-browser"))), None
)
FLAGS = [
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--use-gl=angle", "--use-angle=swiftshader",
    "--enable-unsafe-swiftshader",
]  # fmt: skip
KNOWN = (
    "net::ERR_NAME_NOT_RESOLVED", "ComfyApp graph accessed before initialization", "/api/userdata", "/user.css",
    "/favicon.ico",
)  # fmt: skip
"""Parts of the messages that an empty ComfyUI without any pack puts into the console as well."""
RACE = "Failed to execute 'removeChild' on 'Node'"
"""Of the page's own Vue, now and then on a busy machine, while one graph takes the place of another. Not of our script."""

FIT = """() => {
  const nodes = app.graph._nodes, view = app.canvas.ds, box = app.canvas.canvas.getBoundingClientRect();
  const left = Math.min(...nodes.map(n => n.pos[0])), top = Math.min(...nodes.map(n => n.pos[1] - 30));
  const right = Math.max(...nodes.map(n => n.pos[0] + n.size[0]));
  const bottom = Math.max(...nodes.map(n => n.pos[1] + n.size[1]));
  view.scale = Math.min((box.width - 120) / (right - left), (box.height - 190) / (bottom - top), 1);
  view.offset[0] = 80 / view.scale - left;
  view.offset[1] = 110 / view.scale - top;
  app.canvas.setDirty(true, true);
}"""

NODE = """([number, margin]) => {
  const node = app.graph.getNodeById(number), view = app.canvas.ds;
  const canvas = app.canvas.canvas.getBoundingClientRect();
  const height = node.size[1] + 30 + 2 * margin, width = node.size[0] + 2 * margin;
  view.scale = Math.min(1, (canvas.height - 150) / height);
  view.offset[0] = 120 / view.scale + margin - node.pos[0];
  view.offset[1] = 90 / view.scale + margin + 30 - node.pos[1];
  app.canvas.setDirty(true, true);
  return {x: canvas.x + 120, y: canvas.y + 90, width: width * view.scale, height: height * view.scale};
}"""


VIEWER = """number => {
  const node = app.graph.getNodeById(number), view = app.canvas.ds, graph = app.canvas.canvas;
  const origin = graph.getBoundingClientRect();
  const x = origin.x + (node.pos[0] + view.offset[0] + node.size[0] / 2) * view.scale;
  const within = box => box.width > 99 && box.x < x && x < box.x + box.width;
  const boxes = [...document.querySelectorAll("canvas")].filter(c => c !== graph).map(c => c.getBoundingClientRect());
  const {y, width, height} = boxes.find(within), side = Math.min(width, height);
  return {x: x - side / 2, y: y + (height - side) / 2, width: side, height: side};
}"""


def browser_missing() -> str:
    """Why the page cannot be tested here; empty where it can."""
    if CHROMIUM is None:
        return "there is no browser: apt-get install chromium"
    return "" if importable("playwright") else "the browser's driver is missing: pip install playwright"


class Page:
    """ComfyUI's page in a headless browser, and what its console said."""

    def __init__(self, page: Any):
        self.page = page
        self.console: list[str] = []
        page.add_init_script("localStorage.clear(); sessionStorage.clear()")  # or it opens what it had open before
        page.on("console", lambda m: self.console.append(f"{m.type}: {m.text} ({m.location.get('url', '')})"))
        page.on("pageerror", lambda e: self.console.append(f"exception: {e}"))

    def open(self, server: Server) -> None:
        """Load the page and wait until nodes can be made; without the tour that new users see, and without the map."""
        server.post("/settings/Comfy.TutorialCompleted", True)
        server.post("/settings/Comfy.Minimap.Visible", False)
        self.page.goto(server.url)
        self.page.wait_for_function(
            "() => window.app?.graph && window.LiteGraph?.registered_node_types?.KSampler", timeout=300_000
        )
        self.page.evaluate("() => { window.Pullback_ready = true }")

    def drop(self, path: Path) -> None:
        """Drop a file on the canvas, as a user does."""
        self.page.evaluate(
            """async ([bytes, name]) => {
                 const files = new DataTransfer(), type = name.endsWith(".json") ? "application/json" : "";
                 files.items.add(new File([Uint8Array.from(atob(bytes), c => c.charCodeAt(0))], name, {type}));
                 const canvas = document.querySelector("#graph-canvas");
                 const box = canvas.getBoundingClientRect();
                 const at = {bubbles: true, cancelable: true, dataTransfer: files, clientX: box.x + 600, clientY: box.y + 300};
                 canvas.dispatchEvent(new DragEvent("dragover", at));
                 canvas.dispatchEvent(new DragEvent("drop", at));
               }""",
            [base64.b64encode(path.read_bytes()).decode("ascii"), path.name],
        )

    def loaded(self, path: Path) -> None:
        """Wait until the canvas has the nodes of a workflow file."""
        nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
        same = "types => JSON.stringify(app.graph._nodes.map(n => n.type).sort()) === JSON.stringify(types)"
        self.page.wait_for_function(same, arg=sorted(node["type"] for node in nodes), timeout=60_000)
        self.page.wait_for_timeout(1000)

    def api(self) -> dict[str, Any]:
        """The graph in API form."""
        return json.loads(self.page.evaluate("async () => JSON.stringify((await app.graphToPrompt()).output)"))

    def graph(self) -> dict[str, Any]:
        """The graph in UI form."""
        return json.loads(self.page.evaluate("() => JSON.stringify(app.graph.serialize())"))

    def missing(self) -> list[str]:
        """Types of nodes that the page does not know."""
        return self.page.evaluate(
            "() => app.graph._nodes.filter(n => !(n.type in LiteGraph.registered_node_types)).map(n => n.type)"
        )

    def set(self, values: dict[str, dict[str, Any]]) -> None:
        """Set widgets by node type and name."""
        self.page.evaluate(
            """values => {
                 for (const node of app.graph._nodes)
                   for (const [name, value] of Object.entries(values[node.type] ?? {}))
                     node.widgets.find(w => w.name === name).value = value;
               }""",
            values,
        )

    def run(self, timeout: float = 1200) -> dict[str, Any]:
        """Press Run and wait for the end: the event that ended it, {"type", "detail"}."""
        self.page.evaluate(
            """() => {
                 window.ended = null;
                 for (const type of ["execution_success", "execution_error", "execution_interrupted"])
                   app.api.addEventListener(type, e => { window.ended = {type, detail: e.detail} }, {once: true});
               }"""
        )
        self.page.get_by_role("button", name="Run", exact=True).first.click()
        self.page.wait_for_function("() => window.ended", timeout=1000 * timeout)
        self.page.wait_for_timeout(2000)  # pictures and viewers load what they show
        return self.page.evaluate("() => window.ended")

    def shown(self) -> dict[str, int]:
        """How many pictures each output node of the page shows."""
        return self.page.evaluate(
            """() => {
                 const kinds = ["SaveImage", "PreviewImage", "SaveAnimatedWEBP"];
                 return Object.fromEntries(app.graph._nodes.filter(n => kinds.includes(n.type)).map(
                   n => [`${n.id} ${n.title}`, (n.imgs ?? []).filter(i => i.naturalWidth > 0).length]));
               }"""
        )

    def errors(self) -> list[str]:
        """What went wrong in the page. Left out: what the page itself asks of hosts and files that need not be there."""
        wrong = [line for line in self.console if line.startswith(("error", "exception"))]
        return [line for line in wrong if not any(known in line for known in (*KNOWN, RACE))]

    def picture(self, **clip: float) -> Any:
        """A screenshot, or its part x, y, width, height, as a PIL image."""
        from PIL import Image

        taken = self.page.screenshot(**({"clip": clip} if clip else {}))
        return Image.open(io.BytesIO(taken)).convert("RGB")

    def node(self, number: int, margin: int = 60) -> Any:
        """A screenshot of one node with what is next to it."""
        box = self.page.evaluate(NODE, [number, margin])
        self.page.wait_for_timeout(500)
        return self.picture(**box)

    def viewer(self, number: int) -> Any:
        """A screenshot of what a node's 3D viewer shows."""
        self.page.evaluate(NODE, [number, 60])
        self.page.wait_for_timeout(2000)
        return self.picture(**self.page.evaluate(VIEWER, number))

    def fit(self) -> None:
        """Show the whole graph."""
        self.page.evaluate(FIT)
        self.page.wait_for_timeout(700)


@contextlib.contextmanager
def browser(width: int = 1680, height: int = 1000) -> Iterator[Page]:
    """A page in a new, empty browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        try:
            page = chromium.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(300_000)
            yield Page(page)
        finally:
            chromium.close()
