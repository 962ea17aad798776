"""Whether two files on disk are the same in every respect that a layer can tell."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from slipform.layer.reading import open_quietly
from slipform.layer.xattrs import by_descriptor, read_portable

if TYPE_CHECKING:
    from slipform.layer.lower_view import LowerEntry

_CHUNK: Final = 1 << 18


def same_status(new: os.stat_result, old: os.stat_result) -> bool:
    """Whether type, mode, owner, time, size and device number are equal.

    The time counts in full (nanoseconds): both files are on disk, and neither has been through
    the whole seconds of a tar since the one was made from the other.
    """
    if (
        new.st_mtime_ns != old.st_mtime_ns
        or new.st_mode != old.st_mode
        or new.st_uid != old.st_uid
        or new.st_gid != old.st_gid
    ):
        return False
    mode = new.st_mode
    if stat.S_ISREG(mode):
        return new.st_size == old.st_size
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return new.st_rdev == old.st_rdev
    return True


def same_owner_and_mode(new: os.stat_result, old: os.stat_result) -> bool:
    """Whether two directories are equal but for their times."""
    return (new.st_mode, new.st_uid, new.st_gid) == (old.st_mode, old.st_uid, old.st_gid)


def same_inside(dir_fd: int, name: bytes, path: bytes, mode: int, old: LowerEntry) -> bool:
    """Whether link target, attributes and content are equal; type and size are known to be."""
    if stat.S_ISLNK(mode):
        return os.readlink(name, dir_fd=dir_fd) == os.readlink(old.path)
    if not stat.S_ISREG(mode):
        return same_xattrs(dir_fd, name, path, old)
    new_fd = open_quietly(name, dir_fd)
    try:
        old_fd = open_quietly(old.path)
        try:
            if read_portable(new_fd, path) != read_portable(old_fd, old.path):
                return False
            return _same_bytes(new_fd, old_fd)
        finally:
            os.close(old_fd)
    finally:
        os.close(new_fd)


def same_xattrs(dir_fd: int, name: bytes, path: bytes, old: LowerEntry) -> bool:
    """Whether the attributes of a directory or special file are equal."""
    fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
    try:
        return read_portable(by_descriptor(fd), path) == read_portable(old.path, old.path)
    finally:
        os.close(fd)


def _same_bytes(new_fd: int, old_fd: int) -> bool:
    while True:
        chunk = os.read(new_fd, _CHUNK)
        if chunk != os.read(old_fd, _CHUNK):
            return False
        if not chunk:
            return True
