"""Leases, garbage collection, tenants."""

from __future__ import annotations

import contextlib
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from slipform.core.content import GC_REF, ContentStore
from slipform.core.errors import (
    AlreadyExists,
    DigestMismatch,
    InvalidArgument,
    NotFound,
)
from slipform.core.oci.digest import Digest
from slipform.testing.content._world import (
    ABSENT,
    HOSTILE_NAMES,
    ContentWorld,
    fetch,
    put,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class LeaseContract:
    """Leases and collection."""

    @pytest.fixture
    def world(self) -> ContentWorld:
        """Supplied by the subclass."""
        raise NotImplementedError

    @pytest.fixture
    def store(self, world: ContentWorld) -> ContentStore:
        """The default tenant."""
        return world.store

    def test_leases_come_and_go(self, store: ContentStore) -> None:
        first = store.create_lease("one", labels={"a": "b"})
        second = store.create_lease("two", ttl=timedelta(hours=1))
        assert first.expires_at is None
        assert second.expires_at is not None
        assert second.expires_at - second.created_at == timedelta(hours=1)
        assert store.list_leases() == [first, second]
        with pytest.raises(AlreadyExists):
            store.create_lease("one")
        store.delete_lease("one")
        store.delete_lease("one")
        assert store.list_leases() == [second]

    def test_what_a_lease_holds(self, store: ContentStore) -> None:
        one, two = str(Digest.of(b"1")), str(Digest.of(b"2"))
        store.add_to_lease("new", [one, two, one])
        assert store.lease_resources("new") == sorted([one, two])
        store.remove_from_lease("new", [one, str(ABSENT)])
        assert store.lease_resources("new") == [two]
        with pytest.raises(NotFound):
            store.lease_resources("other")
        with pytest.raises(NotFound):
            store.remove_from_lease("other", [one])

    @pytest.mark.parametrize("name", HOSTILE_NAMES)
    def test_impossible_leases(self, store: ContentStore, name: str) -> None:
        with pytest.raises(InvalidArgument):
            store.create_lease(name)
        with pytest.raises(InvalidArgument):
            store.add_to_lease(name, [str(ABSENT)])
        with pytest.raises(InvalidArgument):
            store.add_to_lease("l", ["not a digest"])
        with pytest.raises(InvalidArgument):
            store.create_lease("l", ttl=timedelta(0))
        endless = store.create_lease("l", ttl=timedelta(days=290 * 365))
        assert endless.expires_at is not None
        assert endless.expires_at.year == 2262

    def test_collect_keeps_what_leases_reach(self, store: ContentStore) -> None:
        layer, stray = put(store, b"layer"), put(store, b"stray data")
        config = put(store, b"config", labels={"note": str(stray)})
        manifest = put(
            store, b"manifest", labels={GC_REF + "l.0": str(layer), GC_REF + "config": str(config)}
        )
        index = put(store, b"index", labels={GC_REF + "m": str(manifest)}, lease="image")
        assert store.collect() == len(b"stray data")
        assert {info.digest for info in store.walk()} == {layer, config, manifest, index}
        store.delete_lease("image")
        assert store.collect() == len(b"layerconfigmanifestindex")
        assert list(store.walk()) == []
        assert store.collect() == 0

    def test_cycles_and_dangling_references_are_harmless(self, store: ContentStore) -> None:
        one = put(store, b"1", labels={GC_REF + "gone": str(ABSENT)})
        two = put(store, b"2", labels={GC_REF + "x": str(one)})
        store.update_labels(one, {GC_REF + "y": str(two)})
        store.add_to_lease("l", [str(one)])
        assert store.collect() == 0
        store.delete_lease("l")
        assert store.collect() == 2

    def test_committing_again_holds(self, store: ContentStore) -> None:
        put(store, b"x", lease="first")
        put(store, b"x", lease="second")
        store.delete_lease("first")
        assert store.collect() == 0
        assert store.lease_resources("second") == [str(Digest.of(b"x"))]

    def test_collect_leaves_ingests_alone(self, store: ContentStore) -> None:
        with store.ingest("left") as left:
            left.write(b"abc")
        with store.ingest("open") as ingest:
            ingest.write(b"def")
            assert store.collect() == 0
            assert ingest.commit(lease="l").size == 3
        assert store.status("left").offset == 3

    def test_collecting_beside_writers_loses_nothing(self, store: ContentStore) -> None:
        stop = threading.Event()
        failures: list[BaseException] = []

        def guard(work: Callable[[], None]) -> threading.Thread:
            def run() -> None:
                try:
                    work()
                except BaseException as e:
                    failures.append(e)
                    stop.set()

            return threading.Thread(target=run)

        def collect() -> None:
            while not stop.is_set():
                store.collect()

        def write(worker: int) -> None:
            for n in range(25):
                data = b"%d %d" % (worker % 2, n)  # two workers meet on each blob
                lease = f"lease {worker} {n}"
                with store.ingest(f"ref {worker}") as ingest:
                    ingest.write(data)
                    with contextlib.suppress(AlreadyExists):
                        ingest.commit(lease=lease)
                assert fetch(store, Digest.of(data)) == data
                if n % 3 == 0:
                    store.delete_lease(lease)

        collector = guard(collect)
        writers = [guard(lambda w=worker: write(w)) for worker in range(4)]  # type: ignore[misc]
        for thread in (collector, *writers):
            thread.start()
        for thread in writers:
            thread.join()
        stop.set()
        collector.join()
        assert failures == []
        store.collect()
        kept = {Digest.of(b"%d %d" % (w, n)) for w in range(2) for n in range(25) if n % 3}
        assert {info.digest for info in store.walk()} == kept
        assert all(fetch(store, digest) for digest in kept)


class TenantContract:
    """Tenants neither see nor harm each other."""

    @pytest.fixture
    def world(self) -> ContentWorld:
        """Supplied by the subclass."""
        raise NotImplementedError

    def test_blobs_of_others_do_not_exist(self, world: ContentWorld) -> None:
        mine, other = world.tenant("mine"), world.tenant("other")
        digest = put(mine, b"secret", labels={"a": "b"}, lease="l")
        for use in (other.info, other.read, other.delete):
            with pytest.raises(NotFound):
                use(digest)
        with pytest.raises(NotFound):
            other.update_labels(digest, {"x": "y"})
        assert list(other.walk()) == []
        assert other.list_leases() == []
        assert fetch(mine, digest) == b"secret"

    def test_bytes_must_be_presented(self, world: ContentWorld) -> None:
        mine, other = world.tenant("mine"), world.tenant("other")
        digest = put(mine, b"secret", labels={"a": "b"})
        with other.ingest("r", expected=digest) as ingest:
            assert ingest.offset == 0
            with pytest.raises(DigestMismatch):
                ingest.commit()
        with other.ingest("r") as ingest:
            ingest.write(b"secret")
            info = ingest.commit(labels={"c": "d"})
        assert info.labels == {"c": "d"}
        assert mine.info(digest).labels == {"a": "b"}

    def test_refs_are_per_tenant(self, world: ContentWorld) -> None:
        mine, other = world.tenant("mine"), world.tenant("other")
        with mine.ingest("r") as one, other.ingest("r") as two:
            one.write(b"one")
            two.write(b"two!")
            assert mine.status("r").offset in (0, 3)
            assert one.commit().digest == Digest.of(b"one")
        assert other.status("r").offset == 4
        assert mine.statuses() == []

    def test_bytes_live_as_long_as_anybody_claims_them(self, world: ContentWorld) -> None:
        mine, other = world.tenant("mine"), world.tenant("other")
        digest = put(mine, b"shared")
        put(other, b"shared")
        mine.delete(digest)
        assert fetch(other, digest) == b"shared"
        assert other.collect() == len(b"shared")
        with pytest.raises(NotFound):
            other.info(digest)

    def test_collecting_ends_only_own_claims(self, world: ContentWorld) -> None:
        mine, other = world.tenant("mine"), world.tenant("other")
        shared, only_other = put(mine, b"shared"), put(other, b"other")
        put(other, b"shared")
        assert mine.collect() == 0
        assert {info.digest for info in other.walk()} == {shared, only_other}
        assert list(mine.walk()) == []

    def test_leases_of_others_hold_nothing_of_mine(self, world: ContentWorld) -> None:
        mine, other = world.tenant("mine"), world.tenant("other")
        digest = put(mine, b"x")
        other.add_to_lease("l", [str(digest)])
        assert mine.collect() == 1
