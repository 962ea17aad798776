"""Directories by number, and a trash in which they disappear: what the drivers here share.

::

    root/driver             name of the driver whose directories these are
    root/snapshots/12/fs    the file system of number 12, or its part
    root/trash/             what waits for ``purge``; whole trees, renamed here in one step
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from typing import TYPE_CHECKING, Final

from slipform.core.errors import FailedPrecondition, Unsupported
from slipform.core.linux import libc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_log = logging.getLogger(__name__)

OVERLAY_XATTR: Final = "trusted.overlay."


def check_owner(root: Path, driver: str) -> None:
    """Raise ``Unsupported`` when another driver keeps its directories in ``root``."""
    owner = _owner(root)
    if owner not in ("", driver):
        raise Unsupported(f'{driver}: {root} holds snapshots of the driver "{owner}"')


def _owner(root: Path) -> str:
    try:
        return (root / "driver").read_text("ascii", "replace").strip()
    except FileNotFoundError:
        return ""


class Directories:
    """One driver's directories under ``root``.

    Raises:
        FailedPrecondition: ``root`` belongs to another driver.
    """

    def __init__(self, root: Path, driver: str) -> None:
        self.root = root.absolute()
        self._snapshots = self.root / "snapshots"
        self._trash = self.root / "trash"
        self._purging = threading.Lock()
        self._serial = 0
        try:
            check_owner(self.root, driver)
        except Unsupported as e:
            raise FailedPrecondition(str(e)) from e
        for directory in (self._snapshots, self._trash):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.root / "driver").write_text(f"{driver}\n", "ascii")

    def path(self, number: int) -> Path:
        """Where everything of ``number`` lies."""
        return self._snapshots / str(number)

    def tree(self, number: int) -> Path:
        """The file system of ``number``."""
        return self._snapshots / str(number) / "fs"

    def tree_names(self, numbers: Sequence[int]) -> list[str]:
        """As ``tree``, as text: of hundreds of layers, Paths would be felt."""
        return [f"{self._snapshots}/{number}/fs" for number in numbers]

    def make(self, number: int) -> Path:
        """Make the directory of ``number``, empty; nobody but the daemon can enter."""
        path = self.path(number)
        path.mkdir(mode=0o700)
        return path

    def numbers(self) -> list[int]:
        """Every number that has a directory."""
        return [
            int(name) for name in os.listdir(self._snapshots) if name.isascii() and name.isdigit()
        ]

    def remove(self, number: int) -> None:
        """Move everything of ``number`` to the trash in one step."""
        with contextlib.suppress(FileNotFoundError):
            self.path(number).rename(self._trash / f"{number}.{os.getpid()}.{os.urandom(4).hex()}")

    def purge(self) -> int:
        """Empty the trash; bytes freed. What resists stays there, and in the log."""
        with self._purging:
            freed = 0
            stuck: set[str] = set()
            while names := set(os.listdir(self._trash)) - stuck:
                for name in names:
                    try:
                        freed += self._empty(self._trash / name)
                    except OSError as e:
                        _log.warning("cannot delete %s: %s", self._trash / name, e)
                        stuck.add(name)
            return freed

    def _empty(self, top: Path) -> int:
        """Delete one directory; its subdirectories move up into the trash first.

        Trees of any depth go this way: no recursion, no path longer than two names.
        """
        freed = 0
        inside = os.open(top, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        above = os.open(self._trash, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for name, is_directory in _entries(inside):
                found = os.stat(name, dir_fd=inside, follow_symlinks=False)
                freed += found.st_blocks * 512 if is_directory or found.st_nlink == 1 else 0
                if is_directory:
                    self._serial += 1
                    up = f"{os.getpid()}-{self._serial}-{os.urandom(4).hex()}"
                    os.rename(name, up, src_dir_fd=inside, dst_dir_fd=above)
                else:
                    os.unlink(name, dir_fd=inside)
        finally:
            os.close(inside)
            os.close(above)
        top.rmdir()
        return freed

    def sync(self) -> None:
        """Write everything of this file system to its disk."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            libc.call("syncfs", fd, about=str(self.root))
        finally:
            os.close(fd)


def _entries(directory: int) -> Iterator[tuple[str, bool]]:
    with os.scandir(directory) as entries:
        # A list first: what is deleted while a directory is read may hide its neighbours.
        yield from [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]


def copy_root_attributes(source: Path, target: Path) -> None:
    """Give ``target`` owner, mode, extended attributes and times of the directory ``source``."""
    found = source.stat()
    os.chown(target, found.st_uid, found.st_gid)
    os.chmod(target, found.st_mode & 0o7777)
    for name in os.listxattr(source):
        # What overlay notes about one upper directory must not be believed of another.
        if not name.startswith(OVERLAY_XATTR):
            os.setxattr(target, name, os.getxattr(source, name))
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))


def make_root(path: Path) -> None:
    """Make an empty root directory: 0755, owned by this process, whatever umask and set-gid say."""
    path.mkdir()
    os.chown(path, os.geteuid(), os.getegid())
    path.chmod(0o755)
