"""Files that are either whole or absent: written beside their place, then moved into it."""

from __future__ import annotations

import os
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
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    # Opened for writing because Windows refuses to flush a handle that can only read.
    with path.open("rb+") as file:
        os.fsync(file.fileno())
