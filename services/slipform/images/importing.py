"""A root file system tar becomes an image of one layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipform.core.errors import InvalidArgument
from slipform.core.oci import media_types
from slipform.core.oci.config import History, ImageConfig, RunConfig
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.digest import Digest
from slipform.core.oci.manifest import Manifest
from slipform.images.changes import apply_changes
from slipform.images.members import Members
from slipform.images.timestamps import text_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from slipform.core.oci.platform import Platform
    from slipform.images.holds import Work


@dataclass(frozen=True, slots=True)
class ImportOptions:
    """Everything about an import but its bytes; checked before any byte is read."""

    config: RunConfig
    message: str
    platform: Platform
    created: datetime

    @classmethod
    def of(
        cls, changes: Sequence[str], message: str, platform: Platform, created: datetime
    ) -> ImportOptions:
        """Parse the changes; raises ``InvalidArgument``."""
        config = apply_changes(RunConfig(), changes)
        return cls(config, message or "Imported from -", platform, created)


def import_layer(work: Work, archive: Iterable[bytes]) -> Descriptor:
    """Store the uncompressed tar, walking over its headers as it flows by.

    Raises:
        InvalidArgument: not a tar, corrupt, or truncated.
    """
    with work.ingest("rootfs") as ingest:
        with Members(archive, "rootfs", tap=ingest.write) as tar:
            for _ in tar:
                pass
            if not tar.ended:
                raise InvalidArgument(
                    f"rootfs: truncated: no end-of-archive block at byte {ingest.offset}"
                )
            tar.drain()
        digest, size = ingest.digest(), ingest.offset
        work.commit(ingest, digest)
    return Descriptor(media_types.OCI_LAYER, digest, size)


def imported_documents(layer: Descriptor, options: ImportOptions) -> tuple[bytes, bytes]:
    """The bytes of config and manifest of an image that has this layer only."""
    created = text_of(options.created)
    history = History(created=created, comment=options.message)
    config = ImageConfig(
        options.platform, options.config, (layer.digest,), (history,), created=created
    )
    data = config.encode()
    descriptor = Descriptor(media_types.OCI_CONFIG, Digest.of(data), len(data))
    return data, Manifest(descriptor, (layer,)).encode()
