"""Archives of images, planned as lists of entries and then written as one stream."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from slipform.core.oci import canonical, layout
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.index import Index
from slipform.images.packing import Entry, entry_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slipform.core.oci.reference import Reference
    from slipform.images.documents import Documents, Layer
    from slipform.images.holds import Work
    from slipform.images.layers import Layers


@dataclass(frozen=True, slots=True)
class Saved:
    """One image of an archive and the references it is saved under; none for one named by id."""

    documents: Documents
    references: tuple[Reference, ...]


def docker_entries(images: Sequence[Saved], layers: Layers, work: Work) -> list[Entry]:
    """A docker-archive: ``manifest.json``, ``repositories``, configs, uncompressed layers.

    Layers lie at ``<diff_id>/layer.tar``, each once.
    """
    entries: dict[str, Entry] = {}
    for image in images:
        config = _config_name(image)
        entries[config] = entry_of(config, image.documents.config_bytes)
        for layer in image.documents.layers:
            name = _layer_name(layer)
            if name not in entries:
                tar = partial(layers.tar, layer, work)
                entries[name] = Entry(name, layers.tar_size(layer), tar)
    manifest = canonical.encode([_docker_manifest(image) for image in images])
    entries["manifest.json"] = entry_of("manifest.json", manifest)
    if repositories := _repositories(images):
        data = canonical.encode_sorted(repositories)
        entries["repositories"] = entry_of("repositories", data)
    return list(entries.values())


def _config_name(image: Saved) -> str:
    return f"{image.documents.id.hex}.json"


def _layer_name(layer: Layer) -> str:
    return f"{layer.diff_id.hex}/layer.tar"


def _docker_manifest(image: Saved) -> dict[str, object]:
    tags = [reference.familiar for reference in image.references]
    return {
        "Config": _config_name(image),
        "RepoTags": tags or None,
        "Layers": [_layer_name(layer) for layer in image.documents.layers],
    }


def _repositories(images: Sequence[Saved]) -> dict[str, dict[str, str]]:
    tops: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for image in images:
        if image.documents.layers:
            top = image.documents.layers[-1].diff_id.hex
            for reference in image.references:
                tops[reference.familiar_name][reference.tag] = top
    return tops


def oci_entries(images: Sequence[Saved], layers: Layers, work: Work) -> list[Entry]:
    """An OCI image layout: manifests, configs and layers exactly as they are stored."""
    entries: dict[str, Entry] = {}
    for image in images:
        documents = image.documents
        for digest, data in (
            (documents.target.digest, documents.manifest_bytes),
            (documents.id, documents.config_bytes),
        ):
            name = layout.blob_path(digest)
            entries[name] = entry_of(name, data)
        for layer in documents.layers:
            name = layout.blob_path(layer.descriptor.digest)
            blob = partial(layers.blob, layer, work)
            entries.setdefault(name, Entry(name, layer.descriptor.size, blob))
    index = Index(tuple(_index_manifests(images)))
    entries[layout.INDEX_FILE] = entry_of(layout.INDEX_FILE, index.encode())
    entries[layout.LAYOUT_FILE] = entry_of(layout.LAYOUT_FILE, layout.encode_marker())
    return list(entries.values())


def _index_manifests(images: Sequence[Saved]) -> Iterator[Descriptor]:
    """One descriptor per reference, named by its tag; by more where tags alone would collide."""
    tags = [reference.tag for image in images for reference in image.references]
    for image in images:
        documents = image.documents
        plain = Descriptor(
            documents.manifest.media_type,
            documents.target.digest,
            documents.target.size,
            {},
            documents.config.platform,
        )
        if not image.references:
            yield plain
        for reference in image.references:
            alone = tags.count(reference.tag) == 1
            annotations = {
                layout.IMAGE_NAME: reference.normalised,
                layout.REF_NAME: reference.tag if alone else reference.familiar,
            }
            yield Descriptor(
                plain.media_type, plain.digest, plain.size, annotations, plain.platform
            )
