"""A tar into a root directory: layers with their whiteouts, and plain archives for ADD.

The archive is hostile. Every path is resolved inside the root, no final component is ever
followed, ``..`` may not climb above the root, hard links lead to files of the root only, and a tar
that lies about sizes or ends early is refused with the entry and its offset. What was unpacked
before the fault stays: the caller throws the snapshot away.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument, ResourceExhausted
from slipform.core.files import resolve_in_root, root_handle
from slipform.core.snapshots import AppliedLayer
from slipform.layer.decompress import DecompressedStream, Source
from slipform.layer.faults import from_os_error, shown
from slipform.layer.inner_dirs import InnerDirs
from slipform.layer.removal import remove_tree
from slipform.layer.tar_reader import TarReader
from slipform.layer.tar_stream import TarStream
from slipform.layer.whiteouts import PREFIX, Whiteouts
from slipform.layer.xattrs import by_descriptor, clear_portable, write_portable

if TYPE_CHECKING:
    from pathlib import Path

    from slipform.core.files import Root
    from slipform.layer.tar_entry import TarEntry

_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_HANDLE: Final = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_PATH: Final = 16 << 10
_MAX_TIMES: Final = 64 << 20
_LATEST: Final = (1 << 62) * 10**9
_NODES: Final = {b"3": stat.S_IFCHR, b"4": stat.S_IFBLK, b"6": stat.S_IFIFO}


def apply_layer(source: Source, root: Path | int) -> AppliedLayer:
    """Unpack a layer into ``root``, a directory or mount with the parent layers' content.

    Args:
        source: the tar, compressed or not; a ``DecompressedStream`` is used as it is, and stays
            open (to be verified).
        root: where to; nobody else changes it meanwhile.

    Returns:
        Digest and size of the uncompressed tar, to its very end.

    Raises:
        InvalidArgument: a broken or hostile archive; the message names entry and offset.
        ResourceExhausted: the disk is full.
        PermissionDenied: device nodes, owners or capabilities need a privilege we lack.
    """
    if isinstance(source, DecompressedStream):
        return _apply(source, root, b"", None, whiteouts=True)
    with DecompressedStream(source) as stream:
        return _apply(stream, root, b"", None, whiteouts=True)


def unpack_archive(
    source: Source, root: Root, dest: bytes, *, owner: tuple[int, int] | None = None
) -> AppliedLayer:
    """Unpack an archive into the directory ``dest`` of an image, as ADD does.

    Whiteout names mean nothing here: they are files. Links in ``dest`` and on the way of entries
    are followed inside the root.

    Args:
        source: the tar, compressed or not.
        root: the root of the image.
        dest: directory inside the root, ``/`` between names; made when absent.
        owner: uid and gid for everything, instead of those in the archive.

    Raises:
        as ``apply_layer``.
    """
    with root_handle(root) as root_fd, DecompressedStream(source) as stream:
        prefix = os.fsencode(resolve_in_root(root_fd, dest))[1:]
        return _apply(stream, root_fd, prefix, owner, whiteouts=False)


def _apply(
    stream: DecompressedStream,
    root: Root,
    prefix: bytes,
    owner: tuple[int, int] | None,
    *,
    whiteouts: bool,
) -> AppliedLayer:
    with root_handle(root) as root_fd:
        extraction = _Extraction(root_fd, TarStream(stream), prefix, owner, whiteouts=whiteouts)
        extraction.run()
    stream.drain()
    return AppliedLayer(stream.diff_id, stream.plain_size)


class _Extraction:
    """One archive on its way into a root."""

    def __init__(
        self,
        root_fd: int,
        stream: TarStream,
        prefix: bytes,
        owner: tuple[int, int] | None,
        *,
        whiteouts: bool,
    ) -> None:
        self._root_fd = root_fd
        self._stream = stream
        self._reader = TarReader(stream)
        self._prefix = prefix
        self._owner = owner
        self._dirs = InnerDirs(root_fd, self._directory_used)
        self._whiteouts = Whiteouts(self._dirs) if whiteouts else None
        self._times: dict[bytes, int] = {}
        """What directories' mtimes (ns) will be at the end: adding to them changes them."""
        self._times_size = 0
        self._mtime_ns = 0
        self._makers = {
            b"0": self._make_file,
            b"1": self._make_link,
            b"2": self._make_symlink,
            b"3": self._make_node,
            b"4": self._make_node,
            b"5": self._make_directory,
            b"6": self._make_node,
        }

    def run(self) -> None:
        try:
            for entry in self._reader:
                self._guarded(entry)
            self._set_directory_times()
        finally:
            self._dirs.close()

    def _guarded(self, entry: TarEntry) -> None:
        try:
            self._extract(entry)
        except OSError as error:
            fault = from_os_error(error, _named(entry))
            if fault is None:
                raise
            raise fault from error

    def _extract(self, entry: TarEntry) -> None:
        maker = self._makers.get(entry.kind)
        if maker is None:
            raise InvalidArgument(f"{_named(entry)} has the unknown type {entry.kind!r}")
        self._dirs.trim()
        self._mtime_ns = max(-_LATEST, min(entry.mtime_ns, _LATEST))
        path = self._inside(entry, entry.name)
        if not path or path == self._prefix:
            self._enter_root(entry, path)
            return
        parent, _, name = path.rpartition(b"/")
        if self._whiteouts is not None:
            if PREFIX in path and self._whiteouts.handle(parent, name, _named(entry)):
                return
            self._whiteouts.unpacked(path, parent)
        maker(entry, path, self._dirs.get(parent, make=True), name)

    def _inside(self, entry: TarEntry, name: bytes) -> bytes:
        """A path of the archive, cleaned, under the prefix. Refuses to climb out."""
        if len(name) > _MAX_PATH:
            raise InvalidArgument(f"{_named(entry)} has a path of {len(name)} bytes")
        if b"/." not in name and b"//" not in name and not name.startswith(b"."):
            clean = name.strip(b"/")
        else:
            parts: list[bytes] = []
            for part in name.split(b"/"):
                if part == b"..":
                    if not parts:
                        raise InvalidArgument(
                            f'{_named(entry)}: path {shown(name)} leaves the root with ".."'
                        )
                    parts.pop()
                elif part not in (b"", b"."):
                    parts.append(part)
            clean = b"/".join(parts)
        if not self._prefix:
            return clean
        return b"%b/%b" % (self._prefix, clean) if clean else self._prefix

    def _enter_root(self, entry: TarEntry, path: bytes) -> None:
        """An entry for the root (``./``): its mode and owner, whatever its time is."""
        if entry.kind != b"5":
            raise InvalidArgument(f"{_named(entry)} would replace the root by something else")
        fd = self._dirs.get(path, make=True)
        self._finish(entry, os.open(b".", os.O_RDONLY | os.O_CLOEXEC, dir_fd=fd))
        self._keep_time(path, self._mtime_ns)

    def _make_file(self, entry: TarEntry, path: bytes, parent: int, name: bytes) -> None:
        try:
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            fd = os.open(name, _CREATE, 0o600, dir_fd=parent)
        try:
            size = entry.size
            if entry.sparse is not None:
                self._write_segments(entry, fd)
            elif size:
                self._stream.copy_to(fd, size, _Lazy(entry))
            self._reader.consumed(size)
        except BaseException:
            os.close(fd)
            raise
        self._finish(entry, fd)

    def _write_segments(self, entry: TarEntry, fd: int) -> None:
        for offset, length in entry.sparse or ():
            os.lseek(fd, offset, os.SEEK_SET)
            self._stream.copy_to(fd, length, _Lazy(entry))
        os.ftruncate(fd, entry.real_size or 0)

    def _make_directory(self, entry: TarEntry, path: bytes, parent: int, name: bytes) -> None:
        existed = False
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            status = os.stat(name, dir_fd=parent, follow_symlinks=False)
            existed = stat.S_ISDIR(status.st_mode)
            if not existed:
                self._clear(parent, name)
                os.mkdir(name, 0o700, dir_fd=parent)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=parent)
        if existed:
            clear_portable(fd, path, keep=entry.xattrs)
        self._finish(entry, fd)
        self._keep_time(path, self._mtime_ns)

    def _make_symlink(self, entry: TarEntry, path: bytes, parent: int, name: bytes) -> None:
        try:
            os.symlink(entry.link, name, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            os.symlink(entry.link, name, dir_fd=parent)
        uid, gid = self._owner or (entry.uid, entry.gid)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        times = (self._mtime_ns, self._mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _make_link(self, entry: TarEntry, path: bytes, parent: int, name: bytes) -> None:
        target = self._inside(entry, entry.link)
        if target != path:
            self._link(entry, target, parent, name)
        fd = os.open(name, _HANDLE, dir_fd=parent)
        try:
            if not stat.S_ISLNK(os.fstat(fd).st_mode):
                self._finish_handle(entry, fd, parent, name)
        finally:
            os.close(fd)

    def _link(self, entry: TarEntry, target: bytes, parent: int, name: bytes) -> None:
        above, _, last = target.rpartition(b"/")
        try:
            source = self._dirs.get(above, make=False)
            old = os.stat(last or b".", dir_fd=source, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise InvalidArgument(
                f"{_named(entry)} is a hard link to {shown(entry.link)}, which is not there"
            ) from error
        if stat.S_ISDIR(old.st_mode):
            raise InvalidArgument(f"{_named(entry)} is a hard link to a directory")
        try:
            os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            self._clear(parent, name)
            os.link(last, name, src_dir_fd=source, dst_dir_fd=parent, follow_symlinks=False)

    def _make_node(self, entry: TarEntry, path: bytes, parent: int, name: bytes) -> None:
        device = os.makedev(entry.major, entry.minor) if entry.kind != b"6" else 0
        if entry.kind == b"3" and device == 0:
            raise InvalidArgument(
                f"{_named(entry)} is the character device 0:0, which overlayfs takes for a deletion"
            )
        mode = _NODES[entry.kind] | 0o600
        try:
            os.mknod(name, mode, device, dir_fd=parent)
        except FileExistsError:
            self._clear(parent, name)
            os.mknod(name, mode, device, dir_fd=parent)
        fd = os.open(name, _HANDLE, dir_fd=parent)
        try:
            self._finish_handle(entry, fd, parent, name)
        finally:
            os.close(fd)

    def _clear(self, parent: int, name: bytes) -> None:
        """Make room: later entries replace earlier ones and what the parent layers had."""
        mode = os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode
        remove_tree(name, parent)
        if not stat.S_ISREG(mode):
            self._dirs.outdate()

    def _finish(self, entry: TarEntry, fd: int) -> None:
        """Owner, mode, attributes and time of an open file or directory; closes it.

        In this order: chown drops setuid bits and capabilities.
        """
        try:
            uid, gid = self._owner or (entry.uid, entry.gid)
            os.fchown(fd, uid, gid)
            os.fchmod(fd, entry.mode)
            if entry.xattrs:
                write_portable(fd, entry.xattrs)
            os.utime(fd, ns=(self._mtime_ns, self._mtime_ns))
        finally:
            os.close(fd)

    def _finish_handle(self, entry: TarEntry, fd: int, parent: int, name: bytes) -> None:
        """The same for what must not be opened: device nodes, fifos, and links to anything.

        A second name of a file says again what the first one said: leave what is so already, since
        chown would drop capabilities.
        """
        owner = self._owner or (entry.uid, entry.gid)
        path = by_descriptor(fd)
        status = os.fstat(fd)
        if (status.st_uid, status.st_gid) != owner:
            os.chown(path, *owner)
        os.chmod(path, entry.mode)
        if entry.xattrs:
            write_portable(path, entry.xattrs)
        times = (self._mtime_ns, self._mtime_ns)
        os.utime(name, ns=times, dir_fd=parent, follow_symlinks=False)

    def _directory_used(self, path: bytes, fd: int, is_new: bool) -> None:
        """Note the time of a directory that is about to change without an entry of its own.

        A parent that no entry describes gets the time of the entry that made it necessary: the
        clock of this machine is nothing that may end up in an image.
        """
        if path not in self._times:
            self._keep_time(path, self._mtime_ns if is_new else os.fstat(fd).st_mtime_ns)

    def _keep_time(self, path: bytes, mtime_ns: int) -> None:
        if path not in self._times:
            self._times_size += len(path)
            if self._times_size > _MAX_TIMES:
                raise ResourceExhausted(
                    f"the paths of the archive's directories take more than {_MAX_TIMES} bytes"
                )
        self._times[path] = mtime_ns

    def _set_directory_times(self) -> None:
        for path, mtime_ns in list(self._times.items()):
            self._dirs.trim()
            parent, _, name = path.rpartition(b"/")
            name = name or b"."
            try:
                fd = self._dirs.get(parent, make=False)
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                # Not touching it is more than speed: it would be copied up, if this is an overlay.
                if status.st_mtime_ns != mtime_ns and stat.S_ISDIR(status.st_mode):
                    os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=fd, follow_symlinks=False)
            except (FileNotFoundError, NotADirectoryError):
                continue  # replaced or removed by a later entry


def _named(entry: TarEntry) -> str:
    return f"tar entry {shown(entry.name)} at byte {entry.offset}"


class _Lazy:
    """The name of an entry for a message that is hardly ever needed."""

    __slots__ = ("_entry",)

    def __init__(self, entry: TarEntry) -> None:
        self._entry = entry

    def __str__(self) -> str:
        return _named(self._entry)
