"""What changed: one walk for whole trees (copy driver) and for overlayfs upper directories.

A whole tree is compared as if it were an upper directory through which nothing below can be seen:
what is missing in it is gone. An overlayfs upper directory holds only what was touched, whiteouts
for what is gone, and opaque directories, which hide everything below. So both kinds give the same
changes for the same edits, in the same order, and with them the same bytes of a layer.

Rules that both share:

* An entry that equals the lower one in type, mode, owner, size, mtime (ns), device number, link
  target, attributes and content is no change, even if overlayfs copied it up.
* A directory is a change when it is new or differs itself, or stands above a change.
* A removed and re-created directory is not opaque in a layer: what is missing in it is deleted
  by name.
* A file in the place of a directory, or the other way round, is one changed entry.
* Sockets, and character devices 0:0, cannot be in a layer: they count as not being there.
* The root itself is a change when its mode, owner or attributes are; its time is not.
"""

from __future__ import annotations

import os
import stat
import sys
from typing import TYPE_CHECKING, Final

from slipform.core.errors import FailedPrecondition
from slipform.layer.changes import Change, ChangeKind
from slipform.layer.faults import from_os_error, shown
from slipform.layer.lower_view import (
    LowerDir,
    LowerEntry,
    LowerView,
    is_absent,
    is_whiteout,
    is_xattr_whiteout,
    overlay_marks,
)
from slipform.layer.reading import open_quietly
from slipform.layer.sameness import same_inside, same_owner_and_mode, same_status, same_xattrs
from slipform.layer.xattrs import read_portable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_ENCODING: Final = sys.getfilesystemencoding()
_WHITEOUT_PREFIX: Final = b".wh."
_DEFAULT_ROOT_MODE: Final = stat.S_IFDIR | 0o755


def directory_changes(
    lower: Path | None, upper: Path, *, untouched_before_ns: int | None = None
) -> Iterator[Change]:
    """The changes that make ``upper`` out of ``lower``, both of them whole trees.

    Args:
        lower: the older tree; None is an empty one whose root is 0755 root:root.
        upper: the newer tree.
        untouched_before_ns: when given, ``upper`` was copied from ``lower`` before this time
            (nanoseconds, of the clock that stamps ctimes): a file with an older ctime that looks
            the same is not read again. Directories that may have been renamed are.

    Raises:
        FailedPrecondition: a name that a layer cannot hold, or the tree changed under us.
    """
    view = LowerView([] if lower is None else [LowerDir(os.fsencode(lower))], overlay=False)
    root_status = None if lower is None else os.lstat(lower)
    return _Walk(view, overlay=False, copied_ns=untouched_before_ns or 0).run(upper, root_status)


def overlay_changes(upper: Path, lowers: Sequence[Path]) -> Iterator[Change]:
    """The changes that an overlayfs mount has collected in its upper directory.

    Args:
        upper: its upper directory; mounted or not, but at rest.
        lowers: its lower directories, topmost first; they may hold whiteouts and opaque marks.

    Raises:
        FailedPrecondition: as ``directory_changes``, or the mount used ``redirect_dir`` or
            ``metacopy``.
    """
    dirs = []
    for lower in lowers:
        marks = overlay_marks(os.fsencode(lower))
        dirs.append(LowerDir(os.fsencode(lower), marks.xattr_whiteouts))
        if marks.opaque:
            break
    root_status = os.lstat(lowers[0]) if lowers else None
    return _Walk(LowerView(dirs, overlay=True), overlay=True, copied_ns=0).run(upper, root_status)


class _Frame:
    """One directory on the way from the root to where the walk is."""

    __slots__ = ("children", "fd", "lower", "opaque", "pending", "prefix", "trusted")

    def __init__(
        self, fd: int, prefix: bytes, lower: LowerView, *, opaque: bool, trusted: bool
    ) -> None:
        self.fd = fd
        self.prefix = prefix
        self.lower = lower
        self.opaque = opaque
        self.trusted = trusted
        self.pending: Change | None = None
        self.children: Iterator[tuple[bytes, os.stat_result]] = iter(())


