from __future__ import annotations

from datetime import UTC, datetime

import pytest

from slipform.builder.events import EventQueue
from slipform.core.build import BuildFailed, LogEvent, ProgressEvent
from slipform.core.errors import InvalidArgument
from slipform.core.execution import Stream

AT = datetime.fromtimestamp(0, UTC)


def log(data: bytes, step: int = 1) -> LogEvent:
    return LogEvent(step, Stream.STDOUT, data, AT)


def test_output_that_waits_is_joined() -> None:
    events = EventQueue()
    for data in (b"a", b"b", b"c"):
        events.put(log(data))
    events.put(BuildFailed("x"))
    assert list(events) == [log(b"abc"), BuildFailed("x")]


def test_too_much_output_drops_the_oldest_and_says_so() -> None:
    events = EventQueue(max_waiting=100_000)
    for _ in range(10):
        events.put(log(b"x" * 50_000))
    events.put(BuildFailed("x"))
    first, *_ = events
    assert isinstance(first, LogEvent)
    assert b"400000 bytes of output were dropped" in first.data


def test_progress_replaces_itself() -> None:
    events = EventQueue()
    for current in range(5):
        events.put(ProgressEvent(1, "hash", current, 5, "files", AT))
    events.put(BuildFailed("x"))
    assert [e.current for e in events if isinstance(e, ProgressEvent)] == [4]


def test_nothing_comes_after_the_last_event() -> None:
    events = EventQueue()
    events.put(BuildFailed("x"))
    events.put(log(b"late"))
    assert list(events) == [BuildFailed("x")]


def test_error_is_raised_where_events_are_read() -> None:
    events = EventQueue()
    events.put(log(b"a"))
    events.fail(InvalidArgument("bad"))
    got = iter(events)
    assert next(got) == log(b"a")
    with pytest.raises(InvalidArgument, match="bad"):
        next(got)
