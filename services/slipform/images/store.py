"""All images of one tenant: the core of the image service."""

from __future__ import annotations

import contextlib
import logging
import threading
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from slipform.core.errors import DomainError, InvalidArgument, NotFound
from slipform.core.images import (
    ArchiveFormat,
    HistoryEntry,
    Image,
    ImageDetails,
    Removal,
    Unpacked,
)
from slipform.core.oci import media_types
from slipform.core.oci.config import History
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.platform import host_platform
from slipform.core.oci.reference import Reference
from slipform.images import timestamps
from slipform.images.catalog import Catalog
from slipform.images.documents import read_documents
from slipform.images.holds import Holds
from slipform.images.importing import ImportOptions, import_layer, imported_documents
from slipform.images.layers import Layers
from slipform.images.loading import load_spooled
from slipform.images.naming import check_platform, look_up, plan_removal
from slipform.images.packing import pack
from slipform.images.saving import Saved, docker_entries, oci_entries
from slipform.images.spool import Spool
from slipform.images.unpacking import Unpacker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from slipform.core.content import ContentStore
    from slipform.core.oci.digest import Digest
    from slipform.core.oci.platform import Platform
    from slipform.core.snapshots import Snapshotter
    from slipform.images.documents import Documents

_log = logging.getLogger(__name__)


