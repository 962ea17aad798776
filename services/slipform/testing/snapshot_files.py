"""Contract: what is in a snapshot's files after edits of mounted roots."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import FailedPrecondition, NotFound
from slipform.testing.snapshot_world import describe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slipform.testing.snapshot_world import SnapshotWorld

MANY_LAYERS = 300
"""Well above 128: names of so many directories fit into no page of mount options."""


def write(name: str, text: str, mode: int = 0o644) -> Callable[[Path], None]:
    """An edit: make or overwrite a file."""

    def edit(root: Path) -> None:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    return edit


def first_layer(root: Path) -> None:
    """Some of everything that later layers change."""
    for name in ("etc/hosts", "etc/conf.d/a", "etc/conf.d/b", "opt/old/deep/file", "var/data"):
        write(name, f"{name} one")(root)
    (root / "bin").mkdir(mode=0o755)
    (root / "bin/tool").write_bytes(b"\x7fELF" + bytes(4000))
    (root / "bin/tool").chmod(0o4755)
    os.link(root / "bin/tool", root / "bin/alias")
    (root / "bin/link").symlink_to("../etc/hosts")
    os.setxattr(root / "var/data", "user.note", b"kept")
    os.mkfifo(root / "var/fifo")


def second_layer(root: Path) -> None:
    """Deletes, replaces, recreates, changes owner or mode only, links to lower files."""
    (root / "etc/hosts").unlink()
    shutil.rmtree(root / "etc/conf.d")
    (root / "etc/conf.d").mkdir()
    write("etc/conf.d/c", "new")(root)
    shutil.rmtree(root / "opt/old")
    write("opt/old", "a file now")(root)
    os.chown(root / "var/data", 1000, 1001)
    (root / "bin").chmod(0o750)
    os.link(root / "bin/tool", root / "bin/third")
    (root / "bin/alias").unlink()
    (root / "bin/link").unlink()
    (root / "bin/link").mkdir()
    write("bin/link/inside", "x")(root)


def third_layer(root: Path) -> None:
    """Renames over and away, brings back what was deleted."""
    write("etc/new", "replacement")(root)
    (root / "etc/new").rename(root / "var/data")
    (root / "opt/old").rename(root / "opt/newer")
    write("etc/hosts", "back again")(root)
    (root / "bin/third").unlink()
    (root / "var/fifo").unlink()


class SnapshotFilesContract:
    """Snapshots as file systems."""

    @pytest.fixture(autouse=True)
    def _privileged(self) -> None:
        if os.geteuid() != 0:
            pytest.skip("mounting needs root")

    def test_layers_equal_the_same_edits_of_a_plain_directory(
        self, world: SnapshotWorld, tmp_path: Path
    ) -> None:
        flat = tmp_path / "flat"
        flat.mkdir(mode=0o755)
        parent = ""
        for number, edit in enumerate((first_layer, second_layer, third_layer)):
            edit(flat)
            parent = world.layer(f"layer-{number}", parent, edit)
            with world.viewed(parent) as root:
                assert describe(root) == describe(flat)

    def test_an_active_snapshot_keeps_its_changes_between_mounts(
        self, world: SnapshotWorld
    ) -> None:
        base = world.layer("base", "", write("file", "one"))
        mounts = world.snapshots.prepare("key", base)
        with world.mounted(mounts) as root:
            write("file", "two")(root)
        with world.mounted(world.snapshots.mounts("key")) as root:
            assert (root / "file").read_text() == "two"
        with world.viewed(base) as root:
            assert (root / "file").read_text() == "one"

    def test_siblings_do_not_see_each_other(self, world: SnapshotWorld) -> None:
        base = world.layer("base", "", write("file", "one"))
        left = world.layer("left", base, write("file", "left"), write("new", "left"))
        right = world.layer("right", base, lambda root: (root / "file").unlink())
        with world.viewed(left) as root:
            assert (root / "file").read_text() == "left"
        with world.viewed(right) as root:
            assert os.listdir(root) == []

    def test_a_view_cannot_be_written(self, world: SnapshotWorld) -> None:
        base = world.layer("base", "", write("file", "one"))
        above = world.layer("above", base, write("other", "two"))
        for parent in (base, above):
            with world.viewed(parent) as root:
                with pytest.raises(OSError, match="Read-only") as caught:
                    (root / "file").write_text("no")
                assert caught.value.errno == errno.EROFS
                with pytest.raises(OSError, match="Read-only"):
                    (root / "more").mkdir()

    def test_a_view_on_nothing_is_empty_and_read_only(self, world: SnapshotWorld) -> None:
        with world.mounted(world.snapshots.view("key", "")) as root:
            assert os.listdir(root) == []
            with pytest.raises(OSError, match="Read-only"):
                (root / "more").mkdir()

    def test_a_new_root_is_0755_whatever_the_umask(self, world: SnapshotWorld) -> None:
        before = os.umask(0o077)
        try:
            mounts = world.snapshots.prepare("key")
        finally:
            os.umask(before)
        with world.mounted(mounts) as root:
            found = root.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o755, 0, 0)

    def test_the_root_keeps_mode_owner_and_attributes_in_children(
        self, world: SnapshotWorld
    ) -> None:
        def edit(root: Path) -> None:
            root.chmod(0o1771)
            os.chown(root, 12, 34)
            os.setxattr(root, "user.note", b"root")

        base = world.layer("base", "", edit)
        child = world.layer("child", base, write("file", "x"))
        grandchild = world.layer("grandchild", child)
        for parent in (base, child, grandchild):
            with world.viewed(parent) as root:
                found = root.stat()
                assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o1771, 12, 34)
                assert os.getxattr(root, "user.note") == b"root"

    def test_a_recreated_directory_hides_what_was_in_it(self, world: SnapshotWorld) -> None:
        base = world.layer("base", "", write("d/a", "1"), write("d/sub/b", "2"))

        def recreate(root: Path) -> None:
            shutil.rmtree(root / "d")
            write("d/c", "3")(root)

        child = world.layer("child", base, recreate)
        grandchild = world.layer("grandchild", child, write("d/sub/e", "4"))
        with world.viewed(child) as root:
            assert os.listdir(root / "d") == ["c"]
        with world.viewed(grandchild) as root:
            assert sorted(os.listdir(root / "d")) == ["c", "sub"]
            assert os.listdir(root / "d/sub") == ["e"]

    def test_deleted_stays_deleted_in_grandchildren(self, world: SnapshotWorld) -> None:
        base = world.layer("base", "", write("a", "1"), write("d/b", "2"))

        def delete(root: Path) -> None:
            (root / "a").unlink()
            shutil.rmtree(root / "d")

        child = world.layer("child", base, delete)
        grandchild = world.layer("grandchild", child, write("c", "3"))
        with world.viewed(grandchild) as root:
            assert os.listdir(root) == ["c"]

    def test_owner_and_mode_only_changes_survive_commit(self, world: SnapshotWorld) -> None:
        base = world.layer("base", "", write("d/file", "1"), write("e/file", "1"))

        def change(root: Path) -> None:
            os.chown(root / "d/file", 5, 6)
            os.chown(root / "d", 7, 8)
            (root / "e").chmod(0o700)
            (root / "e/file").chmod(0o4711)

        child = world.layer("child", base, change)
        with world.viewed(child) as root:
            assert ((root / "d/file").stat().st_uid, (root / "d/file").stat().st_gid) == (5, 6)
            assert ((root / "d").stat().st_uid, (root / "d").stat().st_gid) == (7, 8)
            assert stat.S_IMODE((root / "e").stat().st_mode) == 0o700
            assert stat.S_IMODE((root / "e/file").stat().st_mode) == 0o4711
            assert (root / "d/file").read_text() == "1"

    def test_a_recreated_directory_keeps_its_new_owner(self, world: SnapshotWorld) -> None:
        base = world.layer("base", "", write("opt/a/b", "1"))

        def recreate(root: Path) -> None:
            shutil.rmtree(root / "opt")
            (root / "opt").mkdir(mode=0o711)
            os.chown(root / "opt", 1, 2)

        child = world.layer("child", base, recreate)
        with world.viewed(child) as root:
            found = (root / "opt").stat()
            assert (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid) == (0o711, 1, 2)
            assert os.listdir(root / "opt") == []

    def test_lower_files_can_be_moved_and_linked(self, world: SnapshotWorld) -> None:
        base = world.layer("base", "", write("a", "A"), write("b", "B"), write("c", "C"))

        def edit(root: Path) -> None:
            (root / "a").rename(root / "moved")
            os.link(root / "b", root / "linked")
            (root / "moved").rename(root / "c")

        child = world.layer("child", base, edit)
        with world.viewed(child) as root:
            assert sorted(os.listdir(root)) == ["b", "c", "linked"]
            assert ((root / "c").read_text(), (root / "linked").read_text()) == ("A", "B")

    def test_a_lower_directory_moves_or_says_that_it_cannot(self, world: SnapshotWorld) -> None:
        base = world.layer("base", "", write("d/file", "1"))

        def move(root: Path) -> None:
            try:
                (root / "d").rename(root / "e")
            except OSError as e:
                if e.errno != errno.EXDEV:  # then mv(1) copies
                    raise
                shutil.copytree(root / "d", root / "e")
                shutil.rmtree(root / "d")

        child = world.layer("child", base, move)
        with world.viewed(child) as root:
            assert os.listdir(root) == ["e"]
            assert (root / "e/file").read_text() == "1"

    def test_many_layers_can_be_mounted(self, world: SnapshotWorld) -> None:
        parent = ""
        for number in range(MANY_LAYERS):
            key = f"active-{number}"
            mounts = world.snapshots.prepare(key, parent)
            if number % 50 == 0 or number == MANY_LAYERS - 1:
                with world.mounted(mounts) as root:
                    write(f"file-{number}", str(number))(root)
                    write("last", str(number))(root)
            parent = f"layer-{number}"
            world.snapshots.commit(parent, key)
        with world.viewed(parent) as root:
            assert (root / "last").read_text() == str(MANY_LAYERS - 1)
            assert len(os.listdir(root)) == MANY_LAYERS // 50 + 2
        diff = world.snapshots.diff(parent)
        assert diff.size > 0

    def test_usage_is_of_one_snapshot_and_counts_links_once(self, world: SnapshotWorld) -> None:
        def fill(root: Path) -> None:
            (root / "data").write_bytes(os.urandom(1 << 20))
            for n in range(10):
                os.link(root / "data", root / f"link-{n}")

        base = world.layer("base", "", fill)
        usage = world.snapshots.usage(base)
        assert 1 << 20 <= usage.size < 2 << 20
        assert usage.inodes == 2
        assert world.snapshots.usage(base) == usage
        world.snapshots.prepare("active", base)
        before = world.snapshots.usage("active")
        with world.mounted(world.snapshots.mounts("active")) as root:
            (root / "more").write_bytes(os.urandom(1 << 20))
        after = world.snapshots.usage("active")
        assert after.size - before.size >= 1 << 20
        assert after.inodes == before.inodes + 1
        with pytest.raises(NotFound):
            world.snapshots.usage("nobody")

    def test_removing_trees_of_any_depth(self, world: SnapshotWorld) -> None:
        def dig(root: Path) -> None:
            here = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
            for _ in range(3000):
                os.mkdir("deep", dir_fd=here)
                below = os.open("deep", os.O_RDONLY | os.O_DIRECTORY, dir_fd=here)
                os.close(here)
                here = below
            os.close(here)

        deep = world.layer("deep", "", dig)
        assert world.snapshots.usage(deep).inodes == 3001
        world.snapshots.remove(deep)
        with pytest.raises(NotFound):
            world.snapshots.stat(deep)

    def test_a_committed_parent_is_not_removed_under_its_children(
        self, world: SnapshotWorld
    ) -> None:
        base = world.layer("base", "", write("file", "1"))
        world.snapshots.prepare("child", base)
        with pytest.raises(FailedPrecondition):
            world.snapshots.remove(base)
        with world.mounted(world.snapshots.mounts("child")) as root:
            assert (root / "file").read_text() == "1"
