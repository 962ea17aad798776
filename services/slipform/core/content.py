"""The content store: blobs by digest, ingests by ref, as every service sees it.

A ``ContentStore`` is one tenant's view: blobs of other tenants are neither listed nor readable,
and deleting removes only this tenant's claim. Bytes are shared on disk between tenants.

Labels under ``GC_REF`` say what a blob refers to: a live blob keeps what its
``slipform.io/gc.ref.<anything>`` labels name alive.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol, Self, runtime_checkable

from slipform.core.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime
    from types import TracebackType

    from slipform.core.oci.digest import Digest

CHUNK_SIZE: Final = 1 << 20
"""Bytes: the largest chunk that is read, written or sent at once."""

GC_REF: Final = "slipform.io/gc.ref."
"""Prefix of labels whose value is a digest that the labelled blob refers to."""

DEFAULT_TENANT: Final = "default"


@dataclass(frozen=True, slots=True)
class BlobInfo:
    """What is known of a blob without reading it; ``size`` is bytes."""

    digest: Digest
    size: int
    created_at: datetime
    updated_at: datetime
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """An unfinished write; ``total`` 0 and ``expected`` None mean "not announced"."""

    ref: str
    offset: int
    total: int
    expected: Digest | None
    started_at: datetime
    updated_at: datetime


class Ingest(Protocol):
    """One open write. Only one may be open per ref.

    Leaving the ``with`` block without ``commit`` closes it and keeps the bytes: opening the same
    ref again resumes at ``offset``.
    """

    @property
    def offset(self) -> int:
        """Bytes written so far, also by earlier openings of the same ref."""
        ...

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append; returns the number of bytes taken (all). Raises ``ResourceExhausted``."""
        ...

    def truncate(self, size: int = 0) -> None:
        """Drop what was written after ``size``."""
        ...

    def digest(self) -> Digest:
        """Digest of the bytes written so far."""
        ...

    def commit(
        self,
        *,
        size: int = 0,
        expected: Digest | None = None,
        labels: Mapping[str, str] | None = None,
        lease: str = "",
    ) -> BlobInfo:
        """Make the bytes a blob: durable, then named, then visible; closes the ingest.

        Raises:
            FailedPrecondition: ``size`` is not 0 and not what was written; the ingest is kept.
            DigestMismatch: ``expected`` is not the digest; the ingest is kept.
            AlreadyExists: the blob is there already (its labels are merged, the lease holds it);
                the ingest is dropped.
        """
        ...

    def close(self) -> None:
        """Close without committing; idempotent."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class ContentStore(Leases, Protocol):
    """One tenant's blobs. All methods are safe to call from several threads."""

    def info(self, digest: Digest) -> BlobInfo:
        """Raises ``NotFound``."""
        ...

    def read(self, digest: Digest, *, offset: int = 0, size: int = 0) -> Iterator[bytes]:
        """Chunks of at most ``CHUNK_SIZE`` bytes; ``size`` 0 reads to the end.

        Raises:
            NotFound: no such blob.
            OutOfRange: ``offset`` is past the end.
        """
        ...

    def ingest(self, ref: str, *, total: int = 0, expected: Digest | None = None) -> Ingest:
        """Open or resume the write named ``ref``.

        Raises:
            AlreadyExists: ``expected`` is already a blob of this tenant.
            Unavailable: the ref is open elsewhere.
        """
        ...

    def status(self, ref: str) -> IngestStatus:
        """Raises ``NotFound``."""
        ...

    def statuses(self, prefix: str = "") -> list[IngestStatus]:
        """Unfinished writes whose ref starts with ``prefix``, by ref."""
        ...

    def abort(self, ref: str) -> None:
        """Drop an unfinished write. Raises ``NotFound``, or ``Unavailable`` while it is open."""
        ...

    def update_labels(self, digest: Digest, labels: Mapping[str, str]) -> BlobInfo:
        """Set the given labels, leave others alone; an empty value removes that label."""
        ...

    def walk(self, labels: Mapping[str, str] | None = None) -> Iterator[BlobInfo]:
        """Blobs by digest; only those that carry all of ``labels`` (value "" = any value)."""
        ...

    def delete(self, digest: Digest) -> None:
        """Remove from this tenant. Raises ``NotFound``, ``FailedPrecondition`` while leased."""
        ...

    def collect(self) -> int:
        """Remove every blob that no lease reaches; returns bytes freed on disk.

        Blobs that were committed in this process less than the grace period ago are kept, so
        that a client may commit first and lease afterwards.
        """
        ...


@runtime_checkable
class SupportsDescriptors(Protocol):
    """A store whose blobs can be handed out as open files (DESIGN.md, decision 4)."""

    def open_descriptor(self, digest: Digest) -> int:
        """A read-only, close-on-exec file descriptor of the whole blob; the caller closes it."""
        ...
