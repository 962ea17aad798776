"""Copies of files and trees: cloned where the file system can, else moved inside the kernel.

Holes stay holes. A tree copy keeps everything a layer can tell: types, modes, owners, times,
links of both kinds, device nodes and the image's extended attributes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import sys
from typing import TYPE_CHECKING, Final

from slipform.core.errors import FailedPrecondition
from slipform.layer.reading import open_quietly
from slipform.layer.xattrs import by_descriptor, read_portable, write_portable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FICLONE: Final = 0x40049409
_SMALL: Final = 1 << 17
_CHUNK: Final = 1 << 26
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_OPEN_DIR: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CANNOT: Final = frozenset(
    {
        errno.EOPNOTSUPP,
        errno.ENOTTY,
        errno.EXDEV,
        errno.EINVAL,
        errno.ENOSYS,
        errno.EPERM,
        errno.ETXTBSY,
        errno.EBADF,
    }
)
_ENCODING: Final = sys.getfilesystemencoding()


def clone_file(src_fd: int, dst_fd: int, size: int) -> bool:
    """Copy the first ``size`` bytes of one file over an empty one, sharing blocks if possible.

    Args:
        src_fd: open for reading; its position may move.
        dst_fd: open for writing, empty.
        size: the length of the source as ``fstat`` told it.

    Returns:
        Whether the file system cloned it (FICLONE), so that no bytes were copied.

    Raises:
        FailedPrecondition: the source has become shorter.
        OSError: as write(2) raises it.
    """
    if size and _try_clone(src_fd, dst_fd):
        return True
    copy_data(src_fd, dst_fd, size)
    return False


def copy_data(src_fd: int, dst_fd: int, size: int) -> None:
    """Copy without trying to clone; arguments and errors are those of ``clone_file``."""
    if 0 < size <= _SMALL:
        data = os.pread(src_fd, size, 0)
        if len(data) == size:
            if _write_all(dst_fd, data, 0) == size:
                return
            raise _shorter(size)
    if os.fstat(src_fd).st_blocks * 512 >= size:
        _copy_range(src_fd, dst_fd, 0, size)
        return
    for start, end in _data_segments(src_fd, size):
        _copy_range(src_fd, dst_fd, start, end - start)
    os.ftruncate(dst_fd, size)


def copy_tree(src: Path, dst: Path) -> None:
    """Make ``dst`` (absent or an empty directory) a copy of the directory ``src``.

    Nobody changes either of them meanwhile. Sockets become sockets that nobody listens on.

    Raises:
        OSError: as the kernel refused it; ``dst`` is then left as far as it got.
    """
    try:
        os.mkdir(dst, 0o700)
    except FileExistsError:
        if not dst.is_dir():
            raise
    copy = _TreeCopy()
    try:
        copy.run(os.fsencode(src), os.fsencode(dst))
    finally:
        copy.close()


class _Level:
    """One directory that is being copied."""

    __slots__ = ("dst_fd", "entries", "prefix", "src_fd", "status")

    def __init__(self, src_fd: int, dst_fd: int, status: os.stat_result, prefix: bytes) -> None:
        self.src_fd = src_fd
        self.dst_fd = dst_fd
        self.status = status
        self.prefix = prefix
        self.entries: Iterator[os.DirEntry[str]] = iter(())


class _TreeCopy:
    """One tree on its way."""

    def __init__(self) -> None:
        self._levels: list[_Level] = []
        self._links: dict[tuple[int, int], bytes] = {}
        self._clones = True
        self._ids = (os.geteuid(), os.getegid())

    def run(self, src: bytes, dst: bytes) -> None:
        src_fd = open_quietly(src, flags=os.O_DIRECTORY)
        try:
            dst_fd = os.open(dst, _OPEN_DIR)
        except BaseException:
            os.close(src_fd)
            raise
        self._push(src_fd, dst_fd, b"")
        while self._levels:
            level = self._levels[-1]
            for entry in level.entries:
                if self._copy(level, entry):
                    break
            else:
                _finish(level.dst_fd, level.src_fd, level.status, b"/")
                self._pop()

    def close(self) -> None:
        while self._levels:
            self._pop()

    def _push(self, src_fd: int, dst_fd: int, prefix: bytes) -> None:
        level = _Level(src_fd, dst_fd, os.fstat(src_fd), prefix)
        self._levels.append(level)
        with os.scandir(src_fd) as entries:
            level.entries = iter(list(entries))

    def _pop(self) -> None:
        level = self._levels.pop()
        os.close(level.src_fd)
        os.close(level.dst_fd)

    def _copy(self, level: _Level, entry: os.DirEntry[str]) -> bool:
        """Copy one entry; True when it was a directory that has to be gone through now."""
        name = entry.name.encode(_ENCODING, "surrogateescape")
        status = entry.stat(follow_symlinks=False)
        mode = status.st_mode
        if stat.S_ISDIR(mode):
            os.mkdir(name, 0o700, dir_fd=level.dst_fd)
            src_fd = open_quietly(name, level.src_fd, os.O_DIRECTORY)
            try:
                dst_fd = os.open(name, _OPEN_DIR, dir_fd=level.dst_fd)
            except BaseException:
                os.close(src_fd)
                raise
            self._push(src_fd, dst_fd, level.prefix + name + b"/")
            return True
        if status.st_nlink > 1 and self._linked(level, name, status):
            return False
        if stat.S_ISREG(mode):
            self._copy_regular(level, name, status)
        else:
            _copy_special(level, name, status)
        return False

    def _linked(self, level: _Level, name: bytes, status: os.stat_result) -> bool:
        """Link to the first copy of this inode; False when this is the first."""
        path = level.prefix + name
        first = self._links.setdefault((status.st_dev, status.st_ino), path)
        if first == path:
            return False
        root_fd = self._levels[0].dst_fd
        os.link(first, name, src_dir_fd=root_fd, dst_dir_fd=level.dst_fd, follow_symlinks=False)
        return True

    def _copy_regular(self, level: _Level, name: bytes, status: os.stat_result) -> None:
        src_fd = open_quietly(name, level.src_fd)
        try:
            dst_fd = os.open(name, _CREATE, 0o600, dir_fd=level.dst_fd)
            try:
                if status.st_size:
                    self._copy_content(src_fd, dst_fd, status.st_size)
                _finish(dst_fd, src_fd, status, name, self._ids)
            finally:
                os.close(dst_fd)
        finally:
            os.close(src_fd)

    def _copy_content(self, src_fd: int, dst_fd: int, size: int) -> None:
        # A file system that cannot clone says so at once: ask for the first file only.
        if self._clones:
            self._clones = clone_file(src_fd, dst_fd, size)
        else:
            copy_data(src_fd, dst_fd, size)


def _finish(
    dst_fd: int,
    src_fd: int,
    status: os.stat_result,
    path: bytes,
    ids: tuple[int, int] | None = None,
) -> None:
    """Owner, mode, attributes, times; chown first, since it drops setuid and capabilities."""
    owner = (status.st_uid, status.st_gid)
    if owner != ids or os.fstat(dst_fd).st_gid != owner[1]:
        os.fchown(dst_fd, *owner)
    os.fchmod(dst_fd, stat.S_IMODE(status.st_mode))
    attributes = read_portable(src_fd, path)
    if attributes:
        write_portable(dst_fd, attributes)
    os.utime(dst_fd, ns=(status.st_atime_ns, status.st_mtime_ns))


def _copy_special(level: _Level, name: bytes, status: os.stat_result) -> None:
    """Symbolic links, fifos, sockets and device nodes: nothing that may be opened."""
    dst = level.dst_fd
    if stat.S_ISLNK(status.st_mode):
        os.symlink(os.readlink(name, dir_fd=level.src_fd), name, dir_fd=dst)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=dst, follow_symlinks=False)
    else:
        os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=dst)
        os.chown(name, status.st_uid, status.st_gid, dir_fd=dst, follow_symlinks=False)
        os.chmod(name, stat.S_IMODE(status.st_mode), dir_fd=dst)
        _copy_special_xattrs(level, name)
    times = (status.st_atime_ns, status.st_mtime_ns)
    os.utime(name, ns=times, dir_fd=dst, follow_symlinks=False)


def _copy_special_xattrs(level: _Level, name: bytes) -> None:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC
    src_fd = os.open(name, flags, dir_fd=level.src_fd)
    try:
        attributes = read_portable(by_descriptor(src_fd), level.prefix + name)
    finally:
        os.close(src_fd)
    if attributes:
        dst_fd = os.open(name, flags, dir_fd=level.dst_fd)
        try:
            write_portable(by_descriptor(dst_fd), attributes)
        finally:
            os.close(dst_fd)


def _try_clone(src_fd: int, dst_fd: int) -> bool:
    try:
        fcntl.ioctl(dst_fd, _FICLONE, src_fd)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
        return False
    return True


def _data_segments(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Where a file has data, by offset; all of it on file systems that cannot tell."""
    position = 0
    while position < size:
        try:
            start = os.lseek(fd, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole from here on
                return
            start, end = position, size
        else:
            end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        if start >= size:
            return
        yield start, end
        position = end


def _copy_range(src_fd: int, dst_fd: int, offset: int, size: int) -> None:
    """Copy inside the kernel, or through a buffer where it cannot."""
    done = 0
    while done < size:
        at = offset + done
        try:
            count = os.copy_file_range(src_fd, dst_fd, min(size - done, _CHUNK), at, at)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            count = 0
        if count == 0:  # also what some pseudo file systems answer: read(2) knows better
            count = _copy_buffered(src_fd, dst_fd, at, min(size - done, 1 << 20))
        if count == 0:
            raise _shorter(size)
        done += count


def _copy_buffered(src_fd: int, dst_fd: int, offset: int, size: int) -> int:
    return _write_all(dst_fd, os.pread(src_fd, size, offset), offset)


def _write_all(fd: int, data: bytes, offset: int) -> int:
    written = 0
    view = memoryview(data)
    while written < len(data):
        written += os.pwrite(fd, view[written:], offset + written)
    return written


def _shorter(size: int) -> FailedPrecondition:
    return FailedPrecondition(f"a file became shorter while it was copied: want {size} bytes")
