"""Copies the bytes of one file: holes stay holes, and the kernel does the work for large ones."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

_SMALL: Final = 1 << 20
_STEP: Final = 64 << 20
"""Bytes between two looks at whether the build was cancelled."""
_NOT_HERE: Final = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF)


def copy_data(source: int, target: int, size: int, check: Callable[[], None]) -> None:
    """Copy ``size`` bytes from the start of one file to an empty other.

    A source that became shorter leaves a shorter target; what it gained is not read.
    """
    if size <= _SMALL:
        if size:
            _write_all(target, os.read(source, size))
        return
    if os.fstat(source).st_blocks * 512 >= size:
        _copy_range(source, target, 0, size, check)
        return
    at = 0
    while at < size:
        try:
            start = os.lseek(source, at, os.SEEK_DATA)
        except OSError as e:
            if e.errno != errno.ENXIO:
                raise
            break
        end = min(os.lseek(source, start, os.SEEK_HOLE), size)
        _copy_range(source, target, start, end, check)
        at = end
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, at: int, end: int, check: Callable[[], None]) -> None:
    """Bytes from ``at`` to ``end``, cloned where the file system can, else copied by the kernel."""
    try:
        while at < end:
            check()
            done = os.copy_file_range(source, target, min(_STEP, end - at), at, at)
            if not done:
                break
            at += done
    except OSError as e:
        if e.errno not in _NOT_HERE:
            raise
    # Some file systems answer 0 for files that they cannot copy this way.
    while at < end:
        check()
        data = os.pread(source, min(_SMALL, end - at), at)
        if not data:
            return
        os.lseek(target, at, os.SEEK_SET)
        _write_all(target, data)
        at += len(data)


def _write_all(target: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(target, view) :]
