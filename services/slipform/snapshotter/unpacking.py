"""A layer blob from the content store into a root directory, every byte read and hashed once."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from slipform.core.content import SupportsDescriptors
from slipform.core.errors import DigestMismatch, InvalidArgument, Unavailable, Unsupported
from slipform.core.snapshots import AppliedLayer
from slipform.layer.apply import apply_layer
from slipform.layer.decompress import open_compressed

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slipform.core.content import ContentStore
    from slipform.core.oci.descriptor import Descriptor
    from slipform.core.oci.digest import Digest
    from slipform.layer.decompress import Source


def unpack(content: ContentStore, layer: Descriptor, root: Path) -> AppliedLayer:
    """Apply a layer to the tree below ``root``.

    Raises:
        NotFound: no such blob.
        InvalidArgument: a broken or hostile archive; names the entry.
        DigestMismatch: the blob is not what the descriptor says.
    """
    found = content.info(layer.digest).size
    if found != layer.size:
        raise DigestMismatch(
            f"layer {layer.digest}: the descriptor says {layer.size} bytes, the blob has {found}"
        )
    with _opened(content, layer.digest) as source, open_compressed(source) as stream:
        try:
            apply_layer(stream, root)
            stream.verify(layer.digest)
        except InvalidArgument as e:
            # Of a damaged blob, the damage is the news, not what it does to the archive.
            _check_digest(content, layer.digest, e)
            raise InvalidArgument(f"layer {layer.digest}: {e}") from e
        return AppliedLayer(stream.diff_id, stream.plain_size)


@contextlib.contextmanager
def _opened(content: ContentStore, digest: Digest) -> Iterator[Source]:
    """The blob as a file where the store can hand one out, else as a stream."""
    fd = _descriptor(content, digest)
    if fd is None:
        yield _Chunks(content.read(digest))
        return
    with open(fd, "rb", buffering=0) as file:
        yield file


def _descriptor(content: ContentStore, digest: Digest) -> int | None:
    if not isinstance(content, SupportsDescriptors):
        return None
    try:
        return content.open_descriptor(digest)
    except (Unsupported, Unavailable):
        return None


class _Chunks:
    """Chunks of any length, read by size."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._rest = b""

    def read(self, size: int, /) -> bytes:
        if not self._rest:
            self._rest = next(self._chunks, b"")
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def _check_digest(content: ContentStore, digest: Digest, cause: Exception) -> None:
    hasher = hashlib.new(digest.algorithm)
    for chunk in content.read(digest):
        hasher.update(chunk)
    if hasher.hexdigest() != digest.hex:
        raise DigestMismatch(
            f"layer blob {digest} hashes to {digest.algorithm}:{hasher.hexdigest()}"
        ) from cause
