"""The text of one Dockerfile, and faults that point into it."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument
from slipform.core.source import SourceRange

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_SIZE: Final = 8 << 20
"""Bytes of a Dockerfile; the largest found in the wild are below 1 MiB."""
MAX_LINE: Final = 65_535
"""Bytes of one physical line, as BuildKit has it."""
BOM: Final = "\ufeff"


class TextError(Exception):
    """A fault at a character offset of some text, not yet placed in a file.

    Raised by the parts that see only words; who knows the line turns it into ``InvalidArgument``.
    """

    def __init__(self, message: str, *, offset: int = 0, expected: str = "") -> None:
        super().__init__(message)
        self.offset = offset
        self.expected = expected


@dataclass(frozen=True, slots=True)
class Text:
    """Name and physical lines (without their line feed, but with a carriage return if any)."""

    name: str
    lines: tuple[str, ...]

    def range(self, first: int, last: int = 0, column: int = 1) -> SourceRange:
        """Lines ``first`` to ``last`` (default: the same one)."""
        return SourceRange(self.name, first, last or first, column)

    def fault(self, message: str, at: SourceRange, expected: str = "") -> InvalidArgument:
        """The error to raise for a fault in this text."""
        return fault(message, at, self.line(at.start_line), expected)

    def line(self, number: int) -> str:
        """Physical line ``number``, from 1; empty when there is none."""
        if 1 <= number <= len(self.lines):
            return self.lines[number - 1].rstrip("\r")
        return ""


def fault(message: str, at: SourceRange, source_line: str, expected: str = "") -> InvalidArgument:
    """An ``InvalidArgument`` whose sentence begins with the place."""
    return InvalidArgument(
        printable(f"{at}: {message}"),
        source=at,
        source_line=printable(source_line),
        expected=expected,
    )


def printable(text: str) -> str:
    """The text with U+FFFD where the file's bytes were not UTF-8."""
    if text.isascii():
        return text
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def decode(data: bytes, name: str) -> Text:
    """Split untrusted bytes into lines; a byte order mark is dropped.

    Bytes that are not UTF-8 become lone surrogates: comments may hold any, and the lexer refuses
    them elsewhere, where it knows the line.

    Raises:
        InvalidArgument: too large, or a line is too long, or a NUL stands in it.
    """
    if len(data) > MAX_SIZE:
        raise InvalidArgument(f"{name}: {len(data)} bytes, want at most {MAX_SIZE}")
    content = data.decode("utf-8", "surrogateescape")
    # A line feed ends a line; it does not begin another, empty one.
    text = Text(name, tuple(content.removeprefix(BOM).removesuffix("\n").split("\n")))
    if "\0" in content:
        number = next(i for i, line in enumerate(text.lines, 1) if "\0" in line)
        column = text.lines[number - 1].index("\0") + 1
        raise text.fault("a NUL character", text.range(number, column=column), "text")
    # A line of n characters has at most 4n bytes: only long ones need counting.
    for number, line in enumerate(text.lines, 1):
        if len(line) > MAX_LINE // 4 and len(line.encode("utf-8", "surrogateescape")) > MAX_LINE:
            message = f"dockerfile line greater than maximum allowed size of {MAX_LINE}"
            raise fault(message, text.range(number), line[:200])
    return text


def check_utf8(line: str) -> None:
    """Refuse what was not UTF-8 in the file.

    Raises:
        TextError: with the offset of the first bad byte.
    """
    if line.isascii():
        return
    try:
        line.encode()
    except UnicodeEncodeError as e:
        raise TextError("not UTF-8", offset=e.start, expected="UTF-8 text") from e


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`` (did you mean x?)`` when something near is known, else nothing."""
    near = difflib.get_close_matches(word[:64], [name for name in known if name], 1, 0.6)
    return f" (did you mean {near[0]}?)" if near and near[0] != word else ""
