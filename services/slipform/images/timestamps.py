"""RFC 3339 times, as image configs carry them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_GRAMMAR: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)"
)
_YEARS: Final = (1678, 2261)
"""Those that nanoseconds since the epoch in 64 bits can say."""


def parse(text: str) -> datetime | None:
    """An aware time in UTC, cut to microseconds; None when the text is no such time.

    Nor is Go's zero time (year 1), which means that nobody set it.
    """
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in "Zz" else zone
    try:
        at = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '').ljust(6, '0')[:6]}{zone}")
        at = at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return at if _YEARS[0] <= at.year <= _YEARS[1] else None


def text_of(at: datetime) -> str:
    """``2026-01-02T03:04:05.6Z``: as short as Go writes it."""
    at = at.astimezone(UTC)
    fraction = f".{at.microsecond:06}".rstrip("0").rstrip(".")
    return f"{at.isoformat()[:19]}{fraction}Z"
