"""One entry of a tar as its headers describe it, and the parsing of numbers and PAX records."""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_DECIMAL: Final = re.compile(rb"[0-9]{1,20}")
_TIME: Final = re.compile(rb"(-?)([0-9]{1,18})(?:\.([0-9]*))?")
MAX_RECORDS: Final = 1 << 20
"""Bytes: the largest PAX header or GNU long name that is read (Go's archive/tar agrees)."""


class Malformed(ValueError):
    """A header that makes no sense; the reader adds the entry and the offset."""


@dataclass(slots=True)
class TarEntry:
    """An entry; ``size`` counts the data bytes in the archive, ``real_size`` those of the file."""

    offset: int
    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes = b""
    major: int = 0
    minor: int = 0
    real_size: int | None = None
    sparse: list[tuple[int, int]] | None = None
    """Data segments (offset in the file, length) of a sparse file; None for others."""
    xattrs: Sequence[tuple[str, bytes]] = ()


@lru_cache(maxsize=4096)  # modes, owners and times repeat from entry to entry
def number(text: bytes) -> int:
    """A numeric header field: octal with padding, or GNU base-256. Raises ``Malformed``."""
    if text and text[0] & 0x80:
        value = int.from_bytes(text, "big", signed=False)
        bits = 8 * len(text)
        if text[0] == 0x80:
            return value - (1 << (bits - 1))
        if text[0] == 0xFF:
            return value - (1 << bits)
        raise Malformed(f"number field {text!r} is neither octal nor base-256")
    digits = text.partition(b"\0")[0].strip(b" ")
    if not digits:
        return 0
    if digits.translate(None, b"01234567"):
        raise Malformed(f"number field {text!r} is not octal")
    return int(digits, 8)


def checksum_is_right(block: bytes) -> bool:
    """Whether a header's checksum holds, with unsigned or (old Sun tars) signed bytes."""
    try:
        stored = number(block[148:156])
    except Malformed:
        return False
    if block.isascii():
        # Adler-32 counts 1 + the sum of the bytes modulo 65521, which 512 ASCII bytes stay below.
        field_sum = sum(block[148:156])
        if (zlib.adler32(block) & 0xFFFF) - 1 - field_sum + 256 == stored:
            return True
    rest = block[:148] + b" " * 8 + block[156:]
    unsigned = sum(rest)
    return stored in (unsigned, unsigned - 256 * sum(byte > 127 for byte in rest))


def parse_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records of a PAX header, in order. Raises ``Malformed``."""
    records: list[tuple[bytes, bytes]] = []
    at = 0
    end = len(data)
    while at < end:
        space = data.find(b" ", at, at + 21)
        digits = data[at:space] if space > 0 else b""
        if not _DECIMAL.fullmatch(digits):
            if not data[at:].strip(b"\0"):
                return records
            raise Malformed("PAX record does not start with its length")
        stop = at + int(digits)
        equals = data.find(b"=", space + 1, stop)
        if stop > end or stop <= space + 2 or equals <= space + 1 or data[stop - 1] != 0x0A:
            raise Malformed("PAX record is not as long as it says, or lacks key or newline")
        records.append((data[space + 1 : equals], data[equals + 1 : stop - 1]))
        at = stop
    return records


def decimal(key: bytes, value: bytes) -> int:
    """A number in a PAX record. Raises ``Malformed``."""
    if not _DECIMAL.fullmatch(value):
        raise Malformed(f"PAX record {key!r} has value {value[:40]!r}, want decimal digits")
    return int(value)


def nanoseconds(key: bytes, value: bytes) -> int:
    """A time in a PAX record: seconds with any number of decimals. Raises ``Malformed``."""
    match = _TIME.fullmatch(value)
    if match is None:
        raise Malformed(f"PAX record {key!r} has value {value[:40]!r}, want seconds")
    fraction = int((match[3] or b"")[:9].ljust(9, b"0"))
    total = int(match[2]) * 10**9 + fraction
    return -total if match[1] else total
