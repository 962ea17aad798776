"""Patterns on paths: Go's ``filepath.Match`` and the rules of ``.dockerignore``.

In both, ``*`` and ``?`` do not match ``/``, ``[a-z]`` and ``[^x]`` are classes, and a backslash
takes the next character literally. Ignore patterns also have ``**``, which matches any number of
directories, and ``!``, which makes an exception; the last pattern that matches decides.
"""

from __future__ import annotations

import functools
import posixpath
import re
from typing import TYPE_CHECKING, Final, Self

from slipform.core.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable

_BOM: Final = b"\xef\xbb\xbf"
_WILD: Final = re.compile(r"[*?\[\\]")
_LONGEST: Final = 4096


def has_wildcards(text: str) -> bool:
    """Whether matching a text as a pattern may differ from comparing it."""
    return _WILD.search(text) is not None


def match_name(pattern: str, name: str) -> bool:
    """Whether ``name`` (a path without directories) matches, as Go's ``filepath.Match`` has it.

    Raises:
        InvalidArgument: a malformed pattern.
    """
    return _compiled(pattern).fullmatch(name) is not None


class IgnoreMatcher:
    """A list of ignore patterns, in order.

    Raises:
        InvalidArgument: a malformed pattern.
    """

    def __init__(self, patterns: Iterable[str]) -> None:
        self.patterns = tuple(_cleaned(patterns))
        self.has_exceptions = any(pattern.startswith("!") for pattern in self.patterns)
        self._rules = [(not p.startswith("!"), _translate(p.lstrip("!"))) for p in self.patterns]
        # A pattern that matches a directory also matches everything below it.
        below = r"(?:/.*)?"
        self._each = [
            (verdict, re.compile(f"(?:{rule}){below}", re.DOTALL)) for verdict, rule in self._rules
        ]
        self._any = re.compile(
            "|".join(f"(?:{rule}){below}" for _, rule in self._rules) or "(?!)", re.DOTALL
        )

    @classmethod
    def parse(cls, data: bytes, name: str = ".dockerignore") -> Self:
        """Read an ignore file: one pattern a line, ``#`` in the first column for comments.

        Raises:
            InvalidArgument: not UTF-8, or a malformed pattern.
        """
        try:
            text = data.removeprefix(_BOM).decode()
        except UnicodeDecodeError as e:
            raise InvalidArgument(f"{name}: not valid UTF-8 at byte {e.start}") from e
        try:
            return cls(line for line in text.splitlines() if not line.startswith("#"))
        except InvalidArgument as e:
            raise InvalidArgument(f"{name}: {e}") from e

    def excludes(self, path: str) -> bool:
        """Whether a relative path, or a directory that it is in, is excluded."""
        if not self.has_exceptions:
            return self._any.fullmatch(path) is not None
        for verdict, rule in reversed(self._each):
            if rule.fullmatch(path) is not None:
                return verdict
        return False


def _cleaned(patterns: Iterable[str]) -> Iterable[str]:
    for line in patterns:
        pattern = line.strip()
        if not pattern:
            continue
        mark = ""
        if pattern.startswith("!"):
            mark, pattern = "!", pattern[1:].strip()
            if not pattern:
                raise InvalidArgument('illegal exclusion pattern: "!"')
        clean = posixpath.normpath(pattern).lstrip("/")
        if clean:
            yield mark + clean


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(_translate(pattern, stars=False), re.DOTALL)


def _translate(pattern: str, *, stars: bool = True) -> str:
    """A regular expression; ``stars``: ``**`` means any depth."""
    if len(pattern) > _LONGEST:
        raise InvalidArgument(f"pattern is longer than {_LONGEST} characters")
    out: list[str] = []
    at = 0
    while at < len(pattern):
        char = pattern[at]
        if char == "*" and stars and pattern.startswith("**", at):
            at, part = _any_depth(pattern, at)
            if not out or out[-1] != part:
                out.append(part)
            continue
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif char == "[":
            at, part = _class(pattern, at)
            out.append(part)
        elif char == "\\":
            at += 1
            if at >= len(pattern):
                raise _malformed(pattern)
            out.append(re.escape(pattern[at]))
        else:
            out.append(re.escape(char))
        at += 1
    return "".join(out)


def _any_depth(pattern: str, at: int) -> tuple[int, str]:
    """``**/`` is any number of directories, none included; ``**`` at the end is anything."""
    while pattern.startswith("*", at):
        at += 1
    if pattern.startswith("/", at):
        at += 1
    return at, ".*" if at >= len(pattern) else "(?:.*/)?"


def _class(pattern: str, start: int) -> tuple[int, str]:
    """The class that begins at ``start``; answers the place of its bracket and an expression."""
    at = start + 1
    negated = pattern.startswith("^", at)
    at += negated
    ranges: list[str] = []
    while True:
        if pattern.startswith("]", at) and ranges:
            break
        at, low = _class_char(pattern, at)
        high = low
        if pattern.startswith("-", at):
            at, high = _class_char(pattern, at + 1)
        if low <= high:
            ranges.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            ranges.append("")
    wanted = "".join(ranges)
    if not wanted:
        return at, "[^/]" if negated else "(?!)"
    # A class never matches a separator, whatever is in it.
    return at, f"(?!/)[{'^' if negated else ''}{wanted}]"


def _class_char(pattern: str, at: int) -> tuple[int, str]:
    if at >= len(pattern) or pattern[at] in "-]":
        raise _malformed(pattern)
    if pattern[at] == "\\":
        at += 1
        if at >= len(pattern):
            raise _malformed(pattern)
    if at + 1 >= len(pattern):
        raise _malformed(pattern)
    return at + 1, pattern[at]


def _malformed(pattern: str) -> InvalidArgument:
    return InvalidArgument(f'syntax error in pattern "{pattern}"')
