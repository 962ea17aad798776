"""The system calls that make, change and remove mounts, the old ones and the new ones."""

from __future__ import annotations

import ctypes
import os
from typing import Final

from slipform.core.linux import libc

MS_RDONLY: Final = 0x1
MS_NOSUID: Final = 0x2
MS_NODEV: Final = 0x4
MS_NOEXEC: Final = 0x8
MS_SYNCHRONOUS: Final = 0x10
MS_REMOUNT: Final = 0x20
MS_DIRSYNC: Final = 0x80
MS_NOATIME: Final = 0x400
MS_NODIRATIME: Final = 0x800
MS_BIND: Final = 0x1000
MS_MOVE: Final = 0x2000
MS_REC: Final = 0x4000
MS_SILENT: Final = 0x8000
MS_UNBINDABLE: Final = 0x20000
MS_PRIVATE: Final = 0x40000
MS_SLAVE: Final = 0x80000
MS_SHARED: Final = 0x100000
MS_RELATIME: Final = 0x200000
MS_STRICTATIME: Final = 0x1000000

MNT_DETACH: Final = 2
UMOUNT_NOFOLLOW: Final = 8

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000

OPEN_TREE_CLONE: Final = 1
OPEN_TREE_CLOEXEC: Final = os.O_CLOEXEC
MOVE_MOUNT_F_EMPTY_PATH: Final = 0x4
MOVE_MOUNT_T_EMPTY_PATH: Final = 0x40
FSOPEN_CLOEXEC: Final = 1
FSMOUNT_CLOEXEC: Final = 1
FSCONFIG_SET_FLAG: Final = 0
FSCONFIG_SET_STRING: Final = 1
FSCONFIG_CMD_CREATE: Final = 6

MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4
MOUNT_ATTR_NOEXEC: Final = 0x8
MOUNT_ATTR_NOATIME: Final = 0x10
MOUNT_ATTR_NODIRATIME: Final = 0x80

Path = str | os.PathLike[str]


def mount(source: Path, target: Path, fstype: str, flags: int = 0, data: str = "") -> None:
    """``mount(2)``; all of ``data`` must fit into one page."""
    libc.call(
        "mount",
        os.fsencode(source),
        os.fsencode(target),
        fstype.encode() or None,
        flags,
        os.fsencode(data) or None,
        about=f"{fstype or source} on {target}",
    )


def umount(target: Path, flags: int = 0) -> None:
    """``umount2(2)``."""
    libc.call("umount2", os.fsencode(target), flags, about=str(target))


def open_tree(path: Path, flags: int, dir_fd: int = AT_FDCWD) -> int:
    """A descriptor of a mount, or with OPEN_TREE_CLONE of a detached copy of it."""
    return libc.syscall(
        "open_tree", dir_fd, os.fsencode(path), flags | OPEN_TREE_CLOEXEC, about=str(path)
    )


def move_mount(mount_fd: int, target_fd: int) -> None:
    """Attach a detached mount on the directory or file behind ``target_fd``."""
    flags = MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH
    libc.syscall("move_mount", mount_fd, b"", target_fd, b"", flags)


def fsopen(fstype: str) -> int:
    """A descriptor on which a new file system is configured."""
    return libc.syscall("fsopen", fstype.encode(), FSOPEN_CLOEXEC, about=fstype)


def fsconfig_flag(fd: int, key: str) -> None:
    """Set an option that has no value."""
    libc.syscall("fsconfig", fd, FSCONFIG_SET_FLAG, key.encode(), None, 0, about=key)


def fsconfig_string(fd: int, key: str, value: str) -> None:
    """Set an option; the kernel takes at most 255 bytes of value."""
    text = os.fsencode(value)
    libc.syscall("fsconfig", fd, FSCONFIG_SET_STRING, key.encode(), text, 0, about=f"{key}={value}")


def fsconfig_create(fd: int) -> None:
    """Make the file system as configured."""
    libc.syscall("fsconfig", fd, FSCONFIG_CMD_CREATE, None, None, 0, about="create")


def fsmount(fd: int, attributes: int = 0) -> int:
    """A detached mount of the file system that ``fsconfig_create`` made."""
    return libc.syscall("fsmount", fd, FSMOUNT_CLOEXEC, attributes)


class _MountAttr(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def mount_setattr(
    fd: int, *, add: int = 0, clear: int = 0, propagation: int = 0, recursive: bool = False
) -> None:
    """Change a mount, or all mounts below it at once (Linux 5.12)."""
    attr = _MountAttr(add, clear, propagation, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    libc.syscall(
        "mount_setattr",
        fd,
        b"",
        flags,
        ctypes.cast(ctypes.byref(attr), ctypes.c_void_p),
        ctypes.sizeof(attr),
    )
