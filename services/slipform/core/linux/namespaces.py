"""Namespaces: ``unshare``, ``setns``, ``pivot_root`` and ``sethostname``."""

from __future__ import annotations

import fcntl
import os
import socket
import struct
from typing import Final

from slipform.core.linux import libc

CLONE_FS: Final = 0x00000200
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000

_SIOCSIFFLAGS: Final = 0x8914
_IFF_UP: Final = 0x1
_IFF_RUNNING: Final = 0x40

BY_NAME: Final = {
    "mount": CLONE_NEWNS,
    "cgroup": CLONE_NEWCGROUP,
    "uts": CLONE_NEWUTS,
    "ipc": CLONE_NEWIPC,
    "pid": CLONE_NEWPID,
    "network": CLONE_NEWNET,
}
"""The OCI runtime-spec's names."""


def unshare(flags: int) -> None:
    """Give the calling thread new namespaces (or, with CLONE_FS, its own working directory)."""
    libc.call("unshare", flags, about=f"{flags:#x}")


def setns(fd: int, kind: int = 0) -> None:
    """Move the calling thread into the namespace behind a descriptor."""
    libc.call("setns", fd, kind, about=f"{kind:#x}")


def pivot_root(new: str, old: str) -> None:
    """Make ``new`` the root of this mount namespace and put the former root at ``old``."""
    libc.syscall("pivot_root", os.fsencode(new), os.fsencode(old), about=new)


def sethostname(name: str) -> None:
    """Set the host name of this UTS namespace."""
    socket.sethostname(name)


def loopback_up() -> None:
    """Bring up ``lo`` in this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        request = struct.pack("16sH22x", b"lo", _IFF_UP | _IFF_RUNNING)
        fcntl.ioctl(s, _SIOCSIFFLAGS, request)
