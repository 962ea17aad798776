"""Images of an OCI layout (image-spec image-layout.md) that was spooled from an archive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.core.errors import DigestMismatch, InvalidArgument
from slipform.core.oci import layout, media_types
from slipform.core.oci.index import Index
from slipform.images.documents import (
    MAX_DOCUMENT,
    decode_array,
    decode_config,
    decode_manifest,
    pair_layers,
)
from slipform.images.spool import PLAIN

if TYPE_CHECKING:
    from slipform.core.oci.descriptor import Descriptor
    from slipform.core.oci.digest import Digest
    from slipform.core.oci.platform import Platform
    from slipform.images.documents import Layer
    from slipform.images.layers import Layers
    from slipform.images.spool import Spool, Spooled

_CONFIGS: Final = (media_types.OCI_CONFIG, media_types.DOCKER_CONFIG)
_MAX_DEPTH: Final = 4
"""Indexes inside indexes."""
_MAX_MANIFESTS: Final = 1000


@dataclass(frozen=True, slots=True)
class LayoutImage:
    """A verified image and the names its descriptors gave it."""

    target: Descriptor
    names: tuple[str, ...]


def load_layout(spool: Spool, layers: Layers, platform: Platform) -> list[LayoutImage]:
    """Read ``index.json``, verify every image it leads to, and make blobs of their parts.

    Raises:
        InvalidArgument: malformed, or something is not in the archive.
        DigestMismatch: a layer is not what its config says.
    """
    marker, index = spool.find(layout.LAYOUT_FILE), spool.find(layout.INDEX_FILE)
    assert marker is not None and index is not None  # noqa: S101, PT018 - the caller's question
    layout.check_marker(spool.text(marker, MAX_DOCUMENT))
    names = _docker_names(spool)
    found: dict[Digest, tuple[Descriptor, list[str]]] = {}
    for entry in _manifests(spool.text(index, MAX_DOCUMENT), layout.INDEX_FILE):
        for target in _choose(entry, spool, platform):
            _, known = found.setdefault(target.digest, (target, []))
            known.extend(_names_of(entry))
    images = []
    for target, given in found.values():
        config = _verify(target, spool, layers)
        all_names = dict.fromkeys((*given, *names.get(config, ())))
        images.append(LayoutImage(target, tuple(all_names)))
    if not images:
        raise InvalidArgument(f"{layout.INDEX_FILE}: lists no image")
    return images


def _manifests(data: bytes, where: str) -> tuple[Descriptor, ...]:
    manifests = Index.decode(data, where).manifests
    if len(manifests) > _MAX_MANIFESTS:
        raise InvalidArgument(f"{where}: {len(manifests)} manifests, want at most {_MAX_MANIFESTS}")
    return manifests


def _choose(
    entry: Descriptor, spool: Spool, platform: Platform, depth: int = 0
) -> list[Descriptor]:
    """The image that a descriptor of an index means: itself, or the best of a nested index."""
    if layout.REFERENCE_TYPE in entry.annotations:
        return []
    if entry.media_type in media_types.MANIFESTS:
        return [entry] if _is_image(entry, spool) else []
    if entry.media_type not in media_types.INDEXES:
        return []
    if depth == _MAX_DEPTH:
        raise InvalidArgument(f"{layout.INDEX_FILE}: indexes are nested too deep")
    where = f"index {entry.digest}"
    data = spool.text(_want(entry, spool, where), MAX_DOCUMENT)
    inner = [
        chosen
        for item in _manifests(data, where)
        if spool.find(layout.blob_path(item.digest)) is not None
        for chosen in _choose(item, spool, platform, depth + 1)
    ]
    return sorted(inner, key=lambda item: _distance(item.platform, platform))[:1]


def _is_image(entry: Descriptor, spool: Spool) -> bool:
    """Whether a manifest is an image: signatures, charts and attestations have its form, too."""
    where = f"manifest {entry.digest}"
    data = spool.text(_want(entry, spool, where), MAX_DOCUMENT)
    is_config = decode_manifest(data, where).config.media_type in _CONFIGS
    return is_config and (entry.platform is None or entry.platform.os != "unknown")


def _distance(found: Platform | None, wanted: Platform) -> int:
    if found is None:
        return 2
    if (found.os, found.architecture) != (wanted.os, wanted.architecture):
        return 3
    return 0 if found.variant in ("", wanted.variant) else 1


def _names_of(entry: Descriptor) -> list[str]:
    full = entry.annotations.get(layout.IMAGE_NAME)
    if full:
        return [full]
    # A bare word is a tag by the specification (umoci) and a name by habit (skopeo): no name.
    name = entry.annotations.get(layout.REF_NAME, "")
    return [name] if ":" in name or "/" in name else []


def _docker_names(spool: Spool) -> dict[str, tuple[str, ...]]:
    """RepoTags by config digest, from the ``manifest.json`` that docker puts beside a layout."""
    file = spool.find("manifest.json")
    if file is None:
        return {}
    names: dict[str, tuple[str, ...]] = {}
    for item in decode_array(spool.text(file, MAX_DOCUMENT), file.name):
        if not isinstance(item, dict) or not isinstance(item.get("Config"), str):
            continue
        config, tags = spool.find(item["Config"]), item.get("RepoTags")
        if config is not None and isinstance(tags, list):
            names[str(config.digest)] = tuple(tag for tag in tags if isinstance(tag, str))
    return names


def _verify(target: Descriptor, spool: Spool, layers: Layers) -> str:
    """Check one image and store its parts, the manifest last; returns its config's digest."""
    where = f"manifest {target.digest}"
    file = _want(target, spool, where)
    manifest = decode_manifest(spool.text(file, MAX_DOCUMENT), where)
    config_file = _want(manifest.config, spool, f"config {manifest.config.digest}")
    config = decode_config(
        spool.text(config_file, MAX_DOCUMENT), f"config {manifest.config.digest}"
    )
    for layer in pair_layers(manifest.layers, config.diff_ids, where):
        _store_layer(layer, spool, layers)
    spool.store(config_file)
    spool.store(file)
    return str(config_file.digest)


def _store_layer(layer: Layer, spool: Spool, layers: Layers) -> None:
    file = _want(layer.descriptor, spool, f"layer {layer.descriptor.digest}")
    if file.inside is None:
        raise InvalidArgument(file.fault)
    if file.inside.diff_id != layer.diff_id:
        raise DigestMismatch(
            f"archive: layer {layer.descriptor.digest} holds {file.inside.diff_id}, want diff_id"
            f" {layer.diff_id}"
        )
    spool.store(file)
    if file.compression != PLAIN:
        layers.remember(file.digest, file.inside)


def _want(descriptor: Descriptor, spool: Spool, where: str) -> Spooled:
    file = spool.find(layout.blob_path(descriptor.digest))
    if file is None:
        raise InvalidArgument(f"archive: {where} is not in the archive")
    if file.digest.algorithm != descriptor.digest.algorithm:
        raise InvalidArgument(f"archive: {where}: only sha256 digests are supported")
    if file.digest != descriptor.digest:
        raise DigestMismatch(f"archive: {where}: its blob hashes to {file.digest}")
    if file.size != descriptor.size:
        raise InvalidArgument(
            f"archive: {where}: has {file.size} bytes, but its descriptor says {descriptor.size}"
        )
    return file
