"""Error messages for users, in one sentence."""

from __future__ import annotations

import re

import torch


def sentence(error: BaseException) -> str | None:
    """Return what went wrong and what to do, or None if the error is a bug in Pullback."""
    if isinstance(error, OSError):
        return plain(f"cannot read or write {error.filename or 'a file'}: {error.strerror or error}")
    if _out_of_memory(error):
        return "out of memory: choose a smaller size, fewer views or another device"
    if isinstance(error, (ValueError, ImportError)):  # ImportError names the extra to install
        return plain(str(error))
    return None


def plain(text: str) -> str:
    """Return a message as one line that every terminal can show, with very long numbers cut."""
    text = " ".join(text.encode("utf-8", "backslashreplace").decode().split())
    return re.sub(r"\d{40,}", lambda match: f"{match[0][:12]}... ({len(match[0])} digits)", text)


def _out_of_memory(error: BaseException) -> bool:
    """Return whether memory ran out. torch has an error class for CUDA only; other devices raise a plain RuntimeError."""
    if isinstance(error, RuntimeError) and re.search("can't allocate memory|out of memory", str(error)):
        return True
    return isinstance(error, (MemoryError, torch.OutOfMemoryError))
