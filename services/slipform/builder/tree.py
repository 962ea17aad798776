"""What COPY, ADD and bind mounts read from, whoever provides it: a tree of entries with content."""

from __future__ import annotations

import stat
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol

from slipform.core.context import FileEntry
from slipform.core.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_LINKS: Final = 40


class SourceTree(Protocol):
    """A read-only tree; safe from several threads. Paths are relative, "" is the root."""

    @property
    def root(self) -> FileEntry:
        """The root directory itself."""
        ...

    def lookup(self, path: str) -> FileEntry | None:
        """The entry at a path, links not followed."""
        ...

    def children(self, path: str) -> Sequence[FileEntry]:
        """Entries of a directory, by name."""
        ...

    def open_directory(self, path: str) -> int:
        """A descriptor to give to ``open_fd``, or -1 when this tree has no use for one."""
        ...

    def open_fd(self, entry: FileEntry, directory: int = -1) -> int:
        """A regular file's bytes; the caller closes the descriptor."""
        ...


class EmptyTree:
    """The context of a build that has none."""

    root = FileEntry("", stat.S_IFDIR | 0o755, 0, 0)

    def lookup(self, path: str) -> FileEntry | None:
        """Only the root is there."""
        return None if path else self.root

    def children(self, path: str) -> Sequence[FileEntry]:
        """Nothing."""
        return ()

    def open_directory(self, path: str) -> int:
        """No descriptor."""
        return -1

    def open_fd(self, entry: FileEntry, directory: int = -1) -> int:
        """Always raises ``NotFound``."""
        raise NotFound(f'"/{entry.path}": not found: this build has no context')


def follow(tree: SourceTree, path: str) -> FileEntry | None:
    """The entry a path means with every link followed inside the tree; None when it dangles.

    Raises:
        InvalidArgument: more than 40 links.
    """
    todo = deque(part for part in path.split("/") if part not in ("", "."))
    done: list[str] = []
    found: FileEntry | None = tree.root
    links = 0
    while todo:
        name = todo.popleft()
        if name in ("", "."):
            continue
        if name == "..":
            del done[-1:]
            found = tree.lookup("/".join(done))
            continue
        found = tree.lookup("/".join((*done, name)))
        if found is None:
            return None
        if not stat.S_ISLNK(found.mode):
            done.append(name)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise InvalidArgument(f'"/{path}": too many levels of symbolic links')
        if found.link_target.startswith("/"):
            done.clear()
        todo.extendleft(reversed(found.link_target.split("/")))
        found = tree.lookup("/".join(done))
    return found
