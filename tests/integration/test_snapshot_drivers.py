"""The snapshot drivers beside each other: the same edits, the same layers; and their limits."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tarfile
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from slipform.content.store import Content
from slipform.core.errors import (
    DigestMismatch,
    FailedPrecondition,
    InvalidArgument,
    ResourceExhausted,
    Unsupported,
)
from slipform.core.linux.mounting import mounted
from slipform.core.mounts import Mount
from slipform.drivers.content.memory import MemoryBlobs
from slipform.drivers.snapshot.copy import CopyDriver
from slipform.drivers.snapshot.overlay import OverlayDriver
from slipform.snapshotter.store import Snapshots
from slipform.testing.snapshot_files import first_layer, second_layer, third_layer, write
from slipform.testing.snapshots import SnapshotWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from slipform.core.snapshot_driver import SnapshotDriver
    from slipform.core.snapshots import Snapshotter

pytestmark = pytest.mark.root

DRIVERS = (OverlayDriver, CopyDriver)
EPOCH = 1_700_000_000


@contextlib.contextmanager
def opened(
    factory: Callable[[Path], SnapshotDriver[Any]], directory: Path
) -> Iterator[SnapshotWorld]:
    for name in ("store", "mnt"):
        (directory / name).mkdir(parents=True)
    with (
        contextlib.closing(Content(MemoryBlobs(), None, grace=timedelta(0))) as content,
        contextlib.closing(
            Snapshots(directory / "store", factory(directory / "store"), content.tenant)
        ) as snapshots,
    ):
        yield SnapshotWorld(snapshots.tenant, content.tenant("default"), directory / "mnt")


@pytest.fixture
def overlay_works(tmp_path: Path) -> None:
    try:
        OverlayDriver.probe(tmp_path)
    except Unsupported as e:
        pytest.skip(str(e))


def only_metadata(root: Path) -> None:
    (root / "etc").chmod(0o700)
    os.chown(root / "etc/hosts", 7, 7)
    os.setxattr(root / "bin/tool", "user.more", b"1")
    root.chmod(0o711)


def no_change_at_all(root: Path) -> None:
    """Everything is touched, copied up, and put back as it was."""
    for path in (root / "etc/hosts", root / "opt/newer"):
        status = path.stat()
        data = path.read_bytes()
        path.write_bytes(b"other")
        path.write_bytes(data)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    (root / "scratch").mkdir()
    (root / "scratch").rmdir()
    (root / "etc/conf.d").chmod(0o700)
    (root / "etc/conf.d").chmod(0o755)
    for directory in (root, root / "etc", root / "opt"):
        status = directory.stat()
        os.utime(directory, ns=(status.st_atime_ns, EPOCH * 10**9))


def same_size_same_time(root: Path) -> None:
    path = root / "etc/hosts"
    status = path.stat()
    data = path.read_bytes()
    path.write_bytes(bytes(reversed(data)))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def replace_kinds(root: Path) -> None:
    (root / "opt/newer").unlink()
    (root / "opt/newer").mkdir()
    shutil.rmtree(root / "bin/link")
    (root / "bin/link").symlink_to("tool")
    (root / "var/data").unlink()
    os.mkfifo(root / "var/data", 0o640)
    (root / "etc/hosts").unlink()
    (root / "etc/hosts").hardlink_to(root / "etc/conf.d/c")


def replace_whole_directories(root: Path) -> None:
    for name in ("etc", "opt"):
        shutil.rmtree(root / name)
        (root / name).mkdir(mode=0o755)
    write("etc/conf.d/c", "again")(root)
    write("etc/only", "this")(root)


def rename_directory(root: Path) -> None:
    write("made/here/file", "1")(root)
    (root / "made").rename(root / "moved")
    shutil.copytree(root / "etc", root / "etc2", symlinks=True)
    shutil.rmtree(root / "etc")
    (root / "etc2").rename(root / "etc")


EDITS = (
    first_layer,
    second_layer,
    third_layer,
    only_metadata,
    no_change_at_all,
    same_size_same_time,
    replace_kinds,
    replace_whole_directories,
    rename_directory,
)


def fixed_times(edit: Callable[[Path], None]) -> Callable[[Path], None]:
    """The edit, and then the times of what it touched: the one thing that two runs can't share."""

    def run(root: Path) -> None:
        before = {path: path.lstat().st_mtime_ns for path in everything(root)}
        edit(root)
        for path in everything(root):
            changed = path.lstat().st_mtime_ns
            if before.get(path) != changed:
                os.utime(path, ns=(EPOCH * 10**9, EPOCH * 10**9), follow_symlinks=False)

    return run


def everything(root: Path) -> list[Path]:
    return [root, *root.rglob("*")]


