"""COPY, ADD and WORKDIR: from the operation to changed files in a mounted root."""

from __future__ import annotations

import hashlib
import os
import stat
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from slipform.builder.copying import Copier, Style
from slipform.builder.downloading import Remote, file_name
from slipform.builder.faults import os_errors
from slipform.builder.modes import ModeChange
from slipform.builder.ownership import resolve_owner, resolve_user
from slipform.builder.selection import Item, Selected
from slipform.builder.unpacking import is_archive, unpack
from slipform.core.context import FileEntry, SupportsFetch
from slipform.core.errors import Conflict, NotFound
from slipform.core.files import mkdirs_in_root

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from slipform.builder.flights import Flight
    from slipform.builder.listing import Listing
    from slipform.builder.statcache import Content
    from slipform.builder.tree import SourceTree
    from slipform.core.plan import CopyOp, InlineFile, WorkdirOp

_HANDLE: Final = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_URL_MODE: Final = 0o600


@dataclass(frozen=True, slots=True)
class Sources:
    """What one COPY or ADD copies: a selection of a tree, downloads, heredocs."""

    tree: SourceTree
    selected: tuple[Selected, ...]
    listing: Listing
    remotes: tuple[Remote, ...] = ()


class LooseFiles:
    """Files that stand in no folder: heredocs and downloads; a ``SourceTree``."""

    root = FileEntry("", stat.S_IFDIR | 0o755, 0, 0)

    def __init__(self) -> None:
        self._files: dict[str, tuple[FileEntry, bytes | Path]] = {}

    def add(self, name: str, data: bytes | Path, mode: int, mtime_ns: int) -> Selected:
        """Add a file and select it."""
        size = len(data) if isinstance(data, bytes) else data.stat().st_size
        path = f"{len(self._files)}-{name}"
        entry = FileEntry(path, stat.S_IFREG | mode, size, mtime_ns)
        self._files[path] = (entry, data)
        return Selected(name, None, (Item(name, entry),))

    def lookup(self, path: str) -> FileEntry | None:
        """One of the files."""
        return self._files[path][0] if path in self._files else None

    def children(self, path: str) -> Sequence[FileEntry]:
        """All files."""
        return [] if path else [entry for entry, _ in self._files.values()]

    def open_directory(self, path: str) -> int:
        """No descriptor."""
        return -1

    def open_fd(self, entry: FileEntry, directory: int = -1) -> int:
        """The bytes; heredocs become a file in memory."""
        data = self._files[entry.path][1]
        if not isinstance(data, bytes):
            return os.open(data, os.O_RDONLY | os.O_CLOEXEC)
        fd = os.memfd_create("heredoc", os.MFD_CLOEXEC)
        os.write(fd, data)
        os.lseek(fd, 0, os.SEEK_SET)
        return fd


def write_copy(
    op: CopyOp, sources: Sources, root: Path, flight: Flight, now_ns: int, epoch: int | None
) -> None:
    """Perform a COPY or ADD in a mounted root.

    Raises:
        InvalidArgument: owner, mode or destination make no sense in this root.
        NotFound: nothing at all was matched.
        ResourceExhausted: the disk is full.
    """
    instruction = "ADD" if op.add else "COPY"
    with ExitStack() as stack, os_errors(instruction):
        fd = os.open(root, _HANDLE)
        stack.callback(os.close, fd)
        uid, gid = resolve_owner(fd, op.chown) if op.chown else (0, 0)
        chmod = ModeChange.parse(op.chmod) if op.chmod else None
        # Contexts belong to nobody, stages to those that their RUN steps say.
        owned = op.from_step is not None and not op.chown
        style = Style(uid, gid, chmod, keep_owner=owned, like_source=chmod is not None)
        loose = LooseFiles()
        extra = _loose(op, sources, loose, now_ns, epoch)
        archives, plain = _split(op, sources.tree, sources.selected)
        remote_archives, loose_files = _split(replace(op, unpack=op.unpack or False), loose, extra)
        many = len(sources.selected) + len(extra) > 1
        contents = sources.listing.contents
        _fetch(sources.tree, (*plain, *archives), contents)
        copier = Copier(
            sources.tree,
            fd,
            style,
            contents,
            flight.check,
            lambda done, total: flight.progress("copying", done, total, "files"),
            many=many,
        )
        copier.copy(plain, op.dest, dest_is_dir=op.dest_is_dir)
        copier = Copier(loose, fd, style, check=flight.check, many=many)
        copier.copy(loose_files, op.dest, dest_is_dir=op.dest_is_dir)
        for tree, chosen in ((sources.tree, archives), (loose, remote_archives)):
            for archive in chosen:
                real = copier.directory(op.dest)
                owner = (uid, gid) if op.chown else None
                unpack(tree, archive.items[0].entry, root, real, owner, flight.check)


def write_workdir(op: WorkdirOp, root: Path) -> None:
    """Perform a WORKDIR in a mounted root: an existing directory is left as it is."""
    with os_errors(f"WORKDIR {op.path}"):
        fd = os.open(root, _HANDLE)
        try:
            uid, gid = resolve_user(fd, op.user)
            mkdirs_in_root(fd, op.path, 0o755, uid, gid)
        finally:
            os.close(fd)


def _loose(
    op: CopyOp, sources: Sources, loose: LooseFiles, now_ns: int, epoch: int | None
) -> list[Selected]:
    chosen = []
    for remote in sources.remotes:
        if remote.path is None:
            raise NotFound(f"ADD {remote.url}: not fetched")
        name = file_name(remote.url, needed=op.dest_is_dir)
        mtime = remote.mtime_ns if epoch is None else epoch * 1_000_000_000
        chosen.append(loose.add(name, remote.path, _URL_MODE, mtime))
    files: tuple[InlineFile, ...] = op.files
    chosen += [loose.add(file.name, file.data, file.mode, now_ns) for file in files]
    return chosen


def _split(
    op: CopyOp, tree: SourceTree, selected: Sequence[Selected]
) -> tuple[list[Selected], list[Selected]]:
    """Archives that are to be unpacked, and everything else."""
    if not op.add or op.unpack is False:
        return [], list(selected)
    archives, plain = [], []
    for source in selected:
        entry = source.items[0].entry if source.directory is None and source.items else None
        if entry is not None and not source.placed and is_archive(tree, entry):
            archives.append(source)
        else:
            plain.append(source)
    return archives, plain


def _fetch(tree: SourceTree, selected: Sequence[Selected], contents: Mapping[str, Content]) -> None:
    """Have the files sent, and make sure that they hold what the cache key says."""
    if not isinstance(tree, SupportsFetch):
        return
    entries = {
        item.entry.path: item.entry
        for source in selected
        for item in source.items
        if stat.S_ISREG(item.entry.mode)
    }
    tree.fetch(sorted(entries))
    for path, entry in entries.items():
        with open(tree.open_fd(entry), "rb") as file:
            if hashlib.file_digest(file, "sha256").digest() != contents[path].digest:
                raise Conflict(f'"/{path}" of the build context changed during the build')
