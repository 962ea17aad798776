"""The events of one build on their way to whoever reads them, in bounded memory.

Output of a step that nobody has read yet grows into larger pieces; when too much of it waits, the
oldest is dropped and a line says so. Progress of the same work replaces itself. Everything else
is bounded by the number of steps.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from slipform.core.build import BuildFailed, BuildSucceeded, LogEvent, ProgressEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.core.build import BuildEvent

MAX_WAITING: Final = 4 << 20
"""Bytes of output that wait at most."""
_PIECE: Final = 64 << 10


class EventQueue:
    """Written by many threads, read by one; a writer never waits."""

    def __init__(self, max_waiting: int = MAX_WAITING) -> None:
        self._max = max_waiting
        self._ready = threading.Condition()
        self._events: deque[BuildEvent] = deque()
        self._waiting = 0
        self._dropped: dict[int, int] = {}
        self._closed = False
        self._error: BaseException | None = None

    def put(self, event: BuildEvent) -> None:
        """Append an event; ignored after the last one."""
        with self._ready:
            if self._closed:
                return
            self._append(event)
            self._closed = isinstance(event, BuildFailed | BuildSucceeded)
            self._ready.notify()

    def fail(self, error: BaseException) -> None:
        """End with an exception instead of a last event."""
        with self._ready:
            if not self._closed:
                self._error, self._closed = error, True
                self._ready.notify()

    def __iter__(self) -> Iterator[BuildEvent]:
        while True:
            with self._ready:
                while not self._events and not self._closed:
                    self._ready.wait()
                if not self._events:
                    if self._error is not None:
                        raise self._error
                    return
                event = self._events.popleft()
                if isinstance(event, LogEvent):
                    self._waiting -= len(event.data)
                    event = self._with_notice(event)
            yield event

    def _append(self, event: BuildEvent) -> None:
        last = self._events[-1] if self._events else None
        if isinstance(event, LogEvent):
            self._waiting += len(event.data)
            if (
                isinstance(last, LogEvent)
                and (last.step, last.stream) == (event.step, event.stream)
                and len(last.data) + len(event.data) <= _PIECE
            ):
                self._events[-1] = replace(last, data=last.data + event.data)
            else:
                self._events.append(event)
            self._drop()
        elif isinstance(event, ProgressEvent) and self._replace(event):
            return
        else:
            self._events.append(event)

    def _replace(self, event: ProgressEvent) -> bool:
        """Put progress in the place of older progress, if it is still among the last few."""
        for back in range(1, min(len(self._events), 16) + 1):
            old = self._events[-back]
            if isinstance(old, ProgressEvent) and (old.step, old.what) == (event.step, event.what):
                self._events[-back] = event
                return True
        return False

    def _drop(self) -> None:
        while self._waiting > self._max:
            place = next(i for i, e in enumerate(self._events) if isinstance(e, LogEvent))
            lost = self._events[place]
            assert isinstance(lost, LogEvent)  # noqa: S101 - found as one a line above
            del self._events[place]
            self._waiting -= len(lost.data)
            self._dropped[lost.step] = self._dropped.get(lost.step, 0) + len(lost.data)

    def _with_notice(self, event: LogEvent) -> LogEvent:
        lost = self._dropped.pop(event.step, 0)
        if not lost:
            return event
        notice = f"\n[{lost} bytes of output were dropped: nobody read them in time]\n".encode()
        return replace(event, data=notice + event.data)
