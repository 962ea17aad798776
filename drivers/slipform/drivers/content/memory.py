"""Blobs in memory: for tests, and for builds whose result leaves the machine at once."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from slipform.core.content import CHUNK_SIZE
from slipform.core.errors import NotFound, ResourceExhausted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slipform.core.oci.digest import Digest


class MemoryBlobs:
    """Everything ends with the process.

    Args:
        root: not used; drivers are made with the directory of their service.
        limit: bytes of blobs and unfinished writes together; 0 is no limit.
    """

    def __init__(self, root: Path | None = None, *, limit: int = 0) -> None:
        self._limit = limit
        self._used = 0
        self._lock = threading.Lock()
        self._blobs: dict[Digest, bytearray] = {}
        self._ingests: dict[int, IngestBuffer] = {}

    def open_ingest(self, number: int) -> IngestBuffer:
        """Open the write, empty when it is new."""
        return self._ingests.setdefault(number, IngestBuffer(self))

    def ingest_state(self, number: int) -> tuple[int, int]:
        """Bytes held and time of the last write."""
        found = self._ingests.get(number)
        return (0, 0) if found is None else (found.size, found.written_ns)

    def ingests(self) -> list[int]:
        """Numbers of all unfinished writes."""
        return list(self._ingests)

    def drop_ingest(self, number: int) -> None:
        """Forget the write; idempotent."""
        dropped = self._ingests.pop(number, None)
        if dropped is not None and not dropped.shared:
            self.take(-dropped.size)

    def publish(self, number: int, digest: Digest) -> None:
        """Name the bytes; blob and ingest share them until the ingest is changed."""
        ingest = self._ingests[number]
        self.remove(digest)
        self._blobs[digest] = ingest.data
        ingest.shared = True

    def size(self, digest: Digest) -> int:
        """Bytes of the blob. Raises ``NotFound``."""
        return len(self._find(digest))

    def open(self, digest: Digest) -> BlobBuffer:
        """Open a blob. Raises ``NotFound``."""
        return BlobBuffer(self._find(digest))

    def blobs(self) -> Iterator[Digest]:
        """Every named blob."""
        return iter(list(self._blobs))

    def remove(self, digest: Digest) -> int:
        """Take the name away; the bytes go with the last reader."""
        removed = self._blobs.pop(digest, None)
        if removed is None:
            return 0
        self.take(-len(removed))
        return len(removed)

    def purge(self) -> None:
        """Nothing waits to be freed here."""

    def close(self) -> None:
        """Forget everything."""
        self._blobs.clear()
        self._ingests.clear()

    def take(self, size: int) -> None:
        """Count ``size`` bytes as used. Raises ``ResourceExhausted``."""
        with self._lock:
            if self._limit and size > 0 and self._used + size > self._limit:
                raise ResourceExhausted(
                    f"content store in memory is limited to {self._limit} bytes"
                )
            self._used += size

    def _find(self, digest: Digest) -> bytearray:
        try:
            return self._blobs[digest]
        except KeyError as e:
            raise NotFound(f"blob {digest} does not exist") from e


class IngestBuffer:
    """An unfinished write as a growing buffer."""

    def __init__(self, owner: MemoryBlobs) -> None:
        self._owner = owner
        self.data = bytearray()
        self.shared = False
        self.written_ns = time.time_ns()

    @property
    def size(self) -> int:
        """Bytes held."""
        return len(self.data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append all of it, or nothing when the limit is reached."""
        self._unshare()
        self._owner.take(len(memoryview(data).cast("B")))
        self.data += data
        self.written_ns = time.time_ns()

    def truncate(self, size: int) -> None:
        """Keep the first ``size`` bytes."""
        self._unshare()
        self._owner.take(size - len(self.data))
        del self.data[size:]

    def read(self) -> Iterator[bytes]:
        """All bytes from the beginning."""
        for offset in range(0, len(self.data), CHUNK_SIZE):
            yield bytes(memoryview(self.data)[offset : offset + CHUNK_SIZE])

    def sync(self) -> None:
        """Memory is as durable as it gets."""

    def close(self) -> None:
        """The bytes stay with the driver."""

    def _unshare(self) -> None:
        """A blob has these bytes: go on with a copy."""
        if self.shared:
            self._owner.take(len(self.data))
            self.data = bytearray(self.data)
            self.shared = False


class BlobBuffer:
    """A blob that is being read."""

    def __init__(self, data: bytearray) -> None:
        self._data = data

    @property
    def size(self) -> int:
        """Bytes of the blob."""
        return len(self._data)

    def read_at(self, offset: int, size: int) -> bytes:
        """At most ``size`` bytes from ``offset``."""
        return bytes(memoryview(self._data)[offset : offset + size])

    def close(self) -> None:
        """Readers hold no resource."""
