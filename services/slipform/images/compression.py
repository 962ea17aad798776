"""Compressed streams, recognised by their first bytes and opened as they flow.

Concatenated members (gzip) and frames (zstd) are one stream, as their tools have it. Output comes
in chunks of at most ``CHUNK_SIZE``, so that a small bomb cannot make a large allocation.
"""

from __future__ import annotations

import bz2
import enum
import lzma
from itertools import chain
from typing import TYPE_CHECKING, Final, Protocol

import pyzstd
from isal import igzip_lib

from slipform.core.content import CHUNK_SIZE
from slipform.core.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Compression(enum.Enum):
    """How a stream is packed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    BZIP2 = "bzip2"
    XZ = "xz"


MAGIC_SIZE: Final = 6
"""Bytes that ``detect`` needs to see, when the stream has as many."""

_MAGIC: Final = (
    (b"\x1f\x8b\x08", Compression.GZIP),
    (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
    (b"BZh", Compression.BZIP2),
    (b"\xfd7zXZ\x00", Compression.XZ),
)
_XZ_MEMORY: Final = 256 << 20
"""Bytes an xz dictionary may ask for; ``xz -9`` asks for 65 MiB."""
_ZSTD_WINDOW_LOG: Final = 27
"""128 MiB: what ``zstd`` itself accepts without ``--long``."""
_ISAL_ERROR: Final[type[Exception]] = igzip_lib.IsalError  # type: ignore[assignment]
_ERRORS: Final = (
    OSError,
    EOFError,
    ValueError,
    lzma.LZMAError,
    pyzstd.ZstdError,
    _ISAL_ERROR,
)


class _Decompressor(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def detect(head: bytes) -> Compression:
    """What the first bytes of a stream say; skippable zstd frames count as zstd."""
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        return Compression.ZSTD
    return Compression.NONE


def open_stream(chunks: Iterable[bytes], what: str) -> Iterator[bytes]:
    """Detect, and yield the uncompressed stream in chunks of at most ``CHUNK_SIZE``.

    Args:
        chunks: the stream as it arrives, in pieces of any size.
        what: names the stream in messages.

    Raises:
        InvalidArgument: a broken or truncated compressed stream (while iterating).
    """
    source = iter(chunks)
    head = b""
    while len(head) < MAGIC_SIZE and (chunk := next(source, None)) is not None:
        head += chunk
    whole = chain((head,), source) if head else iter(())
    kind = detect(head)
    return _split(whole) if kind is Compression.NONE else decompress(whole, kind, what)


def decompress(chunks: Iterable[bytes], kind: Compression, what: str) -> Iterator[bytes]:
    """Yield what a stream of known compression holds; raises as ``open_stream`` does."""
    inner: _Decompressor | None = None
    try:
        for chunk in chunks:
            data = bytes(chunk)
            while data:
                if inner is None:
                    data = _skip_padding(data, kind)
                    if not data:
                        break
                    inner = _open(kind)
                if out := inner.decompress(data, CHUNK_SIZE):
                    yield out
                while not inner.eof and not inner.needs_input:
                    if out := inner.decompress(b"", CHUNK_SIZE):
                        yield out
                data = inner.unused_data if inner.eof else b""
                if inner.eof:
                    inner = None
    except _ERRORS as e:
        raise InvalidArgument(f"{what}: the {kind.value} stream is corrupt: {e}") from e
    if inner is not None:
        raise InvalidArgument(f"{what}: the {kind.value} stream is truncated")


def _open(kind: Compression) -> _Decompressor:
    if kind is Compression.GZIP:
        return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
    if kind is Compression.ZSTD:
        return pyzstd.ZstdDecompressor(option={pyzstd.DParameter.windowLogMax: _ZSTD_WINDOW_LOG})
    if kind is Compression.BZIP2:
        return bz2.BZ2Decompressor()
    return lzma.LZMADecompressor(format=lzma.FORMAT_XZ, memlimit=_XZ_MEMORY)


def _skip_padding(data: bytes, kind: Compression) -> bytes:
    # gzip on tapes and xz (by its specification) may be padded with zeros after the last member.
    return data.lstrip(b"\0") if kind in (Compression.GZIP, Compression.XZ) else data


def _split(chunks: Iterable[bytes]) -> Iterator[bytes]:
    for chunk in chunks:
        if len(chunk) <= CHUNK_SIZE:
            if chunk:
                yield chunk
        else:
            view = memoryview(chunk)
            yield from (bytes(view[i : i + CHUNK_SIZE]) for i in range(0, len(chunk), CHUNK_SIZE))
