"""Manifests and configs as they come out of the content store: bounded, decoded, consistent."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from slipform.core.errors import InvalidArgument, NotFound
from slipform.core.oci import media_types
from slipform.core.oci.config import ImageConfig
from slipform.core.oci.digest import chain_id
from slipform.core.oci.manifest import Manifest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from slipform.core.content import ContentStore
    from slipform.core.oci.descriptor import Descriptor
    from slipform.core.oci.digest import Digest

MAX_DOCUMENT: Final = 4 << 20
"""Bytes of a manifest, index or config; registries take no more either."""
MAX_LAYERS: Final = 1024


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an image: where its blob would be, and what it stands for."""

    descriptor: Descriptor
    diff_id: Digest
    chain_id: Digest

    @property
    def is_plain(self) -> bool:
        """Whether the blob is the uncompressed tar itself."""
        return self.descriptor.digest == self.diff_id


@dataclass(frozen=True, slots=True)
class Documents:
    """A manifest and its config, decoded, with the bytes they were decoded from."""

    target: Descriptor
    manifest: Manifest
    manifest_bytes: bytes
    config: ImageConfig
    config_bytes: bytes
    layers: tuple[Layer, ...]

    @property
    def id(self) -> Digest:
        """Docker's image id."""
        return self.manifest.config.digest


def read_document(content: ContentStore, digest: Digest, what: str) -> bytes:
    """The bytes of a small blob.

    Raises:
        NotFound: it is not in the content store.
        InvalidArgument: it is larger than any such document may be.
    """
    try:
        size = content.info(digest).size
    except NotFound as e:
        raise NotFound(f"{what} {digest} is not in the content store") from e
    if size > MAX_DOCUMENT:
        raise InvalidArgument(f"{what} {digest}: {size} bytes, want at most {MAX_DOCUMENT}")
    return b"".join(content.read(digest))


def read_documents(content: ContentStore, target: Descriptor) -> Documents:
    """Read and check what a manifest descriptor points at.

    Raises:
        NotFound: manifest or config is not in the content store.
        InvalidArgument: one of them is malformed, or they contradict each other.
    """
    data = read_document(content, target.digest, "manifest")
    manifest = decode_manifest(data, f"manifest {target.digest}")
    config_bytes = read_document(content, manifest.config.digest, "config")
    config = decode_config(config_bytes, f"config {manifest.config.digest}")
    layers = pair_layers(manifest.layers, config.diff_ids, f"manifest {target.digest}")
    return Documents(target, manifest, data, config, config_bytes, layers)


def decode_array(data: bytes, where: str) -> list[Any]:
    """Parse untrusted bytes that must hold one JSON array; raises ``InvalidArgument``."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as e:
        raise InvalidArgument(f"{where}: not valid JSON: {e}") from e
    if not isinstance(value, list):
        raise InvalidArgument(f"{where}: want a JSON array, found {type(value).__name__}")
    return value


def decode_manifest(data: bytes, where: str) -> Manifest:
    """Read the bytes of an image manifest.

    Raises:
        InvalidArgument: something else (an index, an artifact), or malformed.
    """
    manifest = Manifest.decode(data, where)
    if manifest.media_type not in media_types.MANIFESTS:
        raise InvalidArgument(
            f"{where}: media type {manifest.media_type!r} is not an image manifest"
        )
    if len(manifest.layers) > MAX_LAYERS:
        raise InvalidArgument(f"{where}: {len(manifest.layers)} layers, want at most {MAX_LAYERS}")
    return manifest


def decode_config(data: bytes, where: str) -> ImageConfig:
    """Read the bytes of an image config; raises ``InvalidArgument``."""
    try:
        config = ImageConfig.decode(data, where)
        # JSON can name half a character, which no database and no message can hold.
        config.encode()
    except OverflowError as e:  # JSON has numbers that no integer holds: 1e999
        raise InvalidArgument(f"{where}: a number is out of range: {e}") from e
    except UnicodeEncodeError as e:
        raise InvalidArgument(f"{where}: a text is not Unicode") from e
    return config


def pair_layers(
    descriptors: Iterable[Descriptor], diff_ids: Iterable[Digest], where: str
) -> tuple[Layer, ...]:
    """Put layers and diff_ids together; raises ``InvalidArgument`` when they don't match."""
    blobs, diffs = list(descriptors), list(diff_ids)
    if len(blobs) != len(diffs):
        raise InvalidArgument(
            f"{where}: {len(blobs)} layers, but the config has {len(diffs)} diff_ids"
        )
    layers: list[Layer] = []
    for blob, diff_id in zip(blobs, diffs, strict=True):
        below = [layers[-1].chain_id] if layers else []
        layers.append(Layer(blob, diff_id, chain_id([*below, diff_id])))
    return tuple(layers)
