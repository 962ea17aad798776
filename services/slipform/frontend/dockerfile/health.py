"""``HEALTHCHECK``: complete when parsed, since nothing of it is expanded."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.core.oci.config import Healthcheck
from slipform.frontend.dockerfile.durations import parse_duration
from slipform.frontend.dockerfile.flags import Flags, Kind
from slipform.frontend.dockerfile.text import did_you_mean
from slipform.frontend.dockerfile.words import BLANKS, parse_json

if TYPE_CHECKING:
    from slipform.frontend.dockerfile.lexer import Statement

_DURATIONS: Final = ("interval", "timeout", "start-period", "start-interval")
_FLAGS: Final = {**dict.fromkeys(_DURATIONS, Kind.TEXT), "retries": Kind.TEXT}
_LEAST_NS: Final = 1_000_000
_MOST_RETRIES: Final = (1 << 31) - 1


def parse_healthcheck(statement: Statement) -> Healthcheck:
    """Read type, options and command.

    Raises:
        InvalidArgument: whatever of them is malformed.
    """
    flags = Flags(statement, _FLAGS)
    arguments = statement.arguments
    if not arguments:
        raise statement.fault(
            "HEALTHCHECK requires at least one argument", statement.start, "CMD or NONE"
        )
    word, *rest = BLANKS.split(arguments, maxsplit=1)
    kind, command = word.upper(), rest[0] if rest else ""
    if kind == "NONE":
        if command:
            raise statement.fault("HEALTHCHECK NONE takes no arguments", statement.start)
        return Healthcheck(("NONE",))
    if kind != "CMD":
        hint = did_you_mean(kind, ("CMD", "NONE"))
        message = f'unknown type "{word[:64]}" in HEALTHCHECK (try CMD){hint}'
        raise statement.fault(message, statement.start, "CMD or NONE")
    words = parse_json(command)
    if not (command if words is None else words):
        raise statement.fault("missing command after HEALTHCHECK CMD", statement.start, "a command")
    test = ("CMD-SHELL", command) if words is None else ("CMD", *words)
    interval, timeout, start_period, start_interval = (
        _duration(statement, name, flags.text(name)) for name in _DURATIONS
    )
    retries = _retries(statement, flags.text("retries"))
    return Healthcheck(test, interval, timeout, start_period, start_interval, retries)


def _offset(statement: Statement, name: str) -> int:
    return next(f.offset for f in statement.flags if f.text.startswith(f"--{name}="))


def _duration(statement: Statement, name: str, text: str) -> int:
    if not text:
        return 0
    ns = parse_duration(text)
    if ns is None:
        message = f'invalid duration "{text[:64]}" for --{name}'
        raise statement.fault(message, _offset(statement, name), "a duration such as 30s or 1m30s")
    if ns != 0 and ns < _LEAST_NS:
        message = f'interval "{name}" cannot be less than 1ms'
        raise statement.fault(message, _offset(statement, name), "0, or 1ms and more")
    return ns


def _retries(statement: Statement, text: str) -> int:
    if not text:
        return 0
    digits = text.lstrip("+-") if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 10):
        message = f'invalid number "{text[:64]}" for --retries'
        raise statement.fault(message, _offset(statement, "retries"), "a whole number")
    value = int(text)
    if not 0 <= value <= _MOST_RETRIES:
        message = f"--retries must be at least 0 (not {value})"
        raise statement.fault(message, _offset(statement, "retries"), "0 or more")
    return value
