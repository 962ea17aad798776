"""Members of an archive that arrives as a stream: read once, forwards, with bounded memory.

Nothing here touches a disk: a member's name is a key, whatever it says.
"""

from __future__ import annotations

import enum
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from slipform.core.errors import InvalidArgument
from slipform.layer.decompress import open_compressed
from slipform.layer.tar_reader import TarReader
from slipform.layer.tar_stream import TarStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType

    from slipform.layer.tar_entry import TarEntry

_BLOCK: Final = 512
_PIECE: Final = 1 << 18


class MemberKind(enum.Enum):
    """What a member is, as far as an image archive cares."""

    FILE = "file"
    LINK = "link"
    """A symbolic link: ``link`` is relative to the member's directory."""
    HARD_LINK = "hard link"
    """``link`` is the name of an earlier member."""
    OTHER = "other"
    """Directories, devices, sparse files: never read."""


@dataclass(frozen=True, slots=True)
class Member:
    """One member; ``name`` as it stands in the archive, ``size`` bytes of body."""

    name: str
    kind: MemberKind
    size: int = 0
    link: str = ""


class Members:
    """A tar, plain or compressed: iterate it; between two members, ``body()`` has the bytes.

    Use it as a context manager, which ends the thread that decompresses.

    Args:
        chunks: the archive, in pieces of any size.
        what: names the archive in messages.
        max_members: more are refused; 0 is no limit.
        tap: is given every byte of the plain tar as it flows by.
    """

    def __init__(
        self,
        chunks: Iterable[bytes],
        what: str,
        *,
        max_members: int = 0,
        tap: Callable[[bytes], object] | None = None,
    ) -> None:
        self._what = what
        self._max_members = max_members
        self._tap = tap
        self._plain = open_compressed(ChunkSource(chunks))
        self._stream = TarStream(self)
        self._reader = TarReader(self._stream)
        self._name = ""
        self._remaining = 0
        self._end = 0
        self.ended = False
        """Whether the end-of-archive block was seen: its absence may mean a truncated archive."""

    def __enter__(self) -> Self:
        """Nothing is read before the first member is asked for, but what tells a compression."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop reading ahead."""
        self._plain.close()

    def __iter__(self) -> Iterator[Member]:
        """Yield members; raises ``InvalidArgument`` for anything that is not a whole tar."""
        entries = iter(self._reader)
        count = 0
        while True:
            with self._named():
                entry = next(entries, None)
            if entry is None:
                break
            count += 1
            if self._max_members and count > self._max_members:
                raise InvalidArgument(f"{self._what}: more than {self._max_members} members")
            self._name, self._remaining = _text(entry.name), entry.size
            yield _member(entry)
            for _ in self.body():
                pass
            self._end = self._stream.offset + -entry.size % _BLOCK
        if self._stream.offset == 0:
            raise InvalidArgument(f"{self._what}: is empty, want a tar archive")
        self.ended = self._stream.offset >= self._end + _BLOCK

    def body(self) -> Iterator[bytes]:
        """The bytes of the current member, in pieces; once."""
        while self._remaining:
            with self._named():
                piece = self._stream.read(min(self._remaining, _PIECE))
            if not piece:
                raise InvalidArgument(
                    f'{self._what}: truncated in member "{printable(self._name)}", at byte'
                    f" {self._stream.offset}"
                )
            self._remaining -= len(piece)
            self._reader.consumed(len(piece))
            yield piece

    def drain(self) -> None:
        """Read the stream to its end, past the end-of-archive blocks."""
        with self._named():
            while self._stream.read(_PIECE):
                pass

    def read(self, size: int, /) -> bytes:
        """The plain tar itself, for the reader below."""
        data = self._plain.read(size)
        if self._tap is not None and data:
            self._tap(data)
        return data

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except InvalidArgument as e:
            raise InvalidArgument(f"{self._what}: {self._explain(e)}") from e

    def _explain(self, error: InvalidArgument) -> str:
        if self._name:
            return f'{error} (after member "{printable(self._name)}")'
        at_start = self._stream.offset <= _BLOCK and self._plain.compression == "none"
        return f"is not a tar archive ({error})" if at_start else str(error)


class ChunkSource:
    """Chunks of any size as something to read from."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._rest = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        """At most ``size`` bytes, none at the end."""
        while not self._rest:
            chunk = next(self._chunks, None)
            if chunk is None:
                return b""
            if len(chunk) <= size:
                if chunk:
                    return chunk
                continue
            self._rest = memoryview(chunk)
        piece, self._rest = self._rest[:size], self._rest[size:]
        return bytes(piece)


def printable(name: str) -> str:
    """A hostile name, fit for a message."""
    shown = name if len(name) <= 120 else f"{name[:60]}…{name[-59:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def _member(entry: TarEntry) -> Member:
    name, link = _text(entry.name), _text(entry.link)
    kind = MemberKind.OTHER
    if entry.kind == b"2":
        kind = MemberKind.LINK
    elif entry.kind == b"1":
        kind = MemberKind.HARD_LINK
    elif entry.kind == b"0" and entry.sparse is None:
        kind = MemberKind.FILE
    return Member(name, kind, entry.size, link)


def _text(name: bytes) -> str:
    return name.decode(errors="surrogateescape")
