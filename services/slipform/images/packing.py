"""Tars of archives: every entry announced with its size, the same input gives the same bytes."""

from __future__ import annotations

import tarfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipform.core.content import CHUNK_SIZE
from slipform.core.errors import DigestMismatch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


@dataclass(frozen=True, slots=True)
class Entry:
    """One file: ``chunks`` is called when its turn comes, and yields ``size`` bytes."""

    name: str
    size: int
    chunks: Callable[[], Iterable[bytes]]


def entry_of(name: str, data: bytes) -> Entry:
    """An entry that is small enough to be in memory."""
    return Entry(name, len(data), lambda: (data,))


def pack(entries: Iterable[Entry]) -> Iterator[bytes]:
    """The tar as chunks of at most ``CHUNK_SIZE``: sorted by name, parents first, all times zero.

    Raises:
        DigestMismatch: an entry yields more or fewer bytes than it announced.
    """
    return _even(_pieces(entries))


def _pieces(entries: Iterable[Entry]) -> Iterator[bytes]:
    parents: set[str] = set()
    for entry in sorted(entries, key=lambda e: e.name):
        for parent in _parents_of(entry.name):
            if parent not in parents:
                parents.add(parent)
                yield _header(parent, 0, tarfile.DIRTYPE)
        yield _header(entry.name, entry.size, tarfile.REGTYPE)
        yield from _body(entry)
        yield bytes(-entry.size % tarfile.BLOCKSIZE)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _body(entry: Entry) -> Iterator[bytes]:
    written = 0
    for chunk in entry.chunks():
        written += len(chunk)
        if written > entry.size:
            break
        yield chunk
    if written != entry.size:
        raise DigestMismatch(
            f'"{entry.name}": {written} bytes or more came, where {entry.size} were announced'
        )


def _parents_of(name: str) -> list[str]:
    parts = name.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def _header(name: str, size: int, kind: bytes) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.type = size, kind
    info.mode = 0o755 if kind == tarfile.DIRTYPE else 0o644
    return info.tobuf(tarfile.GNU_FORMAT)


def _even(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Gather small pieces, pass large ones on: a chunk costs the same whatever its size."""
    held = bytearray()
    for piece in pieces:
        if len(held) + len(piece) > CHUNK_SIZE:
            if held:
                yield bytes(held)
                held.clear()
            if len(piece) >= CHUNK_SIZE // 2:
                yield piece
                continue
        held += piece
    if held:
        yield bytes(held)