class Images:
    """An ``ImageStore`` over a content store and a snapshotter, local or remote.

    Exactly one may work on a tenant: what others of its leases it finds at its first change
    belongs to a process that died, and is ended.

    Args:
        database: file of the catalog; None keeps it in memory.
        content: the tenant's blobs.
        snapshotter: the tenant's snapshots.
        now: the time of imports; given by tests.
    """

    def __init__(
        self,
        database: Path | None,
        content: ContentStore,
        snapshotter: Snapshotter,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._content = content
        self._snapshotter = snapshotter
        self._now = now
        self._catalog = Catalog(database)
        self._holds = Holds(content, snapshotter)
        self._layers = Layers(content, snapshotter, self._catalog)
        self._unpacker = Unpacker(snapshotter, self._catalog)
        # From the first lease to the record, and from the record to the last lease: without it a
        # removal could end the leases of an image that is being recorded again.
        self._changing = threading.RLock()
        self._recovered = False

    def close(self) -> None:
        """Close the database; idempotent."""
        self._catalog.close()

    def recover(self) -> None:
        """End what a process that died left behind; the first change does it by itself."""
        with self._changing:
            if not self._recovered:
                self._holds.sweep(self._catalog.manifests())
                self._recovered = True

    def create(self, target: Descriptor, references: Sequence[str] = ()) -> Image:
        """Record a manifest and point references at it; see ``ImageStore.create``."""
        parsed = tuple(Reference.parse(text) for text in references)
        self.recover()
        with self._changing:
            known = self._catalog.image(target.digest)
            if known is not None and {r.normalised for r in parsed} <= set(known.references):
                return known
            image = known or self._held(target)
            self._catalog.record(image, parsed)
            return self._image(target.digest)

    def _held(self, target: Descriptor) -> Image:
        """A new image, whose parts are held from now on; it is not recorded yet."""
        documents = read_documents(self._content, target)
        image = self._describe(documents)
        try:
            self._holds.keep(documents)
        except DomainError:
            self._holds.release(target.digest)
            raise
        return image

    def get(self, name: str, *, platform: Platform | None = None) -> ImageDetails:
        """One image with its documents; see ``ImageStore.get``."""
        return _details(*self._read(name, platform))

    def _read(self, name: str, platform: Platform | None = None) -> tuple[Image, Documents]:
        image = look_up(self._catalog, name).image
        check_platform(image, platform, name)
        return image, read_documents(self._content, image.target)

    def list_images(self) -> list[Image]:
        """All images, newest first."""
        epoch = datetime.fromtimestamp(0, UTC)
        return sorted(self._catalog.all(), key=lambda i: i.created_at or epoch, reverse=True)

    def tag(self, source: str, target: str) -> None:
        """Point ``target`` at ``source``; see ``ImageStore.tag``."""
        reference = Reference.parse(target)
        if reference.digest is not None:
            raise InvalidArgument("refusing to create a tag with a digest reference")
        if reference.familiar_name in ("sha256", "sha512"):
            raise InvalidArgument(
                "refusing to create an ambiguous tag using digest algorithm as name"
            )
        with self._changing:
            image = look_up(self._catalog, source).image
            self._catalog.point(reference, image.target.digest)

    def remove(self, name: str, *, force: bool = False) -> list[Removal]:
        """Untag, and delete with the last reference; see ``ImageStore.remove``."""
        self.recover()
        with self._changing:
            plan = plan_removal(look_up(self._catalog, name), force=force)
            if plan.delete:
                self._catalog.forget(plan.delete)
            else:
                self._catalog.forget_names(plan.untag)
            for manifest in plan.delete:
                self._holds.release(manifest)
        removals = [Removal(untagged=Reference.parse(text).familiar) for text in plan.untag]
        if plan.delete:
            removals.append(Removal(deleted=plan.image_id))
            self._free()
        return removals

    def history(self, name: str) -> list[HistoryEntry]:
        """Newest first; see ``ImageStore.history``."""
        image, documents = self._read(name)
        sizes = [self._layers.shown_size(layer) for layer in documents.layers]
        entries = list(documents.config.history)
        # Configs of some tools have no history, or less than they have layers.
        missing = len(sizes) - sum(not entry.empty_layer for entry in entries)
        entries += [History(created=documents.config.created)] * missing
        lines = []
        for entry in entries:
            size = 0 if entry.empty_layer or not sizes else sizes.pop(0)
            lines.append(HistoryEntry(entry, size, None))
        if lines:
            lines[-1] = HistoryEntry(lines[-1].entry, lines[-1].size, image.id)
        return lines[::-1]

    def save(self, names: Sequence[str], archive: ArchiveFormat) -> Iterator[bytes]:
        """The archive as chunks; names are looked up at once; see ``ImageStore.save``."""
        if not names:
            raise InvalidArgument("save: want at least one image")
        return self._packed(self._to_save(names), archive)

    def _packed(self, images: Sequence[Saved], archive: ArchiveFormat) -> Iterator[bytes]:
        entries_of = docker_entries if archive is ArchiveFormat.DOCKER else oci_entries
        with self._holds.work() as work:
            for image in images:
                digests = (image.documents.target.digest, image.documents.id)
                blobs = (layer.descriptor.digest for layer in image.documents.layers)
                work.hold_blobs((*digests, *blobs))
                work.hold_snapshots(self._snapshots_of(image.documents))
            yield from pack(entries_of(images, self._layers, work))

    def load(self, archive: Iterable[bytes]) -> Iterator[Image]:
        """Read an archive, then record its images; see ``ImageStore.load``."""
        self.recover()
        with self._holds.work() as work:
            spool = Spool(self._content, work)
            spool.read_archive(archive)
            for loaded in load_spooled(spool, self._layers, host_platform()):
                yield self.create(loaded.target, [r.normalised for r in loaded.references])

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
        """Make a one-layer image of a tar; see ``ImageStore.import_rootfs``."""
        names = [Reference.parse(reference).normalised] if reference else []
        options = ImportOptions.of(
            changes, message, platform or host_platform(), created or self._now()
        )
        self.recover()
        with self._holds.work() as work:
            layer = import_layer(work, archive)
            config, manifest = imported_documents(layer, options)
            work.store(config)
            digest = work.store(manifest)
            target = Descriptor(media_types.OCI_MANIFEST, digest, len(manifest))
            return self.create(target, names)

    def unpack(self, name: str, *, platform: Platform | None = None) -> Unpacked:
        """Make the layers a committed snapshot; see ``ImageStore.unpack``."""
        self.recover()
        image, documents = self._read(name, platform)
        with self._holds.work() as work:
            work.hold_blobs(layer.descriptor.digest for layer in documents.layers)
            snapshots = self._unpacker.unpack(documents, work)
            with self._changing:
                self._image(documents.target.digest)
                if snapshots:
                    self._holds.keep_snapshots(documents.target.digest, snapshots)
        return Unpacked(_details(image, documents), snapshots[-1] if snapshots else "")

    def _describe(self, documents: Documents) -> Image:
        target = documents.target
        return Image(
            id=documents.id,
            target=Descriptor(
                documents.manifest.media_type, target.digest, len(documents.manifest_bytes)
            ),
            references=(),
            created_at=timestamps.parse(documents.config.created),
            size=sum(self._layers.shown_size(layer) for layer in documents.layers),
            platform=documents.config.platform,
        )

    def _image(self, manifest: Digest) -> Image:
        image = self._catalog.image(manifest)
        if image is None:
            raise NotFound(f"No such image: {manifest}")
        return image

    def _to_save(self, names: Sequence[str]) -> list[Saved]:
        """Images in the order of first mention, each with all references it was named by."""
        found: dict[Digest, tuple[Image, dict[str, None]]] = {}
        for name in names:
            for image, reference in self._meant(name):
                _, references = found.setdefault(image.target.digest, (image, {}))
                if reference:
                    references[reference] = None
        return [
            Saved(
                read_documents(self._content, image.target),
                tuple(Reference.parse(text).without_digest() for text in references),
            )
            for image, references in found.values()
        ]

    def _meant(self, name: str) -> list[tuple[Image, str]]:
        """A name without tag means every tag of the repository, as for ``docker save``."""
        with contextlib.suppress(InvalidArgument):
            reference = Reference.parse(name)
            if name in (reference.name, reference.familiar_name):
                tags = self._catalog.names_in(reference.name)
                named = [(self._catalog.named(tag), tag) for tag in tags]
                if all_of_it := [(image, tag) for image, tag in named if image is not None]:
                    return all_of_it
        match = look_up(self._catalog, name)
        return [(match.image, match.reference)]

    def _snapshots_of(self, documents: Documents) -> list[str]:
        names = []
        for layer in documents.layers:
            with contextlib.suppress(NotFound):
                names.append(self._snapshotter.find_chain(layer.chain_id).snapshot)
        return names

    def _free(self) -> None:
        """Give disk space back now; what cannot be collected now can be at any later time."""
        try:
            self._snapshotter.collect()
            self._content.collect()
        except DomainError as e:
            _log.warning("removed images, but could not free their space: %s", e)


def _details(image: Image, documents: Documents) -> ImageDetails:
    return ImageDetails(
        image=image,
        config=documents.config,
        config_bytes=documents.config_bytes,
        manifest_bytes=documents.manifest_bytes,
        layers=tuple(layer.descriptor for layer in documents.layers),
    )
