"""``ONBUILD``: an instruction that is kept as text for builds based on this image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.frontend.dockerfile import instructions as ins
from slipform.frontend.dockerfile.lexer import Statement
from slipform.frontend.dockerfile.words import BLANKS, take_flags

if TYPE_CHECKING:
    from collections.abc import Callable

_REFUSED: Final = ("FROM", "MAINTAINER")


def parse_onbuild(
    statement: Statement, escape: str, parse: Callable[[Statement, str], ins.Instruction]
) -> ins.Instruction:
    """Read the trigger, whose own faults are found now rather than in somebody's later build.

    Raises:
        InvalidArgument: no trigger, one that cannot be a trigger, or a malformed one.
    """
    arguments = statement.arguments
    if not arguments:
        raise statement.fault("ONBUILD requires at least one argument", statement.start)
    inner = inner_statement(statement)
    if inner.name == "ONBUILD":
        message = "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"
        raise statement.fault(message, statement.start)
    if inner.name in _REFUSED:
        message = f"{inner.name} isn't allowed as an ONBUILD trigger"
        raise statement.fault(message, statement.start, "another instruction")
    bodies = "".join(f"\n{h.body}{h.marker.name}" for h in statement.heredocs)
    return ins.OnBuild(statement, arguments + bodies, parse(inner, escape))


def inner_statement(statement: Statement) -> Statement:
    """The trigger as a statement of its own, at the same place."""
    text, start = statement.text, statement.start
    blank = BLANKS.search(text, start)
    keyword = text[start : blank.start()] if blank else text[start:]
    flags, begin = take_flags(text, blank.end() if blank else len(text))
    return Statement(
        statement.source, text, keyword, keyword.upper(), flags, begin, statement.pieces,
        statement.range, statement.heredocs,
    )  # fmt: skip
