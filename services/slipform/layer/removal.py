"""Removing trees: any depth, never through a link, with few descriptors."""

from __future__ import annotations

import errno
import os

_OPEN = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(name: bytes | str, dir_fd: int | None = None) -> bool:
    """Remove whatever is at ``name``, with everything below it; links are removed, not followed.

    Nobody else may rename directories inside the tree meanwhile. What is mounted there stays.

    Returns:
        Whether there was something.

    Raises:
        OSError: as unlink(2) and rmdir(2) raise it (``EBUSY`` for a mount point).
    """
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.EPERM):
            raise
    else:
        return True
    fd = os.open(name, _OPEN, dir_fd=dir_fd)
    empty_directory(fd)
    os.rmdir(name, dir_fd=dir_fd)
    return True


def empty_directory(fd: int) -> None:
    """Remove everything below an open directory; closes ``fd``.

    One descriptor at a time: the way back up is ``..``, checked to lead where we came from.
    """
    above: list[tuple[bytes, tuple[int, int]]] = []
    try:
        while True:
            below = _remove_files(fd)
            if below is not None:
                status = os.fstat(fd)
                child = os.open(below, _OPEN, dir_fd=fd)
                above.append((below, (status.st_dev, status.st_ino)))
                os.close(fd)
                fd = child
                continue
            if not above:
                return
            name, identity = above.pop()
            parent = os.open(b"..", _OPEN, dir_fd=fd)
            os.close(fd)
            fd = parent
            status = os.fstat(fd)
            if (status.st_dev, status.st_ino) != identity:
                raise OSError(errno.EBUSY, "directory moved while it was removed", name)
            os.rmdir(name, dir_fd=fd)
    finally:
        os.close(fd)


def _remove_files(fd: int) -> bytes | None:
    """Unlink what is no directory and remove empty ones; answers one that is not empty."""
    names = [os.fsencode(name) for name in os.listdir(fd)]
    for name in names:
        try:
            os.unlink(name, dir_fd=fd)
            continue
        except OSError as error:
            if error.errno not in (errno.EISDIR, errno.EPERM):
                raise
        try:
            os.rmdir(name, dir_fd=fd)
        except OSError as error:
            if error.errno != errno.ENOTEMPTY:
                raise
            return name
    return None
