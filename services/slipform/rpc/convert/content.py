"""Between ``slipform.api.content.v1`` and core values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipform.api.content.v1 import content_pb2 as pb
from slipform.core.content import BlobInfo, IngestStatus
from slipform.core.errors import InvalidArgument
from slipform.core.oci.digest import Digest
from slipform.rpc.convert.types import digest_from_pb, time_from_ns, time_to_ns

if TYPE_CHECKING:
    from collections.abc import Mapping


def info_to_pb(value: BlobInfo) -> pb.BlobInfo:
    """Core to protobuf."""
    return pb.BlobInfo(
        digest=str(value.digest),
        size=value.size,
        created_at_ns=time_to_ns(value.created_at),
        updated_at_ns=time_to_ns(value.updated_at),
        labels=value.labels,
    )


def info_from_pb(value: pb.BlobInfo) -> BlobInfo:
    """Protobuf to core."""
    return BlobInfo(
        Digest.parse(value.digest),
        value.size,
        time_from_ns(value.created_at_ns),
        time_from_ns(value.updated_at_ns),
        dict(value.labels),
    )


def status_to_pb(value: IngestStatus) -> pb.IngestStatus:
    """Core to protobuf."""
    return pb.IngestStatus(
        ref=value.ref,
        offset=value.offset,
        total=value.total,
        expected=str(value.expected or ""),
        started_at_ns=time_to_ns(value.started_at),
        updated_at_ns=time_to_ns(value.updated_at),
    )


def status_from_pb(value: pb.IngestStatus) -> IngestStatus:
    """Protobuf to core."""
    return IngestStatus(
        value.ref,
        value.offset,
        value.total,
        digest_from_pb(value.expected),
        time_from_ns(value.started_at_ns),
        time_from_ns(value.updated_at_ns),
    )


def text_to_pb(what: str, text: str) -> str:
    """Text that can travel; raises ``InvalidArgument`` for lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise InvalidArgument(f"{what} {text[:64]!r} is not text") from e
    return text


def labels_to_pb(labels: Mapping[str, str] | None) -> dict[str, str]:
    """Labels that can travel; raises ``InvalidArgument`` for lone surrogates."""
    found = labels or {}
    return {text_to_pb("label", key): text_to_pb("label", found[key]) for key in found}
