from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest

from slipform.content.store import Content
from slipform.core.content import GC_REF
from slipform.core.errors import (
    AlreadyExists,
    DigestMismatch,
    FailedPrecondition,
    NotFound,
    ResourceExhausted,
    Unavailable,
)
from slipform.core.oci.digest import Digest
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.drivers.content.memory import MemoryBlobs
from slipform.testing.content import fetch, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Opener = Callable[[], contextlib.AbstractContextManager[Content]]


class Clock:
    def __init__(self) -> None:
        self.s = 1000.0

    def monotonic(self) -> float:
        return self.s

    def ns(self) -> int:
        return int(self.s * 1e9)


@pytest.fixture
def reopen(tmp_path: Path) -> Opener:
    """The same store each time, as after a restart."""

    @contextlib.contextmanager
    def opened() -> Iterator[Content]:
        content = Content(FilesystemBlobs(tmp_path), tmp_path / "db", grace=timedelta(0))
        with contextlib.closing(content):
            yield content

    return opened


def blob_path(root: Path, digest: Digest) -> Path:
    return root / "blobs" / digest.algorithm / digest.hex


def test_everything_outlives_a_restart(reopen: Opener) -> None:
    with reopen() as content:
        store = content.tenant("t")
        digest = put(store, b"blob", labels={"a": "b"}, lease="l")
        info = store.info(digest)
        with store.ingest("half", total=8) as ingest:
            ingest.write(b"half")
        status = store.status("half")
    with reopen() as content:
        store = content.tenant("t")
        assert store.info(digest) == info
        assert store.lease_resources("l") == [str(digest)]
        assert store.status("half") == status
        with store.ingest("half") as ingest:
            assert ingest.offset == 4
            ingest.write(b"half")
            assert ingest.commit().digest == Digest.of(b"halfhalf")


def test_a_store_is_open_once(tmp_path: Path, reopen: Opener) -> None:
    with reopen(), pytest.raises(Unavailable):
        FilesystemBlobs(tmp_path)
    with reopen():
        pass


def test_closing_keeps_what_is_being_written(reopen: Opener) -> None:
    with reopen() as content:
        ingest = content.tenant("t").ingest("r")
        ingest.write(b"abc")
    with pytest.raises(FailedPrecondition):
        ingest.write(b"d")
    with reopen() as content:
        assert content.tenant("t").status("r").offset == 3


def test_closing_while_others_write_is_safe(reopen: Opener) -> None:
    started = threading.Barrier(5)
    outcomes: list[str] = []

    def write(content: Content, number: int) -> None:
        with content.tenant("t").ingest(f"r{number}") as ingest:
            started.wait()
            try:
                while True:
                    ingest.write(b"%d" % number * 10_000)
            except FailedPrecondition as e:
                outcomes.append(str(e))

    with reopen() as content:
        threads = [threading.Thread(target=write, args=(content, n)) for n in range(4)]
        for thread in threads:
            thread.start()
        started.wait()
    for thread in threads:
        thread.join()
    assert sorted(outcomes) == [f'ingest "r{n}" is closed' for n in range(4)]
    with reopen() as content:
        for number in range(4):
            with content.tenant("t").ingest(f"r{number}") as ingest:
                digest = ingest.digest()
                assert digest == Digest.of(b"%d" % number * ingest.offset)


def test_files_are_private(tmp_path: Path, reopen: Opener) -> None:
    before = os.umask(0)
    try:
        with reopen() as content:
            put(content.tenant("t"), b"x")
            with content.tenant("t").ingest("r") as ingest:
                ingest.write(b"y")
            for path in tmp_path.rglob("*"):
                want = 0o700 if path.is_dir() else 0o600
                if path.name not in ("db-wal", "db-shm"):  # SQLite copies the mode of db
                    assert path.stat().st_mode & 0o777 == want, path
    finally:
        os.umask(before)


def test_a_blob_whose_file_is_gone_is_not_found_and_can_come_back(
    tmp_path: Path, reopen: Opener
) -> None:
    with reopen() as content:
        store = content.tenant("t")
        for use in (store.info, store.read, partial(content.open_descriptor, "t")):
            digest = put(store, b"x")
            blob_path(tmp_path, digest).unlink()
            with pytest.raises(NotFound):
                use(digest)
            assert list(store.walk()) == []
        assert fetch(store, put(store, b"x")) == b"x"


def test_a_damaged_blob_is_told_and_repaired_by_its_next_commit(
    tmp_path: Path, reopen: Opener
) -> None:
    with reopen() as content:
        store = content.tenant("t")
        digest = put(store, b"whole", labels={"a": "b"})
        with blob_path(tmp_path, digest).open("ab") as file:
            file.write(b"!")
        for use in (store.read, partial(content.open_descriptor, "t")):
            with pytest.raises(DigestMismatch, match="6 bytes on disk, want 5"):
                use(digest)
        with store.ingest("r", expected=digest) as ingest:
            ingest.write(b"whole")
            assert ingest.commit().labels == {"a": "b"}
        assert fetch(store, digest) == b"whole"


