"""Lint rules that need no more than the instructions as they are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.frontend.dockerfile import instructions as ins

if TYPE_CHECKING:
    from collections.abc import Callable

    from slipform.frontend.dockerfile.lexer import Statement

    Report = Callable[[str, str, Statement], None]
    """Rule, sentence, statement."""

_RESERVED: Final = ("scratch", "context")
_ONCE: Final = ("CMD", "ENTRYPOINT", "HEALTHCHECK")


def lint(dockerfile: ins.Dockerfile, report: Report) -> None:
    """Check the whole file; rules that need values are checked by the planner."""
    for instruction in dockerfile.instructions:
        _statement(instruction, report)
    _casing(dockerfile, report)
    _stages(dockerfile, report)
    for stage in dockerfile.stages:
        _body(stage, report)


def _statement(instruction: ins.Instruction, report: Report) -> None:
    statement = instruction.statement
    if statement.empty_continuation:
        report("NoEmptyContinuation", "Empty continuation line", statement)
    if statement.name == "MAINTAINER":
        message = "Maintainer instruction is deprecated in favor of using label"
        report("MaintainerDeprecated", message, statement)
    if isinstance(instruction, ins.Pairs) and instruction.legacy:
        name = statement.name
        message = f'"{name} key=value" should be used instead of legacy "{name} key value" format'
        report("LegacyKeyValueFormat", message, statement)


def _casing(dockerfile: ins.Dockerfile, report: Report) -> None:
    upper = [i.statement for i in dockerfile.instructions if i.statement.keyword.isupper()]
    lower = [i.statement for i in dockerfile.instructions if i.statement.keyword.islower()]
    majority = "uppercase" if len(upper) >= len(lower) else "lowercase"
    for instruction in dockerfile.instructions:
        keyword = instruction.statement.keyword
        if keyword != (keyword.upper() if majority == "uppercase" else keyword.lower()):
            message = (
                f"Command '{keyword}' should match the case of the command majority ({majority})"
            )
            report("ConsistentInstructionCasing", message, instruction.statement)


def _stages(dockerfile: ins.Dockerfile, report: Report) -> None:
    seen: set[str] = set()
    for stage in dockerfile.stages:
        origin = stage.origin
        name, written = origin.name, origin.written_name
        if not name:
            continue
        if written != name:
            report(
                "StageNameCasing", f"Stage name '{written}' should be lowercase", origin.statement
            )
        if origin.as_word.isupper() != origin.statement.keyword.isupper():
            message = (
                f"'{origin.as_word}' and '{origin.statement.keyword}' keywords' casing do not match"
            )
            report("FromAsCasing", message, origin.statement)
        if name in _RESERVED:
            message = f"Stage name should not use the same name as reserved stage '{name}'"
            report("ReservedStageName", message, origin.statement)
        if name in seen:
            message = f"Duplicate stage name '{name}', stage names should be unique"
            report("DuplicateStageName", message, origin.statement)
        seen.add(name)


def _body(stage: ins.Stage, report: Report) -> None:
    last: dict[str, Statement] = {}
    shell = False
    for instruction in stage.body:
        statement = instruction.statement
        name = statement.name
        if name == "SHELL":
            shell = True
        if name in _ONCE:
            if name in last:
                message = (
                    f"Multiple {name} instructions should not be used in the same stage "
                    "because only the last one will be used"
                )
                report("MultipleInstructionsDisallowed", message, last[name])
            last[name] = statement
        if isinstance(instruction, ins.Process) and not instruction.command.exec_form and not shell:
            message = (
                f"JSON arguments recommended for {name} to prevent unintended behavior "
                "related to OS signals"
            )
            report("JSONArgsRecommended", message, statement)
