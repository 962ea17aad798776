"""Durations and sizes as Go programs write them: ``1m30s``, ``64m``."""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Final

_UNITS: Final = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION: Final = re.compile(r"(?:(?:\d{1,20}\.?\d{0,20}|\.\d{1,20})(?:ns|us|µs|μs|ms|s|m|h))+")
_PART: Final = re.compile(r"(\d*\.?\d*)([a-zµμ]+)")
_MOST: Final = (1 << 63) - 1
_SIZE: Final = re.compile(r"(\d{1,20}(?:\.\d{1,9})?) ?([kmgtp]?)(i?b)?", re.IGNORECASE)


def parse_duration(text: str) -> int | None:
    """Nanoseconds of a Go duration; None when it is malformed or does not fit 64 bits."""
    sign = -1 if text.startswith("-") else 1
    body = text[1:] if text[:1] in ("+", "-") else text
    if body == "0":
        return 0
    if not body.isascii() and not body.replace("µ", "u").replace("μ", "u").isascii():
        return None
    if not _DURATION.fullmatch(body):
        return None
    total = sum(int(Decimal(number) * _UNITS[unit]) for number, unit in _PART.findall(body))
    return sign * total if total <= _MOST else None


def format_duration(ns: int) -> str:
    """As Go prints it: ``1m30s``, ``1.5s``, ``0s``."""
    if ns == 0:
        return "0s"
    sign, ns = ("-", -ns) if ns < 0 else ("", ns)
    for unit, size in (("ns", 1), ("µs", 1_000), ("ms", 1_000_000)):
        if ns < size * 1_000 and ns < _UNITS["s"]:
            return f"{sign}{_decimal(ns, size)}{unit}"
    minutes, rest = divmod(ns, _UNITS["m"])
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, _UNITS['s'])}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else sign + text


def _decimal(value: int, unit: int) -> str:
    whole, rest = divmod(value, unit)
    digits = len(str(unit)) - 1
    fraction = f"{rest:0{digits}d}".rstrip("0") if digits else ""
    return f"{whole}.{fraction}" if fraction else str(whole)


def parse_size(text: str) -> int | None:
    """Bytes of ``64``, ``64k``, ``1.5GiB`` (powers of 1024); None when it is malformed."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or not text.isascii():
        return None
    factor = 1024 ** " kmgtp".index(match[2].lower() or " ")
    size = int(Decimal(match[1]) * factor)
    return size if size <= _MOST else None
