"""What an archive holds, decided when all of it was spooled: images ready to be recorded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from slipform.core.errors import DigestMismatch, InvalidArgument
from slipform.core.oci import layout, media_types
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.manifest import Manifest
from slipform.core.oci.reference import Reference
from slipform.images.documents import MAX_DOCUMENT, MAX_LAYERS, decode_array, decode_config
from slipform.images.members import printable
from slipform.images.oci_loading import load_layout
from slipform.images.spool import PLAIN

if TYPE_CHECKING:
    from slipform.core.oci.config import ImageConfig
    from slipform.core.oci.digest import Digest
    from slipform.core.oci.platform import Platform
    from slipform.images.layers import Layers
    from slipform.images.spool import Spool, Spooled

_MANIFEST: Final = "manifest.json"
_MAX_IMAGES: Final = 1000
_MEDIA_TYPES: Final = {
    PLAIN: media_types.OCI_LAYER,
    "gzip": media_types.OCI_LAYER_GZIP,
    "zstd": media_types.OCI_LAYER_ZSTD,
}


@dataclass(frozen=True, slots=True)
class Loaded:
    """An image of which every blob is stored and verified, but which is not recorded yet."""

    target: Descriptor
    references: tuple[Reference, ...]


def load_spooled(spool: Spool, layers: Layers, platform: Platform) -> list[Loaded]:
    """Find out what was spooled, and check all of it.

    An archive of both kinds (docker since 25) is read as an OCI layout, so that manifests keep
    their digests.

    Args:
        spool: the whole archive.
        layers: learns what is inside compressed layers.
        platform: which image of a multi-platform one is wanted.

    Raises:
        InvalidArgument: no archive of images, or one that lacks something.
        DigestMismatch: a layer or config that is not what its image says.
    """
    if spool.find(layout.INDEX_FILE) is not None and spool.find(layout.LAYOUT_FILE) is not None:
        found = load_layout(spool, layers, platform)
        return [Loaded(image.target, _tags(image.names)) for image in found]
    manifest = spool.find(_MANIFEST)
    if manifest is None:
        raise InvalidArgument(
            "archive: holds neither manifest.json (docker save) nor index.json and oci-layout"
            " (OCI layout)"
        )
    return _load_docker(manifest, spool, layers)


def _load_docker(manifest: Spooled, spool: Spool, layers: Layers) -> list[Loaded]:
    items = decode_array(spool.text(manifest, MAX_DOCUMENT), _MANIFEST)
    if not items:
        raise InvalidArgument(f"{_MANIFEST}: lists no image")
    if len(items) > _MAX_IMAGES:
        raise InvalidArgument(f"{_MANIFEST}: {len(items)} images, want at most {_MAX_IMAGES}")
    return [
        _docker_image(_Item.parse(item, f"{_MANIFEST}: images[{number}]"), spool, layers)
        for number, item in enumerate(items)
    ]


@dataclass(frozen=True, slots=True)
class _Item:
    """One element of ``manifest.json``."""

    where: str
    config: str
    layers: tuple[str, ...]
    references: tuple[Reference, ...]

    @classmethod
    def parse(cls, value: Any, where: str) -> _Item:
        if not isinstance(value, dict) or not isinstance(value.get("Config"), str):
            raise InvalidArgument(f"{where}: want an object with a Config")
        return cls(
            where,
            value["Config"],
            _texts(value.get("Layers"), f"{where}: Layers", MAX_LAYERS),
            _tags(_texts(value.get("RepoTags"), f"{where}: RepoTags", MAX_LAYERS)),
        )


def _docker_image(item: _Item, spool: Spool, layers: Layers) -> Loaded:
    file = _want(spool, item.config, item.where)
    config = decode_config(spool.text(file, MAX_DOCUMENT), printable(item.config))
    _check_config_name(item.config, file.digest)
    if len(item.layers) != len(config.diff_ids):
        raise InvalidArgument(
            f"{item.where}: {len(item.layers)} layers, but the config has"
            f" {len(config.diff_ids)} diff_ids"
        )
    descriptors = tuple(
        _docker_layer(name, diff_id, item, spool, layers)
        for name, diff_id in zip(item.layers, config.diff_ids, strict=True)
    )
    spool.store(file)
    return _with_manifest(file, config, descriptors, item, spool)


def _with_manifest(
    file: Spooled,
    config: ImageConfig,
    descriptors: tuple[Descriptor, ...],
    item: _Item,
    spool: Spool,
) -> Loaded:
    manifest = Manifest(
        Descriptor(media_types.OCI_CONFIG, file.digest, file.size), descriptors
    ).encode()
    target = Descriptor(
        media_types.OCI_MANIFEST,
        spool.store_bytes(manifest),
        len(manifest),
        {},
        config.platform,
    )
    return Loaded(target, item.references)


def _docker_layer(
    name: str, diff_id: Digest, item: _Item, spool: Spool, layers: Layers
) -> Descriptor:
    file = _want(spool, name, item.where)
    if file.inside is None:
        raise InvalidArgument(file.fault)
    if file.inside.diff_id != diff_id:
        raise DigestMismatch(
            f'archive: layer "{printable(name)}" holds {file.inside.diff_id}, want diff_id'
            f" {diff_id}"
        )
    media_type = _MEDIA_TYPES.get(file.compression)
    if media_type is None:
        inside = spool.store_plain(file)
        return Descriptor(media_types.OCI_LAYER, inside.diff_id, inside.size)
    spool.store(file)
    if file.compression != PLAIN:
        layers.remember(file.digest, file.inside)
    return Descriptor(media_type, file.digest, file.size)


def _check_config_name(name: str, found: Digest) -> None:
    """Docker names a config by its digest; other tools name it anyhow."""
    stem = name.rpartition("/")[2].removesuffix(".json").removeprefix("sha256:")
    is_digest = len(stem) == 64 and all(c in "0123456789abcdef" for c in stem)
    if is_digest and stem != found.hex:
        raise DigestMismatch(f'archive: config "{name}" hashes to {found}')


def _want(spool: Spool, name: str, where: str) -> Spooled:
    file = spool.find(name)
    if file is None:
        raise InvalidArgument(f'{where}: "{printable(name)}" is not in the archive')
    return file


def _texts(value: Any, where: str, limit: int) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise InvalidArgument(f"{where}: want an array of strings")
    if len(value) > limit:
        raise InvalidArgument(f"{where}: {len(value)} elements, want at most {limit}")
    return tuple(value)


def _tags(names: tuple[str, ...]) -> tuple[Reference, ...]:
    return tuple(Reference.parse(name).without_digest() for name in names)
