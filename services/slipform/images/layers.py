"""The bytes of a layer: from its blob, or made again from the snapshot that holds it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.core.errors import DigestMismatch, NotFound
from slipform.core.oci import media_types
from slipform.core.oci.digest import Digest
from slipform.images.catalog import LayerFacts
from slipform.images.members import ChunkSource
from slipform.layer.decompress import open_compressed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.core.content import ContentStore
    from slipform.core.snapshots import Snapshotter
    from slipform.images.catalog import Catalog
    from slipform.images.documents import Layer
    from slipform.images.holds import Work

EMPTY_LAYERS: Final = frozenset(Digest.of(bytes(size)) for size in (1024, 10240))
"""A tar of no files: its two blocks of zeros, and the same as GNU tar and Python pad it."""


class Layers:
    """Reads layers of images that are held (by the image's leases or by ``Work``)."""

    def __init__(self, content: ContentStore, snapshotter: Snapshotter, catalog: Catalog) -> None:
        self._content = content
        self._snapshotter = snapshotter
        self._catalog = catalog

    def tar_size(self, layer: Layer) -> int:
        """Bytes of the uncompressed tar; found by reading the blob when nobody knows yet.

        Raises:
            NotFound: no such blob, and no snapshot.
            DigestMismatch: the blob does not hold the layer of this diff_id.
        """
        if layer.is_plain:
            return layer.descriptor.size
        facts = self._catalog.layer_facts(layer.descriptor.digest)
        if facts is not None:
            return facts.size
        try:
            return self._snapshotter.find_chain(layer.chain_id).size
        except NotFound:
            return sum(len(chunk) for chunk in self._uncompressed(layer))

    def shown_size(self, layer: Layer) -> int:
        """``tar_size``, but 0 for a layer without files: nobody wants to see two empty blocks."""
        return 0 if layer.diff_id in EMPTY_LAYERS else self.tar_size(layer)

    def tar(self, layer: Layer, work: Work) -> Iterator[bytes]:
        """The uncompressed tar, verified when it ends; raises as ``tar_size`` does."""
        if layer.is_plain:
            yield from self.blob(layer, work)
        else:
            yield from self._uncompressed(layer)

    def blob(self, layer: Layer, work: Work) -> Iterator[bytes]:
        """The blob as the manifest describes it.

        A layer of a build that never was a blob becomes one for as long as this is iterated.
        """
        digest = layer.descriptor.digest
        work.hold_blobs([digest])
        try:
            self._content.info(digest)
        except NotFound:
            self._regenerate(layer)
            try:
                yield from self._content.read(digest)
            finally:
                work.drop_blob(digest)
        else:
            yield from self._content.read(digest)

    def remember(self, digest: Digest, facts: LayerFacts) -> None:
        """Keep what a compressed layer blob was seen to hold."""
        self._catalog.remember_layer(digest, facts)

    def _regenerate(self, layer: Layer) -> None:
        digest = layer.descriptor.digest
        if not layer.is_plain or layer.descriptor.media_type not in (
            media_types.OCI_LAYER,
            media_types.DOCKER_LAYER,
        ):
            raise NotFound(f"layer {digest} is not in the content store")
        try:
            record = self._snapshotter.find_chain(layer.chain_id)
        except NotFound as e:
            raise NotFound(
                f"layer {digest} is neither in the content store nor known as a snapshot"
            ) from e
        made = self._snapshotter.diff(record.snapshot, clamp_mtime=record.clamp_mtime, store=True)
        if made.diff_id != digest:
            raise DigestMismatch(
                f"layer {digest}: snapshot {record.snapshot} now makes {made.diff_id}"
            )

    def _uncompressed(self, layer: Layer) -> Iterator[bytes]:
        """Decompress the blob; a whole pass also teaches its size and proves its diff_id."""
        digest = layer.descriptor.digest
        with open_compressed(ChunkSource(self._content.read(digest))) as stream:
            while chunk := stream.read():
                yield chunk
            found = stream.diff_id
            size = stream.plain_size
        if found != layer.diff_id:
            raise DigestMismatch(f"layer {digest}: holds {found}, want diff_id {layer.diff_id}")
        self._catalog.remember_layer(digest, LayerFacts(found, size))
