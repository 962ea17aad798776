"""Writing: what an ingest promises."""

from __future__ import annotations

import hashlib
import threading
from datetime import UTC, datetime, timedelta

import pytest

from slipform.core.content import CHUNK_SIZE, ContentStore
from slipform.core.errors import (
    AlreadyExists,
    DigestMismatch,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
    Unavailable,
)
from slipform.core.oci.digest import Digest
from slipform.testing.content._world import (
    ABSENT,
    HOSTILE_NAMES,
    HOSTILE_REFS,
    SIZES,
    ContentWorld,
    fetch,
    payload,
    put,
)


class IngestContract:
    """Writing."""

    @pytest.fixture
    def world(self) -> ContentWorld:
        """Supplied by the subclass."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, world: ContentWorld) -> ContentStore:
        """The default tenant."""
        return world.store

    @pytest.mark.parametrize("with_total", [False, True])
    @pytest.mark.parametrize("with_expected", [False, True])
    @pytest.mark.parametrize("size", [0, *SIZES])
    def test_what_is_written_is_read(
        self, store: ContentStore, size: int, with_total: bool, with_expected: bool
    ) -> None:
        data = payload(size)
        digest = Digest.of(data)
        before = datetime.now(UTC) - timedelta(seconds=1)
        ref = "a write"
        total = size if with_total else 0
        with store.ingest(ref, total=total, expected=digest if with_expected else None) as ingest:
            assert ingest.write(data) == size
            assert ingest.offset == size
            info = ingest.commit(size=size, expected=digest, labels={"a": "b"})
        assert (info.digest, info.size, dict(info.labels)) == (digest, size, {"a": "b"})
        assert before <= info.created_at <= info.updated_at <= datetime.now(UTC)
        assert store.info(digest) == info
        assert fetch(store, digest) == data
        with pytest.raises(NotFound):
            store.status(ref)

    def test_commit_needs_neither_size_nor_digest(self, store: ContentStore) -> None:
        with store.ingest("r") as ingest:
            ingest.write(b"abc")
            assert ingest.commit().digest == Digest.of(b"abc")

    def test_many_small_writes(self, store: ContentStore) -> None:
        data = payload(64 * 1024)
        with store.ingest("r") as ingest:
            for start in range(0, len(data), 32):
                ingest.write(memoryview(data)[start : start + 32])
            assert ingest.digest() == Digest.of(data)
            assert ingest.commit().digest == Digest.of(data)

    def test_every_kind_of_buffer_is_taken(self, store: ContentStore) -> None:
        with store.ingest("r") as ingest:
            ingest.write(b"bytes ")
            ingest.write(bytearray(b"bytearray "))
            ingest.write(memoryview(b"memoryview"))
            assert ingest.commit().digest == Digest.of(b"bytes bytearray memoryview")

    def test_a_write_larger_than_a_message(self, store: ContentStore) -> None:
        data = payload(20 * CHUNK_SIZE)
        with store.ingest("r") as ingest:
            assert ingest.write(data) == len(data)
            ingest.commit(size=len(data))
        assert fetch(store, Digest.of(data)) == data

    def test_sha512_is_checked_when_expected(self, store: ContentStore) -> None:
        data = payload(1000)
        wanted = Digest("sha512", hashlib.sha512(data).hexdigest())
        with store.ingest("r", expected=wanted) as ingest:
            ingest.write(data)
            assert ingest.digest() == wanted
            assert ingest.commit().digest == wanted
        assert fetch(store, wanted) == data
        with pytest.raises(NotFound):
            store.info(Digest.of(data))

    def test_sha512_may_be_asked_for_at_the_end(self, store: ContentStore) -> None:
        wanted = Digest("sha512", hashlib.sha512(b"abc").hexdigest())
        with store.ingest("r") as ingest:
            ingest.write(b"abc")
            assert ingest.commit(expected=wanted).digest == wanted

    def test_status_moves_with_the_writes(self, store: ContentStore) -> None:
        data = payload(5000)
        with store.ingest("r", total=len(data), expected=Digest.of(data)) as ingest:
            first = store.status("r")
            assert (first.ref, first.offset, first.total) == ("r", 0, 5000)
            assert first.expected == Digest.of(data)
            ingest.write(data[:2000])
            assert ingest.digest() == Digest.of(data[:2000])
            second = store.status("r")
            assert second.offset == 2000
            assert second.started_at == first.started_at
            assert second.updated_at >= first.updated_at >= first.started_at

    def test_statuses_are_listed_by_ref(self, store: ContentStore) -> None:
        for ref in ("b/2", "a/1", "b/1"):
            with store.ingest(ref) as ingest:
                ingest.write(ref.encode())
        assert [s.ref for s in store.statuses()] == ["a/1", "b/1", "b/2"]
        assert [(s.ref, s.offset) for s in store.statuses("b/")] == [("b/1", 3), ("b/2", 3)]
        assert store.statuses("%") == []
        with pytest.raises(NotFound):
            store.status("c")

    def test_one_writer_per_ref(self, store: ContentStore) -> None:
        with store.ingest("r") as ingest:
            ingest.write(b"first")
            with pytest.raises(Unavailable):
                store.ingest("r")
            with pytest.raises(Unavailable):
                store.abort("r")
            ingest.commit()
        with store.ingest("r") as again:
            assert again.offset == 0

    def test_committing_what_is_there(self, store: ContentStore) -> None:
        digest = put(store, b"twice", labels={"keep": "1", "change": "1"})
        for expected in (None, digest):
            with store.ingest("r") as ingest:
                ingest.write(b"twice")
                with pytest.raises(AlreadyExists):
                    ingest.commit(expected=expected, labels={"change": "2", "new": "3"})
            with pytest.raises(NotFound):
                store.status("r")
        assert store.info(digest).labels == {"keep": "1", "change": "2", "new": "3"}

    def test_opening_a_write_of_what_is_there(self, store: ContentStore) -> None:
        digest = put(store, b"there")
        with pytest.raises(AlreadyExists):
            store.ingest("r", expected=digest)
        with pytest.raises(NotFound):
            store.status("r")

    @pytest.mark.parametrize("fault", ["size", "digest", "announced digest", "total"])
    def test_what_does_not_match_is_kept_and_can_be_committed_right(
        self, store: ContentStore, fault: str
    ) -> None:
        announced = ABSENT if fault == "announced digest" else None
        with store.ingest("r", total=9 if fault == "total" else 0, expected=announced) as ingest:
            ingest.write(b"content")
            error = DigestMismatch if "digest" in fault else FailedPrecondition
            with pytest.raises(error):
                ingest.commit(
                    size=8 if fault == "size" else 0, expected=ABSENT if fault == "digest" else None
                )
        with pytest.raises(NotFound):
            store.info(Digest.of(b"content"))
        assert store.status("r").offset == 7
        if fault == "announced digest":
            store.abort("r")
        with store.ingest("r") as again:
            if fault == "announced digest":
                again.write(b"content")
            if fault == "total":
                again.write(b"!!")
            digest = again.digest()
            assert again.commit(expected=digest).digest == digest

    def test_a_closed_ingest_takes_nothing(self, store: ContentStore) -> None:
        ingest = store.ingest("r")
        ingest.write(b"abc")
        ingest.close()
        ingest.close()
        for use in (lambda: ingest.write(b"d"), ingest.digest, ingest.commit, ingest.truncate):
            with pytest.raises(FailedPrecondition):
                use()

    def test_more_than_announced_is_refused(self, store: ContentStore) -> None:
        # Over a wire the refusal may come with a later call than the write that deserves it.
        with store.ingest("r", total=10) as ingest:
            ingest.write(b"12345")
            with pytest.raises(OutOfRange):  # noqa: PT012 - either call may raise
                ingest.write(b"678901")
                ingest.digest()
        assert store.status("r").offset == 5
        with store.ingest("r") as again:
            again.write(b"67890")
            assert again.commit().digest == Digest.of(b"1234567890")

    def test_truncate(self, store: ContentStore) -> None:
        with store.ingest("r") as ingest:
            ingest.write(b"0123456789")
            ingest.truncate(4)
            assert (ingest.offset, ingest.digest()) == (4, Digest.of(b"0123"))
            ingest.write(b"abc")
            assert ingest.digest() == Digest.of(b"0123abc")
            ingest.truncate()
            assert ingest.offset == 0
            ingest.write(b"new")
            assert ingest.commit().digest == Digest.of(b"new")

    def test_truncate_past_the_end_is_refused(self, store: ContentStore) -> None:
        with store.ingest("r") as ingest:
            ingest.write(b"abc")
            with pytest.raises(OutOfRange):
                ingest.truncate(4)
        assert store.status("r").offset == 3

    @pytest.mark.parametrize("size", SIZES)
    @pytest.mark.parametrize("cut", [0.0, 0.1, 0.5, 0.9, 1.0])
    @pytest.mark.parametrize("way", ["continue", "truncate and rewrite", "rewrite the last part"])
    def test_resume(self, store: ContentStore, size: int, cut: float, way: str) -> None:
        data = payload(size)
        at = int(size * cut)
        with store.ingest("r", total=size, expected=Digest.of(data)) as ingest:
            ingest.write(data[:at])
        started = store.status("r").started_at
        with store.ingest("r") as ingest:
            assert ingest.offset == at
            assert ingest.digest() == Digest.of(data[:at])
            if way == "truncate and rewrite":
                ingest.truncate()
            elif way == "rewrite the last part":
                ingest.truncate(at // 2)
            assert store.status("r").started_at == started
            assert store.status("r").total == size
            ingest.write(data[ingest.offset :])
            assert ingest.commit(size=size).digest == Digest.of(data)
        assert fetch(store, Digest.of(data)) == data

    def test_a_ref_goes_on_with_what_it_was_opened_for(self, store: ContentStore) -> None:
        with store.ingest("r", total=5, expected=ABSENT) as ingest:
            ingest.write(b"abc")
        with pytest.raises(FailedPrecondition):
            store.ingest("r", total=6)
        with pytest.raises(FailedPrecondition):
            store.ingest("r", expected=Digest.of(b"other"))
        store.abort("r")
        with store.ingest("r", total=6) as ingest:
            assert ingest.offset == 0

    def test_abort(self, store: ContentStore) -> None:
        with store.ingest("r") as ingest:
            ingest.write(b"abc")
        store.abort("r")
        with pytest.raises(NotFound):
            store.status("r")
        with pytest.raises(NotFound):
            store.abort("r")
        with store.ingest("r") as ingest:
            assert ingest.offset == 0

    def test_an_exception_closes_and_keeps(self, store: ContentStore) -> None:
        with pytest.raises(KeyError), store.ingest("r") as ingest:  # noqa: PT012
            ingest.write(b"abc")
            raise KeyError
        assert store.status("r").offset == 3

    @pytest.mark.parametrize("ref", HOSTILE_REFS)
    def test_a_ref_is_only_a_name(self, store: ContentStore, ref: str) -> None:
        with store.ingest(ref) as ingest:
            ingest.write(b"abc")
        assert [s.ref for s in store.statuses()] == [ref]
        with store.ingest(ref) as ingest:
            assert ingest.offset == 3
            ingest.commit()
        assert fetch(store, Digest.of(b"abc")) == b"abc"

    @pytest.mark.parametrize("ref", HOSTILE_NAMES)
    def test_impossible_refs(self, store: ContentStore, ref: str) -> None:
        with pytest.raises(InvalidArgument):
            store.ingest(ref)

    def test_impossible_numbers(self, store: ContentStore) -> None:
        with pytest.raises(InvalidArgument):
            store.ingest("r", total=-1)
        digest = put(store, b"abc")
        with pytest.raises(InvalidArgument):
            store.read(digest, offset=-1)
        with pytest.raises(InvalidArgument):
            store.read(digest, size=-1)

    def test_writers_do_not_disturb_each_other(self, store: ContentStore) -> None:
        blobs = [payload(200_000 + n, seed=n) for n in range(8)]
        failures: list[BaseException] = []

        def write(data: bytes) -> None:
            try:
                put(store, data, lease="all")
            except BaseException as e:
                failures.append(e)

        threads = [threading.Thread(target=write, args=(blob,)) for blob in blobs * 2]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        # Two writers of one ref may meet: one of them is told so.
        assert all(isinstance(e, Unavailable) for e in failures)
        assert all(fetch(store, Digest.of(blob)) == blob for blob in blobs)
