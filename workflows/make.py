"""Makes the saved workflows: built and saved by ComfyUI's own page, run for real, thumbnails from what came out.

    PYTHONPATH=tests python workflows/make.py         all of them: NAME.json and api/NAME.json
    PYTHONPATH=tests python workflows/make.py --run   runs them in the page (minutes each), and keeps what is seen:
                                                      thumbnails NAME.jpg, screenshots in docs/, pictures of the help pages;
                                                      a built-in model stands in where one needs the user's checkpoint

Pictures of help pages that are there already are kept: delete one to renew it.
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
    parser.add_argument("names", nargs="*", help="workflows; all of them where none is named")
    parser.add_argument("--run", action="store_true", help="run them as they are and photograph them")
    given = parser.parse_args()
    graphs = [graph for graph in (make() for make in GRAPHS) if not given.names or graph.name in given.names]
    with tempfile.TemporaryDirectory() as base, Server(Path(base), pack="pullback") as server, browser() as page:
        for graph in graphs:
            if given.run:
                photographed(server, page, graph)
                continue
            page.open(server)  # anew: the page keeps values of widgets by the numbers of nodes that are gone
            ui, api = build(page, graph)
            written(HERE / f"{graph.name}.json", ui)
            written(HERE / "api" / f"{graph.name}.json", api)


def written(path: Path, form: dict[str, Any]) -> None:
    """A graph as JSON that can be read and compared."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(form, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
