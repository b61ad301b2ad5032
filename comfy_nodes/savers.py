"""Savers: shared by the nodes that write files. Checks names before anything runs, and embeds the graph in the files."""

from __future__ import annotations

import json
from typing import Any

import folder_paths
from comfy.cli_args import args
from comfy_api.latest import io

from .paths import Target, beginning, fresh_path


def prefix(default: str) -> io.Input:
    """Return the input for the name of a file, as in ComfyUI's savers."""
    return io.String.Input(
        "filename_prefix",
        default=default,
        tooltip="Folder and beginning of the file's name within the output folder. Dates such as %date:yyyy-MM-dd% are "
        "filled in.",
    )


def refusal(filename_prefix: str | None) -> bool | str:
    """Return True, or one sentence that says what is wrong with a prefix, for `validate_inputs`.

    The prefix is None if it comes from another node: then it is not known yet.
    """
    try:
        if filename_prefix is not None:
            beginning(folder_paths.get_output_directory(), filename_prefix)
    except ValueError as error:
        return str(error)
    return True


def awaited(filename_prefix: str, what: str) -> list[str]:
    """Return the input to compute next, for `check_lazy_status`.

    A wrong name from another node is therefore refused before the input is sampled.

    Raises:
        ValueError: If the prefix is wrong.
    """
    beginning(folder_paths.get_output_directory(), filename_prefix)
    return [what]


def target(filename_prefix: str, suffix: str) -> Target:
    """Return an unused path in the output folder."""
    return fresh_path(folder_paths.get_output_directory(), filename_prefix, suffix)


def embedded(hidden: Any) -> dict[str, str]:
    """Return the graph of the running node as metadata, as ComfyUI's savers embed it, or {} if metadata is disabled.

    `prompt` is the graph in API form. `workflow`, if the prompt came from a page, is the form that the page opens when the file
    is dropped on it.
    """
    if args.disable_metadata or hidden is None:
        return {}
    texts = {"prompt": hidden.prompt} | (hidden.extra_pnginfo or {})
    return {name: json.dumps(value) for name, value in texts.items() if value is not None}
