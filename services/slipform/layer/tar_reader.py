"""Entries of a tar: ustar, old tars, GNU long names, PAX records and every kind of sparse file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument
from slipform.layer import sparse
from slipform.layer.faults import shown
from slipform.layer.tar_entry import (
    MAX_RECORDS,
    Malformed,
    TarEntry,
    checksum_is_right,
    decimal,
    nanoseconds,
    number,
    parse_records,
)
from slipform.layer.tar_header import BLOCK, ZEROS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.layer.tar_stream import TarStream

_WITHOUT_DATA: Final = frozenset((b"1", b"2", b"3", b"4", b"5", b"6"))
_REGULAR: Final = frozenset((b"0", b"\0", b"7", b"S"))
_LINKS: Final = (b"1", b"2")
_DEVICES: Final = (b"3", b"4")
_SPECIAL: Final = frozenset((b"x", b"g", b"L", b"K", b"V"))
_XATTR: Final = b"SCHILY.xattr."
_NOT_GLOBAL: Final = frozenset({b"path", b"linkpath", b"size"})
_MAX_SIZE: Final = (1 << 63) - 1
_MAX_ID: Final = (1 << 32) - 2

Records = dict[bytes, bytes]


class TarReader:
    """Iterate it for entries; the data of each is in ``stream`` until the next one is asked for.

    Raises:
        InvalidArgument: for anything malformed, with the entry and its offset.
    """

    def __init__(self, stream: TarStream) -> None:
        self.stream = stream
        self._global: Records = {}
        self._left = 0
        """Bytes of the current entry, padding included, that nobody has read."""

    def consumed(self, size: int) -> None:
        """Tell that ``size`` bytes of the current entry's data were taken from ``stream``."""
        self._left -= size

    def __iter__(self) -> Iterator[TarEntry]:
        while True:
            start = self.stream.offset + self._left
            what = f"tar entry at byte {start}"
            try:
                entry = self._next(start)
            except Malformed as error:
                raise InvalidArgument(f"{what}: {error}") from error
            if entry is None:
                return
            yield entry

    def _next(self, start: int) -> TarEntry | None:
        records: list[tuple[bytes, bytes]] = []
        long_name: bytes | None = None
        long_link: bytes | None = None
        while True:
            block = self._block()
            if block is None:
                return None
            kind = block[156:157]
            if kind in _SPECIAL:
                size = number(block[124:136])
                if kind == b"V":  # the label of a GNU tar volume is no file
                    self._left = max(0, size + -size % BLOCK)
                    continue
                data = self._special(size, start)
                if kind == b"x":
                    records = parse_records(data)
                elif kind == b"g":
                    self._remember(parse_records(data))
                elif kind == b"L":
                    long_name = data.partition(b"\0")[0]
                else:
                    long_link = data.partition(b"\0")[0]
                continue
            entry = self._parse(block, start)
            if long_name is not None:
                entry.name = long_name
            if long_link is not None:
                entry.link = long_link
            if records or self._global:
                self._apply_records(entry, records)
            self._finish(entry, block, records)
            return entry

    def _block(self) -> bytes | None:
        """The next header, None at the end: zeros, or no more bytes (many tars lack zeros)."""
        stream = self.stream
        if self._left:
            stream.skip(self._left, "tar entry data")
            self._left = 0
        block = stream.read(BLOCK)
        if block == ZEROS or not block:
            return None
        if len(block) != BLOCK:
            raise Malformed(f"the archive ends inside a header, after {len(block)} bytes of it")
        if not checksum_is_right(block):
            raise Malformed("header checksum is wrong: not a tar, or a damaged one")
        return block

    def _special(self, size: int, start: int) -> bytes:
        if not 0 <= size <= MAX_RECORDS:
            raise Malformed(f"extended header has {size} bytes, want at most {MAX_RECORDS}")
        data = self.stream.read_all(size, f"tar entry at byte {start}")
        self.stream.skip(-size % BLOCK, f"tar entry at byte {start}")
        return data

    def _remember(self, records: list[tuple[bytes, bytes]]) -> None:
        for key, value in records:
            if key in _NOT_GLOBAL or key.startswith(b"GNU.sparse."):
                raise Malformed(f"PAX record {key!r} makes no sense for all entries")
            self._global[key] = value

    @staticmethod
    def _parse(block: bytes, start: int) -> TarEntry:
        name = block[:100].partition(b"\0")[0]
        if block[345] and block[257:263] == b"ustar\0":
            name = block[345:500].partition(b"\0")[0] + b"/" + name
        kind = block[156:157]
        entry = TarEntry(
            start,
            name,
            kind,
            number(block[100:108]) & 0o7777,
            number(block[108:116]),
            number(block[116:124]),
            number(block[124:136]),
            number(block[136:148]) * 1_000_000_000,
        )
        if kind in _LINKS:
            entry.link = block[157:257].partition(b"\0")[0]
        elif kind in _DEVICES:
            entry.major, entry.minor = number(block[329:337]), number(block[337:345])
        return entry

    def _apply_records(self, entry: TarEntry, records: list[tuple[bytes, bytes]]) -> None:
        xattrs: list[tuple[str, bytes]] = []
        merged = self._global | dict(records) if self._global else dict(records)
        for key, value in merged.items():
            if key.startswith(_XATTR):
                if key != _XATTR and b"\0" not in key:
                    xattrs.append((os.fsdecode(key[len(_XATTR) :]), value))
            elif not value:
                continue  # an empty value means: as if there were no record
            elif key == b"path":
                entry.name = value
            elif key == b"linkpath":
                entry.link = value
            elif key == b"size":
                entry.size = decimal(key, value)
            elif key == b"uid":
                entry.uid = decimal(key, value)
            elif key == b"gid":
                entry.gid = decimal(key, value)
            elif key == b"mtime":
                entry.mtime_ns = nanoseconds(key, value)
        entry.xattrs = xattrs

    def _finish(self, entry: TarEntry, block: bytes, records: list[tuple[bytes, bytes]]) -> None:
        """Check what all headers together say, and know how much data follows."""
        kind = entry.kind
        if kind in _WITHOUT_DATA:
            entry.size = 0  # old tars give hard links the size of the file, without its data
        self._check(entry)
        self._left = entry.size + -entry.size % BLOCK
        if kind in _REGULAR:
            if kind == b"S":
                sparse.read_old(entry, block, self.stream)
            elif records and any(key.startswith(b"GNU.sparse.") for key, _ in records):
                self.consumed(sparse.read_pax(entry, records, self.stream))
            # A slash at the end is how tars said "directory" before 1988.
            entry.kind = b"5" if entry.name.endswith(b"/") and not entry.sparse else b"0"

    @staticmethod
    def _check(entry: TarEntry) -> None:
        if b"\0" in entry.name or b"\0" in entry.link:
            raise Malformed(f"{shown(entry.name)} or its link target contains a NUL byte")
        if not 0 <= entry.size <= _MAX_SIZE:
            raise Malformed(f"{shown(entry.name)} has the impossible size {entry.size}")
        if not (0 <= entry.uid <= _MAX_ID and 0 <= entry.gid <= _MAX_ID):
            raise Malformed(f"{shown(entry.name)} has the impossible owner {entry.uid}:{entry.gid}")
