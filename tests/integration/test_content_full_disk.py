"""A disk that is full, for real: a tmpfs of a few megabytes."""

from __future__ import annotations

import contextlib
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from slipform.content.store import Content
from slipform.core.errors import NotFound, ResourceExhausted
from slipform.core.oci.digest import Digest
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.testing.content import fetch, payload, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.root


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "small"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


@pytest.fixture
def content(disk: Path) -> Iterator[Content]:
    content = Content(FilesystemBlobs(disk / "store"), disk / "db", grace=timedelta(0))
    with contextlib.closing(content):
        yield content


def test_a_write_stops_at_its_last_good_offset_and_goes_on_later(content: Content) -> None:
    store = content.tenant("t")
    ballast = put(store, payload(3 << 20, seed=2))
    data = payload(6 << 20)
    step = 300_001
    with store.ingest("r", total=len(data)) as ingest:
        with pytest.raises(ResourceExhausted, match="No space left"):  # noqa: PT012
            while True:
                ingest.write(data[ingest.offset : ingest.offset + step])
        good = ingest.offset
        assert good % step == 0
        assert ingest.digest() == Digest.of(data[:good])
    assert store.status("r").offset == good
    assert store.info(ballast).size == 3 << 20
    store.delete(ballast)
    with store.ingest("r") as ingest:
        ingest.write(data[good:])
        digest = ingest.commit(expected=Digest.of(data)).digest
    assert fetch(store, digest) == data


def test_what_is_there_stays_usable_on_a_full_disk(content: Content, disk: Path) -> None:
    store = content.tenant("t")
    blobs = [put(store, payload(100_000, seed=n), lease="l") for n in range(10)]
    with store.ingest("kept") as ingest:
        ingest.write(b"almost")
    with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    for digest in blobs:
        assert len(fetch(store, digest)) == 100_000
    # Whether a small commit still fits is the file system's to decide; it must be all or nothing.
    for n in range(200):
        data = b"%d" % n
        try:
            put(store, data)
        except ResourceExhausted:
            with pytest.raises(NotFound):
                store.info(Digest.of(data))
        else:
            assert fetch(store, Digest.of(data)) == data
    (disk / "ballast").unlink()
    with store.ingest("kept") as ingest:
        assert ingest.offset == 6
        assert ingest.commit().size == 6
    store.collect()
    assert {info.digest for info in store.walk()} >= set(blobs)
    assert all(len(fetch(store, digest)) == 100_000 for digest in blobs)


def test_a_store_cannot_be_made_on_a_full_disk(disk: Path) -> None:
    with (disk / "ballast").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(bytes(4096)):
            pass
    with (
        pytest.raises(ResourceExhausted),
        contextlib.closing(FilesystemBlobs(disk / "store")) as driver,
    ):
        Content(driver, disk / "db")
