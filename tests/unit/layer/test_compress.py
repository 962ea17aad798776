from __future__ import annotations

import gzip
import io
import subprocess
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import InvalidArgument
from slipform.layer.compress import compress
from slipform.layer.decompress import compression_of, open_compressed

if TYPE_CHECKING:
    from slipform.layer.compress import Compression

DATA = bytes(range(256)) * 20_000 + b"tail"


def split(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("data", [b"", b"x", DATA])
@pytest.mark.parametrize(
    ("form", "level"), [("gzip", 0), ("gzip", 1), ("gzip", 3), ("gzip", 6), ("gzip", 9),
                        ("zstd", -3), ("zstd", 3), ("none", None)]
)  # fmt: skip
def test_neither_workers_nor_chunks_show(form: Compression, level: int | None, data: bytes) -> None:
    packed = {
        b"".join(compress(split(data, size), form, level=level, workers=workers))
        for size in (1000, 1 << 20, 3_000_001)
        for workers in (1, 2, 5)
    }
    assert len(packed) == 1
    (only,) = packed
    with open_compressed(io.BytesIO(only)) as stream:
        back = b"".join(iter(stream.read, b""))
    assert back == data


def test_gzip_is_one_member_that_everyone_reads() -> None:
    packed = b"".join(compress([DATA], "gzip"))
    assert gzip.decompress(packed) == DATA
    done = subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True)
    assert done.stdout == DATA
    assert packed[3:9] == bytes(5) + b"\0"


@pytest.mark.requires("zstd")
def test_zstd_is_read_by_zstd() -> None:
    packed = b"".join(compress([DATA], "zstd"))
    done = subprocess.run(["zstd", "-dc"], input=packed, capture_output=True, check=True)
    assert done.stdout == DATA


@pytest.mark.parametrize(("form", "level"), [("gzip", 10), ("gzip", -1), ("zstd", 23), ("lz4", 1)])
def test_what_cannot_be_asked_for(form: Compression, level: int) -> None:
    with pytest.raises(InvalidArgument):
        list(compress([b""], form, level=level))


def test_an_abandoned_compression_ends() -> None:
    chunks = compress(split(DATA * 4, 1 << 20), "gzip", workers=2)
    next(chunks)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("start", "name"),
    [
        (b"\x1f\x8b\x08\0\0\0", "gzip"),
        (b"\x28\xb5\x2f\xfd\0\0", "zstd"),
        (b"\x50\x2a\x4d\x18\0\0", "zstd"),
        (b"BZh91A", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"etc/pa", "none"),
        (b"", "none"),
    ],
)
def test_formats_are_known_by_their_first_bytes(start: bytes, name: str) -> None:
    assert compression_of(start) == name


class Dripping(io.BytesIO):
    """A source that gives one byte at a time, then whatever."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(1 if self.tell() < 40 else min(size or 0, 1000))


@pytest.mark.parametrize("form", ["gzip", "zstd", "none"])
def test_sources_that_drip(form: Compression) -> None:
    with open_compressed(Dripping(b"".join(compress([DATA], form)))) as stream:
        assert stream.compression == form
        assert b"".join(iter(stream.read, b"")) == DATA


def test_a_source_that_fails_is_heard() -> None:
    class Broken:
        def read(self, size: int, /) -> bytes:
            raise ConnectionResetError("peer went away")

    with pytest.raises(ConnectionResetError), open_compressed(Broken()) as stream:
        stream.drain()


def test_closing_early_ends_the_thread() -> None:
    with open_compressed(io.BytesIO(bytes(50 << 20))) as stream:
        assert stream.read(10) == bytes(10)
        assert len(stream.read(100)) == 100
