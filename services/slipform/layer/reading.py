"""Opening files of a tree for reading without leaving a trace on them."""

from __future__ import annotations

import os
from typing import Final

_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_QUIET: Final = _FLAGS | os.O_NOATIME


def open_quietly(name: bytes | str, dir_fd: int | None = None, flags: int = 0) -> int:
    """Open for reading, never through a link, without touching the access time where allowed.

    ``O_NONBLOCK`` keeps a fifo that took a file's place from stopping us for ever.
    """
    try:
        return os.open(name, _QUIET | flags, dir_fd=dir_fd)
    except PermissionError:  # only the owner and CAP_FOWNER may ask for O_NOATIME
        return os.open(name, _FLAGS | flags, dir_fd=dir_fd)
