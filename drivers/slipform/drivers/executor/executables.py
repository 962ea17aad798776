"""What the kernel would say to an executable, asked before a runtime hides the answer.

runc and crun find out only after they have reported success; their users see a line on standard
error and exit code 1. What lies on mounts can't be looked at here and is left to the runtime.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Any, Final

from slipform.core.execution import ExecutableNotFound, ExecutableNotRunnable
from slipform.core.linux.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from slipform.core.oci.config import DEFAULT_PATH

if TYPE_CHECKING:
    from collections.abc import Mapping

_HEAD: Final = 256


def check(root: int, process: Mapping[str, Any]) -> None:
    """Look at the executable of a runtime-spec's ``process`` inside the root.

    Raises:
        ExecutableNotFound: it is a script whose interpreter does not exist.
        ExecutableNotRunnable: it is of no format that the kernel runs.
    """
    name = process["args"][0]
    head = next((h for h in (_head(root, path) for path in _candidates(process)) if h), b"")
    if head.startswith(b"#!"):
        interpreter = (head[2:].split(b"\n")[0].split() or [b""])[0]
        if interpreter.startswith(b"/") and not _exists(root, interpreter):
            raise ExecutableNotFound(f'exec: "{name}": its interpreter does not exist')
    elif head and not head.startswith(b"\x7fELF") and not _binary_formats():
        raise ExecutableNotRunnable(f'exec: "{name}": exec format error')


def _candidates(process: Mapping[str, Any]) -> list[str]:
    name, cwd = process["args"][0], process["cwd"]
    if "/" in name:
        return [os.path.join(cwd, name)]
    path = next((e[5:] for e in process["env"] if e.startswith("PATH=")), DEFAULT_PATH)
    return [os.path.join(cwd, directory or ".", name) for directory in path.split(":")]


def _head(root: int, path: str) -> bytes:
    """The first bytes of a regular executable file; nothing of anything else."""
    try:
        found = _open(root, os.fsencode(path))
    except OSError:
        return b""
    try:
        mode = os.fstat(found).st_mode
        if not stat.S_ISREG(mode) or not mode & 0o111:
            return b""
        with open(f"/proc/self/fd/{found}", "rb") as f:
            return f.read(_HEAD)
    finally:
        os.close(found)


def _exists(root: int, path: bytes) -> bool:
    try:
        os.close(_open(root, path))
    except OSError:
        return False
    return True


def _open(root: int, path: bytes) -> int:
    return openat2(root, path, os.O_PATH, resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def _binary_formats() -> bool:
    """Whether somebody has taught the kernel formats that we know nothing of."""
    try:
        return len(os.listdir("/proc/sys/fs/binfmt_misc")) > 2
    except OSError:
        return False
