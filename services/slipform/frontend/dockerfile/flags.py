"""Flags of instructions: ``--name``, ``--name=value``, each with its kind."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from slipform.frontend.dockerfile.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slipform.frontend.dockerfile.lexer import Statement


class Kind(enum.Enum):
    """What a flag takes."""

    TEXT = "text"
    BOOL = "bool"
    MANY = "many"
    """Text, and it may be repeated."""


class Flags:
    """The flags of one statement, checked against what its instruction knows."""

    def __init__(self, statement: Statement, known: Mapping[str, Kind]) -> None:
        """Read them.

        Raises:
            InvalidArgument: unknown, repeated, without the value it needs, or not a boolean.
        """
        self._values: dict[str, list[str]] = {}
        for flag in statement.flags:
            name, equals, value = flag.text[2:].partition("=")
            kind = known.get(name)
            if kind is None:
                hint = did_you_mean(name, known)
                expected = ", ".join(f"--{flag}" for flag in known) or "no flags"
                raise statement.fault(f"unknown flag: --{name}{hint}", flag.offset, expected)
            if name in self._values and kind is not Kind.MANY:
                raise statement.fault(f"duplicate flag specified: --{name}", flag.offset)
            if kind is Kind.BOOL and not equals:
                value = "true"
            elif not equals or (kind is Kind.BOOL and not value):
                raise statement.fault(f"missing a value on flag: --{name}", flag.offset)
            elif kind is Kind.BOOL and value.lower() not in ("true", "false"):
                message = f"expecting boolean value for flag --{name}, not: {value}"
                raise statement.fault(message, flag.offset, "true or false")
            self._values.setdefault(name, []).append(value)

    def text(self, name: str) -> str:
        """Its value; empty when it is absent."""
        return self._values.get(name, [""])[0]

    def many(self, name: str) -> tuple[str, ...]:
        """All its values."""
        return tuple(self._values.get(name, ()))

    def on(self, name: str) -> bool:
        """Whether it is given and true."""
        return self.text(name).lower() == "true"

    def on_or_none(self, name: str) -> bool | None:
        """None when it is absent."""
        return self.on(name) if name in self._values else None
