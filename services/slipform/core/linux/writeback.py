"""``sync_file_range(2)``: let the kernel write while we go on."""

from __future__ import annotations

import ctypes
from typing import Final

_SYNC_FILE_RANGE_WRITE: Final = 2
_libc: Final = ctypes.CDLL(None, use_errno=True)


def start_writeback(fd: int, offset: int, size: int) -> None:
    """Start writing a range of a file to disk and return, mostly, at once.

    Only advice: errors are left to ``fsync``, which promises what this does not.
    """
    _libc.sync_file_range(fd, ctypes.c_int64(offset), ctypes.c_int64(size), _SYNC_FILE_RANGE_WRITE)
