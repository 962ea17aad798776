"""Statements to typed instructions, and instructions to stages."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from slipform.frontend.dockerfile import instructions as ins
from slipform.frontend.dockerfile.directives import Directives, read_directives
from slipform.frontend.dockerfile.flags import Flags, Kind
from slipform.frontend.dockerfile.health import parse_healthcheck
from slipform.frontend.dockerfile.lexer import Lexer
from slipform.frontend.dockerfile.mounts import check_mount
from slipform.frontend.dockerfile.sources import parse_copy
from slipform.frontend.dockerfile.text import Text, TextError, decode, did_you_mean
from slipform.frontend.dockerfile.triggers import parse_onbuild
from slipform.frontend.dockerfile.words import BLANKS, parse_json, split_blanks, split_quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from slipform.frontend.dockerfile.lexer import Statement

STAGE_NAME: Final = re.compile(r"[a-z][a-z0-9\-_.]*")
_NO_FLAGS: Final[Mapping[str, Kind]] = {}
_FROM_FLAGS: Final = {"platform": Kind.TEXT}
_RUN_FLAGS: Final = {
    "mount": Kind.MANY,
    "network": Kind.TEXT,
    "security": Kind.TEXT,
    "device": Kind.MANY,
}
_NETWORKS: Final = ("default", "none", "host")
_SECURITY: Final = ("sandbox", "insecure")


def parse(data: bytes, filename: str) -> tuple[ins.Dockerfile, Directives, Text]:
    """Parse a whole file.

    Raises:
        InvalidArgument: with file, line, column, the source line, and what was expected.
    """
    text = decode(data, filename)
    directives = read_directives(text)
    statements = Lexer(text, directives.escape).statements()
    if not statements:
        at = text.range(max(1, len(text.lines)))
        raise text.fault("the Dockerfile cannot be empty", at, "a FROM instruction")
    parsed = [parse_statement(statement, directives.escape) for statement in statements]
    return into_stages(parsed), directives, text


def parse_statement(statement: Statement, escape: str) -> ins.Instruction:
    """One instruction.

    Raises:
        InvalidArgument: unknown, or malformed.
    """
    parser = PARSERS.get(statement.name)
    if parser is None:
        hint = did_you_mean(statement.name, PARSERS)
        raise statement.fault(
            f"unknown instruction: {statement.keyword[:64]}{hint}", 0, "a Dockerfile instruction"
        )
    try:
        return parser(statement, escape)
    except TextError as e:
        raise statement.argument_fault(e) from e


def into_stages(parsed: Sequence[ins.Instruction]) -> ins.Dockerfile:
    """Group instructions by their FROM.

    Raises:
        InvalidArgument: something but ARG stands before the first FROM, or there is none.
    """
    meta: list[ins.Arg] = []
    stages: list[ins.Stage] = []
    origin: ins.From | None = None
    body: list[ins.Instruction] = []
    for instruction in parsed:
        if isinstance(instruction, ins.From):
            if origin is not None:
                stages.append(ins.Stage(len(stages), origin, tuple(body)))
            origin, body = instruction, []
        elif origin is not None:
            body.append(instruction)
        elif isinstance(instruction, ins.Arg):
            meta.append(instruction)
        else:
            name = instruction.statement.name
            raise instruction.statement.fault(
                f"no build stage in current context: {name} before the first FROM", 0, "FROM or ARG"
            )
    if origin is None:
        raise meta[-1].statement.fault("no stages to build: there is no FROM", 0, "FROM")
    stages.append(ins.Stage(len(stages), origin, tuple(body)))
    return ins.Dockerfile(tuple(meta), tuple(stages), tuple(parsed))


def _no_flags(statement: Statement) -> None:
    if statement.flags:
        Flags(statement, _NO_FLAGS)


def _at_least_one(statement: Statement, present: object) -> None:
    if not present:
        raise statement.fault(f"{statement.name} requires at least one argument", statement.start)


def _parse_from(statement: Statement, escape: str) -> ins.Instruction:
    flags = Flags(statement, _FROM_FLAGS)
    words = split_blanks(statement.arguments)
    if len(words) == 1:
        return ins.From(statement, words[0], platform=flags.text("platform"))
    if len(words) != 3 or words[1].upper() != "AS":
        raise statement.fault(
            "FROM requires either one or three arguments", statement.start, "FROM image [AS name]"
        )
    name = words[2].lower()
    if not STAGE_NAME.fullmatch(name):
        offset = statement.text.rindex(words[2])
        raise statement.fault(
            f'invalid name for build stage: "{words[2][:128]}", '
            "name can't start with a number or contain symbols",
            offset,
            "letters, digits, - _ .",
        )
    return ins.From(statement, words[0], name, words[2], words[1], flags.text("platform"))


def parse_command(statement: Statement) -> ins.Command:
    """The argument text as exec form when it is a JSON array of strings, else as shell form."""
    words = parse_json(statement.arguments)
    if words is None:
        return ins.Command((statement.arguments,), exec_form=False)
    return ins.Command(words, exec_form=True)


def _parse_run(statement: Statement, escape: str) -> ins.Instruction:
    if not statement.flags:
        return ins.Run(statement, parse_command(statement))
    flags = Flags(statement, _RUN_FLAGS)
    network, security = flags.text("network"), flags.text("security")
    if network and network not in _NETWORKS:
        _refuse_value(statement, "network", network, _NETWORKS)
    if security and security not in _SECURITY:
        _refuse_value(statement, "security", security, _SECURITY)
    for flag in statement.flags:
        name, _, value = flag.text[2:].partition("=")
        if name == "mount":
            try:
                check_mount(value)
            except TextError as e:
                raise statement.fault(str(e), flag.offset, e.expected) from e
    return ins.Run(
        statement,
        parse_command(statement),
        flags.many("mount"),
        network,
        security,
        flags.many("device"),
    )


def _refuse_value(statement: Statement, flag: str, value: str, known: Sequence[str]) -> None:
    offset = next(f.offset for f in statement.flags if f.text.startswith(f"--{flag}="))
    hint = did_you_mean(value, known)
    raise statement.fault(f'{flag} "{value[:64]}" is not valid{hint}', offset, " or ".join(known))


def _parse_pairs(statement: Statement, escape: str) -> ins.Instruction:
    _no_flags(statement)
    words = split_quoted(statement.arguments, escape)
    _at_least_one(statement, words)
    if "=" not in words[0]:
        parts = BLANKS.split(statement.arguments, maxsplit=1)
        if len(parts) < 2:
            raise statement.fault(
                f"{statement.name} must have two arguments", statement.start, "name=value"
            )
        return ins.Pairs(statement, ((parts[0], parts[1]),), legacy=True)
    pairs = []
    for word in words:
        key, equals, value = word.partition("=")
        if not equals:
            raise statement.fault(
                f'can\'t find = in "{word[:128]}", must be of the form: name=value',
                statement.text.find(word, statement.start),
                "name=value",
            )
        if not key:
            raise statement.fault(f"{statement.name} names can not be blank", statement.start)
        pairs.append((key, value))
    return ins.Pairs(statement, tuple(pairs))


def _parse_arg(statement: Statement, escape: str) -> ins.Instruction:
    _no_flags(statement)
    words = split_quoted(statement.arguments, escape)
    _at_least_one(statement, words)
    args: list[tuple[str, str | None]] = []
    for word in words:
        key, equals, value = word.partition("=")
        if not key:
            raise statement.fault(
                "ARG names can not be blank", statement.start, "name or name=value"
            )
        args.append((key, value if equals else None))
    return ins.Arg(statement, tuple(args))


def _parse_words(statement: Statement, escape: str) -> ins.Instruction:
    _no_flags(statement)
    words = split_blanks(statement.arguments)
    _at_least_one(statement, words)
    return ins.Words(statement, tuple(words))


def _parse_volume(statement: Statement, escape: str) -> ins.Instruction:
    _no_flags(statement)
    words = parse_json(statement.arguments)
    if words is None:
        return _parse_words(statement, escape)
    _at_least_one(statement, words)
    return ins.Words(statement, words, exec_form=True)


def _parse_shell(statement: Statement, escape: str) -> ins.Instruction:
    _no_flags(statement)
    words = parse_json(statement.arguments)
    if words is None:
        _at_least_one(statement, statement.arguments)
        message = "SHELL requires the arguments to be in JSON form"
        raise statement.fault(message, statement.start, '["executable", "argument", …]')
    _at_least_one(statement, words)
    return ins.Words(statement, words, exec_form=True)


def _parse_value(statement: Statement, escape: str) -> ins.Instruction:
    _no_flags(statement)
    value = statement.arguments
    if not value:
        message = f"{statement.name} requires exactly one argument"
        raise statement.fault(message, statement.start, "one argument")
    return ins.Value(statement, value)


def _parse_process(statement: Statement, escape: str) -> ins.Instruction:
    _no_flags(statement)
    return ins.Process(statement, parse_command(statement))


def _parse_health(statement: Statement, escape: str) -> ins.Instruction:
    return ins.Health(statement, parse_healthcheck(statement))


def _parse_onbuild(statement: Statement, escape: str) -> ins.Instruction:
    _no_flags(statement)
    return parse_onbuild(statement, escape, parse_statement)


PARSERS: Final[Mapping[str, Callable[[Statement, str], ins.Instruction]]] = {
    "ADD": parse_copy,
    "ARG": _parse_arg,
    "CMD": _parse_process,
    "COPY": parse_copy,
    "ENTRYPOINT": _parse_process,
    "ENV": _parse_pairs,
    "EXPOSE": _parse_words,
    "FROM": _parse_from,
    "HEALTHCHECK": _parse_health,
    "LABEL": _parse_pairs,
    "MAINTAINER": _parse_value,
    "ONBUILD": _parse_onbuild,
    "RUN": _parse_run,
    "SHELL": _parse_shell,
    "STOPSIGNAL": _parse_value,
    "USER": _parse_value,
    "VOLUME": _parse_volume,
    "WORKDIR": _parse_value,
}
