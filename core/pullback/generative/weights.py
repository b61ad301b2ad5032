"""Reading files of weights."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor


def read(path: Path, wanted: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors, in float32, and the metadata of a .safetensors file.

    Args:
        path: The file.
        wanted: What the error message asks for if the file does not exist.

    Raises:
        ValueError: If the file is missing, truncated, or not a safetensors file.
    """
    if not path.exists():
        raise ValueError(f"{path} does not exist: give {wanted}")
    try:
        with safe_open(path, "pt") as file:
            return {key: file.get_tensor(key).float() for key in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: get or train it again ({error})") from error


def expect(metadata: dict[str, str], name: object, kind: str, wanted: str, command: str) -> None:
    """Raise ValueError if the metadata of a file are not those of a format.

    Args:
        metadata: The metadata.
        name: What the error message calls the file.
        kind: What it should be, such as "ddpm model".
        wanted: The format.
        command: The command that makes such a file.
    """
    if (found := metadata.get("format")) != wanted:
        raise ValueError(f"{name} is no {kind}: its format is {found!r}, expected {wanted!r}; `{command}` makes one")


def format_of(path: Path) -> str:
    """Return the `format` in the metadata of a .safetensors file, or "" if it has none or is not a .safetensors file."""
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("format", "")
    except (SafetensorError, OSError):
        return ""
