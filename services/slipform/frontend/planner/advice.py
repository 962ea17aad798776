"""Lint rules that planning can check as it goes; each is one sentence under its known name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slipform.core.advice import Warning
from slipform.core.errors import InvalidArgument
from slipform.frontend.dockerfile.directives import comment_checks

if TYPE_CHECKING:
    from slipform.core.source import SourceRange
    from slipform.frontend.dockerfile.directives import Checks
    from slipform.frontend.dockerfile.lexer import Statement


@dataclass(slots=True)
class Advice:
    """Collects warnings in the order in which they are found, each once."""

    checks: Checks
    _found: dict[Warning, str] = field(default_factory=dict)
    """Each with the line of the file that it is about."""

    def add(self, rule: str, message: str, statement: Statement) -> None:
        """Report a finding about a statement, unless a ``check`` directive says no."""
        if not self.checks.allows(rule):
            return
        own = comment_checks(statement.comments)
        if own is None or own.allows(rule):
            line = statement.source.line(statement.range.start_line)
            self._found[Warning(rule, message, statement.range)] = line

    def add_general(self, rule: str, message: str, at: SourceRange | None = None) -> None:
        """Report a finding about the whole."""
        if self.checks.allows(rule):
            self._found[Warning(rule, message, at)] = ""

    def found(self) -> tuple[Warning, ...]:
        """What was found, as advice."""
        return tuple(self._found)

    def warnings(self) -> tuple[Warning, ...]:
        """What was found, or the refusal that the file itself asks for.

        Raises:
            InvalidArgument: there is something, and the file has ``check=error=true``.
        """
        found = self.found()
        linted = [w for w in found if w.source is not None]
        if self.checks.error and linted:
            rules = ", ".join(dict.fromkeys(w.rule for w in linted))
            first = linted[0]
            raise InvalidArgument(
                f"{first.source}: lint violation found for rules: {rules}: {first.message}",
                source=first.source,
                source_line=self._found[first],
            )
        return found
