"""Files that are either whole or absent: they are written under a temporary name and then renamed."""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path; the file written there replaces `path` when the block ends.

    The bytes reach the disk before the name does, so that nobody ever sees half a file, not even after a crash or on a full
    disk. If the block raises, `path` stays as it was and the temporary file is removed. The temporary file lies in the same
    folder, keeps the suffix, and has a unique name, so that two writers of one path leave one whole file.

    Raises:
        OSError: If the folder cannot be written.
        FileNotFoundError: If the block wrote nothing.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic(Path(folder) / "a.txt") as part:
        ...         _ = part.write_text("whole")
        ...     (Path(folder) / "a.txt").read_text()
        'whole'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{os.getpid()}-{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        _flush(temporary)
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    except OSError as error:
        if error.filename in (None, str(temporary)):  # the error of a full disk names no file
            error.filename = str(path)
        raise
    finally:
        temporary.unlink(missing_ok=True)


def clear_remains(path: Path) -> None:
    """Remove the temporary files of `path` that killed processes left behind. Call it only while holding a lock on `path`."""
    ours = re.compile(re.escape(f".{path.stem}.") + r"\d+-[0-9a-f]{8}" + re.escape(path.suffix))
    for candidate in path.parent.iterdir():
        if ours.fullmatch(candidate.name):
            candidate.unlink(missing_ok=True)


def is_utf8(text: str) -> bool:
    """Return whether text from a command line or a file name was UTF-8: other bytes arrive as lone surrogates."""
    return not re.search("[\ud800-\udfff]", text)


def _umask() -> int:
    # safetensors makes its files private; they should follow the user's umask, as other files do
    mask = os.umask(0)
    os.umask(mask)
    return mask


def _flush(path: Path) -> None:
    # Opened for writing because Windows refuses to flush a handle that can only read.
    with path.open("rb+") as file:
        os.fsync(file.fileno())
