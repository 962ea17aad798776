"""Writes selected entries into a root file system: what COPY does once it is known what to copy.

Every directory is opened once and everything in it is made relative to that descriptor; links of
the destination are followed inside the root only. An existing destination keeps owner and mode.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from slipform.builder.filedata import copy_data
from slipform.builder.listing import read_xattrs
from slipform.core.errors import InvalidArgument
from slipform.core.files import mkdirs_in_root, open_in_root, resolve_in_root, stat_in_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from slipform.builder.modes import ModeChange
    from slipform.builder.selection import Item, Selected
    from slipform.builder.statcache import Content, Xattrs
    from slipform.builder.tree import SourceTree
    from slipform.core.context import FileEntry

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_REPORTED: Final = 1000
"""Entries between two reports of progress."""
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Style:
    """How what is written looks: owner and mode change."""

    uid: int = 0
    gid: int = 0
    chmod: ModeChange | None = None
    keep_owner: bool = False
    """Owners of the entries instead of ``uid`` and ``gid``."""
    like_source: bool = True
    """A new directory for the content of a directory looks like that one; docker's is 0755."""

    def owner(self, entry: FileEntry) -> tuple[int, int]:
        """Who shall own a copy of ``entry``."""
        return (entry.uid, entry.gid) if self.keep_owner else (self.uid, self.gid)

    def mode(self, entry: FileEntry) -> int:
        """Permission bits of a copy of ``entry``."""
        return stat.S_IMODE(entry.mode) if self.chmod is None else self.chmod.apply(entry.mode)


@dataclass(slots=True)
class _Open:
    """A directory that is being filled."""

    place: str
    fd: int
    path: str
    """Where it really is below the root."""
    inherits: bool
    """It is setgid: new files take its group, not ours."""
    times: FileEntry | None
    source: str | None = None
    source_fd: int = -1


