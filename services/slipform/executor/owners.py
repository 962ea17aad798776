"""Which process owns something that outlives it: host, boot, number and start time."""

from __future__ import annotations

import os
import socket
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_START_TIME_FIELD = 19
"""Of ``/proc/<pid>/stat``, counted from 0 after the command's closing parenthesis."""


def mine() -> str:
    """This process, in words that no other process ever has."""
    return f"{socket.gethostname()} {_boot()} {os.getpid()} {_start_time(os.getpid())}"


def is_dead(owner: str) -> bool:
    """Whether the owner is certainly gone; those of other hosts can't be judged."""
    host, _, rest = owner.partition(" ")
    if host != socket.gethostname():
        return False
    try:
        boot, pid, started = rest.split(" ")
        return boot != _boot() or _start_time(int(pid)) != started
    except ValueError:
        return False


def _boot() -> str:
    return _BOOT_ID.read_text("ascii").strip()


def _start_time(pid: int) -> str:
    """Empty when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return text.rpartition(")")[2].split()[_START_TIME_FIELD]
