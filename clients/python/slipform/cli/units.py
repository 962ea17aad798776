"""Sizes and ages as docker prints them (go-units)."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from slipform.cli.errors import CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

_DECIMAL: Final = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_FACTORS: Final = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_AGES: Final = (
    # below so many hours: (hours in one, word)
    (48, 1, "hours"),
    (24 * 7 * 2, 24, "days"),
    (24 * 30 * 2, 24 * 7, "weeks"),
    (24 * 365 * 2, 24 * 30, "months"),
)


def human_size(size: float) -> str:
    """Three significant digits with a decimal unit: ``7.67MB``."""
    unit = 0
    while size >= 1000 and unit < len(_DECIMAL) - 1:
        size /= 1000
        unit += 1
    return f"{size:.3g}{_DECIMAL[unit]}" if size < 999.5 else f"{size:.0f}{_DECIMAL[unit]}"


def human_age(at: datetime | None) -> str:
    """``3 weeks ago``; ``N/A`` when unknown."""
    return (
        "N/A" if at is None else f"{human_duration((datetime.now(UTC) - at).total_seconds())} ago"
    )


def human_duration(seconds: float) -> str:
    """Roughly how long, in docker's words."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole < 60:
        return "1 second" if whole == 1 else f"{whole} seconds"
    minutes = whole // 60
    if minutes < 60:
        return "About a minute" if minutes == 1 else f"{minutes} minutes"
    hours = round(seconds / 3600)
    if hours == 1:
        return "About an hour"
    for limit, divisor, word in _AGES:
        if hours < limit:
            return f"{hours // divisor} {word}"
    return f"{hours // 24 // 365} years"


def parse_bytes(text: str, flag: str) -> int:
    """Bytes from ``512m``, ``1.5g`` or a number, with binary units as docker takes them."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?", text.strip().lower())
    if match is None:
        raise CommandError(f'invalid argument "{text}" for "{flag}" flag: want a size as 512m', 125)
    return int(float(match[1]) * _FACTORS[match[2]])


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Columns three blanks apart, as docker's tabwriter sets them."""
    lines = [header, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header) - 1)]
    return "".join(
        "".join(f"{cell:{width + 3}}" for cell, width in zip(line, widths, strict=False))
        + line[-1].rstrip()
        + "\n"
        for line in lines
    )
