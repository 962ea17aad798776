"""What a process says about itself: ``prctl``, capabilities, resource limits."""

from __future__ import annotations

import ctypes
import resource
import signal
from functools import cache
from typing import TYPE_CHECKING, Final

from slipform.core.linux import libc

if TYPE_CHECKING:
    from collections.abc import Collection

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_NAME: Final = 15
_PR_CAPBSET_DROP: Final = 24
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
_CAPABILITY_VERSION_3: Final = 0x20080522

CAPABILITIES: Final = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID",
    "CAP_KILL", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_IPC_LOCK",
    "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT", "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL", "CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG",
    "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND", "CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)  # fmt: skip
"""In the order of their numbers."""

RLIMITS: Final = {
    name.removeprefix("RLIMIT_").lower(): number
    for name, number in vars(resource).items()
    if name.startswith("RLIMIT_") and name != "RLIMIT_OFILE"
}
"""``ulimit`` names as docker takes them, for example ``nofile``."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def _prctl(option: int, *args: int) -> None:
    libc.call("prctl", option, *args, *([0] * (4 - len(args))), about=str(option))


def die_with_parent() -> None:
    """Be killed when the parent dies. A change of user undoes this; ask again after it."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def outlive_parent() -> None:
    """Undo ``die_with_parent``."""
    _prctl(_PR_SET_PDEATHSIG, 0)


def adopt_orphans() -> None:
    """Become the parent of all descendants whose own parent dies."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def no_new_privileges() -> None:
    """Never gain privileges by executing anything."""
    _prctl(_PR_SET_NO_NEW_PRIVS, 1)


def keep_capabilities() -> None:
    """Keep the permitted capabilities across the next change of user."""
    _prctl(_PR_SET_KEEPCAPS, 1)


def set_name(name: str) -> None:
    """What ``ps`` shows; at most 15 bytes."""
    libc.call("prctl", _PR_SET_NAME, name.encode(), 0, 0, 0)


def limit_bounding(keep: Collection[str]) -> None:
    """Remove all capabilities but those from the bounding set."""
    for number in range(last_capability() + 1):
        name = CAPABILITIES[number] if number < len(CAPABILITIES) else ""
        if name not in keep:
            _prctl(_PR_CAPBSET_DROP, number)


def set_capabilities(
    *, effective: Collection[str], permitted: Collection[str], inheritable: Collection[str]
) -> None:
    """Replace the capabilities of this thread; those that it does not have are left out."""
    header = _Header(_CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)()
    owned = permitted_mask()
    for field, names in (
        ("effective", effective),
        ("permitted", permitted),
        ("inheritable", inheritable),
    ):
        mask = mask_of(names) & owned
        setattr(sets[0], field, mask & 0xFFFFFFFF)
        setattr(sets[1], field, mask >> 32)
    libc.syscall(
        "capset",
        ctypes.cast(ctypes.byref(header), ctypes.c_void_p),
        ctypes.cast(ctypes.byref(sets), ctypes.c_void_p),
    )


def set_ambient(names: Collection[str]) -> None:
    """Replace the ambient capabilities; they must be permitted and inheritable."""
    _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    for number, name in enumerate(CAPABILITIES):
        if name in names:
            _prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, number)


def mask_of(names: Collection[str]) -> int:
    """The bits of a set of capabilities."""
    return sum(1 << number for number, name in enumerate(CAPABILITIES) if name in names)


@cache
def last_capability() -> int:
    """The highest number that this kernel knows."""
    with open("/proc/sys/kernel/cap_last_cap", encoding="ascii") as f:
        return int(f.read())


@cache
def permitted_mask() -> int:
    """The permitted capabilities that this process had when it was first asked, as bits."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as f:
        return next((int(line[8:], 16) for line in f if line.startswith("CapPrm:")), 0)
