"""ADD of archives: recognised by content, unpacked with the layer engine."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from slipform.core.errors import DomainError
from slipform.layer.apply import unpack_archive
from slipform.layer.decompress import DecompressedStream

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slipform.builder.tree import SourceTree
    from slipform.core.context import FileEntry

_BLOCK: Final = 512
_CHECKSUM: Final = slice(148, 156)


class _File:
    """An open file as the layer engine reads it; looks at every chunk whether to give up."""

    def __init__(self, fd: int, check: Callable[[], None]) -> None:
        self._fd = fd
        self._check = check

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        self._check()
        return os.read(self._fd, size)


def is_archive(tree: SourceTree, entry: FileEntry) -> bool:
    """Whether a file is a tar, compressed or not, whatever it is called."""
    if not stat.S_ISREG(entry.mode) or not entry.size:
        return False
    fd = tree.open_fd(entry)
    try:
        with DecompressedStream(_File(fd, lambda: None)) as stream:
            return _is_header(_read_block(stream))
    except DomainError:
        return False
    finally:
        os.close(fd)


def unpack(
    tree: SourceTree,
    entry: FileEntry,
    root: Path,
    dest: str,
    owner: tuple[int, int] | None,
    check: Callable[[], None],
) -> None:
    """Unpack an archive into a directory of a root.

    Raises:
        InvalidArgument: a broken or hostile archive; names the entry.
        ResourceExhausted: the disk is full.
    """
    fd = tree.open_fd(entry)
    try:
        unpack_archive(_File(fd, check), root, os.fsencode(dest), owner=owner)
    finally:
        os.close(fd)


def _read_block(stream: DecompressedStream) -> bytes:
    block = b""
    while len(block) < _BLOCK and (more := stream.read(_BLOCK - len(block))):
        block += more
    return block


def _is_header(block: bytes) -> bool:
    """A tar header has a sum of its own bytes; an empty archive is two blocks of zeros."""
    if len(block) < _BLOCK:
        return False
    stored = block[_CHECKSUM].strip(b" \0")
    if not stored:
        return False
    try:
        wanted = int(stored, 8)
    except ValueError:
        return False
    summed = sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")
    return wanted == summed
