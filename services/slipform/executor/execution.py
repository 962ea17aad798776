"""The core of the executor service: requests in, bundles to the driver, handles out."""

from __future__ import annotations

import re
import threading
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from slipform.core.errors import AlreadyExists, InvalidArgument
from slipform.core.execution import Bundle, RunEvent, RunHandle, RunRequest
from slipform.executor.files import FileProvider
from slipform.executor.spec import write_spec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from slipform.core.executor_driver import DriverInfo, ExecutorDriver

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")


class Execution:
    """An ``Executor`` over one driver."""

    def __init__(self, driver: ExecutorDriver, state: Path) -> None:
        """Take over a state directory; what an unclean death left in it is removed.

        Args:
            driver: what runs the bundles; not closed by this class.
            state: a directory of this service alone.
        """
        self._driver = driver
        self._files = FileProvider(state / "files")
        self._lock = threading.Lock()
        self._running: dict[str, RunHandle | None] = {}

    def info(self) -> DriverInfo:
        """What the driver is and can do."""
        return self._driver.info()

    def run(self, request: RunRequest) -> RunHandle:
        """Start a process; see ``Executor.run``. Starting failures are raised here."""
        if not _ID.fullmatch(request.id):
            raise InvalidArgument(
                f"run id {request.id!r}: want up to 128 letters, digits, '_', '.', '-'"
            )
        if request.stdin and request.open_stdin:
            raise InvalidArgument("run: stdin and open_stdin exclude each other")
        for variable in request.env:
            if variable.find("=") < 1 or "\0" in variable:
                raise InvalidArgument(f"run: environment {variable!r}: want NAME=value")
        self._reserve(request.id)
        try:
            spec = write_spec(request, self._files.provide(request))
            bundle = Bundle(
                request.id,
                spec,
                request.rootfs,
                request.timeout_s,
                request.stdin,
                request.open_stdin,
            )
            handle = self._driver.start(bundle)
        except BaseException:
            self._forget(request.id)
            raise
        with self._lock:
            self._running[request.id] = handle
        return _Tracked(handle, lambda: self._forget(request.id))

    def signal(self, run_id: str, number: int) -> bool:
        """Send a signal to a run by its id; False when none of that id runs."""
        with self._lock:
            handle = self._running.get(run_id)
        if handle is None:
            return False
        handle.signal(number)
        return True

    def _reserve(self, run_id: str) -> None:
        with self._lock:
            if run_id in self._running:
                raise AlreadyExists(f"run {run_id} is running already")
            self._running[run_id] = None

    def _forget(self, run_id: str) -> None:
        self._files.take_back(run_id)
        with self._lock:
            self._running.pop(run_id, None)


@dataclass(slots=True)
class _Tracked:
    """A driver's handle that tells the executor when it is done."""

    _handle: RunHandle
    _done: Callable[[], None]
    _finished: bool = field(default=False)

    def __iter__(self) -> Iterator[RunEvent]:
        events = iter(self._handle)
        try:
            yield from events
        finally:
            close_events(events)
            self._finish()

    def _finish(self) -> None:
        if not self._finished:
            self._finished = True
            self._done()

    def cancel(self) -> None:
        """See ``RunHandle``."""
        self._handle.cancel()

    def signal(self, number: int) -> None:
        """See ``RunHandle``."""
        self._handle.signal(number)

    def write_stdin(self, data: bytes) -> None:
        """See ``RunHandle``."""
        self._handle.write_stdin(data)

    def close_stdin(self) -> None:
        """See ``RunHandle``."""
        self._handle.close_stdin()


def close_events(events: Iterator[RunEvent]) -> None:
    """Stop iterating early: kills the process and waits until it is gone, where it still runs."""
    if isinstance(events, Generator):
        events.close()
