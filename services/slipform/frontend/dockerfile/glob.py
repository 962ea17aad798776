"""Shell patterns on values, for ``${v#p}``, ``${v%p}`` and ``${v/p/r}``.

``*``, ``?`` and backslash escapes. Matching simulates all states at once in the bits of one
integer, so that no pattern can make it slow: a regular expression with several stars could.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_ANY: Final = "?"
_STAR: Final = "*"


@dataclass(frozen=True, slots=True)
class _Token:
    """One character, or a wildcard when ``wild``."""

    char: str
    wild: bool


class Glob:
    """A compiled pattern; bit ``i`` of a state means that ``i`` tokens have matched."""

    def __init__(self, tokens: Iterable[_Token]) -> None:
        tokens = tuple(tokens)
        self._stars = 0
        self._any = 0
        self._chars: dict[str, int] = {}
        for i, token in enumerate(tokens):
            if token.wild and token.char == _STAR:
                self._stars |= 1 << i
            elif token.wild:
                self._any |= 1 << i
            else:
                self._chars[token.char] = self._chars.get(token.char, 0) | 1 << i
        self._accept = 1 << len(tokens)
        self._tokens = tokens

    def reversed(self) -> Glob:
        """The pattern that matches the reversed strings."""
        return Glob(self._tokens[::-1])

    @property
    def empty(self) -> bool:
        """Whether it is the empty pattern."""
        return not self._tokens

    def _closure(self, state: int) -> int:
        """A star also matches nothing."""
        while (more := state | (state & self._stars) << 1) != state:
            state = more
        return state

    def _step(self, state: int, char: str) -> int:
        moved = (state & (self._any | self._chars.get(char, 0))) << 1
        return self._closure(moved | state & self._stars)

    def ends(self, text: Iterable[str], *, anywhere: bool = False) -> Iterator[int]:
        """Lengths of the prefixes of ``text`` that match, shortest first.

        With ``anywhere``, those of which some suffix matches.
        """
        begin = self._closure(1)
        state = begin
        if state & self._accept:
            yield 0
        for length, char in enumerate(text, 1):
            state = self._step(state, char)
            if anywhere:
                state |= begin
            elif not state:
                return
            if state & self._accept:
                yield length


def parse(pattern: str) -> Glob:
    """Compile a pattern; a backslash takes its wildcard meaning from what follows."""
    return Glob(_tokens(pattern))


def _tokens(pattern: str) -> Iterator[_Token]:
    chars = iter(pattern)
    before = False
    for char in chars:
        if char == "\\":
            yield _Token(next(chars, "\\"), wild=False)
            before = False
        elif char == _STAR:
            if not before:
                yield _Token(char, wild=True)
            before = True
        else:
            yield _Token(char, wild=char == _ANY)
            before = False


def trim_prefix(pattern: str, value: str, *, longest: bool) -> str:
    """``${v#p}``, or ``${v##p}`` with ``longest``."""
    return value[_length(parse(pattern), value, longest) :]


def trim_suffix(pattern: str, value: str, *, longest: bool) -> str:
    """``${v%p}``, or ``${v%%p}`` with ``longest``."""
    return value[: len(value) - _length(parse(pattern).reversed(), value[::-1], longest)]


def _length(glob: Glob, value: str, longest: bool) -> int:
    found = 0
    for found in glob.ends(value):  # noqa: B007 - the last one is wanted
        if not longest:
            break
    return found


def replace(pattern: str, value: str, replacement: str, *, everywhere: bool) -> str:
    """``${v/p/r}``, or ``${v//p/r}``: leftmost, longest; the empty pattern matches nothing."""
    glob = parse(pattern)
    if glob.empty:
        return value
    # Where a match can begin is where one of the reversed pattern ends in the reversed text.
    starts = {len(value) - n for n in glob.reversed().ends(reversed(value), anywhere=True)}
    out: list[str] = []
    at = 0
    while at < len(value):
        length = _longest(glob, value, at) if at in starts else 0
        if not length:
            out.append(value[at])
            at += 1
            continue
        out.append(replacement)
        at += length
        if not everywhere:
            break
    out.append(value[at:])
    return "".join(out) if value else _replace_empty(glob, replacement)


def _longest(glob: Glob, value: str, at: int) -> int:
    found = 0
    for found in glob.ends(value[i] for i in range(at, len(value))):  # noqa: B007
        pass
    return found


def _replace_empty(glob: Glob, replacement: str) -> str:
    return replacement if any(True for _ in glob.ends("")) else ""
