"""Listings: what a selection of files holds, as one digest and as lines that can be compared.

A line has everything that ends up in the layer except times: place, type and mode, content, link
target, device number, extended attributes, the owner where the tree tells one (stages do, contexts
don't), and whether the file is a hard link of an earlier one.
"""

from __future__ import annotations

import hashlib
import os
import stat
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Final

from slipform.builder.statcache import Content
from slipform.core.context import SupportsFetch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from slipform.builder.selection import Selected
    from slipform.builder.statcache import Known, Xattrs
    from slipform.builder.tree import SourceTree
    from slipform.core.context import FileEntry

_LARGE: Final = 256 << 10
_BLOCK: Final = 1 << 20
_HASHERS: Final = max(2, min(8, os.cpu_count() or 2))
_MAX_EXPLAINED: Final = 50_000
_OWN: Final = ("system.", "trusted.", "security.selinux", "security.ima", "security.evm")


@dataclass(frozen=True, slots=True)
class Listing:
    """A digest of everything, and the content of every regular file by its path in the tree."""

    digest: str
    contents: Mapping[str, Content]
    lines: bytes
    """Compressed ``place NUL digest`` lines, for explaining; empty for huge selections."""


def read_xattrs(fd: int) -> Xattrs:
    """Extended attributes that belong into an image, by name."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return ()
    if not names:
        return ()
    return tuple(
        (name, os.getxattr(fd, name)) for name in sorted(names) if not name.startswith(_OWN)
    )


def list_contents(
    tree: SourceTree,
    selected: Sequence[Selected],
    known: Known,
    check: Callable[[], None] = lambda: None,
) -> Listing:
    """Hash what is selected, reading only files that ``known`` has not seen as they are.

    Args:
        tree: where the entries come from.
        selected: what to list.
        known: the stat cache of the tree's root; it learns.
        check: called often; raises to give up.
    """
    files = {
        item.entry.path: item.entry
        for source in selected
        for item in source.items
        if stat.S_ISREG(item.entry.mode)
    }
    contents = _contents(tree, files.values(), known, check)
    lines = list(_lines(tree, selected, contents))
    digest = hashlib.sha256(b"\n".join(lines)).hexdigest()
    return Listing(digest, contents, _explained(lines))


def parse_lines(data: bytes) -> dict[str, bytes]:
    """The compressed lines of a listing: short digests by place."""
    if not data:
        return {}
    rows = zlib.decompress(data).split(b"\n")
    return {
        os.fsdecode(place): digest
        for place, _, digest in (row.partition(b"\0") for row in rows)
        if digest
    }


def _contents(
    tree: SourceTree, files: Iterable[FileEntry], known: Known, check: Callable[[], None]
) -> dict[str, Content]:
    contents: dict[str, Content] = {}
    missing = []
    for entry in files:
        content = known.find(entry)
        if content is None:
            missing.append(entry)
        else:
            contents[entry.path] = content
    if not missing:
        return contents
    if isinstance(tree, SupportsFetch):
        tree.fetch([entry.path for entry in missing])
    large = [entry for entry in missing if entry.size >= _LARGE]
    small = [entry for entry in missing if entry.size < _LARGE]
    with ThreadPoolExecutor(_HASHERS, thread_name_prefix="hash") as pool:
        running = [
            (entry, known.now_ns(), pool.submit(_hash, tree, entry, -1, check)) for entry in large
        ]
        for folder, entries in groupby(small, key=_parent):
            check()
            directory = tree.open_directory(folder)
            try:
                for entry in entries:
                    now = known.now_ns()
                    content = contents[entry.path] = _hash(tree, entry, directory, check)
                    known.learn(entry, content, now)
            finally:
                if directory >= 0:
                    os.close(directory)
        for entry, now, future in running:
            content = contents[entry.path] = future.result()
            known.learn(entry, content, now)
    known.save()
    return contents


def _hash(tree: SourceTree, entry: FileEntry, directory: int, check: Callable[[], None]) -> Content:
    fd = tree.open_fd(entry, directory)
    try:
        if entry.size < _BLOCK:
            data = os.read(fd, entry.size + 1)
            hasher = hashlib.sha256(data)
            if len(data) > entry.size:
                _hash_rest(fd, hasher, check)
        else:
            hasher = hashlib.sha256()
            _hash_rest(fd, hasher, check)
        return Content(hasher.digest(), read_xattrs(fd))
    finally:
        os.close(fd)


def _hash_rest(fd: int, hasher: hashlib._Hash, check: Callable[[], None]) -> None:
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    while True:
        check()
        size = os.readv(fd, [buffer])
        if not size:
            return
        hasher.update(view[:size])


def _lines(
    tree: SourceTree, selected: Sequence[Selected], contents: Mapping[str, Content]
) -> Iterable[bytes]:
    first: dict[tuple[int, int], str] = {}
    for source in selected:
        if source.directory is not None:
            yield _line("", source.directory, _directory_xattrs(tree, source.directory), b"")
        elif not source.placed:
            yield b"file"
        for item in source.items:
            entry = item.entry
            xattrs: Xattrs = ()
            if stat.S_ISREG(entry.mode):
                content = contents[entry.path]
                xattrs = content.xattrs
                what = content.digest.hex().encode()
                twin = first.setdefault(entry.inode, item.place) if entry.inode[1] else item.place
                if twin != item.place:
                    what += b"=" + os.fsencode(twin)
            elif stat.S_ISLNK(entry.mode):
                what = os.fsencode(entry.link_target)
            elif stat.S_ISDIR(entry.mode):
                xattrs = _directory_xattrs(tree, entry)
                what = b""
            else:
                what = b"%d" % entry.device
            yield _line(item.place, entry, xattrs, what)


def _line(place: str, entry: FileEntry, xattrs: Xattrs, what: bytes) -> bytes:
    # A link's own mode means nothing and differs between file systems.
    mode = stat.S_IFLNK if stat.S_ISLNK(entry.mode) else entry.mode
    line = b"%s\0%o\0%s" % (os.fsencode(place), mode, what)
    if entry.uid or entry.gid:
        line += b"\0owner=%d:%d" % (entry.uid, entry.gid)
    for name, value in xattrs:
        line += b"\0%s=%s" % (name.encode(), value.hex().encode())
    return line


def _directory_xattrs(tree: SourceTree, entry: FileEntry) -> Xattrs:
    fd = tree.open_directory(entry.path)
    if fd < 0:
        return tuple(sorted(entry.xattrs.items()))
    try:
        return read_xattrs(fd)
    finally:
        os.close(fd)


def _parent(entry: FileEntry) -> str:
    return entry.path.rpartition("/")[0]


def _explained(lines: list[bytes]) -> bytes:
    if len(lines) > _MAX_EXPLAINED:
        return b""
    rows = (
        b"%s\0%s" % (line.partition(b"\0")[0], hashlib.sha256(line).hexdigest()[:12].encode())
        for line in lines
    )
    return zlib.compress(b"\n".join(rows), 1)
