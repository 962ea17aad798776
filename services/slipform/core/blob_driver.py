"""What a content driver does: keep bytes of blobs and of unfinished writes, and nothing else.

Tenants, labels, leases, refs and digests of what is written are the content service's; a driver
sees numbers (ingests) and digests (blobs) that were checked before. The service calls it from
several threads, but never two at a time for the same ingest, and ``publish`` and ``remove`` only
one at a time. A driver whose blobs are files of the host also satisfies
``slipform.core.content.SupportsDescriptors``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.core.oci.digest import Digest


class IngestBytes(Protocol):
    """The bytes of one unfinished write, open for appending."""

    @property
    def size(self) -> int:
        """Bytes held."""
        ...

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of it or, raising, nothing of it.

        Raises:
            ResourceExhausted: no space; ``size`` is what it was before.
        """
        ...

    def truncate(self, size: int) -> None:
        """Keep the first ``size`` bytes; ``size`` is at most what is held."""
        ...

    def read(self) -> Iterator[bytes]:
        """All bytes from the beginning, in chunks of at most ``CHUNK_SIZE``."""
        ...

    def sync(self) -> None:
        """Return when the bytes would survive a power cut."""
        ...

    def close(self) -> None:
        """Let go, keeping the bytes; idempotent."""
        ...


class BlobReader(Protocol):
    """One open blob; stays readable when the blob is removed meanwhile."""

    @property
    def size(self) -> int:
        """Bytes of the blob as it lies there."""
        ...

    def read_at(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``; fewer only at the end."""
        ...

    def close(self) -> None:
        """Let go; idempotent."""
        ...


class BlobDriver(Protocol):
    """Bytes by digest and by ingest number."""

    def open_ingest(self, number: int) -> IngestBytes:
        """Open the write, empty when it is new."""
        ...

    def ingest_state(self, number: int) -> tuple[int, int]:
        """Bytes held and time of the last write (ns since the epoch); (0, 0) when absent."""
        ...

    def ingests(self) -> list[int]:
        """Numbers of all unfinished writes."""
        ...

    def drop_ingest(self, number: int) -> None:
        """Forget the write, also after it was published; idempotent."""
        ...

    def publish(self, number: int, digest: Digest) -> None:
        """Give the synced bytes of an ingest their name, durably and all at once.

        Replaces a blob of that name. The ingest can still be opened until ``drop_ingest``.
        """
        ...

    def size(self, digest: Digest) -> int:
        """Bytes of the blob. Raises ``NotFound``."""
        ...

    def open(self, digest: Digest) -> BlobReader:
        """Open a blob. Raises ``NotFound``."""
        ...

    def blobs(self) -> Iterator[Digest]:
        """Every named blob, in any order."""
        ...

    def remove(self, digest: Digest) -> int:
        """Take the name away, quickly; bytes freed once ``purge`` ran; 0 when absent."""
        ...

    def purge(self) -> None:
        """Free the space of removed blobs; may take long, and runs beside everything else."""
        ...

    def close(self) -> None:
        """Let go of the store; idempotent."""
        ...
