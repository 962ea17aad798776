from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import FailedPrecondition
from slipform.layer.changes import Change, ChangeKind
from slipform.layer.diff import directory_changes
from slipform.layer.digesting import BUFFER_SIZE
from slipform.layer.tar_writer import write_layer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Layer = Callable[..., bytes]
    Members = Callable[[bytes], list[tarfile.TarInfo]]

EMPTY = "sha256:5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    root.mkdir(mode=0o755)
    root.chmod(0o755)
    return root


def old(path: Path, mtime: int = 1_000_000_000) -> Path:
    os.utime(path, (mtime, mtime), follow_symlinks=False)
    return path


def test_nothing_is_the_empty_layer_that_everyone_knows() -> None:
    summary = write_layer([], None)
    assert str(summary.diff_id) == EMPTY
    assert summary.size == 1024


@pytest.mark.requires("tar")
def test_the_bytes_are_those_of_gnu_tar(tree: Path, layer_of: Layer) -> None:
    """The format is a promise: who changes this, changes the digest of every image."""
    (tree / "etc").mkdir(mode=0o755)
    (tree / "etc" / "motd").write_bytes(b"hello\n")
    (tree / "etc" / "motd").chmod(0o644)
    os.symlink("motd", tree / "etc" / "alias")
    os.link(tree / "etc" / "motd", tree / "etc" / "second")
    os.mkfifo(tree / "pipe", 0o600)
    (tree / ("d" * 90)).mkdir()
    (tree / ("d" * 90) / ("n" * 99)).write_bytes(b"x" * 512)
    for path in sorted(tree.rglob("*"), reverse=True):
        old(path)
    done = subprocess.run(
        ["tar", "--format=ustar", "--numeric-owner", "--sort=name", "-b1", "-cf", "-",
         "-C", str(tree), *sorted(os.listdir(tree))],
        check=True, capture_output=True,
    )  # fmt: skip
    assert layer_of(tree) == done.stdout


def test_digest_and_sink_agree(tree: Path) -> None:
    for number in range(40):
        (tree / f"{number:02}").write_bytes(os.urandom(1) * (number * 50_000))
    sink = io.BytesIO()
    summary = write_layer(directory_changes(None, tree), sink)
    assert summary.size == len(sink.getvalue())
    assert summary.diff_id.hex == hashlib.sha256(sink.getvalue()).hexdigest()
    assert summary == write_layer(directory_changes(None, tree), None)


