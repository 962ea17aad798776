"""Reading archives for ``load`` and ``import``: a file, or stdin."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.cli.errors import CommandError
from slipform.core.content import CHUNK_SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO


@contextmanager
def archive_chunks(name: str) -> Iterator[Iterator[bytes]]:
    """Chunks of a file, or of stdin for "-" and "".

    Raises:
        CommandError: the file cannot be opened, or stdin is a terminal.
    """
    if name in ("", "-"):
        if sys.stdin.isatty():
            raise CommandError("requested load from stdin, but stdin is a terminal")
        yield _chunks(sys.stdin.buffer)
        return
    with _opened(Path(name)) as file:
        yield _chunks(file)


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as e:
        raise CommandError(f"open {path}: {e.strerror}") from e


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_SIZE):
        yield chunk
