"""Disk space that is kept back, so that removing still works when the disk is full.

Removing a snapshot first writes to the metadata; without a reserve a full disk could never be
emptied again.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, TypeVar

from slipform.core.errors import ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")

SIZE: Final = 1 << 20


class Reserve:
    """One file that takes up space until it is needed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._spent = True
        self.restore()

    def spend_on(self, attempt: Callable[[], T]) -> T:
        """Do it; when there is no space, free the reserve and do it once more."""
        try:
            return attempt()
        except ResourceExhausted:
            self._spent = True
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()
            return attempt()

    def restore(self) -> None:
        """Take the space back, if it was spent and there is some."""
        if not self._spent:
            return
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(fd, 0, SIZE)
            self._spent = False
        except OSError:  # still full, or a file system that can't: then there is none
            os.ftruncate(fd, 0)
        finally:
            os.close(fd)
