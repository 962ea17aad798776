"""Whiteouts of a layer tar, applied as real deletions (image-spec, layer.md, "Whiteouts").

They hide what lower layers had, never what this layer brings, in whatever order the entries come.
So what this layer has unpacked is remembered, in eight bytes an entry.
"""

from __future__ import annotations

import os
import stat
from array import array
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument
from slipform.layer.removal import remove_tree

if TYPE_CHECKING:
    from slipform.layer.inner_dirs import InnerDirs

PREFIX: Final = b".wh."
_META: Final = b".wh..wh."
_OPAQUE: Final = b".wh..wh..opq"


class Whiteouts:
    """The whiteouts of one layer."""

    def __init__(self, dirs: InnerDirs) -> None:
        self._dirs = dirs
        # Python's hash of bytes is keyed at random for each process: nobody can make two of these
        # meet, and where chance does, a file that should have gone stays.
        self._order = array("q")
        self._known: set[int] = set()
        self._last_parent = b""
        self._removed_way = False
        """A directory or link has gone: paths may lead elsewhere."""

    def unpacked(self, path: bytes, parent: bytes) -> None:
        """Remember that this layer brought ``path``, and with it everything above it."""
        self._order.append(hash(path))
        if parent != self._last_parent:
            self._last_parent = parent
            while parent:
                self._order.append(hash(parent))
                parent = parent.rpartition(b"/")[0]

    def handle(self, parent: bytes, name: bytes, what: str) -> bool:
        """Perform ``parent/name`` if it is a whiteout; False when it is a usual entry.

        Raises:
            InvalidArgument: the name could be taken for something that it cannot mean.
        """
        if any(part.startswith(PREFIX) for part in parent.split(b"/")):
            if any(part.startswith(_META) for part in parent.split(b"/")):
                return True
            raise InvalidArgument(f"{what} lies below a whiteout")
        if not name.startswith(PREFIX):
            return False
        if name == _OPAQUE:
            self._empty(parent)
        elif name.startswith(_META):
            return True  # books of AUFS, as old dockers wrote them: no files of the image
        else:
            hidden = name[len(PREFIX) :]
            if hidden in (b"", b".", b".."):
                raise InvalidArgument(f"{what} would delete {hidden.decode()!r}")
            self._hide(parent, hidden)
        if self._removed_way:
            self._removed_way = False
            self._dirs.outdate()
        return True

    def _brought(self, path: bytes) -> bool:
        if self._order:
            self._known.update(self._order)
            self._order = array("q")
        return hash(path) in self._known

    def _empty(self, path: bytes) -> None:
        """Remove what is in a directory and below, but not what this layer brought."""
        todo = [path]
        while todo:
            path = todo.pop()
            try:
                fd = self._dirs.get(path, make=False)
            except (FileNotFoundError, NotADirectoryError):
                continue
            for name in _names(fd):
                child = b"%b/%b" % (path, name) if path else name
                if not self._brought(child):
                    self._remove(fd, name)
                elif _is_directory(fd, name):
                    todo.append(child)

    def _hide(self, parent: bytes, name: bytes) -> None:
        try:
            fd = self._dirs.get(parent, make=False)
        except (FileNotFoundError, NotADirectoryError):
            return  # hidden by a whiteout further up, or never there
        path = b"%b/%b" % (parent, name) if parent else name
        if not self._brought(path):
            self._remove(fd, name)
        elif _is_directory(fd, name):
            self._empty(path)

    def _remove(self, fd: int, name: bytes) -> None:
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        remove_tree(name, fd)
        if not stat.S_ISREG(status.st_mode):
            self._removed_way = True


def _is_directory(fd: int, name: bytes) -> bool:
    try:
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode)


def _names(fd: int) -> list[bytes]:
    """What is in the directory of an ``O_PATH`` descriptor."""
    readable = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        return [os.fsencode(name) for name in os.listdir(readable)]
    finally:
        os.close(readable)
