"""``RUN``: argv, environment, mounts, heredoc scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.core.execution import Network, Security
from slipform.core.plan import InlineFile, MountType, RunMount, RunOp
from slipform.frontend.dockerfile.mounts import parse_mount
from slipform.frontend.dockerfile.text import TextError
from slipform.frontend.planner import history
from slipform.frontend.planner.configure import clean_path, with_shell

if TYPE_CHECKING:
    from slipform.frontend.dockerfile import instructions as ins
    from slipform.frontend.dockerfile.heredoc import Heredoc
    from slipform.frontend.dockerfile.lexer import Statement
    from slipform.frontend.dockerfile.mounts import MountSpec
    from slipform.frontend.planner.session import StageContext

PIPES: Final = "/dev/pipes/"


def run(context: StageContext, instruction: ins.Run) -> None:
    """Plan one RUN step."""
    state, session, statement = context.state, context.session, instruction.statement
    if instruction.devices:
        message = "RUN --device is not available yet"
        raise statement.fault(message, statement.flags[0].offset)
    args, pipes = _command(context, instruction)
    environment = state.environment()
    # Both are copied into every step or entry, so that repetition has a price.
    session.charge(8 * len(environment), statement)
    op = RunOp(
        args=args,
        env=environment,
        proxy_env=_proxies(context),
        cwd=state.working_dir or "/",
        user=state.user,
        network=_network(instruction.network, session.request.network),
        security=Security.INSECURE if instruction.security == "insecure" else Security.SANDBOX,
        mounts=_mounts(context, instruction) if instruction.mounts else (),
        pipes=pipes,
    )
    created_by = f"RUN {state.history_prefix()}{' '.join(args)} # buildkit"
    context.layer(op, statement, history.layer(created_by))


def _network(word: str, default: Network) -> Network:
    return default if word in ("", "default") else Network(word)


def _proxies(context: StageContext) -> tuple[str, ...]:
    """Those that neither ENV nor a declared ARG already says."""
    proxies = context.session.proxy_env
    if not proxies:
        return ()
    scope = context.state.scope
    return tuple(entry for entry in proxies if scope.get(entry.partition("=")[0]) is None)


def _command(
    context: StageContext, instruction: ins.Run
) -> tuple[tuple[str, ...], tuple[InlineFile, ...]]:
    command, heredocs = instruction.command, instruction.statement.heredocs
    if command.exec_form:
        return command.words, ()
    text = command.words[0]
    if not heredocs:
        return with_shell(context.state, text), ()
    if len(heredocs) == 1 and len(text) == heredocs[0].marker.end - heredocs[0].marker.start:
        return _script(context, heredocs[0], instruction.statement)
    # The shell itself reads the heredocs: it is given them as they stand.
    bodies = "".join(f"\n{h.body}{h.marker.name}" for h in heredocs)
    return with_shell(context.state, text + bodies), ()


def _script(
    context: StageContext, heredoc: Heredoc, statement: Statement
) -> tuple[tuple[str, ...], tuple[InlineFile, ...]]:
    """A heredoc alone: the script of the shell, or a program of its own after ``#!``."""
    content, name = heredoc.content, heredoc.marker.name
    if not content.startswith("#!"):
        return with_shell(context.state, content), ()
    check_file_name(name, heredoc, statement)
    return (PIPES + name,), (InlineFile(name, content.encode(), 0o755),)


def check_file_name(name: str, heredoc: Heredoc, statement: Statement) -> None:
    """A heredoc that becomes a file must have a name that is one.

    Raises:
        InvalidArgument: it holds a slash, or is ``.`` or ``..``, or is too long.
    """
    if "/" in name or name in (".", "..") or len(name.encode()) > 255:
        message = f'heredoc name "{name[:128]}" cannot be the name of a file'
        raise statement.fault(message, heredoc.marker.start, "a name without /")


def _mounts(context: StageContext, instruction: ins.Run) -> tuple[RunMount, ...]:
    statement = instruction.statement
    found: list[RunMount] = []
    for text in instruction.mounts:
        offset = next(f.offset for f in statement.flags if f.text == f"--mount={text}")
        try:
            spec = parse_mount(text, lambda value: context.expand(value, statement))
        except TextError as e:
            raise statement.fault(str(e), offset, e.expected) from e
        sockets = sum(1 for mount in found if mount.type is MountType.SSH)
        found.append(_mount(context, spec, statement, sockets, offset))
    return tuple(found)


def _mount(
    context: StageContext, spec: MountSpec, statement: Statement, sockets: int, offset: int
) -> RunMount:
    target = spec.target
    if spec.type is MountType.SSH and not target:
        target = f"/run/buildkit/ssh_agent.{sockets}"
    if target:
        target = clean_path(target, context.state.working_dir)
        if target == "/":
            raise statement.fault('invalid mount target "/"', offset, "a path below the root")
    from_step = None
    if spec.from_:
        source = context.session.graph.source(spec.from_, context.stage, statement)
        from_step = context.session.root(source, context.stage.label, statement)
    return RunMount(
        type=spec.type,
        target=target,
        source=spec.source or "/",
        from_step=from_step,
        id=spec.id,
        read_only=spec.read_only,
        required=spec.required,
        env=spec.env,
        sharing=spec.sharing,
        size=spec.size,
        mode=spec.mode,
        uid=spec.uid,
        gid=spec.gid,
    )
