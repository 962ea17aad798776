"""Seccomp filters: compiled here from the OCI runtime-spec's policy, without a library."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from slipform.core.linux import libc

_SECCOMP_SET_MODE_FILTER: Final = 1
_INSTRUCTION_SIZE: Final = 8


class _Program(ctypes.Structure):
    """``struct sock_fprog``."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_char_p))


def load(program: bytes) -> None:
    """Put this thread and what it executes under a filter; it can't be taken off again.

    Needs CAP_SYS_ADMIN or ``no_new_privs``.
    """
    fprog = _Program(len(program) // _INSTRUCTION_SIZE, program)
    pointer = ctypes.cast(ctypes.byref(fprog), ctypes.c_void_p)
    libc.syscall("seccomp", _SECCOMP_SET_MODE_FILTER, 0, pointer, about=f"pid {os.getpid()}")
