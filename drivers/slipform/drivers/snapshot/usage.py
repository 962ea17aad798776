"""Disk use of a tree."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from slipform.core.snapshots import Usage

if TYPE_CHECKING:
    from pathlib import Path

_LONG: Final = 2048
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def tree_usage(root: Path) -> Usage:
    """Allocated bytes and inodes of ``root`` and all below it; hard links count once.

    The tree may change meanwhile; what vanishes is not counted.
    """
    with contextlib.ExitStack() as opened:
        count = _Count(opened)
        count.take(os.stat(root))
        count.walk(root)
        return Usage(count.size, count.inodes)


class _Count:
    """Walks without recursion, and deeper than PATH_MAX.

    A long path is cut by keeping the directory open; what lies below is named from there.
    """

    def __init__(self, opened: contextlib.ExitStack) -> None:
        self.size = 0
        self.inodes = 0
        self._opened = opened
        self._linked: set[tuple[int, int]] = set()

    def take(self, found: os.stat_result) -> None:
        self.size += found.st_blocks * 512
        self.inodes += 1

    def walk(self, root: Path) -> None:
        todo = [(self._keep(os.open(root, _FLAGS)), ".")]
        while todo:
            anchor, path = todo.pop()
            try:
                directory = os.open(path, _FLAGS, dir_fd=anchor)
            except FileNotFoundError:
                continue
            if len(path) > _LONG:
                anchor, path = self._keep(os.dup(directory)), "."
            try:
                todo += [(anchor, f"{path}/{name}") for name in self._scan(directory)]
            finally:
                os.close(directory)

    def _keep(self, fd: int) -> int:
        self._opened.callback(os.close, fd)
        return fd

    def _scan(self, directory: int) -> list[str]:
        """Count what stands in one directory; names of its subdirectories."""
        below = []
        with os.scandir(directory) as entries:
            for entry in entries:
                try:
                    found = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    below.append(entry.name)
                elif found.st_nlink > 1:
                    inode = (found.st_dev, found.st_ino)
                    if inode in self._linked:
                        continue
                    self._linked.add(inode)
                self.take(found)
        return below
