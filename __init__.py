"""Pullback as a ComfyUI pack: clone the repository into `custom_nodes/`. The library itself is in `core/`."""

from .comfy_nodes.extension import comfy_entrypoint

# Help pages are asked for under the folder's name, which `web` in pyproject.toml would not give them.
WEB_DIRECTORY = "comfy_nodes/web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
