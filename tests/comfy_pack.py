"""The pack as tests see it: loaded under a name of ComfyUI's kind, from where it lies, without sys.path."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import types
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = "/somewhere/custom_nodes/any name"
REASON = "needs ComfyUI: clone it to ~/ComfyUI or set COMFYUI_PATH, and install its requirements.txt here"


def part(name: str) -> types.ModuleType:
    """A module of comfy_nodes, or of the core beside it ("core.pullback.tasks"), by its name within the pack."""
    if NAME not in sys.modules:
        package = types.ModuleType(NAME)
        package.__path__ = [str(ROOT)]
        sys.modules[NAME] = package
    return importlib.import_module(f"{NAME}.{name}")


def comfyui() -> Path | None:
    """ComfyUI's folder, importable and set to the processor; None where it or its requirements are missing."""
    home = Path(os.environ.get("COMFYUI_PATH", Path.home() / "ComfyUI"))
    if not (home / "comfy" / "samplers.py").is_file() or importlib.util.find_spec("torchsde") is None:
        return None
    if str(home) not in sys.path:
        sys.path.append(str(home))
    arguments = importlib.import_module("comfy.cli_args").args
    arguments.cpu = True
    return home
