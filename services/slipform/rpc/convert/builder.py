"""Between ``slipform.api.builder.v1`` and core values."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.api.builder.v1 import builder_pb2 as pb
from slipform.core import build as core
from slipform.core.advice import Warning
from slipform.core.context import FileEntry
from slipform.core.errors import InvalidArgument
from slipform.core.execution import Network, Stream
from slipform.core.oci.digest import Digest
from slipform.rpc.convert.types import (
    platform_from_pb,
    platform_to_pb,
    source_from_pb,
    source_to_pb,
    time_from_ns,
    time_to_ns,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

_NETWORKS: Final = {Network.HOST: pb.NETWORK_HOST, Network.NONE: pb.NETWORK_NONE}
_NETWORKS_BACK: Final = {
    pb.NETWORK_UNSPECIFIED: Network.HOST,
    pb.NETWORK_HOST: Network.HOST,
    pb.NETWORK_NONE: Network.NONE,
}
_STATES: Final = {
    core.StepState.QUEUED: pb.STEP_STATE_QUEUED,
    core.StepState.STARTED: pb.STEP_STATE_STARTED,
    core.StepState.CACHED: pb.STEP_STATE_CACHED,
    core.StepState.DONE: pb.STEP_STATE_DONE,
    core.StepState.FAILED: pb.STEP_STATE_FAILED,
    core.StepState.CANCELLED: pb.STEP_STATE_CANCELLED,
}
_STATES_BACK: Final = {value: key for key, value in _STATES.items()}
_STREAMS: Final = {
    Stream.STDOUT: pb.OUTPUT_STREAM_STDOUT,
    Stream.STDERR: pb.OUTPUT_STREAM_STDERR,
}
_STREAMS_BACK: Final = {value: key for key, value in _STREAMS.items()}


def request_to_spec(value: core.BuildRequest, *, sent: bool, name: str = "") -> pb.BuildSpec:
    """Core to protobuf; ``sent``: the context comes with the call, under ``name``."""
    spec = pb.BuildSpec(
        dockerfile=value.dockerfile,
        dockerfile_name=value.dockerfile_name,
        dockerfile_path="" if value.dockerfile_path is None else str(value.dockerfile_path),
        references=value.references,
        target=value.target,
        build_args=_pairs(value.build_args),
        labels=_pairs(value.labels),
        platform=None if value.platform is None else platform_to_pb(value.platform),
        network=_NETWORKS[value.network],
        no_cache=value.no_cache,
        extra_hosts=_pairs(value.extra_hosts),
        source_date_epoch=value.source_date_epoch,
        max_parallelism=value.max_parallelism,
        step_timeout_ms=round(value.step_timeout_s * 1000),
        allow=value.allow,
    )
    if sent:
        spec.sent.name = name
    elif value.local_context is not None:
        spec.local_path = str(value.local_context)
    return spec


def request_from_spec(spec: pb.BuildSpec) -> core.BuildRequest:
    """Protobuf to core; raises ``InvalidArgument`` for values out of range."""
    if spec.max_parallelism < 0 or spec.step_timeout_ms < 0:
        raise InvalidArgument("max_parallelism and step_timeout_ms may not be negative")
    network = _NETWORKS_BACK.get(spec.network)
    if network is None:
        raise InvalidArgument(f"network {spec.network} is not known")
    return core.BuildRequest(
        local_context=Path(spec.local_path) if spec.WhichOneof("context") == "local_path" else None,
        dockerfile=spec.dockerfile if spec.HasField("dockerfile") else None,
        dockerfile_name=spec.dockerfile_name,
        dockerfile_path=Path(spec.dockerfile_path) if spec.dockerfile_path else None,
        references=tuple(spec.references),
        target=spec.target,
        build_args=_from_pairs(spec.build_args),
        labels=_from_pairs(spec.labels),
        platform=platform_from_pb(spec.platform) if spec.HasField("platform") else None,
        network=network,
        no_cache=spec.no_cache,
        extra_hosts=_from_pairs(spec.extra_hosts),
        source_date_epoch=spec.source_date_epoch if spec.HasField("source_date_epoch") else None,
        max_parallelism=spec.max_parallelism,
        step_timeout_s=spec.step_timeout_ms / 1000,
        allow=tuple(spec.allow),
    )


def entry_to_pb(value: FileEntry) -> pb.ContextEntry:
    """Core to protobuf."""
    return pb.ContextEntry(
        path=os.fsencode(value.path),
        mode=value.mode,
        size=value.size,
        mtime_ns=value.mtime_ns,
        ctime_ns=value.ctime_ns,
        link_target=os.fsencode(value.link_target),
        device=value.device,
        inode_device=value.inode[0],
        inode=value.inode[1],
    )


def entry_from_pb(value: pb.ContextEntry) -> FileEntry:
    """Protobuf to core; everything belongs to root, as in every context.

    Raises:
        InvalidArgument: a path that is not relative and clean, or a negative size.
    """
    path = os.fsdecode(value.path)
    parts = path.split("/")
    if not path or "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise InvalidArgument(f'build context: "{path}" is not a clean relative path')
    if value.size < 0:
        raise InvalidArgument(f'build context: "{path}" has a negative size')
    return FileEntry(
        path,
        value.mode,
        value.size,
        value.mtime_ns,
        link_target=os.fsdecode(value.link_target),
        device=value.device,
        inode=(value.inode_device, value.inode),
        ctime_ns=value.ctime_ns,
    )


def event_to_pb(event: core.BuildEvent) -> pb.BuildResponse:
    """Core to protobuf."""
    match event:
        case core.StepEvent():
            return pb.BuildResponse(step=_step_to_pb(event))
        case core.LogEvent():
            log = pb.LogEvent(
                step=event.step,
                stream=_STREAMS[event.stream],
                data=event.data,
                at_ns=time_to_ns(event.at),
            )
            return pb.BuildResponse(log=log)
        case core.ProgressEvent():
            return pb.BuildResponse(progress=_progress_to_pb(event))
        case core.WarningEvent():
            return pb.BuildResponse(warning=_warning_to_pb(event.warning))
        case core.BuildSucceeded():
            return pb.BuildResponse(succeeded=_succeeded_to_pb(event))
        case core.BuildFailed():
            return pb.BuildResponse(failed=_failed_to_pb(event))


def event_from_pb(message: pb.BuildResponse) -> core.BuildEvent | None:
    """Protobuf to core; None for messages that are no events (``want``, later additions)."""
    match message.WhichOneof("message"):
        case "step":
            return _step_from_pb(message.step)
        case "log":
            log = message.log
            stream = _STREAMS_BACK.get(log.stream, Stream.STDOUT)
            return core.LogEvent(log.step, stream, log.data, time_from_ns(log.at_ns))
        case "progress":
            p = message.progress
            at = time_from_ns(p.at_ns)
            return core.ProgressEvent(p.step, p.what, p.current, p.total, p.unit, at)
        case "warning":
            w = message.warning
            source = source_from_pb(w.source) if w.HasField("source") else None
            return core.WarningEvent(Warning(w.rule, w.message, source))
        case "succeeded":
            done = message.succeeded
            return core.BuildSucceeded(
                Digest.parse(done.image_id),
                Digest.parse(done.manifest_digest),
                tuple(done.references),
            )
        case "failed":
            return _failed_from_pb(message.failed)
        case _:
            return None


def _step_to_pb(event: core.StepEvent) -> pb.StepEvent:
    return pb.StepEvent(
        step=event.step,
        digest=str(event.digest),
        name=event.name,
        state=_STATES[event.state],
        at_ns=time_to_ns(event.at),
        error=_text(event.error),
        miss_reason=_text(event.miss_reason),
    )


def _step_from_pb(event: pb.StepEvent) -> core.StepEvent | None:
    state = _STATES_BACK.get(event.state)
    if state is None:
        return None
    return core.StepEvent(
        event.step,
        Digest.parse(event.digest),
        event.name,
        state,
        time_from_ns(event.at_ns),
        event.error,
        event.miss_reason,
    )


def _progress_to_pb(event: core.ProgressEvent) -> pb.ProgressEvent:
    return pb.ProgressEvent(
        step=event.step,
        what=event.what,
        current=event.current,
        total=event.total,
        unit=event.unit,
        at_ns=time_to_ns(event.at),
    )


def _warning_to_pb(value: Warning) -> pb.Warning:
    source = None if value.source is None else source_to_pb(value.source)
    return pb.Warning(rule=value.rule, message=value.message, source=source)


def _succeeded_to_pb(event: core.BuildSucceeded) -> pb.BuildSucceeded:
    return pb.BuildSucceeded(
        image_id=str(event.image_id),
        manifest_digest=str(event.manifest_digest),
        references=event.references,
    )


def _failed_to_pb(event: core.BuildFailed) -> pb.BuildFailed:
    return pb.BuildFailed(
        message=_text(event.message),
        step=event.step,
        step_name=event.step_name,
        source=None if event.source is None else source_to_pb(event.source),
        source_text=event.source_text,
        exit_code=event.exit_code,
        tail=[_text(line) for line in event.tail],
        cancelled=event.cancelled,
    )


def _failed_from_pb(event: pb.BuildFailed) -> core.BuildFailed:
    return core.BuildFailed(
        event.message,
        event.step if event.HasField("step") else None,
        event.step_name,
        source_from_pb(event.source) if event.HasField("source") else None,
        event.source_text,
        event.exit_code if event.HasField("exit_code") else None,
        tuple(event.tail),
        event.cancelled,
    )


def _text(value: str) -> str:
    """Names of files may hold bytes that are no UTF-8; protobuf takes no others."""
    return os.fsencode(value).decode(errors="replace")


def _pairs(values: Iterable[tuple[str, str]]) -> list[pb.KeyValue]:
    return [pb.KeyValue(key=key, value=value) for key, value in values]


def _from_pairs(values: Iterable[pb.KeyValue]) -> tuple[tuple[str, str], ...]:
    return tuple((pair.key, pair.value) for pair in values)
