"""Instructions that change only the configuration: folded into it, and into the history."""

from __future__ import annotations

import posixpath
import re
import signal
from typing import TYPE_CHECKING, Final

from slipform.frontend.dockerfile.text import TextError
from slipform.frontend.planner import history
from slipform.frontend.planner.ports import parse_port

if TYPE_CHECKING:
    from slipform.frontend.dockerfile import instructions as ins
    from slipform.frontend.planner.session import StageContext
    from slipform.frontend.planner.state import State

DEFAULT_SHELL: Final = ("/bin/sh", "-c")
_REALTIME: Final = re.compile(r"RTMIN(\+\d{1,2})?|RTMAX(-\d{1,2})?")


def with_shell(state: State, text: str) -> tuple[str, ...]:
    """Shell form: the shell and the text as its one argument."""
    return (*(state.shell or DEFAULT_SHELL), text)


def arg(context: StageContext, instruction: ins.Arg) -> None:
    """``ARG``: the build argument, else the default, else the global one."""
    session, state = context.session, context.state
    texts = []
    for name, default in instruction.args:
        name = context.expand(name, instruction.statement)
        if name in session.build_args:
            value: str | None = session.build_args[name]
        elif default is not None:
            value = context.expand(default, instruction.statement)
        else:
            value = session.globals.get(name)
        state.declare(name, value)
        texts.append(name if value is None else f"{name}={value}")
    state.history.append(history.empty(f"ARG {' '.join(texts)}"))


def env(context: StageContext, instruction: ins.Pairs) -> None:
    """``ENV``: all values are expanded before the first is set."""
    values = _pairs(context, instruction)
    for name, value in values:
        context.state.set_env(name, value)
    context.state.history.append(history.pairs("ENV", values))


def label(context: StageContext, instruction: ins.Pairs) -> None:
    """``LABEL``."""
    values = _pairs(context, instruction)
    context.state.labels.update(values)
    context.state.history.append(history.pairs("LABEL", values))


def _pairs(context: StageContext, instruction: ins.Pairs) -> list[tuple[str, str]]:
    statement = instruction.statement
    values = [
        (context.expand(key, statement), context.expand(value, statement))
        for key, value in instruction.pairs
    ]
    for key, _ in values:
        if not key:
            raise statement.fault(f"{statement.name} names can not be blank", statement.start)
        if statement.name == "ENV" and "=" in key:
            raise statement.fault(f'ENV name "{key[:64]}" holds an equals sign', statement.start)
    return values


def process(context: StageContext, instruction: ins.Process) -> None:
    """``CMD`` and ``ENTRYPOINT``; the latter clears a CMD that came with the base."""
    state, command = context.state, instruction.command
    words = command.words if command.exec_form else with_shell(state, command.words[0])
    if instruction.statement.name == "CMD":
        state.cmd = words
        state.cmd_set = True
    else:
        state.entrypoint = words
        if not state.cmd_set:
            state.cmd = None
    state.history.append(history.quoted_words(instruction.statement.name, words))


def expose(context: StageContext, instruction: ins.Words) -> None:
    """``EXPOSE``: ranges become their ports."""
    statement = instruction.statement
    found: list[str] = []
    for text in instruction.words:
        for word in context.expand_words(text, statement):
            try:
                ports = parse_port(word)
            except TextError as e:
                raise statement.fault(str(e), statement.start, e.expected) from e
            # A range is short to write and long to keep.
            context.session.charge(64 * len(ports), statement)
            found += ports
    context.state.ports.update(found)
    context.state.history.append(history.plain_words("EXPOSE", found))


def volume(context: StageContext, instruction: ins.Words) -> None:
    """``VOLUME``: a set of cleaned paths."""
    statement = instruction.statement
    words: list[str] = []
    for text in instruction.words:
        if instruction.exec_form:
            words.append(context.expand(text, statement))
        else:
            # A text that expands to nothing must be seen, and words() has none then.
            words += context.expand_words(text, statement) or [""]
    for word in words:
        if not word.strip():
            message = "VOLUME specified can not be an empty string"
            raise statement.fault(message, statement.start, "a path")
    context.state.volumes.update(clean_path(word.strip(), "/") for word in words)
    context.state.history.append(history.plain_words("VOLUME", words))


def user(context: StageContext, instruction: ins.Value) -> None:
    """``USER``: stored as written."""
    context.state.user = context.expand(instruction.value, instruction.statement)
    context.state.history.append(history.empty(f"USER {context.state.user}"))


def stop_signal(context: StageContext, instruction: ins.Value) -> None:
    """``STOPSIGNAL``: a name with or without SIG, or a number."""
    value = context.expand(instruction.value, instruction.statement)
    if not _is_signal(value):
        statement = instruction.statement
        message = f"invalid signal: {value[:64]}"
        raise statement.fault(message, statement.start, "a name such as SIGTERM, or a number")
    context.state.stop_signal = value
    context.state.history.append(history.empty(f"STOPSIGNAL {value}"))


def _is_signal(text: str) -> bool:
    if text.isascii() and text.isdecimal():
        return 0 < len(text) <= 3 and 0 < int(text) <= 64
    name = text.upper().removeprefix("SIG")
    return bool(_REALTIME.fullmatch(name)) or f"SIG{name}" in signal.Signals.__members__


def maintainer(context: StageContext, instruction: ins.Value) -> None:
    """``MAINTAINER``: the author."""
    context.state.author = instruction.value
    context.state.history.append(history.empty(f"MAINTAINER {instruction.value}"))


def shell(context: StageContext, instruction: ins.Words) -> None:
    """``SHELL``: for all shell forms that follow."""
    context.state.shell = instruction.words
    context.state.history.append(history.plain_words("SHELL", instruction.words))


def healthcheck(context: StageContext, instruction: ins.Health) -> None:
    """``HEALTHCHECK``."""
    context.state.healthcheck = instruction.healthcheck
    context.state.history.append(history.healthcheck(instruction.healthcheck))


def on_build(context: StageContext, instruction: ins.OnBuild) -> None:
    """``ONBUILD``: kept as text; makes no history entry."""
    context.state.on_build.append(instruction.expression)


def clean_path(path: str, cwd: str) -> str:
    """Absolute, without ``.`` and ``..`` parts, which stop at the root."""
    joined = posixpath.normpath(posixpath.join("/", cwd, path))
    return "/" + joined.lstrip("/")
