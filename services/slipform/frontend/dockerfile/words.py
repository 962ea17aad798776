"""Cutting the argument text of an instruction: blanks, name=value words, JSON arrays, flags."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final

from slipform.frontend.dockerfile.text import TextError

_BLANK_WORD: Final = re.compile(r"[^\t\v\f\r ]+")
BLANKS: Final = re.compile(r"[\t\v\f\r ]+")
_FLAG_ESCAPE: Final = "\\"


def _word_pattern(escape: str) -> re.Pattern[str]:
    e = re.escape(escape)
    return re.compile(
        rf"""(?: '[^']*+(?:'|\Z)                     # single quotes: nothing is special
               | "(?:[^"{e}]|{e}.)*+(?:"|{e}?\Z)     # double quotes: the escape is
               | {e}.
               | [^\s'"{e}]
             )++""",
        re.VERBOSE | re.DOTALL,
    )


_WORDS: Final = {escape: _word_pattern(escape) for escape in ("\\", "`")}


def split_blanks(text: str) -> list[str]:
    """Words between blanks; quotes mean nothing."""
    return _BLANK_WORD.findall(text)


def split_quoted(text: str, escape: str) -> list[str]:
    """Words between blanks, where quotes and escapes keep blanks; both stay in the words."""
    if '"' not in text and "'" not in text and escape not in text:
        return text.split()
    # An escape at the very end has nothing to escape: no alternative takes it.
    return _WORDS[escape].findall(text)


def parse_json(text: str) -> tuple[str, ...] | None:
    """The strings of a JSON array of strings; None when ``text`` is anything else.

    Raises:
        TextError: a string holds a NUL, which no argument can.
    """
    if not text.startswith("[") or not text.endswith("]"):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        return None
    if "\\u" in text:
        value = [_scalar(item) for item in value]
        if any("\0" in item for item in value):
            raise TextError("a JSON string holds a NUL character", expected="text")
    return tuple(value)


def _scalar(text: str) -> str:
    """Join surrogate pairs; lone ones become U+FFFD, as Go's decoder has it."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


@dataclass(frozen=True, slots=True)
class FlagWord:
    """One ``--name[=value]`` as it stands before the arguments, quotes removed."""

    text: str
    offset: int


def take_flags(text: str, start: int) -> tuple[tuple[FlagWord, ...], int]:
    """Flags at ``text[start:]``, and the offset of what follows them.

    A lone ``--`` ends them and is not one of them.
    """
    if not text.startswith("--", start):
        return (), start
    flags: list[FlagWord] = []
    at = start
    while text.startswith("--", at):
        word, end = _flag_word(text, at)
        if word == "--":
            return tuple(flags), _skip_blanks(text, end)
        flags.append(FlagWord(word, at))
        at = _skip_blanks(text, end)
    return tuple(flags), at


def _skip_blanks(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _flag_word(text: str, at: int) -> tuple[str, int]:
    out: list[str] = []
    quote = ""
    while at < len(text):
        ch = text[at]
        if not quote and ch.isspace():
            break
        if ch == quote:
            quote = ""
        elif not quote and ch in "\"'":
            quote = ch
        elif ch == _FLAG_ESCAPE:
            at += 1
            out.append(text[at : at + 1])
        else:
            out.append(ch)
        at += 1
    return "".join(out), at
