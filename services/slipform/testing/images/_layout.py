"""The image-spec's rules about layouts, checked without the code that is under test."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import json
import lzma
import re
import tarfile
from typing import TYPE_CHECKING, Any, Final

import pyzstd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_INDEX: Final = "application/vnd.oci.image.index.v1+json"
_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    "application/vnd.oci.image.layer.v1.tar": bytes,
    "application/vnd.oci.image.layer.v1.tar+gzip": gzip.decompress,
    "application/vnd.oci.image.layer.v1.tar+zstd": pyzstd.decompress,
}
_MEDIA_TYPE: Final = re.compile(r"[A-Za-z0-9][\w!#$&^.+-]{0,126}/[A-Za-z0-9][\w!#$&^.+-]{0,126}")
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)")
_REF_NAME: Final = re.compile(
    r"[A-Za-z0-9]+((--|[-._:@+])[A-Za-z0-9]+)*(/[A-Za-z0-9]+((--|[-._:@+])[A-Za-z0-9]+)*)*"
)


def untar(archive: bytes) -> dict[str, bytes]:
    """The regular files of an uncompressed or compressed tar, by name."""
    for unpack in (gzip.decompress, bz2.decompress, lzma.decompress, pyzstd.decompress):
        try:
            archive = unpack(archive)
            break
        except (OSError, EOFError, ValueError, lzma.LZMAError, pyzstd.ZstdError):
            continue
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:") as tar:
        files = {}
        for member in tar:
            body = tar.extractfile(member) if member.isreg() else None
            if body is not None:
                files[member.name] = body.read()
        return files


def layout_faults(files: Mapping[str, bytes]) -> list[str]:
    """What is wrong with an OCI image layout; nothing when it keeps all rules.

    Checked are image-layout.md, descriptor.md, image-index.md, manifest.md and config.md:
    required fields and their types, media types, sizes, digests, diff_ids against the
    uncompressed layers, the number of history entries; and that no blob is left over.
    """
    return list(_Layout(files).check())


class _Layout:
    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._files = files
        self._reached: set[str] = set()

    def check(self) -> Iterator[str]:
        marker = self._json("oci-layout")
        if not isinstance(marker, dict) or marker.get("imageLayoutVersion") != "1.0.0":
            yield "oci-layout: imageLayoutVersion is not 1.0.0"
        for name, data in self._files.items():
            if name.startswith("blobs/"):
                yield from _blob_faults(name, data)
        index = self._json("index.json")
        yield from self._index(index, "index.json")
        left = {n for n in self._files if n.startswith("blobs/")} - self._reached
        yield from (f"{name}: nothing refers to it" for name in sorted(left))
        strange = [n for n in self._files if not n.startswith("blobs/")]
        for name in sorted(set(strange) - {"oci-layout", "index.json"}):
            yield f"{name}: does not belong into a layout"

    def _index(self, index: Any, where: str) -> Iterator[str]:
        if not isinstance(index, dict) or index.get("schemaVersion") != 2:
            yield f"{where}: schemaVersion is not 2"
            return
        if index.get("mediaType", _INDEX) != _INDEX:
            yield f"{where}: wrong mediaType"
        manifests = index.get("manifests")
        if not isinstance(manifests, list):
            yield f"{where}: manifests is not an array"
            return
        for number, item in enumerate(manifests):
            at = f"{where}: manifests[{number}]"
            faults = list(self._descriptor(item, at))
            yield from faults
            if not faults:
                yield from _ref_name_faults(item, at)
                yield from self._manifest_or_index(item)

    def _manifest_or_index(self, item: dict[str, Any]) -> Iterator[str]:
        name = _path(item["digest"])
        if item["mediaType"] == _INDEX:
            yield from self._index(self._json(name), name)
        elif item["mediaType"] == _MANIFEST:
            yield from self._manifest(self._json(name), name, item.get("platform"))
        else:
            yield f"{name}: unknown media type {item['mediaType']}"

    def _manifest(self, manifest: Any, where: str, platform: Any) -> Iterator[str]:
        if not isinstance(manifest, dict) or manifest.get("schemaVersion") != 2:
            yield f"{where}: schemaVersion is not 2"
            return
        if manifest.get("mediaType", _MANIFEST) != _MANIFEST:
            yield f"{where}: wrong mediaType"
        config, layers = manifest.get("config"), manifest.get("layers")
        if not isinstance(layers, list):
            yield f"{where}: layers is not an array"
            return
        faults = list(self._descriptor(config, f"{where}: config"))
        for number, layer in enumerate(layers):
            faults += self._descriptor(layer, f"{where}: layers[{number}]")
        yield from faults
        if faults or not isinstance(config, dict):
            return
        if config["mediaType"] != _CONFIG:
            yield f"{where}: config has media type {config['mediaType']}"
        yield from self._config(self._json(_path(config["digest"])), layers, where, platform)

    def _config(
        self, config: Any, layers: list[dict[str, Any]], where: str, platform: Any
    ) -> Iterator[str]:
        if not isinstance(config, dict):
            yield f"{where}: config is not an object"
            return
        for key in ("architecture", "os"):
            if not isinstance(config.get(key), str) or not config[key]:
                yield f"{where}: config has no {key}"
            if isinstance(platform, dict) and platform.get(key) != config.get(key):
                yield f"{where}: platform of descriptor and config differ in {key}"
        if "created" in config and not _TIME.fullmatch(str(config["created"])):
            yield f"{where}: created is not an RFC 3339 time"
        rootfs = config.get("rootfs")
        if not isinstance(rootfs, dict) or rootfs.get("type") != "layers":
            yield f"{where}: rootfs.type is not layers"
            return
        yield from self._diff_ids(rootfs.get("diff_ids"), layers, where)
        history = config.get("history", [])
        full = sum(not entry.get("empty_layer", False) for entry in history)
        if history and full != len(layers):
            yield f"{where}: {full} history entries with a layer, but {len(layers)} layers"

    def _diff_ids(self, diff_ids: Any, layers: list[dict[str, Any]], where: str) -> Iterator[str]:
        if not isinstance(diff_ids, list) or len(diff_ids) != len(layers):
            yield f"{where}: not as many diff_ids as layers"
            return
        for diff_id, layer in zip(diff_ids, layers, strict=True):
            unpack = _LAYERS.get(layer["mediaType"])
            if unpack is None:
                yield f"{where}: layer has media type {layer['mediaType']}"
                continue
            found = hashlib.sha256(unpack(self._files[_path(layer["digest"])])).hexdigest()
            if diff_id != f"sha256:{found}":
                yield f"{where}: layer {layer['digest']} has diff_id sha256:{found}, not {diff_id}"

    def _descriptor(self, value: Any, where: str) -> list[str]:
        if not isinstance(value, dict):
            return [f"{where}: descriptor is not an object"]
        faults = []
        if not _MEDIA_TYPE.fullmatch(str(value.get("mediaType"))):
            faults.append(f"{where}: mediaType is not one")
        if not isinstance(value.get("size"), int):
            faults.append(f"{where}: size is not a number")
        if not _DIGEST.fullmatch(str(value.get("digest"))):
            return [*faults, f"{where}: digest is not one"]
        name = _path(value["digest"])
        self._reached.add(name)
        if name not in self._files:
            faults.append(f"{where}: {name} is absent")
        elif value.get("size") != len(self._files[name]):
            faults.append(f"{where}: size is not that of {name}")
        return faults

    def _json(self, name: str) -> Any:
        try:
            return json.loads(self._files[name])
        except (KeyError, ValueError):
            return None


def _path(digest: str) -> str:
    return "blobs/" + digest.replace(":", "/")


def _blob_faults(name: str, data: bytes) -> Iterator[str]:
    _, algorithm, encoded = name.split("/")
    if algorithm in ("sha256", "sha512") and hashlib.new(algorithm, data).hexdigest() != encoded:
        yield f"{name}: does not hash to its name"


def _ref_name_faults(descriptor: dict[str, Any], where: str) -> Iterator[str]:
    name = descriptor.get("annotations", {}).get("org.opencontainers.image.ref.name")
    if name is not None and not _REF_NAME.fullmatch(name):
        yield f"{where}: ref.name {name!r} is against its grammar"
