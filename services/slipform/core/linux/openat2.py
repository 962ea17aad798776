"""openat2(2): open a path whose resolution the kernel confines."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Final

RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10
RESOLVE_CACHED: Final = 0x20

_SYS_OPENAT2: Final = 437  # one number on every architecture: it is younger than the unified table
_ATTEMPTS: Final = 128


class _OpenHow(ctypes.Structure):
    """``struct open_how`` of linux/openat2.h."""

    _fields_ = (
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    )


_SIZE: Final = ctypes.sizeof(_OpenHow)
_syscall = ctypes.CDLL(None, use_errno=True).syscall
_syscall.restype = ctypes.c_long


def openat2(dir_fd: int, path: bytes, flags: int, *, mode: int = 0, resolve: int = 0) -> int:
    """Open ``path`` from ``dir_fd``; the descriptor is close-on-exec.

    Args:
        dir_fd: an open directory (``O_PATH`` will do).
        path: without NUL bytes; with ``RESOLVE_IN_ROOT`` ``/`` and ``..`` stop at ``dir_fd``.
        flags: as for open(2); unknown ones are refused by the kernel, not ignored.
        mode: permission bits, only with ``O_CREAT`` or ``O_TMPFILE``; the umask applies.
        resolve: an OR of the ``RESOLVE_*`` constants.

    Raises:
        OSError: with the errno of the kernel, ``path`` as file name.
    """
    if b"\0" in path:
        raise OSError(errno.EINVAL, "path contains a NUL byte", path)
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for _ in range(_ATTEMPTS):
        fd: int = _syscall(_SYS_OPENAT2, dir_fd, path, ctypes.byref(how), _SIZE)
        if fd >= 0:
            return fd
        number = ctypes.get_errno()
        # EAGAIN: a rename somewhere on the system raced with a ".."; the kernel says ask again.
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, os.strerror(number), path)
