"""The local stat cache: digests of files that have not changed since they were hashed.

One index per context root. It only spares reading files, so losing it costs time and nothing
else: it is written aside and renamed without syncing, and an xxh3-128 checksum tells a torn one.

A file that changed shortly before it was hashed is not trusted: another write within the same
tick of the file system's clock would leave size and times as they are ("racy" in git's words).
"""

from __future__ import annotations

import os
import struct
import threading
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

import xxhash

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slipform.core.context import FileEntry

RACY_NS: Final = 2_000_000_000
"""Nanoseconds: the coarsest time stamp of a file system in use is two seconds (FAT)."""
_MAGIC: Final = b"slipform-stat-1\n"
_RECORD: Final = struct.Struct("<IIQqqQ32s")
_MAX_ROOTS: Final = 8

Xattrs = tuple[tuple[str, bytes], ...]


class Content(NamedTuple):
    """What a file holds: SHA-256 of its bytes, and its extended attributes by name."""

    digest: bytes
    xattrs: Xattrs = ()


class Known:
    """Digests of the files below one root; safe from several threads."""

    def __init__(self, path: Path | None, clock_ns: Callable[[], int]) -> None:
        self._path = path
        self._clock_ns = clock_ns
        self._changed = False
        self._files: dict[str, tuple[int, int, int, int, Content]] = {}
        if path is not None:
            self._files = _load(path)

    def find(self, entry: FileEntry) -> Content | None:
        """The content of a file that is as it was when it was hashed."""
        row = self._files.get(entry.path)
        if row is None or row[:4] != _stamp(entry):
            return None
        return row[4]

    def learn(self, entry: FileEntry, content: Content, hashed_at_ns: int) -> None:
        """Remember, unless the file changed too shortly before ``hashed_at_ns``."""
        newest = max(entry.mtime_ns, entry.ctime_ns)
        if not entry.ctime_ns or newest > hashed_at_ns - RACY_NS:
            return
        self._files[entry.path] = (*_stamp(entry), content)
        self._changed = True

    def now_ns(self) -> int:
        """The time to give to ``learn``: taken before the file is opened."""
        return self._clock_ns()

    def save(self) -> None:
        """Write the index if anything was learnt; a disk that refuses it costs only time."""
        if self._path is None or not self._changed:
            return
        self._changed = False
        body = b"".join(_pack(path, row) for path, row in list(self._files.items()))
        aside = self._path.with_suffix(f".{threading.get_ident()}")
        try:
            aside.write_bytes(_MAGIC + xxhash.xxh3_128_digest(body) + body)
            aside.rename(self._path)
        except OSError:
            aside.unlink(missing_ok=True)


class StatCache:
    """Indexes by root; the last few stay in memory."""

    def __init__(self, directory: Path | None, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._directory = directory
        self._clock_ns = clock_ns
        self._lock = threading.Lock()
        self._open: OrderedDict[str, Known] = OrderedDict()
        if directory is not None:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def root(self, name: str) -> Known:
        """The index of a root: a path on this host, or whatever names a remote one."""
        with self._lock:
            known = self._open.get(name)
            if known is None:
                path = None
                if self._directory is not None:
                    path = self._directory / f"{xxhash.xxh3_128_hexdigest(os.fsencode(name))}.idx"
                known = self._open[name] = Known(path, self._clock_ns)
            self._open.move_to_end(name)
            while len(self._open) > _MAX_ROOTS:
                self._open.popitem(last=False)
            return known


def _stamp(entry: FileEntry) -> tuple[int, int, int, int]:
    return entry.size, entry.mtime_ns, entry.ctime_ns, entry.inode[1]


def _pack(path: str, row: tuple[int, int, int, int, Content]) -> bytes:
    size, mtime, ctime, inode, content = row
    name = os.fsencode(path)
    extra = b"".join(
        struct.pack("<II", len(key.encode()), len(value)) + key.encode() + value
        for key, value in content.xattrs
    )
    head = _RECORD.pack(len(name), len(extra), size, mtime, ctime, inode, content.digest)
    return head + name + extra


def _load(path: Path) -> dict[str, tuple[int, int, int, int, Content]]:
    """The rows of an index; nothing when it is absent, torn or of another version."""
    try:
        data = path.read_bytes()
    except OSError:
        return {}
    start = len(_MAGIC) + 16
    body = memoryview(data)[start:]
    if data[: len(_MAGIC)] != _MAGIC or xxhash.xxh3_128_digest(body) != data[len(_MAGIC) : start]:
        return {}
    rows = {}
    at = start
    while at < len(data):
        name, extra, size, mtime, ctime, inode, digest = _RECORD.unpack_from(data, at)
        at += _RECORD.size
        key = os.fsdecode(data[at : at + name])
        at += name
        content = Content(digest, _unpack_xattrs(data[at : at + extra]) if extra else ())
        at += extra
        rows[key] = (size, mtime, ctime, inode, content)
    return rows


def _unpack_xattrs(data: bytes) -> Xattrs:
    found = []
    at = 0
    while at < len(data):
        key, value = struct.unpack_from("<II", data, at)
        at += 8
        found.append((data[at : at + key].decode(), data[at + key : at + key + value]))
        at += key + value
    return tuple(found)
