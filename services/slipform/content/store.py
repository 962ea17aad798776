"""The content store: what happens in which order, so that nothing committed is ever lost.

A blob exists for a tenant when a claim in the catalog says so. Bytes come first: they are synced,
named and the name synced before the row that shows them is committed; and a row goes before the
bytes do. So a crash leaves bytes without a row at worst, which nobody sees; they are replaced by
the next commit of that digest, or swept by the first collection.

One lock guards catalog, leases and the driver's names; bytes are read, written, hashed and synced
outside it.
"""

from __future__ import annotations

import contextlib
import secrets
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from slipform.content.catalog import Catalog
from slipform.content.collector import Recent, unreachable
from slipform.content.ingest import OpenIngest
from slipform.content.tenant import DescriptorTenantStore, TenantStore
from slipform.content.text import check_labels, check_name, merged
from slipform.core.content import BlobInfo, IngestStatus, SupportsDescriptors
from slipform.core.database import open_database, transaction
from slipform.core.errors import (
    AlreadyExists,
    DigestMismatch,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
    Unsupported,
)
from slipform.core.leasebook import LeaseBook, from_ns
from slipform.core.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from slipform.content.catalog import Claim, IngestRecord
    from slipform.core.blob_driver import BlobDriver, BlobReader

GRACE: Final = timedelta(seconds=60)


