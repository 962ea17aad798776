"""Identical steps of builds that run at once are done once: the others listen.

A flight belongs to nobody: it is cancelled only when every build that wanted it has left. A
listener that joins late hears the output from the start, up to a limit.
"""

from __future__ import annotations

import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from slipform.core.errors import Cancelled

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from slipform.core.execution import Stream

TAIL_LINES: Final = 64
_REPLAY: Final = 256 << 10
_LINE: Final = 4096


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step came to: a committed snapshot ("" = an empty root) and its identity in keys."""

    snapshot: str
    identity: str
    created_ns: int
    cached: bool = False


class Listener(Protocol):
    """A build that waits for a flight; called from the flight's thread, must not block."""

    def started(self, miss_reason: str) -> None:
        """The step has really begun."""
        ...

    def output(self, stream: Stream, data: bytes, at: datetime) -> None:
        """The step's process wrote."""
        ...

    def progress(self, what: str, current: int, total: int, unit: str) -> None:
        """How far a long piece of work has come."""
        ...


@dataclass(slots=True)
class Flight:
    """One running step; work calls ``check`` often and ``on_cancel`` for what blocks."""

    key: str
    future: Future[Outcome] = field(default_factory=Future)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _listeners: list[Listener] = field(default_factory=list)
    _cancelled: bool = False
    _stop: Callable[[], None] | None = None
    _reason: str | None = None
    _log: deque[tuple[Stream, bytes, datetime]] = field(default_factory=deque)
    _logged: int = 0
    _tail: deque[bytes] = field(default_factory=lambda: deque((b"",), maxlen=TAIL_LINES + 1))

    def check(self) -> None:
        """Raises ``Cancelled`` when nobody wants the result any more."""
        if self._cancelled:
            raise Cancelled("the build was cancelled")

    def on_cancel(self, stop: Callable[[], None] | None) -> None:
        """Have ``stop`` called when the flight is cancelled, at once if it is already."""
        with self._lock:
            self._stop = stop
            late = self._cancelled
        if late and stop is not None:
            stop()

    def start(self, miss_reason: str) -> None:
        """Tell listeners that the step has begun."""
        with self._lock:
            self._reason = miss_reason
            for listener in self._listeners:
                listener.started(miss_reason)

    def output(self, stream: Stream, data: bytes, at: datetime) -> None:
        """Pass output on, and keep its end for whoever joins later and for the error message."""
        with self._lock:
            self._remember(stream, data, at)
            for listener in self._listeners:
                listener.output(stream, data, at)

    def progress(self, what: str, current: int, total: int, unit: str) -> None:
        """Pass progress on."""
        with self._lock:
            for listener in self._listeners:
                listener.progress(what, current, total, unit)

    def tail(self) -> tuple[str, ...]:
        """The last lines of output."""
        with self._lock:
            lines = [line.decode(errors="replace").rstrip("\r") for line in self._tail]
        if lines and not lines[-1]:
            lines.pop()
        return tuple(lines[-TAIL_LINES:])

    def join(self, listener: Listener) -> bool:
        """Listen; False when the flight is being cancelled and must not be relied on."""
        with self._lock:
            if self._cancelled:
                return False
            self._listeners.append(listener)
            if self._reason is not None:
                listener.started(self._reason)
            for stream, data, at in self._log:
                listener.output(stream, data, at)
        return True

    def leave(self, listener: Listener) -> bool:
        """Stop listening; True when that was the last one, which cancels the work."""
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)
            if self._listeners:
                return False
            self._cancelled = True
            stop = self._stop
        if stop is not None:
            stop()
        return True

    def _remember(self, stream: Stream, data: bytes, at: datetime) -> None:
        self._log.append((stream, data, at))
        self._logged += len(data)
        while self._logged > _REPLAY and len(self._log) > 1:
            self._logged -= len(self._log.popleft()[1])
        first, *rest = data.split(b"\n")
        self._tail[-1] = (self._tail[-1] + first)[-_LINE:]
        for line in rest[-TAIL_LINES - 1 :]:
            self._tail.append(line[-_LINE:])


class Flights:
    """All running steps of all builds, on one pool of threads."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="step")
        self._lock = threading.Lock()
        self._running: dict[str, Flight] = {}

    def join(self, key: str, listener: Listener, work: Callable[[Flight], Outcome]) -> Flight:
        """Join the running flight of this key, or start ``work`` as a new one."""
        with self._lock:
            flight = self._running.get(key)
            if flight is not None and flight.join(listener):
                return flight
            flight = self._running[key] = Flight(key)
            flight.join(listener)
            flight.future = self._pool.submit(self._run, flight, work)
            return flight

    def close(self) -> None:
        """Cancel everything and wait until it is gone."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, flight: Flight, work: Callable[[Flight], Outcome]) -> Outcome:
        try:
            flight.check()
            return work(flight)
        finally:
            with self._lock:
                if self._running.get(flight.key) is flight:
                    del self._running[flight.key]
