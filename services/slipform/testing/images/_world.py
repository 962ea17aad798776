"""What every suite about image stores starts from."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from slipform.core.errors import AlreadyExists, NotFound
from slipform.core.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.core.content import ContentStore
    from slipform.core.images import Image, ImageStore
    from slipform.core.snapshots import Snapshotter
    from slipform.testing.images._tiny import TinyImage


@dataclass(frozen=True)
class ImagesWorld:
    """An image store under test, and the stores below it (with no grace period for blobs)."""

    images: ImageStore
    content: ContentStore
    snapshotter: Snapshotter

    def put(self, data: bytes) -> Digest:
        """Put a blob into the content store, without a lease."""
        digest = Digest.of(data)
        with (
            contextlib.suppress(AlreadyExists),
            self.content.ingest(f"test/{digest.hex}", expected=digest) as ingest,
        ):
            ingest.write(data)
            ingest.commit(expected=digest)
        return digest

    def has(self, digest: Digest) -> bool:
        """Whether the blob is in the content store."""
        try:
            self.content.info(digest)
        except NotFound:
            return False
        return True

    def create(self, image: TinyImage, *references: str) -> Image:
        """Store all parts of an image and record it."""
        for data in image.blobs.values():
            self.put(data)
        return self.images.create(image.target, references)

    def references(self) -> list[str]:
        """All names of all images."""
        return sorted(name for image in self.images.list_images() for name in image.references)


def chunked(data: bytes, size: int = 10_007) -> Iterator[bytes]:
    """Pieces of an odd size, so that no boundary falls on a block of a tar."""
    return (data[at : at + size] for at in range(0, len(data), size))
