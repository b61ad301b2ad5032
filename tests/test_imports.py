"""The layout is enforced: imports point one way, the core knows no host, and importing is quick and silent."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

CORE = Path(__file__).parents[1] / "core" / "pullback"
ORDER = ("version", "types", "schema", "schedules", "geometry", "noise", "denoisers", "guidance", "samplers",
         "solvers", "pull", "viewpoints", "regions", "representation", "resample", "exact_tiles", "baselines",
         "files", "pictures", "settings", "fields", "render", "diffreps", "known", "representations", "training",
         "generative", "metrics", "mesh", "adapters", "models", "storage", "photographs", "decoding",
         "trainable", "meshing", "tasks",
         "functions", "reconstruct", "errors", "outputs", "cli", "__main__", "messages", "jobs", "worker")  # fmt: skip
HOSTS = {"comfy", "comfy_api", "comfy_extras", "bpy", "folder_paths", "nodes", "server"}


def _room(path: Path) -> str:
    return path.relative_to(CORE).parts[0].removesuffix(".py")


def _imported(path: Path) -> list[tuple[int, str]]:
    """(level, module) of every import of a file, also those inside functions."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else [alias.name for alias in node.names]
            found += [(node.level, name) for name in names]
        elif isinstance(node, ast.Import):
            found += [(0, alias.name) for alias in node.names]
    return found


FILES = sorted(p for p in CORE.rglob("*.py") if p != CORE / "__init__.py")


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(CORE)))
def test_imports_point_one_way(path):
    room, depth = _room(path), len(path.relative_to(CORE).parts)
    assert room in ORDER, f"{room} has no place in the order of the layout"
    for level, module in _imported(path):
        head = module.split(".")[0]
        assert level > 0 or head not in HOSTS | {"pullback"}, f"{path} imports {module}"
        if level == depth:  # from the package's root
            assert ORDER.index(head) <= ORDER.index(room), f"{path} imports {module}, which comes later"


def test_the_sampler_sees_only_callables():
    heads = {module.split(".")[0] for level, module in _imported(CORE / "pull.py") if level}
    assert not heads & {"fields", "render", "diffreps", "generative", "adapters", "geometry"}


def test_importing_is_silent_and_loads_no_host_and_no_diffusers():
    code = (
        "import sys, pullback.cli; loaded = {m.split('.')[0] for m in sys.modules};"
        "print(sorted(loaded & {'diffusers', 'transformers', 'accelerate', 'bpy', 'comfy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=CORE.parent, check=True)
    assert done.stdout.strip() == "[]" and done.stderr == ""