class Content:
    """All tenants of one content store over one driver; safe to use from several threads.

    Args:
        driver: keeps the bytes; closed with the store.
        database: the catalog's file; None keeps it in memory (and then nothing outlives the
            process, whatever the driver).
        grace: how long a blob is safe from collection after its commit without a lease.
        monotonic: clock of the grace period; given by tests.
        clock_ns: wall clock; given by tests.

    Raises:
        FailedPrecondition: the database is damaged.
    """

    def __init__(
        self,
        driver: BlobDriver,
        database: Path | None = None,
        *,
        grace: timedelta = GRACE,
        monotonic: Callable[[], float] = time.monotonic,
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.instance_id = secrets.token_hex(16)
        """Tells this store from any other, for clients that reach it in two ways."""
        self._driver = driver
        self._clock_ns = clock_ns
        self._lock = threading.RLock()
        self._recent = Recent(grace, monotonic)
        self._open: dict[tuple[str, str], OpenIngest | None] = {}
        self._orphans_swept = False
        self._db = open_database(database)
        with transaction(self._db, self._lock):
            self._catalog = Catalog(self._db)
        self.leases = LeaseBook(self._db, self._lock, clock_ns=clock_ns)
        for number in set(driver.ingests()) - self._catalog.ingest_numbers():
            driver.drop_ingest(number)

    def tenant(self, name: str) -> TenantStore:
        """One tenant's view, a ``ContentStore``; made by the first thing written into it.

        It also satisfies ``SupportsDescriptors`` when the driver has files.
        """
        check_name("tenant", name)
        kind = DescriptorTenantStore if self.has_descriptors else TenantStore
        return kind(self, name)

    @property
    def has_descriptors(self) -> bool:
        """Whether ``open_descriptor`` works with this driver."""
        return isinstance(self._driver, SupportsDescriptors)

    def close(self) -> None:
        """Close catalog and driver; unfinished writes are kept. Idempotent."""
        with self._lock:
            opened = [ingest for ingest in self._open.values() if ingest is not None]
        for ingest in opened:
            ingest.close()
        with self._lock:
            self._db.close()
            self._driver.close()

    # Blobs

    def info(self, tenant: str, digest: Digest) -> BlobInfo:
        """As ``ContentStore.info``."""
        with self._lock:
            claim = self._require(tenant, digest)
            with self._dropping_lost(digest):
                self._driver.size(digest)
        return _info(claim)

    def open_blob(self, tenant: str, digest: Digest) -> BlobReader:
        """A blob to read from. Raises ``NotFound``, ``DigestMismatch`` when its size changed."""
        with self._lock:
            claim = self._require(tenant, digest)
            with self._dropping_lost(digest):
                reader = self._driver.open(digest)
        if reader.size != claim.size:
            reader.close()
            raise _damaged(digest, reader.size, claim.size)
        return reader

    def open_descriptor(self, tenant: str, digest: Digest) -> int:
        """As ``SupportsDescriptors``. Raises ``Unsupported`` when the driver has no files."""
        driver = self._driver
        if not isinstance(driver, SupportsDescriptors):
            raise Unsupported("this content store has no files to hand out")
        with self._lock:
            claim = self._require(tenant, digest)
            with self._dropping_lost(digest):
                size = self._driver.size(digest)
                if size != claim.size:
                    raise _damaged(digest, size, claim.size)
                return driver.open_descriptor(digest)

    def update_labels(self, tenant: str, digest: Digest, labels: Mapping[str, str]) -> BlobInfo:
        """As ``ContentStore.update_labels``."""
        check_labels(labels)
        with transaction(self._db, self._lock):
            claim = self._require(tenant, digest)
            self._catalog.put_claim(tenant, digest, merged(claim.labels, labels), self._clock_ns())
            return _info(self._require(tenant, digest))

    def page(self, tenant: str, after: str, size: int) -> list[BlobInfo]:
        """The next blobs by digest: walking takes no lock between pages."""
        with self._lock:
            return [_info(claim) for claim in self._catalog.page(tenant, after, size)]

    def delete(self, tenant: str, digest: Digest) -> None:
        """As ``ContentStore.delete``."""
        with self._lock:
            with transaction(self._db, self._lock):
                self._require(tenant, digest)
                holders = self.leases.holders(tenant, str(digest))
                if holders:
                    raise FailedPrecondition(f"blob {digest} is held by lease {', '.join(holders)}")
                last = self._catalog.drop_claim(tenant, digest)
            if last:
                self._driver.remove(digest)
        self._driver.purge()

    def collect(self, tenant: str) -> int:
        """As ``ContentStore.collect``: ends claims of this tenant only, and sweeps orphans.

        Runs beside commits, reads and leases; a blob is judged and removed under the lock.
        """
        with self._lock:
            with transaction(self._db, self._lock):
                roots = self.leases.held(tenant) | self._recent.of(tenant)
                dead = unreachable(self._catalog.claims(tenant), roots)
                doomed = [Digest.parse(text) for text in sorted(dead)]
                unclaimed = [d for d in doomed if self._catalog.drop_claim(tenant, d)]
            freed = sum(self._driver.remove(digest) for digest in unclaimed)
            freed += self._sweep_orphans()
        self._driver.purge()
        return freed

    # Ingests

    def open_ingest(self, tenant: str, ref: str, total: int, expected: Digest | None) -> OpenIngest:
        """As ``ContentStore.ingest``."""
        check_name("ref", ref)
        if total < 0:
            raise InvalidArgument(f'ingest "{ref}": total {total} is negative')
        key = (tenant, ref)
        with self._lock:
            self._refuse_existing(tenant, ref, expected)
            self._check_free(tenant, ref)
            record = self._recorded(tenant, ref, total, expected)
            self._open[key] = None
        try:
            opened = OpenIngest(self, record, self._driver.open_ingest(record.number))
        except BaseException:
            with self._lock:
                del self._open[key]
            raise
        with self._lock:
            self._open[key] = opened
        return opened

    def publish(
        self, ingest: OpenIngest, digest: Digest, labels: Mapping[str, str], lease: str
    ) -> BlobInfo:
        """Make synced bytes a blob of the ingest's tenant; called by the ingest."""
        record = ingest.record
        with self._lock:
            whole = self._is_whole(digest)
            try:
                with transaction(self._db, self._lock):
                    if not whole:
                        self._driver.publish(record.number, digest)
                        self._catalog.put_blob(digest, ingest.data.size)
                    known = self._catalog.claim(record.tenant, digest)
                    info = self._claimed(record, digest, known, labels, lease)
            except BaseException:
                if not whole:  # the ingest goes on with these bytes: no blob may share them
                    self._driver.remove(digest)
                raise
        self._driver.drop_ingest(record.number)
        if known is not None and whole:
            raise AlreadyExists(f"blob {digest} already exists")
        return info

    def released(self, ingest: OpenIngest) -> None:
        """The ingest was closed; called by the ingest."""
        with self._lock:
            self._open.pop((ingest.record.tenant, ingest.record.ref), None)

    def status(self, tenant: str, ref: str) -> IngestStatus:
        """As ``ContentStore.status``."""
        with self._lock:
            record = self._catalog.ingest(tenant, ref)
            if record is None:
                raise _no_ingest(ref)
            return self._status(record)

    def statuses(self, tenant: str, prefix: str) -> list[IngestStatus]:
        """As ``ContentStore.statuses``."""
        if prefix:
            check_name("prefix", prefix)
        with self._lock:
            return [self._status(record) for record in self._catalog.ingests(tenant, prefix)]

    def abort(self, tenant: str, ref: str) -> None:
        """As ``ContentStore.abort``."""
        with self._lock:
            record = self._catalog.ingest(tenant, ref)
            if record is None:
                raise _no_ingest(ref)
            self._check_free(tenant, ref)
            self._forget(record)

    # What only makes sense under the lock

    def _require(self, tenant: str, digest: Digest) -> Claim:
        claim = self._catalog.claim(tenant, digest)
        if claim is None:
            raise NotFound(f"blob {digest} does not exist")
        return claim

    @contextlib.contextmanager
    def _dropping_lost(self, digest: Digest) -> Iterator[None]:
        """When the bytes turn out to be gone, their rows go, too."""
        try:
            yield
        except NotFound:
            with transaction(self._db, self._lock):
                self._catalog.drop_blob(digest)
            raise

    def _is_whole(self, digest: Digest) -> bool:
        """Whether some tenant's blob lies there as recorded."""
        size = self._catalog.blob_size(digest)
        try:
            return size is not None and self._driver.size(digest) == size
        except NotFound:
            return False

    def _claimed(
        self,
        record: IngestRecord,
        digest: Digest,
        known: Claim | None,
        labels: Mapping[str, str],
        lease: str,
    ) -> BlobInfo:
        """Record the outcome of a write: claim, lease, and the end of the ingest."""
        tenant = record.tenant
        both = merged(known.labels if known else {}, labels)
        self._catalog.put_claim(tenant, digest, both, self._clock_ns())
        self._catalog.drop_ingest(record.number)
        if lease:
            self.leases.add(tenant, lease, [str(digest)])
        self._recent.touch(tenant, str(digest))
        return _info(self._require(tenant, digest))

    def _refuse_existing(self, tenant: str, ref: str, expected: Digest | None) -> None:
        if expected is None or self._catalog.claim(tenant, expected) is None:
            return  # also when only another tenant has it: its existence is not told
        if not self._is_whole(expected):
            return  # to be repaired by this write
        self._recent.touch(tenant, str(expected))
        left_over = self._catalog.ingest(tenant, ref)
        if left_over is not None and (tenant, ref) not in self._open:
            self._forget(left_over)
        raise AlreadyExists(f"blob {expected} already exists")

    def _check_free(self, tenant: str, ref: str) -> None:
        if (tenant, ref) in self._open:
            raise Unavailable(f'ingest "{ref}" is open elsewhere')

    def _recorded(self, tenant: str, ref: str, total: int, expected: Digest | None) -> IngestRecord:
        """The row of a new or resumed write."""
        with self._relaxed(), transaction(self._db, self._lock):
            found = self._catalog.ingest(tenant, ref)
            if found is None:
                return self._catalog.add_ingest(tenant, ref, total, expected, self._clock_ns())
            self._check_announced(found, total, expected)
            self._catalog.announce(found.number, total or found.total, expected or found.expected)
            resumed = self._catalog.ingest(tenant, ref)
            return found if resumed is None else resumed

    def _check_announced(self, found: IngestRecord, total: int, expected: Digest | None) -> None:
        """A ref goes on with the bytes it was opened for, not with others."""
        if total and found.total not in (0, total):
            raise FailedPrecondition(
                f'ingest "{found.ref}" was opened for {found.total} bytes, not {total}'
            )
        if expected is not None and found.expected not in (None, expected):
            raise FailedPrecondition(
                f'ingest "{found.ref}" was opened for {found.expected}, not {expected}'
            )
        held, _ = self._driver.ingest_state(found.number)
        if total and held > total:
            raise FailedPrecondition(f'ingest "{found.ref}" has {held} bytes, more than {total}')

    @contextlib.contextmanager
    def _relaxed(self) -> Iterator[None]:
        """Commits inside survive the process but not a power cut: enough for ingest records."""
        self._db.execute("PRAGMA synchronous=NORMAL")
        try:
            yield
        finally:
            self._db.execute("PRAGMA synchronous=FULL")

    def _status(self, record: IngestRecord) -> IngestStatus:
        opened = self._open.get((record.tenant, record.ref))
        if opened is not None:
            return opened.status()
        size, written_ns = self._driver.ingest_state(record.number)
        return IngestStatus(
            record.ref,
            size,
            record.total,
            record.expected,
            from_ns(record.started_ns),
            from_ns(max(record.started_ns, written_ns)),
        )

    def _forget(self, record: IngestRecord) -> None:
        with self._relaxed(), transaction(self._db, self._lock):
            self._catalog.drop_ingest(record.number)
        self._driver.drop_ingest(record.number)

    def _sweep_orphans(self) -> int:
        """Remove what a crash left without a row; only the first collection can find any."""
        if self._orphans_swept:
            return 0
        orphans = self._catalog.orphans(self._driver.blobs())
        self._orphans_swept = True
        return sum(self._driver.remove(digest) for digest in orphans)


def _info(claim: Claim) -> BlobInfo:
    return BlobInfo(
        claim.digest,
        claim.size,
        from_ns(claim.created_ns),
        from_ns(claim.updated_ns),
        claim.labels,
    )


def _damaged(digest: Digest, found: int, want: int) -> DigestMismatch:
    return DigestMismatch(f"blob {digest} is damaged: {found} bytes on disk, want {want}")


def _no_ingest(ref: str) -> NotFound:
    return NotFound(f'ingest "{ref}" does not exist')
