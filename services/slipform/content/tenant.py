"""One tenant's view of the content store: the ``ContentStore`` that everybody is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.content.text import matches
from slipform.core.content import CHUNK_SIZE
from slipform.core.errors import DigestMismatch, InvalidArgument, OutOfRange
from slipform.core.leasebook import TenantLeases
from slipform.core.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from slipform.content.ingest import OpenIngest
    from slipform.content.store import Content
    from slipform.core.blob_driver import BlobReader
    from slipform.core.content import BlobInfo, IngestStatus

_PAGE: Final = 256


class TenantStore(TenantLeases):
    """Satisfies ``slipform.core.content.ContentStore``; leases name digests."""

    def __init__(self, content: Content, tenant: str) -> None:
        super().__init__(content.leases, tenant)
        self._content = content

    def info(self, digest: Digest) -> BlobInfo:
        """Raises ``NotFound``."""
        return self._content.info(self._tenant, digest)

    def read(self, digest: Digest, *, offset: int = 0, size: int = 0) -> Iterator[bytes]:
        """Chunks of at most ``CHUNK_SIZE`` bytes; ``size`` 0, or too large, reads to the end.

        Raises:
            NotFound: no such blob.
            OutOfRange: ``offset`` is past the end.
            DigestMismatch: the blob's size is not what it was when it was committed.
        """
        if offset < 0 or size < 0:
            raise InvalidArgument(
                f"read of {digest}: offset {offset}, size {size}: want no less than 0"
            )
        reader = self._content.open_blob(self._tenant, digest)
        if offset > reader.size:
            reader.close()
            raise OutOfRange(
                f"blob {digest} has {reader.size} bytes, offset {offset} is past its end"
            )
        end = min(reader.size, offset + size) if size else reader.size
        return _chunks(reader, digest, offset, end)

    def ingest(self, ref: str, *, total: int = 0, expected: Digest | None = None) -> OpenIngest:
        """Open or resume the write named ``ref``.

        Raises:
            AlreadyExists: ``expected`` is already a blob of this tenant.
            Unavailable: the ref is open elsewhere.
            FailedPrecondition: the ref was opened with another total or expected digest.
        """
        return self._content.open_ingest(self._tenant, ref, total, expected)

    def status(self, ref: str) -> IngestStatus:
        """Raises ``NotFound``."""
        return self._content.status(self._tenant, ref)

    def statuses(self, prefix: str = "") -> list[IngestStatus]:
        """Unfinished writes whose ref starts with ``prefix``, by ref."""
        return self._content.statuses(self._tenant, prefix)

    def abort(self, ref: str) -> None:
        """Drop an unfinished write. Raises ``NotFound``, or ``Unavailable`` while it is open."""
        self._content.abort(self._tenant, ref)

    def update_labels(self, digest: Digest, labels: Mapping[str, str]) -> BlobInfo:
        """Set the given labels, leave others alone; an empty value removes that label."""
        return self._content.update_labels(self._tenant, digest, labels)

    def walk(self, labels: Mapping[str, str] | None = None) -> Iterator[BlobInfo]:
        """Blobs by digest; what is committed or deleted meanwhile may or may not be among them."""
        after = ""
        while page := self._content.page(self._tenant, after, _PAGE):
            for info in page:
                if matches(info.labels, labels or {}):
                    yield info
            after = str(page[-1].digest)

    def delete(self, digest: Digest) -> None:
        """Remove from this tenant. Raises ``NotFound``, ``FailedPrecondition`` while leased."""
        self._content.delete(self._tenant, digest)

    def collect(self) -> int:
        """Remove every blob of this tenant that no lease reaches; bytes freed on disk."""
        return self._content.collect(self._tenant)

    def add_to_lease(self, lease_id: str, resources: Iterable[str]) -> None:
        """Hold digests; also such as are not there yet. Raises ``InvalidArgument`` for others."""
        super().add_to_lease(lease_id, [str(Digest.parse(resource)) for resource in resources])


class DescriptorTenantStore(TenantStore):
    """A tenant of a store whose driver has files; satisfies ``SupportsDescriptors``."""

    def open_descriptor(self, digest: Digest) -> int:
        """A read-only, close-on-exec descriptor; the caller closes it. Raises ``NotFound``."""
        return self._content.open_descriptor(self._tenant, digest)


def _chunks(reader: BlobReader, digest: Digest, offset: int, end: int) -> Iterator[bytes]:
    try:
        while offset < end:
            chunk = reader.read_at(offset, min(CHUNK_SIZE, end - offset))
            if not chunk:
                raise DigestMismatch(f"blob {digest} ends at {offset}, want {end} bytes")
            offset += len(chunk)
            yield chunk
    finally:
        reader.close()
