"""Changes to a canonical layer tar (docs/layers.md): equal changes are equal bytes, everywhere.

The digest is taken as the bytes go by; nothing is read or hashed twice.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.core.errors import FailedPrecondition
from slipform.layer.digesting import BUFFER_SIZE, ByteSink, DigestingOutput
from slipform.layer.faults import from_os_error, shown
from slipform.layer.reading import open_quietly
from slipform.layer.tar_header import (
    BLOCK,
    DIRECTORY,
    HARD_LINK,
    REGULAR,
    ZEROS,
    general_header,
    plain_header,
    type_of,
)
from slipform.layer.xattrs import by_descriptor, read_portable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipform.core.oci.digest import Digest
    from slipform.layer.changes import Change

_MAX_ID: Final = 0o7777777
_MAX_NUMBER: Final = 0o77777777777
_PLAIN: Final = (REGULAR, DIRECTORY)
_SMALL: Final = BUFFER_SIZE // 4
_TRAILER: Final = bytes(2 * BLOCK)


@dataclass(frozen=True, slots=True)
class LayerSummary:
    """What was written: digest and size of the uncompressed tar."""

    diff_id: Digest
    size: int


def write_layer(
    changes: Iterable[Change], sink: ByteSink | None, *, clamp_mtime: int | None = None
) -> LayerSummary:
    """Write the layer tar of ``changes``.

    Args:
        changes: in the order of ``slipform.layer.diff``; read once, as they come.
        sink: takes the tar in pieces of at most 256 KiB; None to learn the digest only.
        clamp_mtime: seconds since the epoch; later modification times become this.

    Raises:
        FailedPrecondition: a file changed its size while it was read, or cannot be in a tar.
    """
    with DigestingOutput(sink) as out:
        writer = _Writer(out, _MAX_NUMBER + 1 if clamp_mtime is None else clamp_mtime, clamp_mtime)
        for change in changes:
            try:
                writer.add(change)
            except OSError as error:
                fault = from_os_error(error, f"layer entry {shown(change.path)}", hostile=False)
                if fault is None:
                    raise
                raise fault from error
        out.write(_TRAILER)
        digest, size = out.finish()
    return LayerSummary(digest, size)


class _Writer:
    """One tar in the making."""

    def __init__(self, out: DigestingOutput, latest: int, clamp: int | None) -> None:
        self._out = out
        self._latest = latest
        self._clamp = clamp
        self._links: dict[tuple[int, int], bytes] = {}
        """First path of every inode with several names that went by."""

    def add(self, change: Change) -> None:
        status = change.status
        if status is None:
            self._add_whiteout(change)
        elif status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode):
            first = self._links.setdefault((status.st_dev, status.st_ino), change.path)
            if first == change.path:
                self._add_file(change, status)
            else:
                self._add_link(change, status, first)
        else:
            self._add_file(change, status)

    def _add_file(self, change: Change, status: os.stat_result) -> None:
        mode = status.st_mode
        if stat.S_ISREG(mode):
            self._add_regular(change, status)
        elif stat.S_ISDIR(mode):
            path = change.path + b"/" if change.path else b"./"
            self._put_header(path, status, DIRECTORY, xattrs=self._special_xattrs(change))
        elif stat.S_ISLNK(mode):
            target = os.readlink(change.name, dir_fd=change.dir_fd)
            self._put_header(change.path, status, type_of(mode), link=target)
        else:
            xattrs = self._special_xattrs(change)
            self._put_header(change.path, status, type_of(mode), xattrs=xattrs)

    def _add_regular(self, change: Change, seen: os.stat_result) -> None:
        path = change.path
        fd = open_quietly(change.name, change.dir_fd)
        try:
            size = seen.st_size
            self._put_header(path, seen, REGULAR, size=size, xattrs=read_portable(fd, path))
            out = self._out
            if size > _SMALL:
                self._put_large(fd, path, size)
                return
            if out.at + size + BLOCK > BUFFER_SIZE:
                out.flush()
            at = out.at
            # One byte more than expected: a single call tells a file that grew as well.
            count = os.readv(fd, [out.view[at : at + size + 1]])
            if count != size:
                self._put_slowly(fd, path, size, count)
            end = at + size
            pad = -size % BLOCK
            out.view[end : end + pad] = ZEROS[:pad]
            out.at = end + pad
        finally:
            os.close(fd)

    def _put_slowly(self, fd: int, path: bytes, size: int, count: int) -> None:
        """Go on after a short read: a signal, or a file that was cut."""
        out = self._out
        while count < size:
            more = os.readv(fd, [out.view[out.at + count : out.at + size + 1]])
            if more == 0:
                break
            count += more
        if count != size:
            raise _size_changed(path, size)

    def _put_large(self, fd: int, path: bytes, size: int) -> None:
        out = self._out
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        left = size
        while left:
            at = out.at
            count = os.readv(fd, [out.view[at : at + min(left, BUFFER_SIZE - at)]])
            if count == 0:
                raise _size_changed(path, size)
            left -= count
            out.at = at + count
            if out.at == BUFFER_SIZE:
                out.flush()
        if os.read(fd, 1):
            raise _size_changed(path, size)
        out.write(bytes(-size % BLOCK))

    def _add_link(self, change: Change, status: os.stat_result, first: bytes) -> None:
        # Attributes again: appliers chown links too, and that drops capabilities.
        xattrs = None if stat.S_ISLNK(status.st_mode) else self._special_xattrs(change)
        self._put_header(change.path, status, HARD_LINK, link=first, xattrs=xattrs)

    def _add_whiteout(self, change: Change) -> None:
        parent, slash, name = change.path.rpartition(b"/")
        path = b"%b%b.wh.%b" % (parent, slash, name)
        self._put(general_header(path, _WHITEOUT, mtime=0, size=0, kind=REGULAR))

    def _put_header(
        self,
        path: bytes,
        status: os.stat_result,
        kind: bytes,
        *,
        size: int = 0,
        link: bytes = b"",
        xattrs: list[tuple[str, bytes]] | None = None,
    ) -> None:
        mtime = int(status[stat.ST_MTIME])  # whole seconds, rounded down
        if mtime > self._latest and self._clamp is not None:
            mtime = self._clamp
        uid, gid = status.st_uid, status.st_gid
        if (
            not xattrs
            and kind in _PLAIN
            and len(path) <= 100
            and path.isascii()
            and uid <= _MAX_ID
            and gid <= _MAX_ID
            and 0 <= mtime <= _MAX_NUMBER
            and size <= _MAX_NUMBER
        ):
            header = plain_header(path, status.st_mode & 0o7777, uid, gid, size, mtime, kind)
        else:
            header = general_header(
                path, status, mtime=mtime, size=size, kind=kind, link=link, xattrs=xattrs or ()
            )
        self._put(header)

    def _put(self, header: bytes) -> None:
        out = self._out
        end = out.at + len(header)
        if end > BUFFER_SIZE:
            out.write(header)
            return
        out.view[out.at : end] = header
        out.at = end
        if end == BUFFER_SIZE:
            out.flush()

    @staticmethod
    def _special_xattrs(change: Change) -> list[tuple[str, bytes]]:
        flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(change.name, flags, dir_fd=change.dir_fd)
        try:
            return read_portable(by_descriptor(fd), change.path)
        finally:
            os.close(fd)


_WHITEOUT: Final = os.stat_result((stat.S_IFREG, 0, 0, 1, 0, 0, 0, 0, 0, 0))


def _size_changed(path: bytes, size: int) -> FailedPrecondition:
    return FailedPrecondition(
        f"layer entry {shown(path)} changed while it was read: want {size} bytes throughout"
    )
