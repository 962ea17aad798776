"""Directories inside a root by path, as descriptors: resolved safely once, kept for a while.

The usual path is opened one name at a time and never through a link. Where a link stands on the
way, the kernel resolves the whole path inside the root (``openat2``).
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from slipform.core.files import mkdirs_in_root, open_in_root

if TYPE_CHECKING:
    from collections.abc import Callable

_IMPLIED_MODE: Final = 0o755
_KEPT: Final = 64
_OPEN: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class InnerDirs:
    """``O_PATH`` descriptors of directories under ``root_fd``; they stay this object's.

    A descriptor that ``get`` answered is good until ``trim`` is called.
    """

    def __init__(self, root_fd: int, on_use: Callable[[bytes, int, bool], None]) -> None:
        """``on_use(path, fd, is_new)`` hears of a directory before something is put into it."""
        self._root_fd = root_fd
        self._on_use = on_use
        self._fds: dict[bytes, int] = {}
        self._outdated: list[int] = []
        self._root_used = False

    def get(self, path: bytes, *, make: bool) -> int:
        """The directory at ``path`` (no empty names, no dots; ``b""`` is the root).

        Args:
            path: relative to the root.
            make: whether to make it and its parents (0755, owned by us) when absent.

        Raises:
            OSError: ``ENOENT``, or ``ENOTDIR`` when a file is in the way.
        """
        fd = self._fds.get(path)
        if fd is not None:
            return fd
        if not path:
            if not self._root_used:
                self._root_used = True
                self._on_use(b"", self._root_fd, False)
            return self._root_fd
        names = path.split(b"/")
        start, depth = self._nearest(path, len(names))
        fd, is_new = self._walk(start, names, depth, make=make)
        self._fds[path] = fd
        self._on_use(path, fd, is_new)
        return fd

    def trim(self) -> None:
        """Close what is outdated, and the oldest ones of too many."""
        while self._outdated:
            os.close(self._outdated.pop())
        while len(self._fds) > _KEPT:
            os.close(self._fds.pop(next(iter(self._fds))))

    def outdate(self) -> None:
        """Resolve every path anew from now on: a directory or link has gone or been replaced."""
        self._outdated += self._fds.values()
        self._fds.clear()

    def close(self) -> None:
        """Close everything; idempotent."""
        self.outdate()
        self.trim()

    def _nearest(self, path: bytes, depth: int) -> tuple[int, int]:
        """The deepest directory above ``path`` that is open, and how many names it covers."""
        while depth > 1:
            path = path.rpartition(b"/")[0]
            depth -= 1
            fd = self._fds.get(path)
            if fd is not None:
                return fd, depth
        return self._root_fd, 0

    def _walk(self, fd: int, names: list[bytes], depth: int, *, make: bool) -> tuple[int, bool]:
        """Open ``names[depth:]`` from ``fd``; only the last one stays open."""
        opened = -1
        is_new = False
        try:
            for index in range(depth, len(names)):
                try:
                    child = os.open(names[index], _OPEN, dir_fd=fd)
                    is_new = False
                except FileNotFoundError:
                    if not make:
                        raise
                    self._on_use(b"/".join(names[:index]), fd, False)
                    child = self._make(fd, names[index])
                    is_new = True
                    self._on_use(b"/".join(names[: index + 1]), child, True)
                except NotADirectoryError:
                    # A link, perhaps: the kernel follows it, from the root and inside the root.
                    child = self._follow(names[: index + 1], make=make)
                    is_new = False
                if opened >= 0:
                    os.close(opened)
                fd = opened = child
        except BaseException:
            if opened >= 0:
                os.close(opened)
            raise
        return fd, is_new

    @staticmethod
    def _make(fd: int, name: bytes) -> int:
        os.mkdir(name, _IMPLIED_MODE, dir_fd=fd)
        child = os.open(name, _OPEN, dir_fd=fd)
        os.chmod(b"/proc/self/fd/%d" % child, _IMPLIED_MODE)  # the umask is not the image's
        return child

    def _follow(self, names: list[bytes], *, make: bool) -> int:
        path = b"/".join(names)
        flags = os.O_PATH | os.O_DIRECTORY
        try:
            return open_in_root(self._root_fd, path, flags)
        except OSError as error:
            if not make or error.errno != errno.ENOENT:
                raise
        mkdirs_in_root(self._root_fd, path)
        return open_in_root(self._root_fd, path, flags)
