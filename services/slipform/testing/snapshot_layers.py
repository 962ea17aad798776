"""Contract: layers into snapshots, snapshots into layers, chains."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import lzma
import os
import shutil
import tarfile
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import (
    DigestMismatch,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
)
from slipform.core.oci.descriptor import Descriptor
from slipform.core.oci.digest import Digest, chain_id
from slipform.core.oci.media_types import OCI_LAYER
from slipform.core.snapshots import ChainRecord
from slipform.testing.snapshot_files import first_layer, second_layer, third_layer, write
from slipform.testing.snapshot_world import describe

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slipform.testing.snapshot_world import SnapshotWorld

Member = tuple[tarfile.TarInfo, bytes]

SOME_DIGEST = Digest.of(b"some layer")
SOME_CHAIN = chain_id([SOME_DIGEST])


def entry(name: str, data: bytes = b"", **fields: object) -> Member:
    """A member for ``tar``."""
    info = tarfile.TarInfo(name)
    info.size = len(data)
    info.mtime = 1_600_000_000
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


def tar(*members: Member) -> bytes:
    """A plain tar archive."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def blob(world: SnapshotWorld, layer: Descriptor) -> bytes:
    """The bytes of a blob."""
    return b"".join(world.content.read(layer.digest))


class SnapshotLayersContract:
    """Snapshots as layers."""

    @pytest.mark.parametrize(
        "compress", [bytes, gzip.compress, bz2.compress, lzma.compress], ids=lambda f: f.__name__
    )
    def test_a_layer_is_unpacked_whatever_its_compression(
        self, world: SnapshotWorld, compress: Callable[[bytes], bytes]
    ) -> None:
        plain = tar(
            entry("etc", type=tarfile.DIRTYPE, mode=0o755),
            entry("etc/hosts", b"localhost", mode=0o640, uid=3, gid=4),
            entry("link", type=tarfile.SYMTYPE, linkname="etc/hosts"),
            entry("hard", type=tarfile.LNKTYPE, linkname="etc/hosts", mode=0o640, uid=3, gid=4),
        )
        mounts = world.snapshots.prepare("key")
        applied = world.snapshots.apply("key", world.store(compress(plain)))
        assert (applied.diff_id, applied.size) == (Digest.of(plain), len(plain))
        with world.mounted(mounts) as root:
            assert (root / "link").read_text() == "localhost"
            status = (root / "hard").stat()
            assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o640, 3, 4)
            assert (status.st_nlink, status.st_mtime) == (2, 1_600_000_000)

    def test_whiteouts_delete_from_the_parent(self, world: SnapshotWorld) -> None:
        base = world.layer(
            "base", "", write("a", "1"), write("d/b", "2"), write("d/c", "3"), write("e/f", "4")
        )
        layer = tar(
            entry(".wh.a"),
            entry("d/.wh.b"),
            entry("e/.wh..wh..opq"),
            entry("e/new", b"5"),
        )
        world.snapshots.prepare("key", base)
        world.snapshots.apply("key", world.store(layer))
        world.snapshots.commit("child", "key")
        with world.viewed("child") as root:
            assert sorted(os.listdir(root)) == ["d", "e"]
            assert os.listdir(root / "d") == ["c"]
            assert os.listdir(root / "e") == ["new"]

    def test_a_layer_that_was_made_can_be_applied(self, world: SnapshotWorld) -> None:
        """Snapshot to layer to snapshot: the same tree, and the same layer again."""
        made = copied = ""
        for number, edit in enumerate((first_layer, second_layer, third_layer)):
            made = world.layer(f"made-{number}", made, edit)
            diff = world.snapshots.diff(made, store=True)
            assert diff.descriptor is not None
            world.snapshots.prepare("copying", copied)
            applied = world.snapshots.apply("copying", diff.descriptor)
            copied = f"copied-{number}"
            world.snapshots.commit(copied, "copying")
            assert (applied.diff_id, applied.size) == (diff.diff_id, diff.size)
            with world.viewed(made) as one, world.viewed(copied) as other:
                assert describe(one, links=False) == describe(other, links=False)

    def test_a_hostile_entry_stays_inside(self, world: SnapshotWorld) -> None:
        outside = world.directory / "outside"
        outside.mkdir()
        layer = tar(
            entry("way", type=tarfile.SYMTYPE, linkname=str(outside)),
            entry("way/file", b"got out"),
        )
        world.snapshots.prepare("key")
        with contextlib.suppress(InvalidArgument):  # refused or kept inside: both are right
            world.snapshots.apply("key", world.store(layer))
        with pytest.raises(InvalidArgument):
            world.snapshots.apply("key", world.store(tar(entry("../file", b"got out"))))
        assert os.listdir(outside) == []
        outside.rmdir()

    def test_a_broken_archive_is_refused_and_the_snapshot_left(self, world: SnapshotWorld) -> None:
        good = tar(entry("file", b"x" * 100_000))
        world.snapshots.prepare("key")
        for bad in (good[:50_000], gzip.compress(good)[:-20], b"no archive at all" * 100):
            with pytest.raises(InvalidArgument):
                world.snapshots.apply("key", world.store(bad))
        world.snapshots.remove("key")

    def test_a_layer_must_exist_and_have_its_digest(self, world: SnapshotWorld) -> None:
        world.snapshots.prepare("key")
        layer = world.store(tar(entry("file", b"x")))
        with pytest.raises(NotFound):
            world.snapshots.apply("key", Descriptor(OCI_LAYER, SOME_DIGEST, 10))
        with pytest.raises(NotFound):
            world.snapshots.apply("nobody", layer)
        with pytest.raises(DigestMismatch):
            world.snapshots.apply("key", Descriptor(OCI_LAYER, layer.digest, layer.size + 1))

    def test_only_active_snapshots_take_layers(self, world: SnapshotWorld) -> None:
        layer = world.store(tar(entry("file", b"x")))
        base = world.layer("base", "")
        world.snapshots.view("look", base)
        for key in (base, "look"):
            with pytest.raises(FailedPrecondition):
                world.snapshots.apply(key, layer)
        with pytest.raises(FailedPrecondition):
            world.snapshots.diff("look")

    def test_a_diff_holds_what_changed_and_nothing_else(self, world: SnapshotWorld) -> None:
        base = world.layer("base", "", first_layer)

        def edit(root: Path) -> None:
            (root / "etc/conf.d/a").unlink()
            write("etc/conf.d/new", "1")(root)
            (root / "bin/tool").read_bytes()
            os.chown(root / "etc/hosts", 0, 0)  # to what it is

        child = world.layer("child", base, edit)
        diff = world.snapshots.diff(child, store=True)
        assert diff.descriptor is not None
        with tarfile.open(fileobj=io.BytesIO(blob(world, diff.descriptor))) as archive:
            names = archive.getnames()
        assert names == ["etc", "etc/conf.d", "etc/conf.d/.wh.a", "etc/conf.d/new"]

    def test_a_diff_of_nothing_is_the_empty_layer(self, world: SnapshotWorld) -> None:
        base = world.layer("base", "", first_layer)
        same = world.layer("same", base)
        diff = world.snapshots.diff(same)
        assert diff.diff_id == Digest.of(bytes(1024))
        assert (diff.size, diff.descriptor) == (1024, None)

    def test_a_stored_diff_is_a_blob_with_its_digest(self, world: SnapshotWorld) -> None:
        base = world.layer("base", "", first_layer)
        told = world.snapshots.diff(base)
        stored = world.snapshots.diff(base, store=True)
        assert (stored.diff_id, stored.size) == (told.diff_id, told.size)
        assert stored.descriptor == Descriptor(OCI_LAYER, told.diff_id, told.size)
        data = blob(world, stored.descriptor)
        assert "sha256:" + hashlib.sha256(data).hexdigest() == str(told.diff_id)
        assert len(data) == told.size
        world.content.delete(told.diff_id)
        assert world.snapshots.diff(base, store=True) == stored
        assert blob(world, stored.descriptor) == data
        assert world.content.statuses() == []

    def test_times_are_clamped_when_asked(self, world: SnapshotWorld) -> None:
        def edit(root: Path) -> None:
            write("old", "1")(root)
            write("new", "2")(root)
            os.utime(root / "old", (1000, 1000))
            os.utime(root / "new", (3000, 3000))

        base = world.layer("base", "", edit)
        times = {}
        for clamp in (None, 2000, 0):
            diff = world.snapshots.diff(base, clamp_mtime=clamp, store=True)
            assert diff.descriptor is not None
            with tarfile.open(fileobj=io.BytesIO(blob(world, diff.descriptor))) as archive:
                times[clamp] = {member.name: member.mtime for member in archive}
        assert times[None] == {"old": 1000, "new": 3000}
        assert times[2000] == {"old": 1000, "new": 2000}
        assert times[0] == {"old": 0, "new": 0}
        with pytest.raises(InvalidArgument):
            world.snapshots.diff(base, clamp_mtime=-1)

    def test_an_active_snapshot_is_diffed_as_it_is(self, world: SnapshotWorld) -> None:
        mounts = world.snapshots.prepare("key")
        empty = world.snapshots.diff("key")
        with world.mounted(mounts) as root:
            write("file", "1")(root)
            os.utime(root / "file", (1000, 1000))
        full = world.snapshots.diff("key")
        assert full.diff_id != empty.diff_id
        world.snapshots.commit("name", "key")
        assert world.snapshots.diff("name") == full

    @pytest.mark.parametrize("nanoseconds", [0, 1, 500_000_000, 999_999_999])
    def test_edits_within_one_second_and_size_are_seen(
        self, world: SnapshotWorld, nanoseconds: int
    ) -> None:
        at = (1_600_000_000 * 10**9 + nanoseconds,) * 2

        def first(root: Path) -> None:
            for name in ("content", "mode", "same"):
                write(name, "one")(root)
                os.utime(root / name, ns=at)

        def second(root: Path) -> None:
            write("content", "two")(root)
            (root / "mode").chmod(0o600)
            (root / "same").touch()
            for name in ("content", "mode", "same"):
                os.utime(root / name, ns=at)

        child = world.layer("child", world.layer("base", "", first), second)
        diff = world.snapshots.diff(child, store=True)
        assert diff.descriptor is not None
        with tarfile.open(fileobj=io.BytesIO(blob(world, diff.descriptor))) as archive:
            assert archive.getnames() == ["content", "mode"]

    def test_a_replaced_directory_is_told_by_names(self, world: SnapshotWorld) -> None:
        base = world.layer("base", "", write("d/a", "1"), write("d/b", "2"))

        def replace(root: Path) -> None:
            shutil.rmtree(root / "d")
            write("d/c", "3")(root)

        child = world.layer("child", base, replace)
        diff = world.snapshots.diff(child, store=True)
        assert diff.descriptor is not None
        with tarfile.open(fileobj=io.BytesIO(blob(world, diff.descriptor))) as archive:
            assert archive.getnames() == ["d", "d/.wh.a", "d/.wh.b", "d/c"]

    def test_chains_are_found_as_long_as_a_snapshot_holds_them(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        world.layer("one", "")
        world.layer("two", "")
        with pytest.raises(NotFound):
            s.find_chain(SOME_CHAIN)
        record = ChainRecord(SOME_CHAIN, "one", SOME_DIGEST, 123, clamp_mtime=0, regenerable=False)
        other = ChainRecord(Digest.of(b"other"), "one", SOME_DIGEST, 5)
        for each in (record, record, other):
            s.record_chain(each)
        assert s.find_chain(SOME_CHAIN) == record
        assert s.find_chain(other.chain_id) == other
        s.record_chain(ChainRecord(SOME_CHAIN, "two", SOME_DIGEST, 123))
        s.remove("one")
        assert s.find_chain(SOME_CHAIN).snapshot == "two"
        with pytest.raises(NotFound):
            s.find_chain(other.chain_id)
        s.collect()
        with pytest.raises(NotFound):
            s.find_chain(SOME_CHAIN)

    def test_chains_are_of_committed_snapshots_and_of_a_tenant(self, world: SnapshotWorld) -> None:
        s = world.snapshots
        s.prepare("active")
        for name in ("active", "nobody"):
            with pytest.raises(NotFound):
                s.record_chain(ChainRecord(SOME_CHAIN, name, SOME_DIGEST, 1))
        s.commit("name", "active")
        s.record_chain(ChainRecord(SOME_CHAIN, "name", SOME_DIGEST, 1))
        with pytest.raises(NotFound):
            world.tenant("theirs").find_chain(SOME_CHAIN)
