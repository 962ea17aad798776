"""Sparse files in tars: GNU's old header, and its PAX forms 0.0, 0.1 and 1.0."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.layer.tar_entry import Malformed, TarEntry, decimal, number
from slipform.layer.tar_header import BLOCK

if TYPE_CHECKING:
    from slipform.layer.tar_stream import TarStream

_MAX_SEGMENTS: Final = 1 << 17
_MAX_OFFSET: Final = (1 << 63) - 1
_MAX_DIGITS: Final = 20
_ENTRY: Final = 24
Segments = list[tuple[int, int]]


def read_old(entry: TarEntry, block: bytes, stream: TarStream) -> None:
    """Type ``S``: four segments in the header, more in blocks that follow it."""
    segments: Segments = []
    _add_old(segments, block[386:482], 4)
    more = block[482] != 0
    while more:
        extension = stream.read_all(BLOCK, f"tar entry at byte {entry.offset}")
        _add_old(segments, extension, 21)
        more = extension[504] != 0
    entry.real_size = number(block[483:495])
    entry.sparse = segments
    _check(entry)


def _add_old(segments: Segments, data: bytes, count: int) -> None:
    for at in range(0, count * _ENTRY, _ENTRY):
        if not data[at + 12]:
            return
        _append(segments, number(data[at : at + 12]), number(data[at + 12 : at + 24]))


def read_pax(entry: TarEntry, records: list[tuple[bytes, bytes]], stream: TarStream) -> int:
    """The PAX forms; answers how many bytes of the entry's data the map itself took (1.0)."""
    values = dict(records)
    name = values.get(b"GNU.sparse.name")
    if name:
        entry.name = name
    size = values.get(b"GNU.sparse.realsize") or values.get(b"GNU.sparse.size")
    if size is None:
        raise Malformed("sparse file without GNU.sparse.size")
    entry.real_size = decimal(b"GNU.sparse.size", size)
    taken = 0
    if values.get(b"GNU.sparse.major") == b"1":
        entry.sparse, taken = _read_map(entry, stream)
        entry.size -= taken
    elif b"GNU.sparse.map" in values:
        entry.sparse = _from_numbers(values[b"GNU.sparse.map"].split(b","))
    else:
        entry.sparse = _from_numbers(
            [value for key, value in records if key in (_OFFSET, _NUMBYTES)]
        )
    _check(entry)
    return taken


_OFFSET: Final = b"GNU.sparse.offset"
_NUMBYTES: Final = b"GNU.sparse.numbytes"


def _read_map(entry: TarEntry, stream: TarStream) -> tuple[Segments, int]:
    """Form 1.0: decimal numbers, one a line, before the data and padded to a block."""
    what = f"tar entry at byte {entry.offset}"
    text = b""
    wanted = 1
    taken = 0
    lines: list[bytes] = []
    while len(lines) < wanted:
        if taken + BLOCK > entry.size + BLOCK - 1:
            raise Malformed("sparse map is longer than the entry")
        text += stream.read_all(BLOCK, what)
        taken += BLOCK
        *complete, text = text.split(b"\n")
        lines += complete
        if lines:
            wanted = 1 + 2 * _count(lines[0])
        if len(lines) < wanted and len(text) > _MAX_DIGITS:
            raise Malformed("sparse map has a line that is no number")
    return _from_numbers(lines[1:wanted]), taken


def _count(line: bytes) -> int:
    count = decimal(b"sparse map", line)
    if count > _MAX_SEGMENTS:
        raise Malformed(f"sparse map has {count} segments, want at most {_MAX_SEGMENTS}")
    return count


def _from_numbers(numbers: list[bytes]) -> Segments:
    if len(numbers) % 2:
        raise Malformed("sparse map has an offset without a length")
    segments: Segments = []
    values = [decimal(b"sparse map", text) for text in numbers]
    for offset, length in zip(values[::2], values[1::2], strict=True):
        _append(segments, offset, length)
    return segments


def _append(segments: Segments, offset: int, length: int) -> None:
    if len(segments) >= _MAX_SEGMENTS:
        raise Malformed(f"sparse map has more than {_MAX_SEGMENTS} segments")
    segments.append((offset, length))


def _check(entry: TarEntry) -> None:
    """Segments must be in order, inside the file, and as long as the data that follows."""
    position = 0
    total = 0
    for offset, length in entry.sparse or ():
        if offset < position or length < 0:
            raise Malformed("sparse segments overlap or are out of order")
        position = offset + length
        total += length
    real_size = entry.real_size or 0
    if not 0 <= position <= real_size <= _MAX_OFFSET:
        raise Malformed(f"sparse segments end at {position}, past the file's size {real_size}")
    if total != entry.size:
        raise Malformed(f"sparse segments have {total} bytes, the entry {entry.size}")