@pytest.mark.usefixtures("overlay_works")
def test_the_same_edits_make_the_same_layers_with_every_driver(tmp_path: Path) -> None:
    found: dict[str, list[str]] = {}
    for factory in DRIVERS:
        with opened(factory, tmp_path / factory.name) as world:
            parent = ""
            for edit in EDITS:
                parent = world.layer(edit.__name__, parent, fixed_times(edit))
                diff = world.snapshots.diff(parent)
                found.setdefault(edit.__name__, []).append(f"{diff.diff_id} {diff.size}")
    assert {name: len(set(diffs)) for name, diffs in found.items()} == dict.fromkeys(found, 1)


@pytest.mark.usefixtures("overlay_works")
def test_a_clamp_makes_runs_at_different_times_equal(tmp_path: Path) -> None:
    found = set()
    for factory in DRIVERS:
        with opened(factory, tmp_path / factory.name) as world:
            name = world.layer("layer", "", first_layer)
            found.add(world.snapshots.diff(name, clamp_mtime=EPOCH).diff_id)
    assert len(found) == 1


@pytest.mark.parametrize("factory", DRIVERS)
def test_a_full_disk_is_told_and_nothing_is_lost(factory: Any, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    tmpfs = Mount("tmpfs", "tmpfs", options=("size=24m", "mode=0755"))
    with mounted([tmpfs], disk):
        try:
            factory.probe(disk)
        except Unsupported as e:
            pytest.skip(str(e))
        with opened(factory, disk) as world:
            s = world.snapshots
            base = world.layer("base", "", lambda root: (root / "a").write_bytes(bytes(8 << 20)))
            s.prepare("key")
            with pytest.raises(ResourceExhausted):
                s.apply("key", world.store(archive_of(20 << 20)))
            fill(disk)
            with pytest.raises(ResourceExhausted):
                prepare_many(s, base)
            s.remove("key")  # needs space itself, and has kept some back
            (disk / "filler").unlink()
            with world.viewed(base) as root:
                assert (root / "a").read_bytes() == bytes(8 << 20)
            assert s.diff(base).size > 8 << 20


def prepare_many(snapshots: Snapshotter, parent: str) -> None:
    for number in range(1000):
        snapshots.prepare(f"more-{number}", parent)


def archive_of(size: int) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        info = tarfile.TarInfo("big")
        info.size = size
        archive.addfile(info, io.BytesIO(os.urandom(size)))
    return buffer.getvalue()


def fill(disk: Path) -> None:
    with (disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.mark.usefixtures("overlay_works")
def test_overlay_says_why_it_cannot(tmp_path: Path) -> None:
    for name in ("lower", "upper", "work", "root"):
        (tmp_path / name).mkdir()
    options = (
        f"lowerdir={tmp_path}/lower",
        f"upperdir={tmp_path}/upper",
        f"workdir={tmp_path}/work",
    )
    with (
        mounted([Mount("overlay", "overlay", options=options)], tmp_path / "root") as root,
        pytest.raises(Unsupported, match="upper dir is on overlayfs"),
    ):
        OverlayDriver.probe(root)
    OverlayDriver.probe(tmp_path)
    assert sorted(os.listdir(tmp_path)) == ["lower", "root", "upper", "work"]


@pytest.mark.usefixtures("overlay_works")
def test_a_directory_belongs_to_one_driver(tmp_path: Path) -> None:
    CopyDriver(tmp_path)
    CopyDriver.probe(tmp_path)
    with pytest.raises(Unsupported, match='driver "copy"'):
        OverlayDriver.probe(tmp_path)
    with pytest.raises(FailedPrecondition, match='driver "copy"'):
        OverlayDriver(tmp_path)


@pytest.mark.usefixtures("overlay_works")
def test_more_layers_than_the_kernel_stacks_are_refused(tmp_path: Path) -> None:
    driver = OverlayDriver(tmp_path)
    with pytest.raises(ResourceExhausted, match="500 parents"):
        driver.create(1000, range(500, 0, -1), read_only=False)


@pytest.mark.usefixtures("overlay_works")
def test_a_snapshot_changed_behind_our_back_is_noticed(tmp_path: Path) -> None:
    with opened(OverlayDriver, tmp_path / "x") as world:
        base = world.layer("base", "", write("file", "one"))
        world.snapshots.diff(base)
        (tmp_path / "x/store/snapshots/1/fs/file").write_text("two")
        with pytest.raises(DigestMismatch, match="behind our back"):
            world.snapshots.diff(base, store=True)
        assert world.content.statuses() == []
        assert list(world.content.walk()) == []


@pytest.mark.usefixtures("overlay_works")
def test_a_failed_apply_leaves_no_mount_and_a_removable_snapshot(tmp_path: Path) -> None:
    with opened(OverlayDriver, tmp_path / "x") as world:
        base = world.layer("base", "", write("file", "one"))
        world.snapshots.prepare("key", base)
        with pytest.raises(InvalidArgument):
            world.snapshots.apply("key", world.store(b"nonsense" * 1000))
        assert os.listdir(tmp_path / "x/store/mounts") == []
        world.snapshots.remove("key")
        assert os.listdir(tmp_path / "x/store/trash") == []