class _Walk:
    """The walk itself: depth first, in the order of names as bytes."""

    def __init__(self, lower: LowerView, *, overlay: bool, copied_ns: int) -> None:
        self._lower = lower
        self._overlay = overlay
        self._copied_ns = copied_ns
        self._stack: list[_Frame] = []

    def run(self, upper: Path, lower_root: os.stat_result | None) -> Iterator[Change]:
        try:
            yield from self._run(upper, lower_root)
        except OSError as error:
            where = self._stack[-1].prefix if self._stack else b"/"
            fault = from_os_error(error, f"diff in {shown(where)}", hostile=False)
            if fault is None:
                raise
            raise fault from error
        finally:
            for frame in self._stack:
                os.close(frame.fd)

    def _run(self, upper: Path, lower_root: os.stat_result | None) -> Iterator[Change]:
        fd = open_quietly(os.fsencode(upper), flags=os.O_DIRECTORY)
        stack = self._stack
        frame = _Frame(fd, b"", self._lower, opaque=not self._overlay, trusted=True)
        stack.append(frame)
        if self._root_changed(fd, lower_root):
            yield Change(b"", ChangeKind.MODIFY, b".", fd, os.fstat(fd))
        yield from self._enter(frame)
        while stack:
            frame = stack[-1]
            dir_fd, prefix, lower = frame.fd, frame.prefix, frame.lower
            for name, status in frame.children:
                path = prefix + name
                old = lower.lookup(name) if lower else None
                if stat.S_ISDIR(status.st_mode):
                    child = self._descend(frame, name, path, status, old)
                    if child.pending is not None and child.pending.kind is not ChangeKind.PARENT:
                        yield from self._parents()
                    yield from self._enter(child)
                    break
                if old is None:
                    change = Change(path, ChangeKind.ADD, name, dir_fd, status)
                elif self._same(frame, name, path, status, old):
                    continue
                else:
                    change = Change(path, ChangeKind.MODIFY, name, dir_fd, status)
                if frame.pending is not None:
                    yield from self._parents()
                yield change
            else:
                os.close(stack.pop().fd)

    def _enter(self, frame: _Frame) -> Iterator[Change]:
        """List a directory; what was deleted in it comes first."""
        present: list[tuple[bytes, os.stat_result]] = []
        gone: list[bytes] = []
        fd = frame.fd
        xattr_whiteouts = False
        if self._overlay:
            marks = overlay_marks(fd)
            frame.opaque |= marks.opaque
            xattr_whiteouts = marks.xattr_whiteouts
        with os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name.encode(_ENCODING, "surrogateescape")
                if name.startswith(_WHITEOUT_PREFIX):
                    raise FailedPrecondition(
                        f"{shown(frame.prefix + name)} cannot be put into a layer: "
                        'names starting with ".wh." mean deletions there'
                    )
                status = entry.stat(follow_symlinks=False)
                if (
                    is_whiteout(status)
                    or is_absent(status)
                    or (xattr_whiteouts and self._is_xattr_whiteout(fd, name, status))
                ):
                    gone.append(name)
                else:
                    present.append((name, status))
        present.sort(key=_by_name)
        frame.children = iter(present)
        if frame.lower:
            for name in self._deleted(frame, present, gone):
                yield from self._parents()
                yield Change(frame.prefix + name, ChangeKind.DELETE, name, fd, None)

    @staticmethod
    def _deleted(
        frame: _Frame, present: list[tuple[bytes, os.stat_result]], gone: list[bytes]
    ) -> list[bytes]:
        if frame.opaque:
            return sorted(frame.lower.listing().keys() - {name for name, _ in present})
        return sorted(name for name in gone if frame.lower.lookup(name) is not None)

    def _descend(
        self,
        parent: _Frame,
        name: bytes,
        path: bytes,
        status: os.stat_result,
        old: LowerEntry | None,
    ) -> _Frame:
        """Push the directory ``name``; its own change waits in ``pending``."""
        merged = old is not None and stat.S_ISDIR(old.status.st_mode)
        kind = ChangeKind.ADD if old is None else ChangeKind.MODIFY
        trusted = parent.trusted and status.st_ctime_ns < self._copied_ns
        if (
            old is not None
            and same_status(status, old.status)
            and (trusted or same_xattrs(parent.fd, name, path, old))
        ):
            kind = ChangeKind.PARENT
        fd = open_quietly(name, parent.fd, os.O_DIRECTORY)
        lower = parent.lower.below(name) if merged else LowerView([], overlay=self._overlay)
        child = _Frame(fd, path + b"/", lower, opaque=parent.opaque, trusted=trusted)
        child.pending = Change(path, kind, name, parent.fd, status)
        self._stack.append(child)
        return child

    def _parents(self) -> Iterator[Change]:
        """The directories above the next change that have not been told yet."""
        for frame in self._stack:
            if frame.pending is not None:
                yield frame.pending
                frame.pending = None

    def _same(
        self, frame: _Frame, name: bytes, path: bytes, status: os.stat_result, old: LowerEntry
    ) -> bool:
        if not same_status(status, old.status):
            return False
        if frame.trusted and status.st_ctime_ns < self._copied_ns:
            return True
        return same_inside(frame.fd, name, path, status.st_mode, old)

    def _root_changed(self, fd: int, lower_root: os.stat_result | None) -> bool:
        status = os.fstat(fd)
        attributes = read_portable(fd, b"/")
        if lower_root is None:
            default = (_DEFAULT_ROOT_MODE, 0, 0)
            return (status.st_mode, status.st_uid, status.st_gid) != default or bool(attributes)
        old = next(iter(self._lower.roots()))
        return not same_owner_and_mode(status, lower_root) or attributes != read_portable(old, old)

    @staticmethod
    def _is_xattr_whiteout(dir_fd: int, name: bytes, status: os.stat_result) -> bool:
        if status.st_size or not stat.S_ISREG(status.st_mode):
            return False
        fd = open_quietly(name, dir_fd)
        try:
            return is_xattr_whiteout(fd, status)
        finally:
            os.close(fd)


def _by_name(entry: tuple[bytes, os.stat_result]) -> bytes:
    return entry[0]
