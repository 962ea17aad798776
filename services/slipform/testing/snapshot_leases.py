"""Contract: leases, and the garbage collection that they steer."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from slipform.testing.snapshot_metadata import committed

if TYPE_CHECKING:
    from pathlib import Path

    from slipform.core.snapshots import Snapshotter
    from slipform.testing.snapshot_world import SnapshotWorld


def names(snapshots: Snapshotter) -> list[str]:
    """Every key and name."""
    return [info.name for info in snapshots.walk()]


class SnapshotLeasesContract:
    """What is held, and what goes."""

    def test_leases_are_made_listed_and_ended(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        lease = s.create_lease("one", ttl=timedelta(hours=1), labels={"a": "b"})
        assert lease.expires_at is not None
        s.create_lease("two")
        assert [found.id for found in s.list_leases()] == ["one", "two"]
        assert s.list_leases()[0] == lease
        with pytest.raises(AlreadyExists):
            s.create_lease("one")
        with pytest.raises(InvalidArgument):
            s.create_lease("three", ttl=timedelta(0))
        s.delete_lease("one")
        s.delete_lease("one")
        assert [found.id for found in s.list_leases()] == ["two"]

    def test_a_lease_holds_what_it_was_given(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        s.add_to_lease("l", ["b", "a"])
        s.add_to_lease("l", ["a", "c"])
        assert s.lease_resources("l") == ["a", "b", "c"]
        s.remove_from_lease("l", ["b", "nothing"])
        assert s.lease_resources("l") == ["a", "c"]
        for ask in (s.lease_resources, lambda lease: s.remove_from_lease(lease, ["a"])):
            with pytest.raises(NotFound):
                ask("nobody")

    def test_a_leased_name_is_not_removed(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        s.prepare("key")
        s.commit("name", "key", lease="l")
        assert s.lease_resources("l") == ["name"]
        with pytest.raises(FailedPrecondition, match="l"):
            s.remove("name")
        s.delete_lease("l")
        s.remove("name")
        assert names(s) == []

    def test_who_leases_a_key_leases_the_name_it_gets(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        s.prepare("key", lease="l")
        assert s.lease_resources("l") == ["key"]
        s.commit("name", "key")
        assert s.lease_resources("l") == ["name"]
        assert s.collect() == 0
        assert names(s) == ["name"]

    def test_an_active_snapshot_is_removed_from_its_lease(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        s.prepare("key", lease="l")
        s.remove("key")
        assert s.lease_resources("l") == []

    def test_collection_keeps_what_is_leased_used_or_below_that(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        committed(s, "base")
        committed(s, "leased", "base")
        committed(s, "below-active")
        s.prepare("active", "below-active")
        committed(s, "below-view")
        s.view("view", "below-view")
        committed(s, "garbage", "base")
        committed(s, "garbage-child", "garbage")
        s.add_to_lease("l", ["leased"])
        s.collect()
        assert names(s) == ["active", "base", "below-active", "below-view", "leased", "view"]
        s.delete_lease("l")
        s.remove("active")
        s.remove("view")
        s.collect()
        assert names(s) == []

    def test_collection_tells_what_it_freed(self, world: SnapshotWorld) -> None:
        s = world.snapshots

        def fill(root: Path) -> None:
            (root / "data").write_bytes(bytes(range(256)) * 4096)

        world.layer("big", "", fill)
        assert s.collect() >= 1 << 20
        assert s.collect() == 0

    def test_collection_minds_its_own_tenant(self, world: SnapshotWorld) -> None:
        ours, theirs = world.tenant("ours"), world.tenant("theirs")
        committed(ours, "name")
        committed(theirs, "name")
        theirs.add_to_lease("l", ["name"])
        ours.collect()
        assert (names(ours), names(theirs)) == ([], ["name"])
        assert ours.list_leases() == []
