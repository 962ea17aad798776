from __future__ import annotations

import os
import stat
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest

from slipform.core.files import (
    exists_in_root,
    mkdirs_in_root,
    open_in_root,
    reopen,
    resolve_in_root,
    root_handle,
    stat_in_root,
    write_durably,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "secret").write_bytes(b"outside")
    root = tmp_path / "root"
    (root / "a/b").mkdir(parents=True)
    (root / "a/file").write_bytes(b"inside")
    os.symlink("/a", root / "absolute")
    os.symlink("../../../..", root / "a/up")
    os.symlink("../secret", root / "climb")
    os.symlink("/new/place", root / "dangling")
    os.symlink("loop", root / "loop")
    return root


class TestDurableWrites:
    def test_replace_the_whole_file(self, tmp_path: Path) -> None:
        path = tmp_path / "x"
        assert write_durably(path, b"one", mode=0o640) == 3
        assert write_durably(path, iter([b"two", b"", b"three"])) == 8
        assert path.read_bytes() == b"twothree"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert os.listdir(tmp_path) == ["x"]

    def test_keep_the_old_file_when_the_data_fails(self, tmp_path: Path) -> None:
        def chunks() -> Iterator[bytes]:
            yield b"half"
            raise RuntimeError("source broke")

        path = tmp_path / "x"
        write_durably(path, b"old")
        with pytest.raises(RuntimeError):
            write_durably(path, chunks())
        assert path.read_bytes() == b"old"
        assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("path", "real"),
    [
        ("", "/"),
        ("/", "/"),
        ("..", "/"),
        ("a/../a//./file", "/a/file"),
        ("absolute/file", "/a/file"),
        ("a/up/a/file", "/a/file"),
        ("a/up/../../a", "/a"),
        ("dangling/x", "/new/place/x"),
        ("climb", "/secret"),
        ("not/there", "/not/there"),
        ("a/file/x", "/a/file/x"),
    ],
)
def test_resolve(root: Path, path: str, real: str) -> None:
    assert resolve_in_root(root, path) == PurePosixPath(real)
    with root_handle(root) as fd:
        assert resolve_in_root(fd, path.encode()) == PurePosixPath(real)


def test_resolve_can_leave_the_last_link(root: Path) -> None:
    assert resolve_in_root(root, "absolute", follow_last=False) == PurePosixPath("/absolute")


def test_resolve_ends_in_loops(root: Path) -> None:
    with pytest.raises(OSError, match="symbolic links"):
        resolve_in_root(root, "loop/x")


def test_names_that_are_no_text(root: Path) -> None:
    (root / os.fsdecode(b"\xff")).touch()
    assert exists_in_root(root, b"\xff")
    assert os.fsencode(resolve_in_root(root, b"\xff")) == b"/\xff"


def test_open_stays_inside(root: Path) -> None:
    with open(open_in_root(root, "a/up/absolute/file"), "rb") as file:
        assert file.read() == b"inside"
    with pytest.raises(FileNotFoundError):
        open_in_root(root, "climb")
    with pytest.raises(OSError, match="symbolic links"):
        open_in_root(root, "absolute", follow_last=False)
    assert not exists_in_root(root, "../secret")
    assert stat.S_ISLNK(stat_in_root(root, "climb", follow_last=False).st_mode)


def test_handles_can_be_opened_again(root: Path) -> None:
    handle = open_in_root(root, "a/file", os.O_PATH)
    try:
        with open(reopen(handle, os.O_RDONLY), "rb") as file:
            assert file.read() == b"inside"
    finally:
        os.close(handle)


class TestMakingDirectories:
    def test_answers_what_was_made(self, root: Path) -> None:
        made = mkdirs_in_root(root, "/absolute/x/y", 0o751, os.getuid(), os.getgid())
        assert made == [PurePosixPath("/a/x"), PurePosixPath("/a/x/y")]
        assert stat.S_IMODE(os.stat(root / "a/x/y").st_mode) == 0o751
        assert mkdirs_in_root(root, "/absolute/x/y") == []

    def test_ignores_the_umask(self, root: Path) -> None:
        old = os.umask(0o077)
        try:
            mkdirs_in_root(root, "n", 0o755, os.getuid(), os.getgid())
        finally:
            os.umask(old)
        assert stat.S_IMODE(os.stat(root / "n").st_mode) == 0o755

    def test_makes_what_a_dangling_link_means(self, root: Path) -> None:
        mkdirs_in_root(root, "dangling/x", 0o755, os.getuid(), os.getgid())
        assert (root / "new/place/x").is_dir()

    def test_does_not_replace_files(self, root: Path) -> None:
        with pytest.raises(NotADirectoryError):
            mkdirs_in_root(root, "a/file/x")

    @pytest.mark.root
    def test_sets_owners(self, root: Path) -> None:
        mkdirs_in_root(root, "p/q", 0o700, 12, 34)
        assert {(os.stat(root / p).st_uid, os.stat(root / p).st_gid) for p in ("p", "p/q")} == {
            (12, 34)
        }
