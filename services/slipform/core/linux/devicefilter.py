"""An eBPF program that lets a cgroup v2 open only harmless devices: docker's default list."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Final

from slipform.core.linux import libc

_BPF_PROG_LOAD: Final = 5
_BPF_PROG_ATTACH: Final = 8
_PROG_TYPE_CGROUP_DEVICE: Final = 15
_ATTACH_CGROUP_DEVICE: Final = 6

_MKNOD_ONLY: Final = 1
_CHARACTER: Final = 2

ALLOWED: Final = (
    *((1, minor) for minor in (3, 5, 7, 8, 9)),  # null, zero, full, random, urandom
    *((5, minor) for minor in (0, 1, 2)),  # tty, console, ptmx
)
"""(major, minor) of character devices that may be read and written."""
PTS_MAJOR: Final = 136


def attach(cgroup: str) -> None:
    """Put a cgroup v2 directory, and all below it, under the filter."""
    program = _program()
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    loaded = _bpf(
        _BPF_PROG_LOAD,
        struct.pack(
            "=IIQQIIQIi16sII",
            _PROG_TYPE_CGROUP_DEVICE,
            len(program) // 8,
            ctypes.addressof(code),
            ctypes.addressof(licence),
            0,
            0,
            0,
            0,
            0,
            b"slipform_dev",
            0,
            _ATTACH_CGROUP_DEVICE,
        ),
    )
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _bpf(
            _BPF_PROG_ATTACH,
            struct.pack("=IIII", directory, loaded, _ATTACH_CGROUP_DEVICE, 0),
        )
    finally:
        os.close(directory)
        os.close(loaded)


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    pointer = ctypes.cast(buffer, ctypes.c_void_p)
    return libc.syscall("bpf", command, pointer, len(attributes), about=str(command))


def _program() -> bytes:
    """``struct bpf_cgroup_dev_ctx`` is (access << 16 | type, major, minor), 32 bits each."""
    code: list[tuple[int, int, int, int, int]] = [
        (0x61, 2, 1, 0, 0),  # r2 = access and type
        (0x61, 3, 1, 4, 0),  # r3 = major
        (0x61, 4, 1, 8, 0),  # r4 = minor
        (0xBF, 5, 2, 0, 0),  # r5 = r2
        (0x57, 5, 0, 0, 0xFFFF),  # r5 &= 0xffff: the type
        (0x77, 2, 0, 0, 16),  # r2 >>= 16: the access
    ]
    tail: list[tuple[int, int, int, int, int]] = [
        (0x55, 2, 0, 2, _MKNOD_ONLY),  # making any node is fine, opening it is not
        (0xB7, 0, 0, 0, 1),
        (0x95, 0, 0, 0, 0),
        (0x55, 5, 0, 3 + 4 * len(ALLOWED), _CHARACTER),
        (0x55, 3, 0, 2, PTS_MAJOR),
        (0xB7, 0, 0, 0, 1),
        (0x95, 0, 0, 0, 0),
    ]
    checks: list[tuple[int, int, int, int, int]] = []
    for major, minor in ALLOWED:
        # Each check is its own little block: not this major, next; not this minor, next; allow.
        checks += [(0x55, 3, 0, 3, major), (0x55, 4, 0, 2, minor), (0xB7, 0, 0, 0, 1)]
        checks.append((0x95, 0, 0, 0, 0))
    deny = [(0xB7, 0, 0, 0, 0), (0x95, 0, 0, 0, 0)]
    return b"".join(
        struct.pack("=BBhI", opcode, source << 4 | target, offset, immediate)
        for opcode, target, source, offset, immediate in (*code, *tail, *checks, *deny)
    )
