"""Members of a tar that arrives as a stream: read once, forwards, with bounded memory.

It reads what archives of images are made of (v7, ustar, PAX, GNU names and sizes) and nothing on
disk: a name is a key, whatever it says. Contents are the caller's to check.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

BLOCK: Final = 512
_MAX_EXTENSION: Final = 1 << 20
"""Bytes of one PAX header or GNU long name."""
_HEADER_ONLY: Final = b"123456"
_REGULAR: Final = b"0\x007S"
_ZEROS: Final = bytes(BLOCK)


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


class TarStream:
    """Iterate it for members; between two, ``body()`` yields the bytes of the last one.

    Args:
        chunks: the uncompressed archive.
        what: names the archive in messages.
        max_members: more are refused; 0 is no limit.
    """

    def __init__(self, chunks: Iterable[bytes], what: str, *, max_members: int = 0) -> None:
        self._source = _Source(chunks)
        self._what = what
        self._max_members = max_members
        self._remaining = 0
        self._padding = 0
        self._name = ""
        self.ended = False
        """Whether the end-of-archive block was seen: its absence may mean a truncated archive."""

    def __iter__(self) -> Iterator[Member]:
        """Yield members; raises ``InvalidArgument`` for anything that is not a whole tar."""
        count = 0
        overrides: dict[str, str] = {}
        while (header := self._next_header()) is not None:
            kind = header[156:157]
            size = self._number(header[124:136], "size")
            if kind in (b"x", b"g", b"L", b"K"):
                data = self._extension(size)
                overrides.update(self._extended(kind, data))
                continue
            member = self._member(header, kind, size, overrides)
            overrides = {}
            count += 1
            if self._max_members and count > self._max_members:
                raise InvalidArgument(f"{self._what}: more than {self._max_members} members")
            yield member
            for _ in self.body():
                pass
            self._take(self._padding)
            self._padding = 0

    def body(self) -> Iterator[memoryview]:
        """The bytes of the current member, in pieces as they arrive; once."""
        while self._remaining:
            piece = self._source.some(self._remaining)
            if not piece:
                raise self._truncated(f'in member "{printable(self._name)}"')
            self._remaining -= len(piece)
            yield piece

    def drain(self) -> None:
        """Read the stream to its end, past the end-of-archive blocks."""
        while self._source.some(1 << 20):
            pass

    def _next_header(self) -> bytes | None:
        at = self._source.position
        block = self._source.exactly(BLOCK)
        if not block:
            if at == 0:
                raise InvalidArgument(f"{self._what}: is empty, want a tar archive")
            return None
        if len(block) < BLOCK:
            raise self._not_tar(at) if at == 0 else self._truncated("in a header")
        if block == _ZEROS:
            self.ended = True
            return None
        if not _checksum_fits(block):
            raise self._not_tar(at)
        return block

    def _not_tar(self, at: int) -> InvalidArgument:
        if at == 0:
            return InvalidArgument(f"{self._what}: is not a tar archive")
        after = f' after member "{printable(self._name)}"' if self._name else ""
        return InvalidArgument(f"{self._what}: corrupt tar header at byte {at}{after}")

    def _truncated(self, where: str) -> InvalidArgument:
        return InvalidArgument(f"{self._what}: truncated {where}, at byte {self._source.position}")

    def _extension(self, size: int) -> bytes:
        if size > _MAX_EXTENSION:
            raise InvalidArgument(
                f"{self._what}: a tar extension header of {size} bytes, want at most"
                f" {_MAX_EXTENSION}"
            )
        return self._take(size + -size % BLOCK)[:size]

    def _extended(self, kind: bytes, data: bytes) -> dict[str, str]:
        if kind == b"x":
            return self._pax(data)
        if kind == b"g":
            return {}
        return {"path" if kind == b"L" else "linkpath": _text(data)}

    def _pax(self, data: bytes) -> dict[str, str]:
        records: dict[str, str] = {}
        while data:
            length, space, _ = data.partition(b" ")
            if not space or not length.isdigit() or len(length) > 8:
                raise InvalidArgument(f"{self._what}: malformed PAX header")
            record, data = data[: int(length)], data[int(length) :]
            key, equals, value = record[len(length) + 1 :].partition(b"=")
            if not equals or not value.endswith(b"\n"):
                raise InvalidArgument(f"{self._what}: malformed PAX header")
            records[key.decode(errors="replace")] = value[:-1].decode(errors="surrogateescape")
        return records

    def _member(self, header: bytes, kind: bytes, size: int, overrides: dict[str, str]) -> Member:
        name = overrides.get("path") or _header_name(header)
        link = overrides.get("linkpath") or _text(header[157:257])
        self._name = name
        if kind == b"S" and header[482]:
            while self._take(BLOCK)[504]:
                pass
        if "size" in overrides:
            if not overrides["size"].isdecimal() or len(overrides["size"]) > 19:
                raise InvalidArgument(f"{self._what}: malformed PAX size")
            size = int(overrides["size"])
        if kind in _HEADER_ONLY:
            size = 0
        self._remaining, self._padding = size, -size % BLOCK
        return Member(name, _kind_of(kind, name, overrides), size, link)

    def _number(self, field: bytes, what: str) -> int:
        if field[0] & 0x80:
            value = int.from_bytes(bytes([field[0] & 0x7F]) + field[1:], "big")
            if field[0] & 0x40 or value >= 1 << 63:
                raise InvalidArgument(f"{self._what}: a member's {what} is out of range")
            return value
        text = field.strip(b" \0")
        try:
            value = int(text or b"0", 8)
        except ValueError:
            value = -1
        if value < 0:
            raise InvalidArgument(f"{self._what}: a member's {what} is not a number")
        return value

    def _take(self, size: int) -> bytes:
        data = self._source.exactly(size)
        if len(data) < size:
            raise self._truncated(f'after member "{printable(self._name)}"')
        return data


class _Source:
    """Chunks as one stream of bytes."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._piece = memoryview(b"")
        self.position = 0

    def some(self, limit: int) -> memoryview:
        """Between 1 and ``limit`` bytes, or none at the end."""
        while not self._piece:
            chunk = next(self._chunks, None)
            if chunk is None:
                return self._piece
            self._piece = memoryview(chunk)
        piece, self._piece = self._piece[:limit], self._piece[limit:]
        self.position += len(piece)
        return piece

    def exactly(self, size: int) -> bytes:
        """``size`` bytes, fewer only at the end."""
        pieces = []
        while size and (piece := self.some(size)):
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)


def printable(name: str) -> str:
    """A hostile name, fit for a message."""
    shown = name if len(name) <= 120 else f"{name[:60]}…{name[-59:]}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def _kind_of(kind: bytes, name: str, overrides: dict[str, str]) -> MemberKind:
    if kind == b"2":
        return MemberKind.LINK
    if kind == b"1":
        return MemberKind.HARD_LINK
    sparse = kind == b"S" or any(key.startswith("GNU.sparse.") for key in overrides)
    if kind not in _REGULAR or name.endswith("/") or sparse:
        return MemberKind.OTHER
    return MemberKind.FILE


def _checksum_fits(header: bytes) -> bool:
    try:
        stored = int(header[148:156].strip(b" \0") or b"-", 8)
    except ValueError:
        return False
    rest = header[:148] + header[156:]
    unsigned = sum(rest) + 8 * 0x20
    # Ancient tars summed signed bytes.
    return stored in (unsigned, unsigned - 256 * sum(byte > 127 for byte in rest))


def _header_name(header: bytes) -> str:
    name = _text(header[:100])
    prefix = _text(header[345:500]) if header[257:263] == b"ustar\0" else ""
    return f"{prefix}/{name}" if prefix else name


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode(errors="surrogateescape")
