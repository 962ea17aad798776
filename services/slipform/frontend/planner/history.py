"""History entries in BuildKit's form, which tools and people compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.core.plan import PlannedHistory
from slipform.frontend.dockerfile.durations import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipform.core.oci.config import Healthcheck

_ESCAPES: Final = {
    "\a": "\\a",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
    "\v": "\\v",
    "\\": "\\\\",
}


def empty(created_by: str) -> PlannedHistory:
    """An entry of an instruction that changes only the configuration."""
    return PlannedHistory(created_by, empty_layer=True)


def layer(created_by: str) -> PlannedHistory:
    """An entry with a layer."""
    return PlannedHistory(created_by, empty_layer=False)


def pairs(name: str, values: Iterable[tuple[str, str]]) -> PlannedHistory:
    """``ENV a=1 b=2``."""
    return empty(" ".join([name, *(f"{key}={value}" for key, value in values)]))


def quoted_words(name: str, words: Iterable[str]) -> PlannedHistory:
    """``CMD ["a" "b"]``: Go's ``%q`` of a list."""
    return empty(f"{name} [{' '.join(quote(word) for word in words)}]")


def plain_words(name: str, words: Iterable[str]) -> PlannedHistory:
    """``VOLUME [/a /b]``: Go's ``%v`` of a list."""
    return empty(f"{name} [{' '.join(words)}]")


def healthcheck(value: Healthcheck) -> PlannedHistory:
    """Go's ``%q`` of docker's HealthConfig."""
    test = " ".join(quote(word) for word in value.test)
    durations = (value.interval, value.timeout, value.start_period, value.start_interval)
    times = " ".join(quote(format_duration(ns)) for ns in durations)
    return empty(f"HEALTHCHECK &{{[{test}] {times} {_quote_rune(value.retries)}}}")


def build_arg_prefix(values: Iterable[tuple[str, str]]) -> str:
    """``|2 a=1 b=2 ``, or nothing when no ARG was declared."""
    texts = [f"{name}={value}" for name, value in values]
    return " ".join([f"|{len(texts)}", *texts, ""]) if texts else ""


def quote(text: str) -> str:
    """Go's ``strconv.Quote``."""
    if text.isascii() and text.isprintable() and '"' not in text and "\\" not in text:
        return f'"{text}"'
    return '"' + "".join('\\"' if ch == '"' else _escape(ch) for ch in text) + '"'


def _escape(ch: str) -> str:
    if ch in _ESCAPES:
        return _ESCAPES[ch]
    if ch.isprintable():
        return ch
    code = ord(ch)
    if code < 0x80:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _quote_rune(number: int) -> str:
    """Go's ``%q`` of an integer: the character with that number."""
    if number > 0x10FFFF or 0xD800 <= number < 0xE000:
        return "'\ufffd'"
    ch = chr(number)
    return "'\\''" if ch == "'" else f"'{_escape(ch)}'"
