"""Reading files of weights."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor


def read(path: Path, wanted: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors, in float32, and the metadata of a .safetensors file.

    Args:
        path: The file.
        wanted: What to give instead if it does not exist, for the error message.

    Raises:
        ValueError: If it is missing, truncated, or no safetensors file.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist: give {wanted}")
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key).float() for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or no safetensors file: get or train it again ({error})") from error


def format_of(path: Path) -> str:
    """Return what a .safetensors file says that it holds, "" if it says nothing or is no such file."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format", "")
    except (SafetensorError, OSError):
        return ""
