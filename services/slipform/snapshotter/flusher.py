"""Gets committed data to disk behind the builds' backs.

Waiting for the disk at each commit would make a step cost what the disk costs. So a commit notes
under which boot of the machine it was made, this thread calls ``syncfs`` a little later and takes
the note away; and after a power cut, what still carries a note of an earlier boot is dropped
(``slipform.snapshotter.recovery``) instead of trusted.
"""

from __future__ import annotations

import functools
import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.core.errors import DomainError

if TYPE_CHECKING:
    from slipform.snapshotter.state import State

_log = logging.getLogger(__name__)


@functools.cache
def boot_id() -> str:
    """Another text after each boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


class Flusher:
    """One thread, started by the first commit."""

    def __init__(self, state: State, delay_s: float) -> None:
        self._state = state
        self._delay_s = delay_s
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def notify(self) -> None:
        """Something was committed; returns at once."""
        self._wake.set()
        with self._lock:
            if self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._run, name="flusher", daemon=True)
                self._thread.start()

    def flush(self) -> None:
        """Return when everything committed before is on disk. Raises ``OSError``."""
        with self._state.lock:
            numbers = list(self._state.catalog.unsynced())
        if not numbers:
            return
        for number in numbers:
            # Not by the commit itself: it would cost a step more than all else that commit does.
            self._state.driver.seal(number)
        self._state.driver.sync()
        with self._state.transaction():
            self._state.catalog.mark_synced(numbers)

    def stop(self) -> None:
        """End the thread; idempotent."""
        with self._lock:
            self._stop.set()
            thread, self._thread = self._thread, None
        self._wake.set()
        if thread is not None:
            thread.join()

    def _run(self) -> None:
        while True:
            self._wake.wait()
            if self._stop.wait(self._delay_s):
                return
            self._wake.clear()
            try:
                self.flush()
            except (OSError, DomainError) as e:
                _log.warning("committed snapshots could not be written to disk: %s", e)