@pytest.mark.parametrize(
    "size",
    [0, 1, 511, 512, 513, BUFFER_SIZE // 4, BUFFER_SIZE // 4 + 1]
    + [BUFFER_SIZE + delta for delta in (-1025, -513, -512, -511, -1, 0, 1)]
    + [3 * BUFFER_SIZE + 7],
)
def test_sizes_around_the_buffer(tree: Path, layer_of: Layer, members: Members, size: int) -> None:
    data = os.urandom(size)
    for name in ("a", "b", "c"):
        (tree / name).write_bytes(data)
    layer = layer_of(tree)
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        for member in tar:
            file = tar.extractfile(member)
            assert file is not None
            assert file.read() == data


@pytest.mark.parametrize(
    "name",
    [
        "n" * 100,
        "n" * 101,
        "n" * 255,
        "d" * 100 + "/" + "n" * 100,
        "d" * 155 + "/" + "n" * 100,
        "d" * 156 + "/" + "n" * 100,
        "d" * 60 + "/" + "e" * 60 + "/" + "n" * 60,
        "ünïcode",
        "with space\nand newline",
        "\udcff\udcfe",
        "d" * 90 + "ü/" + "n" * 120,
    ],
)
def test_names_survive(tree: Path, layer_of: Layer, members: Members, name: str) -> None:
    path = tree / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x")
    assert members(layer_of(tree))[-1].name == name


def test_ustar_wherever_it_can(tree: Path, layer_of: Layer) -> None:
    (tree / ("d" * 77) / ("e" * 77) / ("n" * 99)).mkdir(parents=True)
    os.symlink("t" * 100, tree / "link")
    assert b"PaxHeaders" not in layer_of(tree)
    os.symlink("t" * 101, tree / "longer")
    assert b"PaxHeaders.0/longer" in layer_of(tree)


@pytest.mark.parametrize("mtime", [-1, -(10**9), 2**33 - 1, 2**33, 2**34 - 1])
def test_times_out_of_range(tree: Path, layer_of: Layer, members: Members, mtime: int) -> None:
    path = tree / "x"
    path.touch()
    os.utime(path, (mtime, mtime))
    if os.stat(path).st_mtime != mtime:
        mtime = int(os.stat(path).st_mtime)
    assert members(layer_of(tree))[0].mtime == mtime


def test_times_are_whole_seconds_rounded_down(
    tree: Path, layer_of: Layer, members: Members
) -> None:
    (tree / "x").touch()
    os.utime(tree / "x", ns=(0, 1_999_999_999))
    assert members(layer_of(tree))[0].mtime == 1


def test_clamping_makes_later_times_earlier(tree: Path, layer_of: Layer, members: Members) -> None:
    (tree / "early").touch()
    (tree / "late").touch()
    old(tree / "early", 100)
    old(tree / "late", 300)
    times = {member.name: member.mtime for member in members(layer_of(tree, clamp_mtime=200))}
    assert times == {"early": 100, "late": 200}


def test_clamping_to_the_epoch(tree: Path, layer_of: Layer, members: Members) -> None:
    (tree / "x").touch()
    assert [member.mtime for member in members(layer_of(tree, clamp_mtime=0))] == [0]


@pytest.mark.root
def test_owners_modes_devices_and_attributes(tree: Path, layer_of: Layer, members: Members) -> None:
    file = tree / "file"
    file.write_bytes(b"x")
    os.chown(file, 3_000_000_000, 2_097_151)
    file.chmod(0o6755)
    os.setxattr(file, "user.empty", b"")
    os.setxattr(file, "user.zeros", b"\0\n=\xff")
    os.setxattr(file, "trusted.secret", b"stays here")
    os.mknod(tree / "null", 0o020666, os.makedev(1, 3))
    os.mknod(tree / "disk", 0o060660, os.makedev(259, 70_000))
    os.mkfifo(tree / "pipe")
    layer = layer_of(tree)
    assert b"trusted" not in layer
    assert b"SCHILY.xattr.user.zeros=\0\n=\xff\n" in layer
    found = {member.name: member for member in members(layer)}
    assert (found["file"].uid, found["file"].gid) == (3_000_000_000, 2_097_151)
    assert found["file"].mode == 0o6755
    assert found["file"].pax_headers["SCHILY.xattr.user.empty"] == ""
    assert (found["null"].devmajor, found["null"].devminor) == (1, 3)
    assert (found["disk"].devmajor, found["disk"].devminor) == (259, 70_000)
    assert found["disk"].isblk()
    assert found["pipe"].isfifo()


@pytest.mark.root
def test_capabilities_are_told_with_every_link(tree: Path, layer_of: Layer) -> None:
    capability = b"\x01\x00\x00\x02\x00\x20" + bytes(14)
    (tree / "ping").write_bytes(b"x")
    os.setxattr(tree / "ping", "security.capability", capability)
    os.link(tree / "ping", tree / "ping6")
    assert layer_of(tree).count(b"SCHILY.xattr.security.capability=" + capability) == 2


def test_attribute_names_that_a_record_cannot_hold(tree: Path, layer_of: Layer) -> None:
    (tree / "x").touch()
    os.setxattr(tree / "x", "user.a=b", b"1")
    with pytest.raises(FailedPrecondition, match="="):
        layer_of(tree)


@pytest.mark.requires("tar")
def test_gnu_tar_agrees(tree: Path, tmp_path: Path, layer_of: Layer) -> None:
    (tree / ("é" * 60)).mkdir()
    (tree / ("é" * 60) / "f").write_bytes(b"1" * 1000)
    (tree / ("l" * 200)).write_bytes(b"2")
    os.link(tree / ("l" * 200), tree / "z")
    os.symlink("t" * 300, tree / "s")
    archive = tmp_path / "layer.tar"
    archive.write_bytes(layer_of(tree))
    out = tmp_path / "out"
    out.mkdir()
    out.chmod(0o755)
    done = subprocess.run(
        ["tar", "--warning=all", "-xpf", archive, "-C", out],
        check=True, capture_output=True, env={**os.environ, "LC_ALL": "C.UTF-8"},
    )  # fmt: skip
    assert done.stderr == b""
    assert layer_of(out) == archive.read_bytes()


class TestFilesThatChange:
    """A size that is not what it was is never hidden by padding or cutting."""

    @pytest.mark.parametrize("seen", [10, 100_000, 2_000_000])
    @pytest.mark.parametrize("factor", [0, 0.5, 1.5])
    def test_is_a_fault(self, tree: Path, seen: int, factor: float) -> None:
        path = tree / "growing"
        path.write_bytes(b"x" * seen)
        status = os.lstat(path)
        path.write_bytes(b"x" * int(seen * factor))
        fd = os.open(tree, os.O_RDONLY)
        try:
            change = Change(b"growing", ChangeKind.ADD, b"growing", fd, status)
            with pytest.raises(FailedPrecondition, match=r'"growing" changed'):
                write_layer([change], None)
        finally:
            os.close(fd)

    def test_a_file_that_became_a_link_is_not_followed(self, tree: Path) -> None:
        path = tree / "x"
        path.write_bytes(b"x")
        status = os.lstat(path)
        path.unlink()
        os.symlink("/etc/passwd", path)
        fd = os.open(tree, os.O_RDONLY)
        try:
            change = Change(b"x", ChangeKind.ADD, b"x", fd, status)
            with pytest.raises(FailedPrecondition, match='"x"'):
                write_layer([change], None)
        finally:
            os.close(fd)


def test_a_sink_that_fails_leaves_no_thread(tree: Path) -> None:
    class Full:
        def write(self, data: memoryview) -> None:
            raise OSError(28, "No space left on device")

    (tree / "big").write_bytes(bytes(3 * BUFFER_SIZE))
    with pytest.raises(Exception, match="No space left"):
        write_layer(directory_changes(None, tree), Full())
