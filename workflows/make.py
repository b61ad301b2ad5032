"""Makes the saved workflows. ComfyUI's own page builds, saves and runs them.

    PYTHONPATH=tests python workflows/make.py         writes NAME.json and api/NAME.json of all workflows
    PYTHONPATH=tests python workflows/make.py --run   runs them in the page (minutes each) and writes thumbnails NAME.jpg,
                                                      screenshots in docs/ and pictures of the help pages; a built-in model
                                                      replaces the user's checkpoint

Existing pictures of help pages are kept: delete one to renew it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from catalogue import GRAPHS
from comfy_page import browser
from comfyui import Server
from graph import build
from photographs import photographed

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="the workflows to make; by default all")
    parser.add_argument("--run", action="store_true", help="run the saved workflows and take pictures of them")
    given = parser.parse_args()
    graphs = [graph for graph in (make() for make in GRAPHS) if not given.names or graph.name in given.names]
    with tempfile.TemporaryDirectory() as base, Server(Path(base), pack="pullback") as server, browser() as page:
        for graph in graphs:
            if given.run:
                photographed(server, page, graph)
                continue
            page.open(
                server
            )  # a fresh page, because an old one reuses widget values of earlier nodes with the same ids
            ui, api = build(page, graph)
            written(HERE / f"{graph.name}.json", ui)
            written(HERE / "api" / f"{graph.name}.json", api)


def written(path: Path, form: dict[str, Any]) -> None:
    """Write a graph as indented JSON, which can be read and compared."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(form, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
