"""Pullback as a ComfyUI pack: clone the repository into `custom_nodes/`. The library itself is in `core/`."""

from .comfy_nodes.extension import comfy_entrypoint

__all__ = ["comfy_entrypoint"]
