from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipform.images import timestamps


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, 0, UTC)),
        ("2026-01-02T03:04:05.123456789Z", datetime(2026, 1, 2, 3, 4, 5, 123456, UTC)),
        ("2026-01-02T03:04:05.1+02:00", datetime(2026, 1, 2, 1, 4, 5, 100_000, UTC)),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+02:00", None),
        ("2026-13-01T00:00:00Z", None),
        ("2026-01-02T03:04:05", None),
        ("yesterday", None),
        ("", None),
    ],
)
def test_parse(text: str, expected: datetime | None) -> None:
    assert timestamps.parse(text) == expected


@given(st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC)))
def test_what_is_written_is_read(at: datetime) -> None:
    assert timestamps.parse(timestamps.text_of(at)) == at