@dataclass(slots=True)
class Copier:
    """Copies into one root; not for several threads.

    Args:
        tree: where the entries come from.
        root: descriptor of the root directory (``O_PATH`` will do).
        style: owner and modes of what is written.
        contents: what the listing found, so that attributes need not be read again.
        check: called for every entry; raises to give up.
        progress: told now and then how many of the entries are done.
    """

    tree: SourceTree
    root: int
    style: Style = field(default_factory=Style)
    contents: Mapping[str, Content] = field(default_factory=dict)
    check: Callable[[], None] = lambda: None
    progress: Callable[[int, int], None] = lambda done, total: None
    many: bool = False
    """There are more sources than this copier sees: the destination must be a directory."""
    _stack: list[_Open] = field(default_factory=list)
    _twins: dict[tuple[int, int], str] = field(default_factory=dict)

    def copy(self, selected: Sequence[Selected], dest: str, *, dest_is_dir: bool) -> None:
        """Write everything.

        Raises:
            InvalidArgument: files would replace directories or directories files.
            Conflict: a source changed meanwhile.
        """
        many = self.many or len(selected) > 1
        for source in selected:
            if source.directory is not None or source.placed:
                self._into(source, self.directory(dest, source.directory))
            else:
                self._file(source.items[0], dest, dest_is_dir=dest_is_dir, many=many)

    def directory(self, dest: str, like: FileEntry | None = None) -> str:
        """Make sure that ``dest`` is a directory; a new one looks like ``like``.

        Returns:
            Where it really is.
        """
        try:
            found = stat_in_root(self.root, dest)
        except FileNotFoundError:
            return self._new_directory(dest, like)
        except NotADirectoryError as e:
            raise InvalidArgument(f'cannot copy to "{dest}": a parent is not a directory') from e
        if not stat.S_ISDIR(found.st_mode):
            raise InvalidArgument(f'cannot copy a directory to "{dest}": it is not a directory')
        return str(resolve_in_root(self.root, dest))

    def _new_directory(self, dest: str, like: FileEntry | None) -> str:
        real = resolve_in_root(self.root, dest)
        style = self.style
        with _in_the_way(dest):
            mkdirs_in_root(self.root, str(real), 0o755, style.uid, style.gid)
        if like is not None and style.like_source:
            fd = open_in_root(self.root, str(real), os.O_RDONLY | os.O_DIRECTORY)
            try:
                self._dress(fd, like, self._directory_xattrs(like), owned=False)
            finally:
                os.close(fd)
        return str(real)

    def _file(self, item: Item, dest: str, *, dest_is_dir: bool, many: bool) -> None:
        if not dest_is_dir and not self._is_directory(dest):
            if many:
                raise InvalidArgument(
                    f'several sources were matched, but "{dest}" is not a directory: end it with /'
                )
            real = resolve_in_root(self.root, dest)
            if str(real) == "/":
                raise InvalidArgument(f'cannot copy a file to "{dest}"')
            parent, name = str(real.parent), real.name
        else:
            parent, name = dest, item.place
        real_parent = self.directory(parent)
        self._fill(_Open("", *self._target(real_parent), None), [(name, item.entry)])

    def _into(self, source: Selected, real: str) -> None:
        opened = _Open("", *self._target(real), source.directory)
        # An existing root directory keeps its times when nothing was selected for it.
        self._fill(opened, [(item.place, item.entry) for item in source.items])

    def _fill(self, base: _Open, items: list[tuple[str, FileEntry]]) -> None:
        stack = self._stack = [base]
        try:
            for done, (place, entry) in enumerate(items):
                self.check()
                if not done % _REPORTED:
                    self.progress(done, len(items))
                folder, _, name = place.rpartition("/")
                while stack[-1].place != folder and len(stack) > 1:
                    self._leave(stack.pop())
                if stat.S_ISDIR(entry.mode):
                    stack.append(self._enter(stack[-1], place, name, entry))
                else:
                    self._write(stack[-1], name, entry)
        finally:
            while stack:
                self._leave(stack.pop())

    def _target(self, real: str) -> tuple[int, str, bool]:
        fd = open_in_root(self.root, real, os.O_RDONLY | os.O_DIRECTORY)
        return fd, real, bool(os.fstat(fd).st_mode & stat.S_ISGID)

    def _enter(self, above: _Open, place: str, name: str, entry: FileEntry) -> _Open:
        path = f"{above.path.rstrip('/')}/{name}"
        try:
            os.mkdir(name, 0o700, dir_fd=above.fd)
        except FileExistsError:
            # As docker: only the destination itself keeps its looks, not what is below it.
            if not stat.S_ISDIR(os.stat(name, dir_fd=above.fd, follow_symlinks=False).st_mode):
                return _Open(place, *self._target(self.directory(path)), None)
        fd = os.open(name, _DIRECTORY, dir_fd=above.fd)
        self._dress(fd, entry, self._directory_xattrs(entry), owned=not above.inherits)
        inherits = bool(self.style.mode(entry) & stat.S_ISGID)
        return _Open(place, fd, path, inherits, entry)

    def _leave(self, opened: _Open) -> None:
        # Writing into a directory changes its time, so a new one gets its own at the end.
        if opened.times is not None and opened.times.mtime_ns:
            self._set_times(opened.fd, opened.times)
        os.close(opened.fd)
        if opened.source_fd >= 0:
            os.close(opened.source_fd)

    def _write(self, into: _Open, name: str, entry: FileEntry) -> None:
        if stat.S_ISREG(entry.mode):
            self._regular(into, name, entry)
            return
        self._clear(into, name)
        uid, gid = self.style.owner(entry)
        if stat.S_ISLNK(entry.mode):
            os.symlink(entry.link_target, name, dir_fd=into.fd)
        else:
            os.mknod(name, stat.S_IFMT(entry.mode) | 0o600, entry.device, dir_fd=into.fd)
        if (uid, gid) != (os.geteuid(), os.getegid()) or into.inherits:
            os.chown(name, uid, gid, dir_fd=into.fd, follow_symlinks=False)
        if not stat.S_ISLNK(entry.mode):
            os.chmod(name, self.style.mode(entry), dir_fd=into.fd)
        times = (entry.mtime_ns, entry.mtime_ns)
        os.utime(name, ns=times, dir_fd=into.fd, follow_symlinks=False)

    def _regular(self, into: _Open, name: str, entry: FileEntry) -> None:
        if entry.inode[1]:
            twin = self._twins.get(entry.inode)
            if twin is not None:
                self._clear(into, name)
                os.link(twin, name, src_dir_fd=self.root, dst_dir_fd=into.fd, follow_symlinks=False)
                return
            self._twins[entry.inode] = f"{into.path.rstrip('/')}/{name}"[1:]
        source = self.tree.open_fd(entry, self._source_directory(into, entry))
        try:
            fd = self._create(into, name)
            try:
                copy_data(source, fd, entry.size, self.check)
                content = self.contents.get(entry.path)
                xattrs = read_xattrs(source) if content is None else content.xattrs
                self._dress(fd, entry, xattrs, owned=not into.inherits)
                self._set_times(fd, entry)
            finally:
                os.close(fd)
        finally:
            os.close(source)

    def _source_directory(self, into: _Open, entry: FileEntry) -> int:
        """The open parent of a source file; the last one of each target directory is kept."""
        folder = entry.path.rpartition("/")[0]
        if into.source != folder:
            if into.source_fd >= 0:
                os.close(into.source_fd)
            into.source_fd = -1
            into.source_fd = self.tree.open_directory(folder)
            into.source = folder
        return into.source_fd

    def _create(self, into: _Open, name: str) -> int:
        try:
            return os.open(name, _NEW, 0o600, dir_fd=into.fd)
        except FileExistsError:
            self._clear(into, name)
            return os.open(name, _NEW, 0o600, dir_fd=into.fd)

    def _clear(self, into: _Open, name: str) -> None:
        """Make way for something that is not a directory."""
        try:
            os.unlink(name, dir_fd=into.fd)
        except FileNotFoundError:
            return
        except OSError as e:
            if e.errno not in (errno.EISDIR, errno.EPERM):
                raise
            place = f"{into.path.rstrip('/')}/{name}"
            raise InvalidArgument(f'cannot replace the directory "{place}" by a file') from e

    def _dress(self, fd: int, entry: FileEntry, xattrs: Xattrs, *, owned: bool) -> None:
        """Owner, mode and attributes, in the order in which none undoes another."""
        owner = self.style.owner(entry)
        if not owned or owner != (os.geteuid(), os.getegid()):
            os.fchown(fd, *owner)
        os.fchmod(fd, self.style.mode(entry))
        for name, value in xattrs:
            os.setxattr(fd, name, value)

    def _directory_xattrs(self, entry: FileEntry) -> Xattrs:
        if not entry.path:
            return ()
        fd = self.tree.open_directory(entry.path)
        if fd < 0:
            return tuple(sorted(entry.xattrs.items()))
        try:
            return read_xattrs(fd)
        finally:
            os.close(fd)

    def _set_times(self, fd: int, entry: FileEntry) -> None:
        os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))

    def _is_directory(self, dest: str) -> bool:
        try:
            return stat.S_ISDIR(stat_in_root(self.root, dest).st_mode)
        except (FileNotFoundError, NotADirectoryError):
            return False


@contextlib.contextmanager
def _in_the_way(dest: str) -> Iterator[None]:
    try:
        yield
    except (NotADirectoryError, FileExistsError) as e:
        raise InvalidArgument(f'cannot make "{dest}": a parent is not a directory') from e
