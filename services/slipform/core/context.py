"""Build contexts: a list of files first, then the bytes of those that are wanted.

A local folder, a remote client and a file system of another stage look alike to the builder.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file, directory or link of a context.

    ``path`` is relative, with ``/``, without ``.`` or ``..`` parts. ``mode`` is ``st_mode``.
    """

    path: str
    mode: int
    size: int
    mtime_ns: int
    uid: int = 0
    gid: int = 0
    link_target: str = ""
    device: int = 0
    """``st_rdev`` of device nodes."""
    inode: tuple[int, int] = (0, 0)
    """(device, inode): equal for hard links of one file; (0, 0) when unknown."""
    ctime_ns: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


class ContextSource(Protocol):
    """Where COPY, ADD and bind mounts read from; read-only; safe from several threads."""

    def entries(self) -> Iterator[FileEntry]:
        """All entries that are not ignored, sorted by path, parents before children."""
        ...

    def stat(self, path: str) -> FileEntry:
        """Raises ``NotFound``; ignored files do not exist."""
        ...

    def open(self, path: str) -> BinaryIO:
        """A regular file's bytes. Raises ``NotFound``."""
        ...


@runtime_checkable
class SupportsFetch(Protocol):
    """A context whose files come from far away: asking for many at once is one exchange."""

    def fetch(self, paths: Sequence[str]) -> None:
        """Make the bytes of these regular files ready for ``open``; blocks; idempotent.

        Raises:
            NotFound: a path is not a regular file of the context.
            Conflict: a file is not any more what it was when it was listed.
            Unavailable: the client is gone.
        """
        ...
