"""One stage: from its FROM through its instructions to its final state."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipform.frontend.dockerfile import instructions as ins
from slipform.frontend.planner import configure
from slipform.frontend.planner.copy import copy, workdir
from slipform.frontend.planner.graph import SCRATCH
from slipform.frontend.planner.run import run
from slipform.frontend.planner.session import StageContext
from slipform.frontend.planner.state import base_state, scratch_state

if TYPE_CHECKING:
    from slipform.core.oci.platform import Platform
    from slipform.frontend.planner.graph import Image
    from slipform.frontend.planner.session import Session
    from slipform.frontend.planner.state import State

_STEPS = frozenset({"RUN", "COPY", "ADD", "WORKDIR"})


def plan_stage(session: Session, stage: ins.Stage) -> None:
    """Plan a stage; those that it uses are planned already."""
    origin = session.graph.origin(stage)
    body = session.graph.body(stage)
    total = sum(1 for instruction in body if instruction.statement.name in _STEPS)
    if isinstance(origin, int):
        context = StageContext(session, stage, session.done[origin].child(), total)
    elif origin.reference == SCRATCH:
        context = StageContext(session, stage, scratch_state(origin.platform), total)
    else:
        context = _from_image(session, stage, origin, total + 1)
    for instruction in body:
        _dispatch(context, instruction)
        context.report_missing(instruction.statement)
    session.done[stage.index] = context.state


def _from_image(session: Session, stage: ins.Stage, image: Image, total: int) -> StageContext:
    config = session.graph.config(image)
    state: State = base_state(config.config, _platform(config.platform, image), config.author)
    if state.working_dir:
        state.working_dir = configure.clean_path(state.working_dir, "/")
    context = StageContext(session, stage, state, total)
    name = context.step_name(f"FROM {image.reference}")
    state.base = state.rootfs = session.base(image, name, stage.label, stage.origin.statement)
    return context


def _platform(found: Platform, image: Image) -> Platform:
    """What the base says it is; imported roots may not say."""
    return found if found.os and found.architecture else image.platform


def _dispatch(context: StageContext, instruction: ins.Instruction) -> None:
    match instruction:
        case ins.Run():
            run(context, instruction)
        case ins.Copy():
            copy(context, instruction)
        case ins.Pairs() if instruction.statement.name == "ENV":
            configure.env(context, instruction)
        case ins.Pairs():
            configure.label(context, instruction)
        case ins.Arg():
            configure.arg(context, instruction)
        case ins.Process():
            configure.process(context, instruction)
        case ins.Health():
            configure.healthcheck(context, instruction)
        case ins.OnBuild():
            configure.on_build(context, instruction)
        case ins.Words():
            _words(context, instruction)
        case ins.Value():
            _value(context, instruction)


def _words(context: StageContext, instruction: ins.Words) -> None:
    match instruction.statement.name:
        case "EXPOSE":
            configure.expose(context, instruction)
        case "VOLUME":
            configure.volume(context, instruction)
        case "SHELL":
            configure.shell(context, instruction)


def _value(context: StageContext, instruction: ins.Value) -> None:
    match instruction.statement.name:
        case "USER":
            configure.user(context, instruction)
        case "WORKDIR":
            workdir(context, instruction)
        case "STOPSIGNAL":
            configure.stop_signal(context, instruction)
        case "MAINTAINER":
            configure.maintainer(context, instruction)
