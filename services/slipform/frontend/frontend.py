"""The frontend without any transport: an implementation of ``core.plan.Frontend``."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipform.core.plan import InlineFile, InstructionInfo, ParsedDockerfile, StageInfo
from slipform.frontend.dockerfile.lint import lint
from slipform.frontend.dockerfile.parser import parse
from slipform.frontend.dockerfile.words import parse_json, split_blanks, split_quoted
from slipform.frontend.planner.advice import Advice
from slipform.frontend.planner.plan import make_plan

if TYPE_CHECKING:
    from slipform.core.plan import PlanRequest, PlanResult
    from slipform.frontend.dockerfile.lexer import Statement

_TEXT: frozenset[str] = frozenset({"RUN", "CMD", "ENTRYPOINT", "HEALTHCHECK", "ONBUILD"})
_VALUE: frozenset[str] = frozenset({"USER", "WORKDIR", "STOPSIGNAL", "MAINTAINER"})
_QUOTED: frozenset[str] = frozenset({"ENV", "LABEL", "ARG"})


class DockerfileFrontend:
    """Parses and plans Dockerfiles; has no state, so that any thread may use it."""

    def parse(self, dockerfile: bytes, filename: str = "Dockerfile") -> ParsedDockerfile:
        """The instructions as written, the stages, and the advice that needs no values.

        Raises:
            InvalidArgument: with the place of the fault.
        """
        parsed, directives, _ = parse(dockerfile, filename)
        advice = Advice(directives.checks)
        lint(parsed, advice.add)
        return ParsedDockerfile(
            instructions=tuple(_info(i.statement, directives.escape) for i in parsed.instructions),
            stages=tuple(
                StageInfo(s.index, s.origin.name, s.origin.base, s.origin.statement.range)
                for s in parsed.stages
            ),
            escape=directives.escape,
            syntax=directives.syntax,
            warnings=advice.found(),
        )

    def plan(self, request: PlanRequest) -> PlanResult:
        """The plan, or the bases it needs first.

        Raises:
            InvalidArgument: with the place of the fault.
        """
        return make_plan(request)


def _info(statement: Statement, escape: str) -> InstructionInfo:
    arguments, exec_form = _arguments(statement, escape)
    flags = []
    for flag in statement.flags:
        name, _, value = flag.text[2:].partition("=")
        flags.append((name, value))
    return InstructionInfo(
        name=statement.name,
        flags=tuple(flags),
        arguments=arguments,
        exec_form=exec_form,
        heredocs=tuple(InlineFile(h.marker.name, h.body.encode()) for h in statement.heredocs),
        source=statement.range,
        text=statement.text,
    )


def _arguments(statement: Statement, escape: str) -> tuple[tuple[str, ...], bool]:
    text, name = statement.arguments, statement.name
    words = None if name in _QUOTED or name in _VALUE or name == "ONBUILD" else parse_json(text)
    if words is not None:
        return words, True
    if not text:
        return (), False
    if name in _TEXT or name in _VALUE:
        return (text,), False
    if name in _QUOTED:
        return tuple(split_quoted(text, escape)), False
    return tuple(split_blanks(text)), False
