"""Between ``slipform.api.types.v1`` and core values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from slipform.api.types.v1 import types_pb2 as pb
from slipform.core.leases import Lease
from slipform.core.mounts import Mount
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.digest import Digest
from slipform.core.oci.platform import Platform
from slipform.core.source import SourceRange

_EPOCH = datetime.fromtimestamp(0, UTC)


def time_to_ns(at: datetime) -> int:
    """Nanoseconds since the epoch."""
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000


def time_from_ns(ns: int) -> datetime:
    """An aware time in UTC, to the microsecond."""
    return _EPOCH + timedelta(microseconds=ns // 1000)


def digest_from_pb(text: str) -> Digest | None:
    """A digest, or None for the empty string."""
    return Digest.parse(text) if text else None


def platform_to_pb(value: Platform) -> pb.Platform:
    """Core to protobuf."""
    return pb.Platform(
        os=value.os,
        architecture=value.architecture,
        variant=value.variant,
        os_version=value.os_version,
    )


def platform_from_pb(value: pb.Platform) -> Platform:
    """Protobuf to core."""
    return Platform(value.os, value.architecture, value.variant, value.os_version)


def descriptor_to_pb(value: Descriptor) -> pb.Descriptor:
    """Core to protobuf."""
    return pb.Descriptor(
        media_type=value.media_type,
        digest=str(value.digest),
        size=value.size,
        annotations=value.annotations,
        platform=None if value.platform is None else platform_to_pb(value.platform),
    )


def descriptor_from_pb(value: pb.Descriptor) -> Descriptor:
    """Protobuf to core; raises ``InvalidArgument`` for a malformed digest."""
    return Descriptor(
        value.media_type,
        Digest.parse(value.digest),
        value.size,
        dict(value.annotations),
        platform_from_pb(value.platform) if value.HasField("platform") else None,
    )


def mount_to_pb(value: Mount) -> pb.Mount:
    """Core to protobuf."""
    return pb.Mount(
        type=value.type, source=value.source, target=value.target, options=value.options
    )


def mount_from_pb(value: pb.Mount) -> Mount:
    """Protobuf to core."""
    return Mount(value.type, value.source, value.target, tuple(value.options))


def source_to_pb(value: SourceRange) -> pb.SourceRange:
    """Core to protobuf."""
    return pb.SourceRange(
        file=value.file,
        start_line=value.start_line,
        end_line=value.end_line,
        start_column=value.start_column,
    )


def source_from_pb(value: pb.SourceRange) -> SourceRange:
    """Protobuf to core."""
    return SourceRange(value.file, value.start_line, value.end_line, value.start_column)


def lease_to_pb(value: Lease) -> pb.Lease:
    """Core to protobuf."""
    return pb.Lease(
        id=value.id,
        created_at_ns=time_to_ns(value.created_at),
        expires_at_ns=0 if value.expires_at is None else time_to_ns(value.expires_at),
        labels=value.labels,
    )


def lease_from_pb(value: pb.Lease) -> Lease:
    """Protobuf to core."""
    expires = time_from_ns(value.expires_at_ns) if value.expires_at_ns else None
    return Lease(value.id, time_from_ns(value.created_at_ns), expires, dict(value.labels))
