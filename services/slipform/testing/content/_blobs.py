"""Reading, labels, deleting."""

from __future__ import annotations

import pytest

from slipform.core.content import CHUNK_SIZE, GC_REF, ContentStore
from slipform.core.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    OutOfRange,
)
from slipform.core.oci.digest import Digest
from slipform.testing.content._world import (
    ABSENT,
    ContentWorld,
    fetch,
    payload,
    put,
)


class BlobContract:
    """Reading, labels, deleting."""

    @pytest.fixture
    def world(self) -> ContentWorld:
        """Supplied by the subclass."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, world: ContentWorld) -> ContentStore:
        """The default tenant."""
        return world.store

    def test_missing_blob_is_not_found(self, store: ContentStore) -> None:
        for use in (store.info, store.read, store.delete):
            with pytest.raises(NotFound):
                use(ABSENT)
        with pytest.raises(NotFound):
            store.update_labels(ABSENT, {"a": "b"})

    def test_chunks_are_small(self, store: ContentStore) -> None:
        digest = put(store, payload(2 * CHUNK_SIZE + 5))
        sizes = [len(chunk) for chunk in store.read(digest)]
        assert sum(sizes) == 2 * CHUNK_SIZE + 5
        assert all(0 < size <= CHUNK_SIZE for size in sizes)

    @pytest.mark.parametrize(
        ("offset", "size"),
        [(0, 0), (0, 1), (1, 0), (99_999, 1), (100_000, 0), (5, 50_000), (10, 10**9), (0, 2**62)],
    )
    def test_ranges(self, store: ContentStore, offset: int, size: int) -> None:
        data = payload(100_000)
        want = data[offset : offset + size] if size else data[offset:]
        assert fetch(store, put(store, data), offset=offset, size=size) == want

    def test_reading_past_the_end(self, store: ContentStore) -> None:
        digest = put(store, b"short")
        assert fetch(store, digest, size=4096) == b"short"
        assert fetch(store, digest, offset=5) == b""
        with pytest.raises(OutOfRange):
            store.read(digest, offset=6)

    def test_the_empty_blob(self, store: ContentStore) -> None:
        digest = put(store, b"")
        assert store.info(digest).size == 0
        assert fetch(store, digest) == b""
        with pytest.raises(OutOfRange):
            store.read(digest, offset=1)

    def test_half_read_blobs_do_no_harm(self, store: ContentStore) -> None:
        digest = put(store, payload(3 * CHUNK_SIZE))
        for _ in range(20):
            next(iter(store.read(digest)))
        store.delete(digest)

    def test_a_reader_outlives_its_blob_or_is_told(self, store: ContentStore) -> None:
        data = payload(3 * CHUNK_SIZE)
        reader = store.read(put(store, data))
        got = next(reader)
        store.delete(Digest.of(data))
        assert got + b"".join(reader) == data

    def test_labels_change_one_by_one(self, store: ContentStore) -> None:
        digest = put(store, b"x", labels={"a": "1", "b": "2"})
        before = store.info(digest)
        after = store.update_labels(digest, {"b": "3", "c": "4"})
        assert after.labels == {"a": "1", "b": "3", "c": "4"}
        assert after.created_at == before.created_at
        assert after.updated_at >= before.updated_at
        store.update_labels(digest, {"a": "", "absent": ""})
        assert store.info(digest).labels == {"b": "3", "c": "4"}

    @pytest.mark.parametrize(
        "labels", [{"": "x"}, {"k": "v" * 4096}, {"\ud800": "x"}, {GC_REF + "x": "not a digest"}]
    )
    def test_impossible_labels(self, store: ContentStore, labels: dict[str, str]) -> None:
        digest = put(store, b"x")
        with pytest.raises(InvalidArgument):
            store.update_labels(digest, labels)
        with store.ingest("r") as ingest:
            ingest.write(b"y")
            with pytest.raises(InvalidArgument):
                ingest.commit(labels=labels)
        assert store.status("r").offset == 1
        assert store.info(digest).labels == {}

    def test_walk_is_by_digest_and_filters_by_label(self, store: ContentStore) -> None:
        digests = [
            put(store, b"%d" % n, labels={"n": str(n), "odd"[n % 2 :]: "x"}) for n in range(9)
        ]
        assert [info.digest for info in store.walk()] == sorted(digests)
        assert [info.digest for info in store.walk({"n": "4"})] == [digests[4]]
        assert {info.digest for info in store.walk({"n": "", "odd": "x"})} == set(digests[::2])
        assert list(store.walk({"n": "4", "dd": ""})) == []

    def test_walk_over_many(self, store: ContentStore) -> None:
        digests = sorted(put(store, b"blob %d" % n) for n in range(300))
        assert [info.digest for info in store.walk()] == digests

    def test_delete(self, store: ContentStore) -> None:
        digest = put(store, b"x")
        store.delete(digest)
        with pytest.raises(NotFound):
            store.info(digest)
        with pytest.raises(NotFound):
            store.delete(digest)
        assert fetch(store, put(store, b"x")) == b"x"

    def test_a_leased_blob_cannot_be_deleted(self, store: ContentStore) -> None:
        digest = put(store, b"x", lease="mine")
        with pytest.raises(FailedPrecondition, match="mine"):
            store.delete(digest)
        store.delete_lease("mine")
        store.delete(digest)
