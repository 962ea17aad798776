"""What keeps an image's content and snapshots alive, in an order that survives SIGKILL.

An image holds one lease in the content store and one in the snapshotter, both named after its
manifest. They are made before the image is recorded and ended after it is forgotten; so a crash
leaves at worst a lease without an image, which ``sweep`` ends.
"""

from __future__ import annotations

import contextlib
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from slipform.core.content import GC_REF
from slipform.core.errors import AlreadyExists, FailedPrecondition, NotFound, Unavailable
from slipform.core.oci.digest import Digest
from slipform.core.snapshots import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from slipform.core.content import ContentStore, Ingest
    from slipform.core.snapshots import Snapshotter
    from slipform.images.documents import Documents

IMAGE_PREFIX: Final = "image/"
WORK_PREFIX: Final = "images-work/"
UNPACK_LABEL: Final = "slipform.io/images.unpack"
"""On active snapshots that an unpack is filling."""
_WORK_TTL: Final = timedelta(hours=24)
"""Longer than any load; what a process that died in mid-work held is free after it."""


class Work:
    """What one load, save or unpack needs while it runs; in content store and snapshotter."""

    def __init__(self, holds: Holds, lease: str) -> None:
        self._holds = holds
        self._made: list[Digest] = []
        self.lease = lease

    def hold_blobs(self, digests: Iterable[Digest]) -> None:
        """Keep blobs, also those that do not exist yet."""
        self._holds.content.add_to_lease(self.lease, [str(digest) for digest in digests])

    def hold_snapshots(self, names: Iterable[str]) -> None:
        """Keep snapshots."""
        self._holds.snapshotter.add_to_lease(self.lease, names)

    @contextlib.contextmanager
    def ingest(
        self, name: str, *, total: int = 0, expected: Digest | None = None
    ) -> Iterator[Ingest]:
        """A write that is dropped unless it is committed; raises as ``ContentStore.ingest``."""
        ref = f"{self.lease}/{name}"
        with self._holds.content.ingest(ref, total=total, expected=expected) as ingest:
            try:
                yield ingest
            except BaseException:
                ingest.close()
                with contextlib.suppress(NotFound, Unavailable):
                    self._holds.content.abort(ref)
                raise

    def commit(self, ingest: Ingest, digest: Digest) -> None:
        """Make a blob that this work holds; one that is there already is as good."""
        self.hold_blobs([digest])
        try:
            ingest.commit(expected=digest, lease=self.lease)
        except AlreadyExists:
            return
        self._made.append(digest)

    def store(self, data: bytes) -> Digest:
        """Make a blob of a small document; returns its digest."""
        digest = Digest.of(data)
        self.hold_blobs([digest])
        try:
            with self.ingest(digest.hex, total=len(data), expected=digest) as ingest:
                ingest.truncate()
                ingest.write(data)
                self.commit(ingest, digest)
        except AlreadyExists:
            pass
        return digest

    def drop_blob(self, digest: Digest) -> None:
        """Give up a blob that only this work made, and free its space unless others hold it."""
        self._holds.content.remove_from_lease(self.lease, [str(digest)])
        with contextlib.suppress(NotFound, FailedPrecondition):
            self._holds.content.delete(digest)

    def drop_unclaimed(self) -> None:
        """Free what this work made and no image holds by now."""
        for digest in self._made:
            self.drop_blob(digest)


class Holds:
    """Leases of images and of work in progress."""

    def __init__(self, content: ContentStore, snapshotter: Snapshotter) -> None:
        self.content = content
        self.snapshotter = snapshotter

    def keep(self, documents: Documents) -> None:
        """Hold all that is there of an image. Idempotent.

        Raises:
            NotFound: a layer is neither a blob nor a snapshot.
        """
        target, config = documents.target.digest, documents.id
        lease = IMAGE_PREFIX + str(target)
        blobs, snapshots = [], []
        for layer in documents.layers:
            there = self._has_blob(layer.descriptor.digest)
            if there:
                blobs.append(layer.descriptor.digest)
            try:
                snapshots.append(self.snapshotter.find_chain(layer.chain_id).snapshot)
            except NotFound as e:
                if not there:
                    raise NotFound(
                        f"manifest {target}: layer {layer.descriptor.digest} is neither in the"
                        " content store nor known as a snapshot"
                    ) from e
        self.content.add_to_lease(lease, [str(d) for d in (target, config, *blobs)])
        labels = {f"{GC_REF}config": str(config)}
        labels |= {f"{GC_REF}layer.{i}": str(digest) for i, digest in enumerate(blobs)}
        self.content.update_labels(target, labels)
        if snapshots:
            self.snapshotter.add_to_lease(lease, snapshots)

    def keep_snapshots(self, manifest: Digest, names: Iterable[str]) -> None:
        """Hold the snapshots of an image that was unpacked."""
        self.snapshotter.add_to_lease(IMAGE_PREFIX + str(manifest), names)

    def release(self, manifest: Digest) -> None:
        """End what an image held. Idempotent."""
        self.content.delete_lease(IMAGE_PREFIX + str(manifest))
        self.snapshotter.delete_lease(IMAGE_PREFIX + str(manifest))

    @contextlib.contextmanager
    def work(self) -> Iterator[Work]:
        """Leases for the time of one piece of work."""
        lease = f"{WORK_PREFIX}{uuid.uuid4().hex}"
        self.content.create_lease(lease, ttl=_WORK_TTL)
        self.snapshotter.create_lease(lease, ttl=_WORK_TTL)
        work = Work(self, lease)
        try:
            yield work
        finally:
            work.drop_unclaimed()
            self.content.delete_lease(lease)
            self.snapshotter.delete_lease(lease)

    def sweep(self, known: set[str]) -> None:
        """End what a process that died left behind: leases, ingests, half-filled snapshots.

        Only the one image service of a tenant may do so, and only before it works.
        """
        for store in (self.content, self.snapshotter):
            for lease in store.list_leases():
                manifest = lease.id.removeprefix(IMAGE_PREFIX)
                orphan = manifest != lease.id and manifest not in known
                if orphan or lease.id.startswith(WORK_PREFIX):
                    store.delete_lease(lease.id)
        for status in self.content.statuses(WORK_PREFIX):
            with contextlib.suppress(NotFound, Unavailable):
                self.content.abort(status.ref)
        for info in list(self.snapshotter.walk(kind=Kind.ACTIVE, labels={UNPACK_LABEL: ""})):
            with contextlib.suppress(NotFound, FailedPrecondition):
                self.snapshotter.remove(info.name)

    def _has_blob(self, digest: Digest) -> bool:
        try:
            self.content.info(digest)
        except NotFound:
            return False
        return True
