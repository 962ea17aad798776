"""Images: names for manifests, and what can be done with them."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from slipform.core.oci.config import History, ImageConfig
    from slipform.core.oci.descriptor import Descriptor
    from slipform.core.oci.digest import Digest
    from slipform.core.oci.platform import Platform


@dataclass(frozen=True, slots=True)
class Image:
    """One stored image.

    ``id`` is docker's image id: the digest of the config. ``references`` are normalised
    (``docker.io/library/busybox:latest``), sorted; empty for a dangling image. ``size`` is bytes
    of all uncompressed layers.
    """

    id: Digest
    target: Descriptor
    references: tuple[str, ...]
    created_at: datetime | None
    size: int
    platform: Platform


@dataclass(frozen=True, slots=True)
class ImageDetails:
    """An image with its decoded configuration and the exact bytes it was decoded from."""

    image: Image
    config: ImageConfig
    config_bytes: bytes
    manifest_bytes: bytes
    layers: tuple[Descriptor, ...]


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One line of ``docker history``: ``image_id`` None shows as ``<missing>``; size in bytes."""

    entry: History
    size: int
    image_id: Digest | None


@dataclass(frozen=True, slots=True)
class Removal:
    """One line of ``docker rmi``: exactly one field is set."""

    untagged: str = ""
    deleted: Digest | None = None


@dataclass(frozen=True, slots=True)
class Unpacked:
    """An image whose layers stand as a committed snapshot; ``snapshot`` "" has no layers."""

    details: ImageDetails
    snapshot: str


class ArchiveFormat(enum.Enum):
    """What ``save`` writes."""

    DOCKER = "docker"
    """``manifest.json`` and ``repositories``: docker-archive."""
    OCI = "oci"
    """An OCI image layout in a tar."""


class ImageStore(Protocol):
    """All images of one tenant; safe to call from several threads.

    Where a method takes ``name``, it may be a reference in any accepted spelling, a full id
    (``sha256:…`` of config or manifest), or an unambiguous prefix of an id.
    """

    def create(self, target: Descriptor, references: Sequence[str] = ()) -> Image:
        """Record a manifest that is in the content store and point the references at it.

        Idempotent. A reference that pointed elsewhere moves. The image holds a lease on manifest,
        config, and those layers that are blobs; and on the snapshots of its chain.

        Raises:
            NotFound: manifest or config is not in the content store.
            InvalidArgument: a malformed reference or manifest.
        """
        ...

    def get(self, name: str, *, platform: Platform | None = None) -> ImageDetails:
        """Raises ``NotFound``, or ``InvalidArgument`` when a prefix fits several images."""
        ...

    def list_images(self) -> list[Image]:
        """All images, newest first."""
        ...

    def tag(self, source: str, target: str) -> None:
        """Point ``target`` at the image ``source``; moves it when it exists."""
        ...

    def remove(self, name: str, *, force: bool = False) -> list[Removal]:
        """Untag, and delete the image when that was its last reference.

        Raises:
            NotFound: no such image.
            FailedPrecondition: an id with several references, without ``force``.
        """
        ...

    def history(self, name: str) -> list[HistoryEntry]:
        """Newest first, as docker shows it."""
        ...

    def save(self, names: Sequence[str], archive: ArchiveFormat) -> Iterator[bytes]:
        """The archive as chunks of at most 1 MiB; shared layers are written once.

        Layers that exist only as snapshots are made into tars on the way.
        """
        ...

    def load(self, archive: Iterable[bytes]) -> Iterator[Image]:
        """Read a docker-archive or OCI layout (plain, gzip, zstd, bzip2, xz); idempotent.

        An image is visible only when all of it is stored and verified.

        Raises:
            InvalidArgument: not an archive, broken, truncated, or without a manifest.
            DigestMismatch: a blob does not hash to its name.
        """
        ...

    def import_rootfs(
        self,
        archive: Iterable[bytes],
        reference: str = "",
        *,
        changes: Sequence[str] = (),
        message: str = "",
        platform: Platform | None = None,
        created: datetime | None = None,
    ) -> Image:
        """Make a one-layer image of a root file system tar (plain or compressed).

        ``changes`` are Dockerfile instructions as ``docker import -c`` takes them; ``created``
        None is now.
        """
        ...

    def unpack(self, name: str, *, platform: Platform | None = None) -> Unpacked:
        """Make sure that the image's layers stand as a committed snapshot; idempotent."""
        ...
