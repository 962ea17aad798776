"""Between ``slipform.api.snapshot.v1`` and core values."""

from __future__ import annotations

from typing import Final

from slipform.api.snapshot.v1 import snapshot_pb2 as pb
from slipform.core.errors import InvalidArgument
from slipform.core.oci.digest import Digest
from slipform.core.snapshots import (
    AppliedLayer,
    ChainRecord,
    Kind,
    LayerDiff,
    SnapshotInfo,
    Usage,
)
from slipform.rpc.convert.types import (
    descriptor_from_pb,
    descriptor_to_pb,
    time_from_ns,
    time_to_ns,
)

_MAX_INTEGER: Final = (1 << 63) - 1

_KINDS: Final = {
    Kind.ACTIVE: pb.KIND_ACTIVE,
    Kind.VIEW: pb.KIND_VIEW,
    Kind.COMMITTED: pb.KIND_COMMITTED,
}
_FROM_PB: Final = {value: kind for kind, value in _KINDS.items()}


def kind_to_pb(value: Kind | None) -> pb.Kind.ValueType:
    """Core to protobuf; None is unspecified."""
    return pb.KIND_UNSPECIFIED if value is None else _KINDS[value]


def kind_from_pb(value: pb.Kind.ValueType) -> Kind | None:
    """Protobuf to core; raises ``InvalidArgument`` for a number without meaning."""
    if value == pb.KIND_UNSPECIFIED:
        return None
    kind = _FROM_PB.get(value)
    if kind is None:
        raise InvalidArgument(f"snapshot kind {value} is not known")
    return kind


def info_to_pb(value: SnapshotInfo) -> pb.SnapshotInfo:
    """Core to protobuf."""
    return pb.SnapshotInfo(
        name=value.name,
        kind=kind_to_pb(value.kind),
        parent=value.parent,
        created_at_ns=time_to_ns(value.created_at),
        updated_at_ns=time_to_ns(value.updated_at),
        labels=value.labels,
    )


def info_from_pb(value: pb.SnapshotInfo) -> SnapshotInfo:
    """Protobuf to core; raises ``InvalidArgument`` without a kind."""
    kind = kind_from_pb(value.kind)
    if kind is None:
        raise InvalidArgument(f'snapshot "{value.name}" has no kind')
    return SnapshotInfo(
        value.name,
        kind,
        value.parent,
        time_from_ns(value.created_at_ns),
        time_from_ns(value.updated_at_ns),
        dict(value.labels),
    )


def integer_to_pb(what: str, value: int) -> int:
    """A whole number that can travel; raises ``InvalidArgument`` for others."""
    if not 0 <= value <= _MAX_INTEGER:
        raise InvalidArgument(f"{what} is {value}, want a whole number from 0 to {_MAX_INTEGER}")
    return value


def clamp_to_pb(value: int | None) -> int | None:
    """A ``clamp_mtime`` that can travel; None is none."""
    return None if value is None else integer_to_pb("clamp_mtime", value)


def record_to_pb(value: ChainRecord) -> pb.ChainRecord:
    """Core to protobuf; raises ``InvalidArgument`` for numbers out of range."""
    return pb.ChainRecord(
        chain_id=str(value.chain_id),
        snapshot=value.snapshot,
        diff_id=str(value.diff_id),
        size=integer_to_pb("size", value.size),
        clamp_mtime=clamp_to_pb(value.clamp_mtime),
        regenerable=value.regenerable,
    )


def record_from_pb(value: pb.ChainRecord) -> ChainRecord:
    """Protobuf to core; raises ``InvalidArgument`` for malformed digests."""
    return ChainRecord(
        Digest.parse(value.chain_id),
        value.snapshot,
        Digest.parse(value.diff_id),
        value.size,
        value.clamp_mtime if value.HasField("clamp_mtime") else None,
        regenerable=value.regenerable,
    )


def usage_from_pb(value: pb.GetUsageResponse) -> Usage:
    """Protobuf to core."""
    return Usage(value.size, value.inodes)


def applied_from_pb(value: pb.ApplyResponse) -> AppliedLayer:
    """Protobuf to core."""
    return AppliedLayer(Digest.parse(value.diff_id), value.size)


def diff_to_pb(value: LayerDiff) -> pb.DiffResponse:
    """Core to protobuf."""
    blob = value.descriptor
    return pb.DiffResponse(
        diff_id=str(value.diff_id),
        size=value.size,
        descriptor=None if blob is None else descriptor_to_pb(blob),
    )


def diff_from_pb(value: pb.DiffResponse) -> LayerDiff:
    """Protobuf to core."""
    blob = descriptor_from_pb(value.descriptor) if value.HasField("descriptor") else None
    return LayerDiff(Digest.parse(value.diff_id), value.size, blob)
