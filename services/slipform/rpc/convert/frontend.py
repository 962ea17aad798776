"""Between ``slipform.api.frontend.v1`` and core values: requests, parsed files, plans."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipform.api.frontend.v1 import frontend_pb2 as pb
from slipform.core import plan
from slipform.core.advice import Warning
from slipform.core.errors import InvalidArgument
from slipform.core.oci import canonical
from slipform.core.oci.config import RunConfig
from slipform.rpc.convert.plan_steps import (
    files_from_pb,
    files_to_pb,
    network_from_pb,
    network_to_pb,
    step_from_pb,
    step_to_pb,
)
from slipform.rpc.convert.types import (
    platform_from_pb,
    platform_to_pb,
    source_from_pb,
    source_to_pb,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipform.api.types.v1 import types_pb2
    from slipform.core.source import SourceRange


def request_to_pb(value: plan.PlanRequest) -> pb.PlanRequest:
    """Core to protobuf."""
    return pb.PlanRequest(
        dockerfile=value.dockerfile,
        filename=value.filename,
        target=value.target,
        build_args=_pairs_to_pb(value.build_args),
        labels=_pairs_to_pb(value.labels),
        platform=None if value.platform is None else platform_to_pb(value.platform),
        build_platform=(
            None if value.build_platform is None else platform_to_pb(value.build_platform)
        ),
        network=network_to_pb(value.network),
        bases=[
            pb.ResolvedBase(
                reference=base.reference,
                platform=platform_to_pb(base.platform),
                digest=base.digest,
                config=base.config,
            )
            for base in value.bases
        ],
    )


def request_from_pb(value: pb.PlanRequest) -> plan.PlanRequest:
    """Protobuf to core."""
    return plan.PlanRequest(
        dockerfile=value.dockerfile,
        filename=value.filename or "Dockerfile",
        target=value.target,
        build_args=_pairs_from_pb(value.build_args),
        labels=_pairs_from_pb(value.labels),
        platform=platform_from_pb(value.platform) if value.HasField("platform") else None,
        build_platform=(
            platform_from_pb(value.build_platform) if value.HasField("build_platform") else None
        ),
        network=network_from_pb(value.network),
        bases=tuple(
            plan.ResolvedBase(b.reference, platform_from_pb(b.platform), b.digest, b.config)
            for b in value.bases
        ),
    )


def result_to_pb(value: plan.PlanResult) -> pb.PlanResponse:
    """Core to protobuf."""
    if isinstance(value, plan.Plan):
        return pb.PlanResponse(plan=plan_to_pb(value))
    bases = [
        pb.BaseImage(
            reference=base.reference,
            platform=platform_to_pb(base.platform),
            source=None if base.source is None else source_to_pb(base.source),
        )
        for base in value.bases
    ]
    return pb.PlanResponse(need_bases=pb.NeedBases(bases=bases))


def result_from_pb(value: pb.PlanResponse) -> plan.PlanResult:
    """Protobuf to core.

    Raises:
        InvalidArgument: the response says nothing, or what no frontend says.
    """
    which = value.WhichOneof("result")
    if which == "plan":
        return plan_from_pb(value.plan)
    if which != "need_bases":
        raise InvalidArgument("the frontend answered neither a plan nor what it needs")
    return plan.NeedBases(
        tuple(
            plan.BaseImage(
                base.reference,
                platform_from_pb(base.platform),
                source_from_pb(base.source) if base.HasField("source") else None,
            )
            for base in value.need_bases.bases
        )
    )


def plan_to_pb(value: plan.Plan) -> pb.Plan:
    """Core to protobuf."""
    return pb.Plan(
        steps=[step_to_pb(step) for step in value.steps],
        result=value.result,
        base=value.base,
        platform=platform_to_pb(value.platform),
        config_json=canonical.encode(value.config.to_json()),
        history=[
            pb.History(
                created_by=entry.created_by, empty_layer=entry.empty_layer, comment=entry.comment
            )
            for entry in value.history
        ],
        chain=value.chain,
        author=value.author,
        warnings=warnings_to_pb(value.warnings),
        source_date_epoch=value.source_date_epoch,
    )


def plan_from_pb(value: pb.Plan) -> plan.Plan:
    """Protobuf to core.

    Raises:
        InvalidArgument: a step without an operation, a config that is none.
    """
    config = canonical.decode_object(value.config_json, "config of the plan")
    try:
        run_config = RunConfig.from_json(config)
    except (TypeError, ValueError, AttributeError) as e:
        raise InvalidArgument(f"config of the plan: a field has the wrong type: {e}") from e
    return plan.Plan(
        steps=tuple(step_from_pb(step) for step in value.steps),
        result=value.result if value.HasField("result") else None,
        base=value.base if value.HasField("base") else None,
        platform=platform_from_pb(value.platform),
        config=run_config,
        history=tuple(
            plan.PlannedHistory(entry.created_by, entry.empty_layer, entry.comment)
            for entry in value.history
        ),
        chain=tuple(value.chain),
        author=value.author,
        warnings=warnings_from_pb(value.warnings),
        source_date_epoch=(
            value.source_date_epoch if value.HasField("source_date_epoch") else None
        ),
    )


def parsed_to_pb(value: plan.ParsedDockerfile) -> pb.ParseResponse:
    """Core to protobuf."""
    return pb.ParseResponse(
        instructions=[
            pb.Instruction(
                name=item.name,
                flags=_pairs_to_pb(item.flags),
                arguments=item.arguments,
                exec_form=item.exec_form,
                heredocs=files_to_pb(item.heredocs),
                source=source_to_pb(item.source),
                text=item.text,
            )
            for item in value.instructions
        ],
        stages=[
            pb.Stage(index=s.index, name=s.name, base=s.base, source=source_to_pb(s.source))
            for s in value.stages
        ],
        escape=value.escape,
        syntax=value.syntax,
        warnings=warnings_to_pb(value.warnings),
    )


def parsed_from_pb(value: pb.ParseResponse) -> plan.ParsedDockerfile:
    """Protobuf to core."""
    return plan.ParsedDockerfile(
        instructions=tuple(
            plan.InstructionInfo(
                item.name,
                _pairs_from_pb(item.flags),
                tuple(item.arguments),
                item.exec_form,
                files_from_pb(item.heredocs),
                source_from_pb(item.source),
                item.text,
            )
            for item in value.instructions
        ),
        stages=tuple(
            plan.StageInfo(s.index, s.name, s.base, source_from_pb(s.source)) for s in value.stages
        ),
        escape=value.escape,
        syntax=value.syntax,
        warnings=warnings_from_pb(value.warnings),
    )


def warnings_to_pb(values: Iterable[Warning]) -> list[pb.Warning]:
    """Core to protobuf."""
    return [
        pb.Warning(rule=w.rule, message=w.message, source=_optional_source(w.source))
        for w in values
    ]


def warnings_from_pb(values: Iterable[pb.Warning]) -> tuple[Warning, ...]:
    """Protobuf to core."""
    return tuple(
        Warning(w.rule, w.message, source_from_pb(w.source) if w.HasField("source") else None)
        for w in values
    )


def _optional_source(value: SourceRange | None) -> types_pb2.SourceRange | None:
    return None if value is None else source_to_pb(value)


def _pairs_to_pb(values: Iterable[tuple[str, str]]) -> list[pb.Pair]:
    return [pb.Pair(name=name, value=value) for name, value in values]


def _pairs_from_pb(values: Iterable[pb.Pair]) -> tuple[tuple[str, str], ...]:
    return tuple((pair.name, pair.value) for pair in values)
