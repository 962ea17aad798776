"""Compressed streams, recognised by content, to plain bytes; both sides digested in one pass.

Decompression and hashing run ahead in a thread, by a bounded number of bounded pieces: a bomb
costs time and, when it is written out, disk, but never memory.
"""

from __future__ import annotations

import bz2
import hashlib
import lzma
import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Protocol, cast

import pyzstd
from isal import igzip_lib

from slipform.core.errors import DigestMismatch, InvalidArgument
from slipform.core.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

_PIECE: Final = 1 << 18
_AHEAD: Final = 8
_LZMA_MEMORY: Final = 256 << 20
_ZSTD_WINDOW_LOG: Final = 27  # what `zstd -d` allows without --long


class Source(Protocol):
    """Where a stream comes from: at most ``size`` bytes, none at the end."""

    def read(self, size: int, /) -> bytes:
        """The next bytes."""
        ...


class _Decompressor(Protocol):
    """The interface that bz2, lzma, pyzstd and isal share."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _gunzip() -> _Decompressor:
    return igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


def _unzstd() -> _Decompressor:
    return pyzstd.ZstdDecompressor(option={pyzstd.DParameter.windowLogMax: _ZSTD_WINDOW_LOG})


def _unxz() -> _Decompressor:
    return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY)


_SKIPPABLE: Final = tuple(bytes((0x50 + i, 0x2A, 0x4D, 0x18)) for i in range(16))
_FORMATS: Final[tuple[tuple[str, tuple[bytes, ...], Callable[[], _Decompressor]], ...]] = (
    ("gzip", (b"\x1f\x8b\x08",), _gunzip),
    ("zstd", (b"\x28\xb5\x2f\xfd", *_SKIPPABLE), _unzstd),
    ("bzip2", (b"BZh",), bz2.BZ2Decompressor),
    ("xz", (b"\xfd7zXZ\x00",), _unxz),
)
_MAGIC_SIZE: Final = 6
_ERRORS: Final = (
    cast("type[Exception]", igzip_lib.IsalError),  # its stub says it is an instance
    pyzstd.ZstdError,
    lzma.LZMAError,
    OSError,
    EOFError,
    ValueError,
)


def compression_of(start: bytes) -> str:
    """``gzip``, ``zstd``, ``bzip2``, ``xz`` or ``none``, from the first six bytes of a stream."""
    for name, magics, _ in _FORMATS:
        if start.startswith(magics):
            return name
    return "none"


class DecompressedStream:
    """Plain bytes of a stream; use it as a context manager, which ends its thread.

    Attributes:
        compression: what was found: ``gzip``, ``zstd``, ``bzip2``, ``xz`` or ``none``.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._outer = hashlib.sha256()
        self._outer_size = 0
        self._inner_size = 0
        start = self._read_start()
        self.compression = compression_of(start)
        self._inner = self._outer if self.compression == "none" else hashlib.sha256()
        pieces = self._plain(start) if self.compression == "none" else self._unpacked(start)
        self._ahead = _ReadAhead(pieces)
        self._rest = b""
        self._at = 0

    def read(self, size: int = -1, /) -> bytes:
        """At most ``size`` bytes, none at the end; -1 is a piece of whatever size comes next.

        Raises:
            InvalidArgument: the stream is broken or ends too early.
        """
        if self._at == len(self._rest):
            self._rest, self._at = self._ahead.next(), 0
        if size < 0 or (self._at == 0 and size >= len(self._rest)):
            piece = self._rest[self._at :] if self._at else self._rest
            self._rest, self._at = b"", 0
            return piece
        piece = self._rest[self._at : self._at + size]
        self._at += len(piece)
        return piece

    def drain(self) -> None:
        """Read to the end, so that the digests are those of everything."""
        while self.read():
            pass

    @property
    def digest(self) -> Digest:
        """Of the stream as it came; right once the end was read."""
        return Digest("sha256", self._outer.hexdigest())

    @property
    def size(self) -> int:
        """Bytes of the stream as it came."""
        return self._outer_size

    @property
    def diff_id(self) -> Digest:
        """Of the plain bytes; right once the end was read."""
        return Digest("sha256", self._inner.hexdigest())

    @property
    def plain_size(self) -> int:
        """Plain bytes so far."""
        return self._outer_size if self.compression == "none" else self._inner_size

    def verify(self, expected: Digest) -> None:
        """Read to the end and compare.

        Raises:
            DigestMismatch: the stream as it came is not what ``expected`` names.
        """
        self.drain()
        if self.digest != expected:
            raise DigestMismatch(f"layer blob hashes to {self.digest}, want {expected}")

    def close(self) -> None:
        """Stop reading ahead; idempotent. The source is the caller's to close."""
        self._ahead.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _take(self) -> bytes:
        piece = self._source.read(_PIECE)
        self._outer.update(piece)
        self._outer_size += len(piece)
        return piece

    def _read_start(self) -> bytes:
        start = b""
        while len(start) < _MAGIC_SIZE and (piece := self._take()):
            start += piece
        return start

    def _plain(self, start: bytes) -> Iterator[bytes]:
        while start:
            yield start
            start = self._take()

    def _unpacked(self, data: bytes) -> Iterator[bytes]:
        """Members (gzip), frames (zstd) and streams (bzip2, xz) one after the other."""
        _, magics, make = next(f for f in _FORMATS if f[0] == self.compression)
        while data:
            if not data.startswith(magics):
                self._check_padding(data)
                return
            decompressor = make()
            while not decompressor.eof:
                if not data and decompressor.needs_input:
                    data = self._take()
                    if not data:
                        raise InvalidArgument(
                            f"{self.compression} stream ends early, after {self._outer_size} bytes"
                        )
                piece = self._decompress(decompressor, data)
                data = b""
                if piece:
                    self._inner.update(piece)
                    self._inner_size += len(piece)
                    yield piece
            data = decompressor.unused_data
            while len(data) < _MAGIC_SIZE and (more := self._take()):
                data += more

    def _decompress(self, decompressor: _Decompressor, data: bytes) -> bytes:
        try:
            return decompressor.decompress(data, _PIECE)
        except _ERRORS as error:
            raise InvalidArgument(
                f"{self.compression} stream is broken near byte {self._outer_size}: {error}"
            ) from error

    def _check_padding(self, data: bytes) -> None:
        """Zeros may follow the last member, as gzip(1) and xz(1) allow; nothing else may."""
        while data:
            if data.count(0) != len(data):
                raise InvalidArgument(
                    f"{self.compression} stream is followed by something else "
                    f"before byte {self._outer_size}"
                )
            data = self._take()


def open_compressed(source: Source) -> DecompressedStream:
    """Read ``source`` as plain bytes, whatever it is compressed with.

    Raises:
        whatever ``source.read`` raises; faults of the stream come from ``read``.
    """
    return DecompressedStream(source)


class _ReadAhead:
    """An iterator that a thread keeps a few pieces ahead."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._queue: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._thread: threading.Thread | None = None

    def next(self) -> bytes:
        """The next piece; empty at the end. Raises what the iterator raised."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="layer-read-ahead", daemon=True)
            self._thread.start()
        with self._changed:
            while not self._queue and not self._ended:
                self._changed.wait()
            if self._queue:
                piece = self._queue.popleft()
                if len(self._queue) == _AHEAD // 2:
                    self._changed.notify()
                return piece
        if self._error is not None:
            raise self._error
        return b""

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            for piece in self._pieces:
                with self._changed:
                    while len(self._queue) >= _AHEAD and not self._closed:
                        self._changed.wait()
                    if self._closed:
                        return
                    self._queue.append(piece)
                    self._changed.notify()
        except BaseException as error:
            self._error = error
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
