"""Who is working on the files of a snapshot right now."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING

from slipform.core.errors import Unavailable

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator


class InUse:
    """Numbers of snapshots that are read or changed outside the lock.

    Several may read at once; changing needs a snapshot for oneself. Nobody waits: whoever comes
    second is told to try again.
    """

    def __init__(self, lock: threading.RLock) -> None:
        self._lock = lock
        self._readers: Counter[int] = Counter()
        self._writers: set[int] = set()

    def check_idle(self, number: int, name: str) -> None:
        """Raise ``Unavailable`` while anybody works on it."""
        if number in self._writers:
            raise Unavailable(f'snapshot "{name}": a layer is being applied to it, try again')
        if self._readers[number]:
            raise Unavailable(f'snapshot "{name}": its files are being read, try again')

    @contextlib.contextmanager
    def reading(self, number: int, name: str) -> Iterator[None]:
        """For the block, it is neither changed nor removed. Enter under the lock.

        Raises:
            Unavailable: it is being changed.
        """
        with self._lock:
            if number in self._writers:
                self.check_idle(number, name)
            self._readers[number] += 1
        try:
            yield
        finally:
            with self._lock:
                self._readers -= Counter((number,))

    @contextlib.contextmanager
    def writing(self, number: int, name: str) -> Iterator[None]:
        """For the block, nobody else reads, changes, commits or removes it.

        Raises:
            Unavailable: somebody does already.
        """
        with self._lock:
            self.check_idle(number, name)
            self._writers.add(number)
        try:
            yield
        finally:
            with self._lock:
                self._writers.discard(number)
