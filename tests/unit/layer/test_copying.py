from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import FailedPrecondition
from slipform.layer.copying import clone_file, copy_tree
from slipform.layer.diff import directory_changes
from slipform.layer.removal import remove_tree

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tree = tmp_path / "source"
    (tree / "d/e").mkdir(parents=True)
    (tree / "d/small").write_bytes(b"x" * 100)
    (tree / "d/large").write_bytes(os.urandom(300_000))
    (tree / "d/empty").touch()
    os.link(tree / "d/large", tree / "d/e/link")
    os.symlink("/nowhere", tree / "symlink")
    os.link(tree / "symlink", tree / "symlink2", follow_symlinks=False)
    os.mkfifo(tree / "pipe", 0o600)
    os.setxattr(tree / "d", "user.x", b"1")
    (tree / "d/small").chmod(0o4750)
    for number, path in enumerate(sorted(tree.rglob("*"), reverse=True)):
        os.utime(path, ns=(1, 10**18 + number), follow_symlinks=False)
    return tree


def test_a_copy_is_equal_in_every_respect(source: Path, tmp_path: Path) -> None:
    copy_tree(source, tmp_path / "copy")
    assert list(directory_changes(source, tmp_path / "copy")) == []
    copy = tmp_path / "copy"
    assert os.stat(copy / "d/large").st_ino == os.stat(copy / "d/e/link").st_ino
    assert os.stat(copy / "d/large").st_ino != os.stat(source / "d/large").st_ino
    assert os.lstat(copy / "symlink").st_nlink == 2


def test_holes_stay_holes(source: Path, tmp_path: Path) -> None:
    with (source / "sparse").open("wb") as file:
        file.seek(5 << 20)
        file.write(b"x")
        file.truncate(20 << 20)
    copy_tree(source, tmp_path / "copy")
    copy = tmp_path / "copy/sparse"
    assert copy.read_bytes() == (source / "sparse").read_bytes()
    assert os.stat(copy).st_blocks < 2000


@pytest.mark.root
def test_devices_and_owners(source: Path, tmp_path: Path) -> None:
    os.mknod(source / "null", 0o020666, os.makedev(1, 3))
    os.chown(source / "symlink", 5, 6, follow_symlinks=False)
    os.chown(source / "d/small", 5, 6)
    (source / "d/small").chmod(0o6755)
    copy_tree(source, tmp_path / "copy")
    assert list(directory_changes(source, tmp_path / "copy")) == []
    assert os.stat(tmp_path / "copy/d/small").st_mode & 0o7777 == 0o6755


def test_nothing_is_left_open(source: Path, tmp_path: Path) -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    copy_tree(source, tmp_path / "copy")
    assert sorted(os.listdir("/proc/self/fd")) == before
    with pytest.raises(FileExistsError):
        copy_tree(source, tmp_path / "copy")
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize("size", [0, 1, 4096, 1 << 17, (1 << 17) + 1, 3 << 20])
def test_clone_file_copies_all_bytes(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(os.urandom(size))
    with (tmp_path / "a").open("rb") as a, (tmp_path / "b").open("wb") as b:
        clone_file(a.fileno(), b.fileno(), size)
    assert (tmp_path / "b").read_bytes() == (tmp_path / "a").read_bytes()


@pytest.mark.parametrize("size", [100, 1 << 20])
def test_clone_file_does_not_invent_bytes(tmp_path: Path, size: int) -> None:
    (tmp_path / "a").write_bytes(bytes(size - 1))
    with (
        (tmp_path / "a").open("rb") as a,
        (tmp_path / "b").open("wb") as b,
        pytest.raises(FailedPrecondition, match="shorter"),
    ):
        clone_file(a.fileno(), b.fileno(), size)


class TestRemoval:
    def test_links_are_removed_not_followed(self, source: Path, tmp_path: Path) -> None:
        (tmp_path / "kept").mkdir()
        (tmp_path / "kept/x").touch()
        os.symlink(tmp_path / "kept", source / "d/out")
        assert remove_tree(os.fsencode(source))
        assert not source.exists()
        assert (tmp_path / "kept/x").exists()
        assert not remove_tree(os.fsencode(source))

    def test_a_link_itself(self, source: Path) -> None:
        os.symlink(source / "d", source / "link")
        assert remove_tree(os.fsencode(source / "link"))
        assert (source / "d/small").exists()

    def test_deeper_than_descriptors_and_recursion_go(self, tmp_path: Path) -> None:
        fd = os.open(tmp_path, os.O_RDONLY)
        for _ in range(3000):
            os.mkdir("d", dir_fd=fd)
            child = os.open("d", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = child
        os.close(fd)
        before = sorted(os.listdir("/proc/self/fd"))
        assert remove_tree(os.fsencode(tmp_path / "d"))
        assert sorted(os.listdir("/proc/self/fd")) == before
        assert os.listdir(tmp_path) == []
