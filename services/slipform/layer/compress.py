"""Compression in pieces of a fixed size, so that the bytes do not depend on who made them.

Each piece is compressed on its own, by any number of workers, and the results are joined in order.
The gzip form is a single member (deflate blocks that end on bytes, one CRC over all); the zstd form
is a series of frames. Both are read by everything that reads gzip and zstd.
"""

from __future__ import annotations

import zlib
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Literal

import pyzstd
from isal import isal_zlib

from slipform.core.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

Compression = Literal["gzip", "zstd", "none"]

GZIP_PIECE: Final = 1 << 20
ZSTD_PIECE: Final = 4 << 20
DEFAULT_LEVELS: Final = {"gzip": 1, "zstd": 3, "none": 0}
_GZIP_HEADER: Final = bytes((0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 255))  # no name, no time, any system
_LAST_BLOCK: Final = b"\x03\x00"  # an empty final block
_RAW: Final = -15
_ISAL_LEVELS: Final = 3

_Piece = tuple[bytes, int, int]


def compress(
    chunks: Iterable[bytes],
    compression: Compression,
    *,
    level: int | None = None,
    workers: int = 1,
) -> Iterator[bytes]:
    """Compress a stream.

    Args:
        chunks: the bytes, in pieces of any size.
        compression: the format; ``none`` passes the chunks through.
        level: gzip 0 to 9 (up to 3 by ISA-L, above by zlib), zstd -7 to 22; None is the default.
        workers: threads that compress; at most two pieces a worker are held in memory.

    Raises:
        InvalidArgument: an unknown format or level.
    """
    if compression not in DEFAULT_LEVELS:
        raise InvalidArgument(f'compression "{compression}" is not one of gzip, zstd, none')
    chosen = DEFAULT_LEVELS[compression] if level is None else level
    if compression == "none":
        return (bytes(chunk) for chunk in chunks)
    if compression == "gzip":
        if not 0 <= chosen <= 9:
            raise InvalidArgument(f"gzip level {chosen} is not in 0 to 9")
        return _gzip(chunks, chosen, workers)
    if not -7 <= chosen <= 22:
        raise InvalidArgument(f"zstd level {chosen} is not in -7 to 22")
    return _zstd(chunks, chosen, workers)


def _gzip(chunks: Iterable[bytes], level: int, workers: int) -> Iterator[bytes]:
    def deflate(piece: bytes) -> _Piece:
        if level <= _ISAL_LEVELS:
            compressor = isal_zlib.compressobj(level, wbits=_RAW)
            body = compressor.compress(piece) + compressor.flush(isal_zlib.Z_SYNC_FLUSH)
        else:
            slow = zlib.compressobj(level, wbits=_RAW)
            body = slow.compress(piece) + slow.flush(zlib.Z_SYNC_FLUSH)
        return body, isal_zlib.crc32(piece), len(piece)

    yield _GZIP_HEADER
    crc = 0
    size = 0
    for body, piece_crc, length in _mapped(deflate, _pieces(chunks, GZIP_PIECE), workers):
        crc = isal_zlib.crc32_combine(crc, piece_crc, length)
        size += length
        yield body
    yield _LAST_BLOCK + crc.to_bytes(4, "little") + (size & 0xFFFFFFFF).to_bytes(4, "little")


def _zstd(chunks: Iterable[bytes], level: int, workers: int) -> Iterator[bytes]:
    def squeeze(piece: bytes) -> _Piece:
        return pyzstd.compress(piece, level), 0, len(piece)

    empty = True
    for body, _, _ in _mapped(squeeze, _pieces(chunks, ZSTD_PIECE), workers):
        empty = False
        yield body
    if empty:
        yield pyzstd.compress(b"", level)


def _pieces(chunks: Iterable[bytes], size: int) -> Iterator[bytes]:
    """The same bytes in pieces of exactly ``size``, but for the last one."""
    parts: list[bytes] = []
    have = 0
    for chunk in chunks:
        view = memoryview(chunk)
        while have + len(view) >= size:
            take = size - have
            parts.append(bytes(view[:take]))
            yield b"".join(parts)
            parts, have = [], 0
            view = view[take:]
        if view:
            parts.append(bytes(view))
            have += len(view)
    if have:
        yield b"".join(parts)


def _mapped(
    work: Callable[[bytes], _Piece], pieces: Iterator[bytes], workers: int
) -> Iterator[_Piece]:
    """``map`` by threads, in order, with a bounded number of pieces under way."""
    if workers <= 1:
        yield from map(work, pieces)
        return
    waiting: deque[Future[_Piece]] = deque()
    with ThreadPoolExecutor(workers, thread_name_prefix="layer-compress") as pool:
        try:
            for piece in pieces:
                waiting.append(pool.submit(work, piece))
                if len(waiting) >= 2 * workers:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