def test_a_blob_that_shrinks_under_a_reader_is_told(tmp_path: Path, reopen: Opener) -> None:
    with reopen() as content:
        store = content.tenant("t")
        digest = put(store, bytes(3 << 20))
        reader = store.read(digest)
        next(reader)
        os.truncate(blob_path(tmp_path, digest), 1 << 20)
        with pytest.raises(DigestMismatch):
            list(reader)


def test_bytes_without_a_row_are_invisible_and_swept(tmp_path: Path, reopen: Opener) -> None:
    orphan = Digest.of(b"orphan")
    with reopen():
        pass
    blob_path(tmp_path, orphan).write_bytes(b"orphan")
    (tmp_path / "blobs/sha256/not-a-digest").write_bytes(b"foreign")
    with reopen() as content:
        store = content.tenant("t")
        with pytest.raises(NotFound):
            store.info(orphan)
        assert store.collect() == 6
        assert not blob_path(tmp_path, orphan).exists()
        assert (tmp_path / "blobs/sha256/not-a-digest").exists()


def test_bytes_without_a_row_are_replaced_by_a_commit(tmp_path: Path, reopen: Opener) -> None:
    digest = Digest.of(b"right")
    with reopen() as content:
        blob_path(tmp_path, digest).write_bytes(b"wrong bytes")
        store = content.tenant("t")
        assert fetch(store, put(store, b"right")) == b"right"
        assert store.collect() == 5


def test_ingest_files_without_a_row_are_dropped_at_the_start(
    tmp_path: Path, reopen: Opener
) -> None:
    with reopen() as content, content.tenant("t").ingest("known") as ingest:
        ingest.write(b"abc")
    (tmp_path / "ingests/999").mkdir()
    (tmp_path / "ingests/999/data").write_bytes(b"lost")
    with reopen() as content:
        assert len(list((tmp_path / "ingests").iterdir())) == 1
        assert content.tenant("t").status("known").offset == 3


def test_the_trash_is_emptied(tmp_path: Path, reopen: Opener) -> None:
    with reopen() as content:
        store = content.tenant("t")
        store.delete(put(store, b"x"))
        assert list((tmp_path / "trash").iterdir()) == []
    (tmp_path / "trash/left by a crash").write_bytes(b"x")
    with reopen():
        assert list((tmp_path / "trash").iterdir()) == []


def test_a_failing_catalog_loses_neither_ingest_nor_blob(
    reopen: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    with reopen() as content:
        store = content.tenant("t")
        with monkeypatch.context() as patch, store.ingest("r") as ingest:
            ingest.write(b"abc")

            def full(*_: object) -> None:
                raise ResourceExhausted("database or disk is full")

            patch.setattr(content._catalog, "put_claim", full)
            with pytest.raises(ResourceExhausted):
                ingest.commit()
        with pytest.raises(NotFound):
            store.info(Digest.of(b"abc"))
        with store.ingest("r") as ingest:
            assert ingest.offset == 3
            ingest.write(b"def")
            assert fetch(store, ingest.commit().digest) == b"abcdef"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def timed(clock: Clock) -> Iterator[Content]:
    content = Content(
        MemoryBlobs(), grace=timedelta(seconds=60), monotonic=clock.monotonic, clock_ns=clock.ns
    )
    with contextlib.closing(content):
        yield content


def test_the_grace_period_covers_commit_and_what_the_blob_refers_to(
    timed: Content, clock: Clock
) -> None:
    store = timed.tenant("t")
    layer = put(store, b"layer")
    clock.s += 59
    put(store, b"manifest", labels={GC_REF + "l": str(layer)})
    clock.s += 59
    assert store.collect() == 0
    clock.s += 1
    assert store.collect() == len(b"layermanifest")


@pytest.mark.parametrize("at", ["open", "commit"])
def test_being_told_that_a_blob_exists_begins_its_grace_again(
    timed: Content, clock: Clock, at: str
) -> None:
    store = timed.tenant("t")
    digest = put(store, b"x")
    clock.s += 59
    if at == "open":
        with pytest.raises(AlreadyExists):
            store.ingest("r", expected=digest)
    else:
        put(store, b"x")
    clock.s += 59
    assert store.collect() == 0
    clock.s += 1
    assert store.collect() == 1


def test_an_expired_lease_holds_nothing(timed: Content, clock: Clock) -> None:
    store = timed.tenant("t")
    store.create_lease("l", ttl=timedelta(minutes=10))
    digest = put(store, b"x", lease="l")
    with pytest.raises(FailedPrecondition):
        store.delete(digest)
    clock.s += 600
    assert store.collect() == 1


def test_a_limit_is_told_and_what_was_written_is_kept() -> None:
    with contextlib.closing(Content(MemoryBlobs(limit=10), grace=timedelta(0))) as content:
        store = content.tenant("t")
        with store.ingest("r") as ingest:
            ingest.write(b"12345678")
            with pytest.raises(ResourceExhausted):
                ingest.write(b"abc")
            assert ingest.offset == 8
            ingest.write(b"90")
            digest = ingest.commit().digest
        assert fetch(store, digest) == b"1234567890"
        with store.ingest("r") as ingest, pytest.raises(ResourceExhausted):
            ingest.write(b"x")
        store.delete(digest)
        put(store, b"again10 ch")
