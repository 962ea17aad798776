"""One open write: bytes in, digest as they pass, a blob at the end."""

from __future__ import annotations

import hashlib
import threading
import time
from typing import TYPE_CHECKING, Protocol, Self

from slipform.content.text import check_labels
from slipform.core.content import IngestStatus
from slipform.core.errors import (
    DigestMismatch,
    FailedPrecondition,
    InvalidArgument,
    OutOfRange,
)
from slipform.core.leasebook import from_ns
from slipform.core.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from slipform.content.catalog import IngestRecord
    from slipform.core.blob_driver import IngestBytes
    from slipform.core.content import BlobInfo


class Publisher(Protocol):
    """The store, as an ingest sees it."""

    def publish(
        self,
        ingest: OpenIngest,
        digest: Digest,
        labels: Mapping[str, str],
        lease: str,
    ) -> BlobInfo:
        """Make the bytes of a closed ingest a blob. Raises ``AlreadyExists``."""
        ...

    def released(self, ingest: OpenIngest) -> None:
        """The ingest was closed: its ref is free."""
        ...


class OpenIngest:
    """Satisfies ``slipform.core.content.Ingest``.

    A lock makes it safe that the store closes it while another thread writes. Every ``commit``
    closes it, whatever comes of it: after a mismatch the bytes are kept, and opening the ref
    again goes on with them.
    """

    def __init__(self, owner: Publisher, record: IngestRecord, data: IngestBytes) -> None:
        """Take over what earlier openings wrote: reads all of it to know its digest."""
        self.record = record
        self.data = data
        self._owner = owner
        self._updated_ns = 0
        self._open = True
        self._lock = threading.RLock()  # taken before the store's, never after
        self._algorithm = "sha256" if record.expected is None else record.expected.algorithm
        self._rehash()

    @property
    def offset(self) -> int:
        """Bytes written so far."""
        return self.data.size

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append all of it.

        Raises:
            OutOfRange: more than the announced total; nothing of it is written.
            ResourceExhausted: no space; nothing of it is written.
        """
        view = memoryview(data).cast("B")
        with self._lock:
            self._check_open()
            self._check_total(self.data.size + len(view))
            self.data.write(view)
            self._hasher.update(view)
            self._updated_ns = time.time_ns()
        return len(view)

    def truncate(self, size: int = 0) -> None:
        """Drop what was written after ``size``. Raises ``OutOfRange`` past the end."""
        if size < 0:
            raise InvalidArgument(f'ingest "{self.record.ref}": size {size} is negative')
        with self._lock:
            self._check_open()
            if size > self.data.size:
                raise OutOfRange(
                    f'ingest "{self.record.ref}" has {self.data.size} bytes, cannot keep {size}'
                )
            if size < self.data.size:
                self.data.truncate(size)
                self._rehash()
            self._updated_ns = time.time_ns()

    def digest(self) -> Digest:
        """Digest of the bytes so far, by the algorithm of the expected digest or SHA-256."""
        with self._lock:
            self._check_open()
            return self._digest()

    def commit(
        self,
        *,
        size: int = 0,
        expected: Digest | None = None,
        labels: Mapping[str, str] | None = None,
        lease: str = "",
    ) -> BlobInfo:
        """Make the bytes a blob; see ``slipform.core.content.Ingest.commit``."""
        with self._lock:
            self._check_open()
            try:
                check_labels(labels or {})
                self._check_size(size or self.record.total)
                digest = self._verified(expected)
                self.data.sync()
                self.data.close()
                return self._owner.publish(self, digest, labels or {}, lease)
            finally:
                self.close()

    def close(self) -> None:
        """Close without committing; idempotent."""
        with self._lock:
            if self._open:
                self._open = False
                self.data.close()
                self._owner.released(self)

    def status(self) -> IngestStatus:
        """What is known of this write now; may be called from another thread."""
        record = self.record
        return IngestStatus(
            record.ref,
            self.data.size,
            record.total,
            record.expected,
            from_ns(record.started_ns),
            from_ns(max(record.started_ns, self._updated_ns)),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _rehash(self) -> None:
        self._hasher = hashlib.new(self._algorithm)
        if self.data.size:
            for chunk in self.data.read():
                self._hasher.update(chunk)

    def _digest(self) -> Digest:
        return Digest(self._algorithm, self._hasher.hexdigest())

    def _check_open(self) -> None:
        if not self._open:
            raise FailedPrecondition(f'ingest "{self.record.ref}" is closed')

    def _check_total(self, size: int) -> None:
        if self.record.total and size > self.record.total:
            raise OutOfRange(
                f'ingest "{self.record.ref}": {size} bytes are more than the announced'
                f" {self.record.total}"
            )

    def _check_size(self, want: int) -> None:
        if want and want != self.data.size:
            raise FailedPrecondition(
                f'ingest "{self.record.ref}" has {self.data.size} bytes, want {want}'
            )

    def _verified(self, expected: Digest | None) -> Digest:
        """The digest to commit under, after comparing it with all that was announced."""
        found = self._digest()
        for want in (self.record.expected, expected):
            if want is None:
                continue
            if want.algorithm != found.algorithm:
                found = self._digest_by(want.algorithm)
            if want != found:
                raise DigestMismatch(f'ingest "{self.record.ref}" is {found}, want {want}')
        return found

    def _digest_by(self, algorithm: str) -> Digest:
        hasher = hashlib.new(algorithm)
        for chunk in self.data.read():
            hasher.update(chunk)
        return Digest(algorithm, hasher.hexdigest())
