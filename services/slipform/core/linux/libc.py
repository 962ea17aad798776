"""The C library: how the wrappers of this package make system calls."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import Final

LIBC: Final = ctypes.CDLL(None, use_errno=True)
MACHINE: Final = platform.machine()

_BY_MACHINE: Final = {
    "x86_64": {"pivot_root": 155, "seccomp": 317, "capset": 126, "bpf": 321},
    "aarch64": {"pivot_root": 41, "seccomp": 277, "capset": 91, "bpf": 280},
}
# Numbers from 424 on are the same on every architecture.
_EVERYWHERE: Final = {
    "pidfd_send_signal": 424,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "pidfd_open": 434,
    "mount_setattr": 442,
}

Argument = int | bytes | None | ctypes.c_void_p


def call(name: str, *args: Argument, about: str = "") -> int:
    """Call a function of the C library; -1 becomes ``OSError``.

    Args:
        name: the function.
        args: integers (passed as C ``long``), NUL-terminated texts, or NULL.
        about: what the error message should name besides the function.
    """
    return _checked(getattr(LIBC, name)(*map(_wide, args)), name, about)


def syscall(name: str, *args: Argument, about: str = "") -> int:
    """Make a system call that the C library may not know; -1 becomes ``OSError``."""
    number = _EVERYWHERE.get(name) or _BY_MACHINE.get(MACHINE, {}).get(name)
    if number is None:
        raise OSError(38, f"system call {name} is not known for {MACHINE}")
    return _checked(LIBC.syscall(ctypes.c_long(number), *map(_wide, args)), name, about)


def _wide(argument: Argument) -> Argument | ctypes.c_long | ctypes.c_ulong:
    """Integers as ``long``: a bare Python int would be cut to 32 bits."""
    if not isinstance(argument, int):
        return argument
    return ctypes.c_long(argument) if argument < 1 << 63 else ctypes.c_ulong(argument)


def _checked(result: int, name: str, about: str) -> int:
    if result >= 0:
        return result
    errno = ctypes.get_errno()
    raise OSError(errno, os.strerror(errno), f"{name}({about})")
