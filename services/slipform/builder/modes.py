"""``--chmod``: octal, or symbolic as chmod(1) reads it with a umask of 0."""

from __future__ import annotations

import re
import stat
from dataclasses import dataclass
from typing import Final

from slipform.core.errors import InvalidArgument

_OCTAL: Final = re.compile(r"[0-7]{1,5}")
_CLAUSE: Final = re.compile(r"([ugoa]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION: Final = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_SHIFT: Final = {"u": 6, "g": 3, "o": 0}
_BITS: Final = {"r": 4, "w": 2, "x": 1}


@dataclass(frozen=True, slots=True)
class ModeChange:
    """A parsed ``--chmod``; ``octal`` is None for a symbolic one."""

    octal: int | None
    clauses: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()

    @classmethod
    def parse(cls, text: str) -> ModeChange:
        """Read the value of ``--chmod``.

        Raises:
            InvalidArgument: neither octal up to 07777 nor symbolic.
        """
        if _OCTAL.fullmatch(text) and int(text, 8) <= 0o7777:
            return cls(int(text, 8))
        clauses = []
        for part in text.split(","):
            match = _CLAUSE.fullmatch(part)
            if match is None:
                raise InvalidArgument(
                    f'invalid chmod "{text}": want octal from 0 to 07777, or as "u+x,go=rX"'
                )
            who = "ugo" if not match[1] or "a" in match[1] else match[1]
            actions = tuple((m[1], m[2]) for m in _ACTION.finditer(match[2]))
            clauses.append((who, actions))
        return cls(None, tuple(clauses))

    def apply(self, mode: int) -> int:
        """Permission bits of a file whose ``st_mode`` is ``mode``."""
        if self.octal is not None:
            return self.octal
        bits = stat.S_IMODE(mode)
        for who, actions in self.clauses:
            for sign, letters in actions:
                bits = _act(bits, who, sign, letters, is_dir=stat.S_ISDIR(mode))
        return bits


def _act(bits: int, who: str, sign: str, letters: str, *, is_dir: bool) -> int:
    value = mask = 0
    for one in who:
        value |= _triple(bits, letters, is_dir=is_dir) << _SHIFT[one]
        mask |= 7 << _SHIFT[one]
    special = _special(who, letters)
    if sign == "+":
        return bits | value | special
    if sign == "-":
        return bits & ~(value | special)
    # chmod(1): "=" leaves the special bits of directories alone unless they are named.
    cleared = 0 if is_dir else _special(who, "st" if who == "ugo" else "s")
    return (bits & ~mask & ~cleared) | value | special


def _triple(bits: int, letters: str, *, is_dir: bool) -> int:
    if letters in _SHIFT:
        return bits >> _SHIFT[letters] & 7
    value = 0
    for letter in letters:
        value |= _BITS.get(letter, 0)
    if "X" in letters and (is_dir or bits & 0o111):
        value |= 1
    return value


def _special(who: str, letters: str) -> int:
    value = 0
    if "s" in letters:
        value |= stat.S_ISUID if "u" in who else 0
        value |= stat.S_ISGID if "g" in who else 0
    if "t" in letters and who == "ugo":
        value |= stat.S_ISVTX
    return value
