"""Errors: what a user is told of them, in one sentence."""

from __future__ import annotations

import torch


def sentence(error: BaseException) -> str | None:
    """What went wrong and what to do, for errors that a user or a machine causes; None for a mistake of ours."""
    if isinstance(error, OSError):
        return f"cannot read or write {error.filename or 'a file'}: {error.strerror or error}"
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return "out of memory: choose a smaller size, fewer views or another device"
    if isinstance(error, (ValueError, ImportError)):  # ImportError names the extra to install
        return " ".join(str(error).split())
    return None
