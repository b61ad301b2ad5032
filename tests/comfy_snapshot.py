"""Writes tests/snapshots/object_info.json and locales/*/nodeDefs.json from the schemas: run it after changing one.

Of other languages it keeps what was translated, wherever the same English stands now, and leaves the rest in English for
somebody to translate: the tests name it. It needs ComfyUI, and refuses a change that would break saved graphs; `--force` is
for schemas that were never released.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import comfy_lint
from comfy_pack import REASON, ROOT, comfyui, part

SNAPSHOT = ROOT / "tests/snapshots/object_info.json"
LOCALES = ROOT / "locales"
ENGLISH = LOCALES / "en/nodeDefs.json"


def nodes() -> list[Any]:
    """The pack's node classes, as ComfyUI gets them."""
    extension = asyncio.run(part("comfy_nodes.extension").comfy_entrypoint())
    return asyncio.run(extension.get_node_list())


def current() -> dict[str, Any]:
    """What /object_info says of them, reduced."""
    return comfy_lint.reduced({node.GET_SCHEMA().node_id: node.GET_NODE_INFO_V1() for node in nodes()})


def english(info: dict[str, Any]) -> dict[str, Any]:
    """The English words of the schemas, as ComfyUI's pages look them up."""
    words = {}
    for node, schema in info.items():
        named = lambda each: {
            "name": each.get("display_name", each["name"].replace("_", " ")),
            "tooltip": each["tooltip"],
        }
        inputs = {each["name"]: named(each) for each in schema["inputs"]}
        outputs = {str(i): named(each) for i, each in enumerate(schema["outputs"])}
        head = {"display_name": schema["display_name"], "description": schema["description"]}
        words[node] = head | ({"inputs": inputs} if inputs else {}) | {"outputs": outputs}
    return words


def texts(words: dict[str, Any]) -> list[str]:
    """Every text of a nodeDefs.json, in order."""
    return [text for each in words.values() for text in ([each] if isinstance(each, str) else texts(each))]


def translated(words: dict[str, Any], known: dict[str, str]) -> dict[str, Any]:
    """`words` with each text that is known in its other language."""
    return {
        key: known.get(each, each) if isinstance(each, str) else translated(each, known) for key, each in words.items()
    }


def written(data: Any) -> str:
    """JSON as we keep it."""
    return json.dumps(data, indent=2, ensure_ascii=False) + "\n"


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(written(data), encoding="utf-8")


def main() -> None:
    """Check and write."""
    if comfyui() is None:
        sys.exit(REASON)
    info = current()
    if SNAPSHOT.exists() and "--force" not in sys.argv:
        broken = comfy_lint.breaks(_read(SNAPSHOT), info)
        if broken:
            sys.exit("this would break saved graphs:\n" + "\n".join(broken))
    _write(SNAPSHOT, info)
    before, after = texts(_read(ENGLISH)), english(info)
    for path in sorted(LOCALES.glob("*/nodeDefs.json")):
        _write(path, translated(after, dict(zip(before, texts(_read(path)), strict=True))))


if __name__ == "__main__":
    main()
