"""Between ``slipform.api.images.v1`` and core values."""

from __future__ import annotations

from typing import Final

from slipform.api.images.v1 import images_pb2 as pb
from slipform.core.errors import InvalidArgument
from slipform.core.images import ArchiveFormat, HistoryEntry, Image, ImageDetails, Removal
from slipform.core.oci.config import History, ImageConfig
from slipform.core.oci.digest import Digest
from slipform.core.oci.manifest import Manifest
from slipform.rpc.convert.types import (
    descriptor_from_pb,
    descriptor_to_pb,
    digest_from_pb,
    platform_from_pb,
    platform_to_pb,
    time_from_ns,
    time_to_ns,
)

_FORMATS: Final = {
    ArchiveFormat.DOCKER: pb.ARCHIVE_FORMAT_DOCKER,
    ArchiveFormat.OCI: pb.ARCHIVE_FORMAT_OCI,
}
_FORMATS_BACK: Final = {number: kind for kind, number in _FORMATS.items()}


def image_to_pb(value: Image) -> pb.Image:
    """Core to protobuf."""
    return pb.Image(
        id=str(value.id),
        target=descriptor_to_pb(value.target),
        references=value.references,
        created_at_ns=None if value.created_at is None else time_to_ns(value.created_at),
        size=value.size,
        platform=platform_to_pb(value.platform),
    )


def image_from_pb(value: pb.Image) -> Image:
    """Protobuf to core."""
    has_time = value.HasField("created_at_ns")
    return Image(
        id=Digest.parse(value.id),
        target=descriptor_from_pb(value.target),
        references=tuple(value.references),
        created_at=time_from_ns(value.created_at_ns) if has_time else None,
        size=value.size,
        platform=platform_from_pb(value.platform),
    )


def details_to_pb(value: ImageDetails) -> pb.ImageDetails:
    """Core to protobuf: the exact bytes travel, and are decoded again on the other side."""
    return pb.ImageDetails(
        image=image_to_pb(value.image), config=value.config_bytes, manifest=value.manifest_bytes
    )


def details_from_pb(value: pb.ImageDetails) -> ImageDetails:
    """Protobuf to core."""
    return ImageDetails(
        image=image_from_pb(value.image),
        config=ImageConfig.decode(value.config),
        config_bytes=value.config,
        manifest_bytes=value.manifest,
        layers=Manifest.decode(value.manifest).layers,
    )


def history_to_pb(value: HistoryEntry) -> pb.HistoryEntry:
    """Core to protobuf."""
    return pb.HistoryEntry(
        created_by=value.entry.created_by,
        created=value.entry.created,
        comment=value.entry.comment,
        author=value.entry.author,
        empty_layer=value.entry.empty_layer,
        size=value.size,
        image_id="" if value.image_id is None else str(value.image_id),
    )


def history_from_pb(value: pb.HistoryEntry) -> HistoryEntry:
    """Protobuf to core."""
    entry = History(value.created_by, value.created, value.comment, value.author, value.empty_layer)
    return HistoryEntry(entry, value.size, digest_from_pb(value.image_id))


def removal_to_pb(value: Removal) -> pb.Removal:
    """Core to protobuf."""
    if value.deleted is not None:
        return pb.Removal(deleted=str(value.deleted))
    return pb.Removal(untagged=value.untagged)


def removal_from_pb(value: pb.Removal) -> Removal:
    """Protobuf to core."""
    return Removal(untagged=value.untagged, deleted=digest_from_pb(value.deleted))


def format_to_pb(value: ArchiveFormat) -> pb.ArchiveFormat.ValueType:
    """Core to protobuf."""
    return _FORMATS[value]


def format_from_pb(value: pb.ArchiveFormat.ValueType) -> ArchiveFormat:
    """Protobuf to core; raises ``InvalidArgument`` for unknown and unspecified."""
    kind = _FORMATS_BACK.get(value)
    if kind is None:
        raise InvalidArgument(f"archive format {value} is unknown, want DOCKER or OCI")
    return kind
