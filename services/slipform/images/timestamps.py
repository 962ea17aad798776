"""RFC 3339 times, as image configs carry them."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

_GRAMMAR: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(?:\.(\d{1,9})\d*)?([Zz]|[+-]\d\d:\d\d)"
)


def parse(text: str) -> datetime | None:
    """An aware time in UTC, cut to microseconds; None when the text is no such time."""
    match = _GRAMMAR.fullmatch(text)
    if match is None:
        return None
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in "Zz" else zone
    try:
        at = datetime.fromisoformat(f"{day}T{clock}.{(fraction or '').ljust(6, '0')[:6]}{zone}")
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def text_of(at: datetime) -> str:
    """``2026-01-02T03:04:05.6Z``: as short as Go writes it."""
    at = at.astimezone(UTC)
    fraction = f".{at.microsecond:06}".rstrip("0").rstrip(".")
    return f"{at:%Y-%m-%dT%H:%M:%S}{fraction}Z"
