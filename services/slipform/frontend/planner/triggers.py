"""ONBUILD triggers of a base, as instructions of the stage that is built from it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument
from slipform.frontend.dockerfile.lexer import Lexer, Piece
from slipform.frontend.dockerfile.parser import parse_statement
from slipform.frontend.dockerfile.text import decode

if TYPE_CHECKING:
    from slipform.frontend.dockerfile import instructions as ins
    from slipform.frontend.dockerfile.lexer import Statement

_REFUSED: Final = ("FROM", "MAINTAINER", "ONBUILD")


def parse_trigger(expression: str, origin: Statement, escape: str) -> ins.Instruction:
    """The instruction of a trigger; whatever is wrong with it is said at the FROM line.

    Raises:
        InvalidArgument: it is no single instruction, or one that cannot be a trigger.
    """
    try:
        statement = _statement(expression, escape)
        here = replace(
            statement,
            source=origin.source,
            range=origin.range,
            # Past the end of the text, so that every offset is placed at the FROM itself.
            pieces=(Piece(1 << 62, origin.range.start_line, origin.range.start_column),),
        )
        return parse_statement(here, escape)
    except InvalidArgument as e:
        message = str(e).removeprefix(f"{e.source}: ")
        raise origin.fault(f"ONBUILD trigger of the base: {message}") from e


def _statement(expression: str, escape: str) -> Statement:
    text = decode(expression.encode("utf-8", "surrogatepass"), "ONBUILD")
    statements = Lexer(text, escape).statements()
    if len(statements) != 1:
        raise InvalidArgument(f"{len(statements)} instructions, want one")
    if statements[0].name in _REFUSED:
        raise InvalidArgument(f"{statements[0].name} isn't allowed as an ONBUILD trigger")
    return statements[0]
