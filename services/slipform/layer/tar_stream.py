"""A tar as a run of bytes: read, copied and skipped by count, with offsets for messages."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument

if TYPE_CHECKING:
    from slipform.layer.decompress import Source

_PIECE: Final = 1 << 18


class TarStream:
    """Bytes of ``source`` in order; file data goes to a descriptor without being joined."""

    __slots__ = ("_at", "_base", "_end", "_piece", "_source", "_view")

    def __init__(self, source: Source) -> None:
        self._source = source
        self._piece = b""
        self._view = memoryview(b"")
        self._at = 0
        self._end = 0
        self._base = 0

    @property
    def offset(self) -> int:
        """Bytes from the start of the tar."""
        return self._base + self._at

    def read(self, size: int) -> bytes:
        """Exactly ``size`` bytes, or fewer at the end of the stream."""
        at = self._at
        if at + size <= self._end:
            self._at = at + size
            return self._piece[at : at + size]
        parts = [self._piece[at:]]
        left = size - len(parts[0])
        self._at = self._end
        while left and self._fill():
            parts.append(self._piece[:left])
            self._at = min(left, self._end)
            left -= self._at
        return b"".join(parts)

    def read_all(self, size: int, what: object) -> bytes:
        """Exactly ``size`` bytes. Raises ``InvalidArgument`` when there are fewer."""
        data = self.read(size)
        if len(data) != size:
            raise self._truncated(what)
        return data

    def copy_to(self, fd: int, size: int, what: object) -> None:
        """Write the next ``size`` bytes to a descriptor."""
        left = size
        while left:
            if self._at == self._end and not self._fill():
                raise self._truncated(what)
            stop = min(self._end, self._at + left)
            written = os.write(fd, self._view[self._at : stop])
            self._at += written
            left -= written

    def skip(self, size: int, what: object) -> None:
        """Drop the next ``size`` bytes."""
        left = size
        while left:
            if self._at == self._end and not self._fill():
                raise self._truncated(what)
            count = min(left, self._end - self._at)
            self._at += count
            left -= count

    def _fill(self) -> bool:
        self._base += self._end
        self._piece = self._source.read(_PIECE)
        self._view = memoryview(self._piece)
        self._at, self._end = 0, len(self._piece)
        return bool(self._piece)

    def _truncated(self, what: object) -> InvalidArgument:
        return InvalidArgument(f"{what}: the archive ends early, at byte {self.offset}")
