"""Contract: keys, names, parents, kinds, labels, tenants; nothing is mounted here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from slipform.core.snapshots import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from slipform.core.snapshots import Snapshotter
    from slipform.testing.snapshot_world import SnapshotWorld


def committed(snapshots: Snapshotter, name: str, parent: str = "", **labels: str) -> str:
    """Commit an unchanged snapshot."""
    snapshots.prepare(f"{name}.active", parent)
    snapshots.commit(name, f"{name}.active", labels=labels)
    return name


class SnapshotMetadataContract:
    """Snapshots as entries in a table."""

    def test_stat_tells_kind_name_and_parent_at_each_stage(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        s.prepare("one", labels={"stage": "active"})
        active = s.stat("one")
        assert (active.name, active.kind, active.parent) == ("one", Kind.ACTIVE, "")
        assert active.labels == {"stage": "active"}
        s.commit("base", "one", labels={"stage": "done"})
        base = s.stat("base")
        assert (base.name, base.kind, base.parent) == ("base", Kind.COMMITTED, "")
        assert base.labels == {"stage": "done"}
        s.prepare("two", "base")
        s.view("look", "base")
        assert (s.stat("two").kind, s.stat("two").parent) == (Kind.ACTIVE, "base")
        assert (s.stat("look").kind, s.stat("look").parent) == (Kind.VIEW, "base")

    def test_grandparents_are_found_by_asking_on(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        committed(s, "a")
        committed(s, "b", "a")
        committed(s, "c", "b")
        assert s.stat(s.stat("c").parent).parent == "a"

    def test_a_key_is_gone_after_commit_and_free_again(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        s.prepare("key")
        s.commit("name", "key")
        for use in (s.stat, s.mounts, s.usage, s.remove):
            with pytest.raises(NotFound):
                use("key")
        s.prepare("key", "name")
        assert s.stat("key").parent == "name"

    def test_a_used_key_or_name_is_refused_for_every_kind(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        committed(s, "base")
        s.prepare("active", "base")
        s.view("view", "base")
        for taken in ("base", "active", "view"):
            with pytest.raises(AlreadyExists):
                s.prepare(taken, "base")
            with pytest.raises(AlreadyExists):
                s.view(taken, "base")
            with pytest.raises(AlreadyExists):
                s.commit(taken, "active")
        assert s.stat("active").kind is Kind.ACTIVE

    def test_parents_must_exist_and_be_committed(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        s.prepare("active")
        for make in (s.prepare, s.view):
            with pytest.raises(NotFound):
                make("new", "nobody")
            with pytest.raises(FailedPrecondition):
                make("new", "active")
        with pytest.raises(NotFound):
            s.stat("new")

    def test_only_active_snapshots_are_committed(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        committed(s, "base")
        s.view("look", "base")
        with pytest.raises(NotFound):
            s.commit("new", "nobody")
        with pytest.raises(FailedPrecondition):
            s.commit("new", "look")
        with pytest.raises(FailedPrecondition):
            s.commit("new", "base")

    def test_mounts_are_of_active_ones_and_views(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        assert s.prepare("one") == s.mounts("one") != ()
        committed(s, "base")
        assert s.view("look", "base") == s.mounts("look") != ()
        with pytest.raises(FailedPrecondition):
            s.mounts("base")
        assert all(mount.target == "" for mount in s.mounts("one"))

    def test_a_removed_key_can_be_used_by_another_kind(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        committed(s, "base")
        makers: list[Callable[[str, str], object]] = [s.prepare, s.view, s.prepare]
        for make in makers:
            make("key", "base")
            s.remove("key")
            with pytest.raises(NotFound):
                s.stat("key")
        committed(s, "key")
        s.remove("key")
        with pytest.raises(NotFound):
            s.remove("key")

    def test_what_has_children_is_not_removed(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        committed(s, "a")
        committed(s, "b", "a")
        s.prepare("c", "b")
        for name in ("a", "b"):
            with pytest.raises(FailedPrecondition):
                s.remove(name)
            assert s.stat(name).kind is Kind.COMMITTED
        for name in ("c", "b", "a"):
            s.remove(name)
        assert list(s.walk()) == []

    def test_labels_change_one_by_one(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        committed(s, "base", keep="1", change="1", drop="1")
        before = s.stat("base")
        after = s.update_labels("base", {"change": "2", "drop": "", "new": "1"})
        assert after == s.stat("base")
        assert after.labels == {"keep": "1", "change": "2", "new": "1"}
        assert (after.kind, after.parent, after.name) == (before.kind, before.parent, before.name)
        assert after.created_at == before.created_at
        assert after.updated_at > before.updated_at
        with pytest.raises(NotFound):
            s.update_labels("nobody", {"a": "b"})

    def test_walk_lists_what_stat_tells_by_name(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        for name in ("m", "a", "z"):
            committed(s, name)
        s.prepare("k", "a")
        found = []
        for info in s.walk():
            assert s.stat(info.name) == info  # no deadlock inside of a walk
            found.append(info.name)
        assert found == ["a", "k", "m", "z"]

    def test_walk_filters_by_all_that_is_given(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        committed(s, "base", team="red")
        committed(s, "b1", "base", team="red", tier="1")
        committed(s, "b2", "base", team="blue")
        s.prepare("p1", "base", labels={"team": "red"})
        s.view("v1", "b1", labels={"tier": "2"})

        def names(**wanted: object) -> list[str]:
            return [info.name for info in s.walk(**wanted)]  # type: ignore[arg-type]

        assert names(parent="") == ["base"]
        assert names(parent="base") == ["b1", "b2", "p1"]
        assert names(parent="nobody") == []
        assert names(kind=Kind.VIEW) == ["v1"]
        assert names(kind=Kind.COMMITTED) == ["b1", "b2", "base"]
        assert names(labels={"team": "red"}) == ["b1", "base", "p1"]
        assert names(labels={"tier": ""}) == ["b1", "v1"]
        assert names(labels={"team": "red", "tier": "1"}) == ["b1"]
        assert names(labels={"team": "green"}) == []
        assert names(parent="base", kind=Kind.ACTIVE, labels={"team": ""}) == ["p1"]

    def test_walk_goes_on_beyond_a_page(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        names = [f"key-{n:04}" for n in range(300)]
        for name in names:
            s.prepare(name)
        assert [info.name for info in s.walk()] == names

    def test_what_can_never_be_a_key_or_label_is_refused(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        for bad in ("", "a\0b", "x" * 1025, "\udcff"):
            with pytest.raises(InvalidArgument):
                s.prepare(bad)
        s.prepare("fine")
        for bad in ("", "a\0b", "x" * 1025):
            with pytest.raises(InvalidArgument):
                s.commit(bad, "fine")
        with pytest.raises(InvalidArgument):
            s.update_labels("fine", {"": "value"})
        with pytest.raises(InvalidArgument):
            s.prepare("other", labels={"big": "x" * 5000})
        assert [info.name for info in s.walk()] == ["fine"]

    @pytest.mark.parametrize("key", ["../../up", "a:b,c\\d", "..", "ünï", "a b\n", "/etc"])
    def test_keys_are_names_not_paths(self, world: SnapshotWorld, key: str) -> None:
        s = world.snapshots
        mounts = s.prepare(key)
        assert key not in repr([(mount.source, mount.options) for mount in mounts])
        s.commit(f"{key} done", key)
        assert s.stat(f"{key} done").name == f"{key} done"

    def test_tenants_do_not_see_each_other(self, world: SnapshotWorld) -> None:
        ours, theirs = world.tenant("ours"), world.tenant("theirs")
        committed(ours, "base")
        with pytest.raises(NotFound):
            theirs.stat("base")
        with pytest.raises(NotFound):
            theirs.prepare("key", "base")
        with pytest.raises(NotFound):
            theirs.remove("base")
        committed(theirs, "base", owner="them")
        assert ours.stat("base").labels == {}
        assert [info.labels for info in theirs.walk()] == [{"owner": "them"}]
        theirs.remove("base")
        assert ours.stat("base").kind is Kind.COMMITTED
