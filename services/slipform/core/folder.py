"""A folder as a build context: read in place, lazily, without ever following a link.

Directories are listed when somebody asks for them and then remembered, so a Dockerfile that copies
one file of a huge folder costs one look-up. Every name is opened relative to its directory with
``O_NOFOLLOW``: swapping a directory for a link in mid-build leads to an error, never outside.
"""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING, BinaryIO, Final, Protocol

from slipform.core.context import FileEntry
from slipform.core.errors import Conflict, InvalidArgument, NotFound, PermissionDenied
from slipform.core.linux.openat2 import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_INSIDE: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_ROOT_MODE: Final = stat.S_IFDIR | 0o755


class Ignore(Protocol):
    """What a ``.dockerignore`` says, as ``slipform.core.patterns`` implements it."""

    @property
    def has_exceptions(self) -> bool:
        """Some pattern starts with ``!``: an excluded directory may hold included files."""
        ...

    def excludes(self, path: str) -> bool:
        """Whether this relative path, or one of its parents, is excluded."""
        ...


class Folder:
    """A directory tree on this host; satisfies ``ContextSource``; safe from several threads.

    Args:
        path: the directory; may itself be reached through links.
        ignore: what is not there; None shows everything.
        keep_owner: entries tell who owns the files, and the root its own mode; otherwise
            everything belongs to root, as docker's contexts do.

    Raises:
        NotFound: no such directory.
        InvalidArgument: it is not a directory.
        PermissionDenied: it may not be read.
    """

    def __init__(
        self, path: Path, ignore: Ignore | None = None, *, keep_owner: bool = False
    ) -> None:
        self.path = path
        self._ignore = ignore
        self._keep_owner = keep_owner
        self._lock = threading.Lock()
        self._listed: dict[str, dict[str, FileEntry]] = {}
        try:
            self._root = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError as e:
            raise NotFound(f'build context "{path}" does not exist') from e
        except NotADirectoryError as e:
            raise InvalidArgument(f'build context "{path}" is not a directory') from e
        except PermissionError as e:
            raise PermissionDenied(f'build context "{path}" may not be read') from e
        found = os.fstat(self._root)
        self.root = _entry("", found, "", keep_owner=keep_owner)
        if not keep_owner:
            self.root = FileEntry("", _ROOT_MODE, 0, 0)

    @property
    def unfiltered(self) -> bool:
        """Nothing is hidden: the folder on disk is the context."""
        return self._ignore is None

    def close(self) -> None:
        """Close the root directory; nothing can be opened afterwards."""
        root, self._root = self._root, -1
        if root >= 0:
            os.close(root)

    def lookup(self, path: str) -> FileEntry | None:
        """The entry at a relative path without following links; None when there is none."""
        if not path:
            return self.root
        parent, _, name = path.rpartition("/")
        if parent:
            above = self.lookup(parent)
            if above is None or not stat.S_ISDIR(above.mode):
                return None
        return self._listing(parent).get(name)

    def children(self, path: str) -> Sequence[FileEntry]:
        """Entries of a directory, by name."""
        return list(self._listing(path).values())

    def entries(self) -> Iterator[FileEntry]:
        """Everything that is not ignored, sorted by path, parents before children."""
        return self._below("")

    def stat(self, path: str) -> FileEntry:
        """As ``ContextSource.stat``."""
        entry = self.lookup(path)
        if entry is None:
            raise NotFound(f'"/{path}": not found')
        return entry

    def open(self, path: str) -> BinaryIO:
        """As ``ContextSource.open``."""
        return open(self.open_fd(self.stat(path)), "rb")

    def open_directory(self, path: str) -> int:
        """A descriptor of a directory of this tree, for ``open_fd``; the caller closes it."""
        try:
            return openat2(self._root, os.fsencode(path) or b".", _DIRECTORY, resolve=_INSIDE)
        except OSError as e:
            raise _refused(path, e) from e

    def open_fd(self, entry: FileEntry, directory: int = -1) -> int:
        """A regular file, opened for reading; ``directory`` is its parent when that is open.

        Raises:
            Conflict: the file is not any more what it was when it was listed.
            NotFound: it vanished.
            PermissionDenied: it may not be read.
        """
        try:
            if directory >= 0:
                fd = os.open(entry.path.rpartition("/")[2], _FILE, dir_fd=directory)
            else:
                fd = openat2(self._root, os.fsencode(entry.path), _FILE, resolve=_INSIDE)
        except OSError as e:
            raise _refused(entry.path, e) from e
        found = os.fstat(fd)
        if found.st_size != entry.size or found.st_mtime_ns != entry.mtime_ns:
            os.close(fd)
            raise Conflict(f'"/{entry.path}" of the build context changed during the build')
        return fd

    def _below(self, path: str) -> Iterator[FileEntry]:
        for entry in self._listing(path).values():
            yield entry
            if stat.S_ISDIR(entry.mode):
                yield from self._below(entry.path)

    def _listing(self, path: str) -> dict[str, FileEntry]:
        listed = self._listed.get(path)
        if listed is None:
            listed = self._list(path)
            with self._lock:
                listed = self._listed.setdefault(path, listed)
        return listed

    def _list(self, path: str) -> dict[str, FileEntry]:
        prefix = f"{path}/" if path else ""
        found = []
        fd = self.open_directory(path)
        try:
            with os.scandir(fd) as names:
                for item in names:
                    inner = prefix + item.name
                    if self._hidden(inner, item):
                        continue
                    about = item.stat(follow_symlinks=False)
                    target = ""
                    if stat.S_ISLNK(about.st_mode):
                        target = os.readlink(item.name, dir_fd=fd)
                    found.append(_entry(inner, about, target, keep_owner=self._keep_owner))
        except OSError as e:
            raise _refused(path, e) from e
        finally:
            os.close(fd)
        found.sort(key=_by_path)
        skip = len(prefix)
        return {entry.path[skip:]: entry for entry in found}

    def _hidden(self, path: str, item: os.DirEntry[str]) -> bool:
        """Ignored, and not kept as the parent of something that is an exception."""
        if self._ignore is None or not self._ignore.excludes(path):
            return False
        if not self._ignore.has_exceptions or not item.is_dir(follow_symlinks=False):
            return True
        return not self._listing(path)


def _by_path(entry: FileEntry) -> str:
    return entry.path


def _entry(path: str, found: os.stat_result, target: str, *, keep_owner: bool) -> FileEntry:
    return FileEntry(
        path,
        found.st_mode,
        found.st_size,
        found.st_mtime_ns,
        found.st_uid if keep_owner else 0,
        found.st_gid if keep_owner else 0,
        target,
        found.st_rdev,
        (found.st_dev, found.st_ino),
        found.st_ctime_ns,
    )


def _refused(path: str, error: OSError) -> NotFound | PermissionDenied | InvalidArgument:
    if isinstance(error, PermissionError):
        return PermissionDenied(
            f'"/{path}" of the build context may not be read: fix its permissions or list it in'
            " .dockerignore"
        )
    if isinstance(error, FileNotFoundError):
        return NotFound(f'"/{path}": not found (it vanished during the build)')
    return InvalidArgument(f'"/{path}" of the build context: {error.strerror}')
