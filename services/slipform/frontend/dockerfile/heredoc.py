"""Here-documents: markers in a line, and the lines that are their bodies."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from slipform.frontend.dockerfile.text import TextError

_LEADING_TABS: Final = re.compile(r"^\t+", re.MULTILINE)
_QUOTED: Final = re.compile(r"""'[^']*+(?:'|\Z)|"(?:[^"\\]|\\.)*+(?:"|\\?\Z)""", re.DOTALL)
_OPENER: Final = re.compile(r"(\d*)<<(-?)[ \t]*")
_BREAKS: Final = " \t\v\f\r;|&("
"""A marker stands at the start of a shell word."""
_NAME_ENDS: Final = " \t\v\f\r;|&()<>"


@dataclass(frozen=True, slots=True)
class Marker:
    """``[fd]<<[-]name`` at ``start:end`` of a text.

    Attributes:
        name: with quotes and escapes removed.
        expand: no part of the name was quoted.
        chomp: ``<<-``: leading tabs of the body are removed.
    """

    start: int
    end: int
    name: str
    expand: bool
    chomp: bool


@dataclass(frozen=True, slots=True)
class Heredoc:
    """A marker and its body as written, terminator excluded."""

    marker: Marker
    body: str

    @property
    def content(self) -> str:
        """The body, without leading tabs when the marker says so."""
        return _LEADING_TABS.sub("", self.body) if self.marker.chomp else self.body


def find_markers(text: str, start: int = 0) -> list[Marker]:
    """The markers in a line from ``start`` on, by the rules of a shell.

    Quoted text, escaped characters, ``<<<`` and shifts in ``$((…))`` are none.

    Raises:
        TextError: the quotes of a name are not balanced.
    """
    markers: list[Marker] = []
    at = start
    while (at := text.find("<<", at)) >= 0:
        # Rare enough to look at everything before it anew: lines with many are short.
        start = _skip_plain(text, start, at)
        if start > at:
            at = start
            continue
        marker, at = _marker_at(text, at)
        start = at
        if marker is not None:
            markers.append(marker)
    return markers


def _skip_plain(text: str, at: int, stop: int) -> int:
    """Step over quotes, escapes and arithmetic from ``at``; ends at ``stop`` or past it."""
    while at < stop:
        ch = text[at]
        if ch in "'\"":
            match = _QUOTED.match(text, at)
            at = match.end() if match else len(text)
        elif ch == "\\":
            at += 2
        elif ch == "$" and text.startswith("$((", at):
            end = text.find("))", at)
            at = end + 2 if end >= 0 else len(text)
        else:
            at += 1
    return at


def _marker_at(text: str, at: int) -> tuple[Marker | None, int]:
    """The marker whose ``<<`` stands at ``at``, if it is one, and where to look on."""
    begin = at
    while begin > 0 and text[begin - 1].isdecimal():
        begin -= 1
    if begin > 0 and text[begin - 1] not in _BREAKS:
        return None, _past_brackets(text, at)
    match = _OPENER.match(text, begin)
    if match is None or text.startswith("<", match.end()):
        return None, _past_brackets(text, at)
    name, quoted, end = _read_name(text, match.end())
    if not name and not quoted:
        return None, end
    if not name:
        return None, end
    return Marker(begin, end, name, not quoted, match[2] == "-"), end


def _past_brackets(text: str, at: int) -> int:
    while at < len(text) and text[at] == "<":
        at += 1
    return at


def _read_name(text: str, at: int) -> tuple[str, bool, int]:
    out: list[str] = []
    quoted = False
    while at < len(text) and text[at] not in _NAME_ENDS:
        ch = text[at]
        if ch in "'\"":
            end = text.find(ch, at + 1)
            if end < 0:
                kind = "single" if ch == "'" else "double"
                raise TextError(
                    f"unexpected end of statement while looking for matching {kind}-quote",
                    offset=at,
                    expected=ch,
                )
            out.append(text[at + 1 : end])
            quoted = True
            at = end
        elif ch == "\\" and at + 1 < len(text):
            at += 1
            out.append(text[at])
        else:
            out.append(ch)
        at += 1
    return "".join(out), quoted, at
