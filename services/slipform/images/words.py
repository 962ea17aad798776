"""Words of an instruction as a Dockerfile has them: quotes, backslashes, variables, JSON."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def json_words(text: str) -> tuple[str, ...] | None:
    """The exec form ``["a", "b"]``; None when the text is anything else."""
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
        return None
    return tuple(value)


def split(text: str) -> list[str]:
    """Raw words: blanks separate, except inside quotes and behind a backslash."""
    words, current, quote, at = [], "", "", 0
    while at < len(text):
        char = text[at]
        if char == "\\" and quote != "'" and at + 1 < len(text):
            current += text[at : at + 2]
            at += 2
            continue
        if quote:
            quote = "" if char == quote else quote
        elif char in "\"'":
            quote = char
        if char.isspace() and not quote:
            words.append(current)
            current = ""
        else:
            current += char
        at += 1
    if quote:
        raise InvalidArgument(f"unterminated {quote} in: {text}")
    return [word for word in (*words, current) if word]


def expand(word: str, env: Mapping[str, str]) -> str:
    """Take quotes and backslashes away, put variables in; absent ones are empty.

    ``$NAME``, ``${NAME}``, ``${NAME:-default}`` and ``${NAME:+alternative}`` are known.
    """
    out, quote, at = "", "", 0
    while at < len(word):
        char = word[at]
        if char == "\\" and quote != "'" and at + 1 < len(word):
            keep = quote == '"' and word[at + 1] not in '"\\$'
            out += word[at : at + 2] if keep else word[at + 1]
            at += 2
        elif quote and char == quote:
            quote, at = "", at + 1
        elif not quote and char in "\"'":
            quote, at = char, at + 1
        elif char == "$" and quote != "'":
            value, at = _variable(word, at + 1, env)
            out += value
        else:
            out, at = out + char, at + 1
    return out


def _variable(word: str, at: int, env: Mapping[str, str]) -> tuple[str, int]:
    if word.startswith("{", at):
        end = word.find("}", at)
        if end < 0:
            raise InvalidArgument(f"missing }} in: {word}")
        return _braced(word[at + 1 : end], env), end + 1
    match = _NAME.match(word, at)
    if match is None:
        return "$", at
    return env.get(match[0], ""), match.end()


def _braced(text: str, env: Mapping[str, str]) -> str:
    match = _NAME.match(text)
    if match is None:
        raise InvalidArgument(f"bad substitution: ${{{text}}}")
    name, rest = match[0], text[match.end() :]
    if not rest:
        return env.get(name, "")
    if rest.startswith(":-"):
        return env.get(name) or rest[2:]
    if rest.startswith(":+"):
        return rest[2:] if env.get(name) else ""
    raise InvalidArgument(f"unsupported modifier in: ${{{text}}}")
