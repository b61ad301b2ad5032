"""Files that are either whole or absent: written beside their place, then moved into it."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yields a temporary path in the folder of `path`; what is written there replaces `path` when the block ends.

    The bytes reach the disk before the name does, so a reader, a crash or a full disk never meets half a file.
    If the block raises, `path` stays as it was and the temporary is removed. The temporary keeps the suffix of
    `path` and has a name of its own per process and call, so two runs with one output leave one whole file.
    Raises OSError where the folder cannot be written, and FileNotFoundError where the block wrote nothing.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # a full disk does not say whose file did not fit
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def clear_remains(path: Path) -> None:
    """Remove temporaries of `path` that killed processes left. Only its owner may: hold a lock on `path`."""
    ours = re.compile(re.escape(f".{path.stem}.") + r"\d+-[0-9a-f]{8}" + re.escape(path.suffix))
    for candidate in path.parent.iterdir():
        if ours.fullmatch(candidate.name):
            candidate.unlink(missing_ok=True)


def is_utf8(text: str) -> bool:
    """Whether a text from a command line or a file's name is text: bytes that are not UTF-8 arrive as lone surrogates."""
    return not re.search("[\ud800-\udfff]", text)


def _umask() -> int:
    # safetensors makes its files private; the user's own rule is what others of theirs follow
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    # Opened for writing because Windows refuses to flush a handle that can only read.
    with path.open("rb+") as file:
        os.fsync(file.fileno())
