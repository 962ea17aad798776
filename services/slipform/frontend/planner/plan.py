"""A request to a plan, or to the list of bases that planning needs first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipform.core.errors import InvalidArgument
from slipform.core.oci.platform import host_platform
from slipform.core.plan import NeedBases, Plan
from slipform.frontend.dockerfile.expand import Budget, Expander
from slipform.frontend.dockerfile.lint import lint
from slipform.frontend.dockerfile.parser import parse
from slipform.frontend.dockerfile.text import TextError, did_you_mean
from slipform.frontend.planner.advice import Advice
from slipform.frontend.planner.graph import Graph, Image
from slipform.frontend.planner.scope import (
    CONTROL_ARGS,
    PLATFORM_ARGS,
    PREDEFINED,
    platform_values,
    proxy_variables,
)
from slipform.frontend.planner.session import Session, place
from slipform.frontend.planner.stages import plan_stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from slipform.core.plan import PlanRequest, PlanResult
    from slipform.frontend.dockerfile import instructions as ins
    from slipform.frontend.dockerfile.lexer import Statement


def make_plan(request: PlanRequest) -> PlanResult:
    """Plan a build: a pure function of its request.

    Raises:
        InvalidArgument: a fault of the Dockerfile, with its place, or of the request.
    """
    build_args = _pairs("build argument", request.build_args)
    labels = _pairs("label", request.labels)
    dockerfile, directives, _ = parse(request.dockerfile, request.filename)
    advice = Advice(directives.checks)
    lint(dockerfile, advice.add)
    budget = Budget()
    variables = _globals(request, dockerfile, build_args, directives.escape, budget, advice)
    platform = request.platform or request.build_platform or host_platform()
    graph = Graph(
        dockerfile,
        directives.escape,
        platform,
        _FromLine(variables, directives.escape, budget, advice),
        {Image(base.reference, base.platform): base for base in request.bases},
    )
    target = graph.target(request.target)
    stages, missing = graph.needed(target)
    if missing:
        return NeedBases(tuple(missing.values()))
    session = Session(
        request, graph, advice, build_args, variables, directives.escape,
        proxy_variables(build_args), budget,
    )  # fmt: skip
    session.lineage = graph.lineage(target)
    for index in stages:
        plan_stage(session, dockerfile.stages[index])
    _unused_arguments(session, build_args)
    return _result(session, target, labels, _epoch(variables, build_args, dockerfile))


def _result(
    session: Session, target: int, labels: Mapping[str, str], source_date_epoch: int | None
) -> Plan:
    state = session.done[target]
    state.labels.update(labels)
    return Plan(
        steps=tuple(session.steps),
        result=state.rootfs,
        base=state.base,
        platform=state.platform,
        config=state.config(),
        history=tuple(state.history),
        chain=tuple(state.chain),
        author=state.author,
        warnings=session.advice.warnings(),
        source_date_epoch=source_date_epoch,
    )


def _pairs(what: str, values: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Name-value pairs of the request; the last of a name wins."""
    for name, value in values:
        if not name:
            raise InvalidArgument(f"{what} without a name")
        for text in (name, value):
            if "\0" in text or any(0xD800 <= ord(ch) < 0xE000 for ch in text if ch > "\u0fff"):
                raise InvalidArgument(f"{what} {name[:64]!r}: NUL or invalid Unicode")
    return dict(values)


def _globals(
    request: PlanRequest,
    dockerfile: ins.Dockerfile,
    build_args: Mapping[str, str],
    escape: str,
    budget: Budget,
    advice: Advice,
) -> dict[str, str | None]:
    """Automatic arguments, then those before the first FROM, each seeing the ones before it."""
    automatic = platform_values(request)
    variables: dict[str, str | None] = {
        name: build_args.get(name, value) for name, value in automatic.items()
    }
    expander = Expander(variables.get, escape, budget=budget)
    for instruction in dockerfile.meta:
        for name, default in instruction.args:
            if name in build_args:
                variables[name] = build_args[name]
            elif default is not None:
                variables[name] = _expand(expander, default, instruction.statement)
            else:
                variables.setdefault(name, None)
        for name in sorted(expander.missing):
            hint = did_you_mean(name, variables).replace("mean ", "mean $")
            message = f"Usage of undefined variable '${name}'{hint}"
            advice.add("UndefinedVar", message, instruction.statement)
        expander.missing.clear()
    return variables


def _expand(expander: Expander, text: str, statement: Statement) -> str:
    try:
        return expander.word(text)
    except TextError as e:
        raise place(e, text, statement) from e


class _FromLine:
    """Expands the words of FROM lines, which see only global arguments."""

    def __init__(
        self, variables: Mapping[str, str | None], escape: str, budget: Budget, advice: Advice
    ) -> None:
        self._variables = variables
        self._expander = Expander(variables.get, escape, budget=budget)
        self._advice = advice

    def __call__(self, text: str, statement: Statement) -> str:
        value = _expand(self._expander, text, statement)
        for name in sorted(self._expander.missing):
            hint = did_you_mean(name, self._variables)
            message = f"FROM argument '{name}' is not declared{hint}"
            self._advice.add("UndefinedArgInFrom", message, statement)
        self._expander.missing.clear()
        return value


def _unused_arguments(session: Session, build_args: Mapping[str, str]) -> None:
    dockerfile = session.graph.dockerfile
    declared = {name for arg in dockerfile.meta for name, _ in arg.args}
    for stage in dockerfile.stages:
        for instruction in session.graph.body(stage):
            if instruction.statement.name == "ARG":
                declared.update(name for name, _ in getattr(instruction, "args", ()))
    known = PREDEFINED | PLATFORM_ARGS | CONTROL_ARGS
    unused = [name for name in build_args if name not in declared and name not in known]
    if unused:
        names = " ".join(sorted(unused))
        session.advice.add_general(
            "UnusedBuildArg", f"one or more build-args [{names}] were not consumed"
        )


def _epoch(
    variables: Mapping[str, str | None], build_args: Mapping[str, str], dockerfile: ins.Dockerfile
) -> int | None:
    name = "SOURCE_DATE_EPOCH"
    text = build_args.get(name, variables.get(name))
    if not text:
        return None
    if text.isascii() and text.isdecimal() and len(text) <= 18:
        return int(text)
    message = f"invalid {name}: {text[:64]}"
    for instruction in dockerfile.meta:
        if any(declared == name for declared, _ in instruction.args):
            raise instruction.statement.fault(message, 0, "seconds since the epoch")
    raise InvalidArgument(message, expected="seconds since the epoch")
