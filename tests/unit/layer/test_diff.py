from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import FailedPrecondition
from slipform.layer.copying import copy_tree
from slipform.layer.diff import directory_changes, overlay_changes
from slipform.layer.tar_writer import write_layer

if TYPE_CHECKING:
    from pathlib import Path


def told(changes: object) -> list[tuple[str, str]]:
    return [(change.path.decode(), change.kind.value) for change in changes]  # type: ignore[attr-defined]


@pytest.fixture
def lower(tmp_path: Path) -> Path:
    tree = tmp_path / "lower"
    for name in ("etc/ssl/cert", "etc/passwd", "usr/bin/sh", "usr/lib/x"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_bytes(name.encode())
    for path in sorted(tree.rglob("*"), reverse=True):
        os.utime(path, (10**9, 10**9))
    os.utime(tree, (10**9, 10**9))
    return tree


@pytest.fixture
def upper(tmp_path: Path, lower: Path) -> Path:
    copy_tree(lower, tmp_path / "upper")
    return tmp_path / "upper"


def keep_time(path: Path) -> None:
    os.utime(path, (10**9, 10**9))


def test_a_copy_has_no_changes(lower: Path, upper: Path) -> None:
    assert told(directory_changes(lower, upper)) == []


def test_everything_is_new_on_nothing(lower: Path) -> None:
    lower.chmod(0o755)
    assert (
        told(directory_changes(None, lower))
        == [
            ("etc", "add"),
            ("etc/passwd", "add"),
            ("etc/ssl", "add"),
            ("etc/ssl/cert", "add"),
            ("usr", "add"),
            ("usr/bin", "add"),
            ("usr/bin/sh", "add"),
            ("usr/lib", "add"),
            ("usr/lib/x", "add"),
        ]
        or os.geteuid()
    )


def test_parents_of_a_change_come_along(lower: Path, upper: Path) -> None:
    (upper / "etc/ssl/cert").write_bytes(b"other")
    assert told(directory_changes(lower, upper)) == [
        ("etc", "parent"),
        ("etc/ssl", "parent"),
        ("etc/ssl/cert", "modify"),
    ]


def test_deletions_come_first_in_their_directory(lower: Path, upper: Path) -> None:
    (upper / "etc/passwd").unlink()
    (upper / "etc/a").touch()
    keep_time(upper / "etc")
    assert told(directory_changes(lower, upper)) == [
        ("etc", "parent"),
        ("etc/passwd", "delete"),
        ("etc/a", "add"),
    ]


def test_same_size_and_time_but_other_bytes(lower: Path, upper: Path) -> None:
    (upper / "etc/passwd").write_bytes(b"ETC/PASSWD")
    keep_time(upper / "etc/passwd")
    assert ("etc/passwd", "modify") in told(directory_changes(lower, upper))


def test_untouched_files_are_not_read_again(lower: Path, upper: Path, tmp_path: Path) -> None:
    """What changed after the copy is found even with the same size and time."""
    marker = tmp_path / "marker"
    while True:  # until the clock that stamps files has moved on from the copy
        marker.write_bytes(b"x")
        copied_ns = marker.stat().st_ctime_ns
        if copied_ns > (upper / "usr/lib/x").stat().st_ctime_ns:
            break
    assert told(directory_changes(lower, upper, untouched_before_ns=copied_ns)) == []
    (upper / "etc/passwd").write_bytes(b"ETC/PASSWD")
    keep_time(upper / "etc/passwd")
    assert told(directory_changes(lower, upper, untouched_before_ns=copied_ns)) == [
        ("etc", "parent"),
        ("etc/passwd", "modify"),
    ]


def test_swapped_directories_of_lookalikes(lower: Path, tmp_path: Path) -> None:
    """Their files' ctimes are old: only the directories tell that they moved."""
    for name, data in (("one", b"1"), ("two", b"2")):
        (lower / name).mkdir()
        (lower / name / "f").write_bytes(data)
        os.utime(lower / name / "f", (10**9, 10**9))
        os.utime(lower / name, (10**9, 10**9))
    os.utime(lower, (10**9, 10**9))
    upper = tmp_path / "upper"
    copy_tree(lower, upper)
    marker = tmp_path / "marker"
    while True:
        marker.write_bytes(b"x")
        copied_ns = marker.stat().st_ctime_ns
        if copied_ns > (upper / "two/f").stat().st_ctime_ns:
            break
    (upper / "one").rename(upper / "three")
    (upper / "two").rename(upper / "one")
    (upper / "three").rename(upper / "two")
    found = told(directory_changes(lower, upper, untouched_before_ns=copied_ns))
    assert ("one/f", "modify") in found
    assert ("two/f", "modify") in found


def test_type_changes_need_no_deletion(lower: Path, upper: Path) -> None:
    (upper / "usr/lib/x").unlink()
    (upper / "usr/lib").rmdir()
    (upper / "usr/lib").write_bytes(b"")
    (upper / "etc/passwd").unlink()
    (upper / "etc/passwd").mkdir()
    (upper / "etc/passwd/x").touch()
    for name in ("usr", "etc"):
        keep_time(upper / name)
    assert told(directory_changes(lower, upper)) == [
        ("etc", "parent"),
        ("etc/passwd", "modify"),
        ("etc/passwd/x", "add"),
        ("usr", "parent"),
        ("usr/lib", "modify"),
    ]


def test_the_root_only_for_mode_and_owner(lower: Path, upper: Path) -> None:
    os.utime(upper, (5, 5))
    assert told(directory_changes(lower, upper)) == []
    upper.chmod(0o700)
    assert told(directory_changes(lower, upper)) == [("", "modify")]


def test_sockets_are_not_there(lower: Path, upper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (upper / "etc/passwd").unlink()
    monkeypatch.chdir(upper / "etc")
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.bind("passwd")
        second.bind("new")
    keep_time(upper / "etc")
    assert told(directory_changes(lower, upper)) == [("etc", "parent"), ("etc/passwd", "delete")]
    assert told(directory_changes(upper, lower)) == [("etc", "parent"), ("etc/passwd", "add")]


@pytest.mark.parametrize("name", [".wh.x", ".wh..wh..opq"])
def test_whiteout_names_cannot_be_told(lower: Path, upper: Path, name: str) -> None:
    (upper / "etc" / name).touch()
    with pytest.raises(FailedPrecondition, match="mean deletions"):
        told(directory_changes(lower, upper))


def test_deep_trees_are_walked_without_recursion(tmp_path: Path) -> None:
    root = tmp_path / "deep"
    root.mkdir(mode=0o755)
    fd = os.open(root, os.O_RDONLY)
    for _ in range(300):
        os.mkdir("d", dir_fd=fd)
        child = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = child
    os.close(fd)
    assert len([path for path, _ in told(directory_changes(None, root)) if path]) == 300


def test_an_abandoned_walk_closes_its_directories(lower: Path) -> None:
    before = os.listdir("/proc/self/fd")
    changes = directory_changes(None, lower)
    next(iter(changes))
    changes.close()  # type: ignore[attr-defined]
    assert os.listdir("/proc/self/fd") == before


@pytest.mark.root
class TestOverlayMarks:
    """Upper directories as kernels write them, made by hand."""

    @pytest.fixture
    def upper(self, tmp_path: Path) -> Path:
        (tmp_path / "layer").mkdir(mode=0o755)
        return tmp_path / "layer"

    def test_a_whiteout(self, lower: Path, upper: Path) -> None:
        os.mknod(upper / "etc", 0o020000, 0)
        assert told(overlay_changes(upper, [lower])) == [("etc", "delete")]

    def test_a_whiteout_of_nothing_says_nothing(self, lower: Path, upper: Path) -> None:
        os.mknod(upper / "nothing", 0o020000, 0)
        assert told(overlay_changes(upper, [lower])) == []

    def test_an_opaque_directory_becomes_deletions(self, lower: Path, upper: Path) -> None:
        (upper / "usr/bin").mkdir(parents=True)
        (upper / "usr/bin/new").touch()
        os.setxattr(upper / "usr", "trusted.overlay.opaque", b"y")
        assert told(overlay_changes(upper, [lower])) == [
            ("usr", "modify"),
            ("usr/lib", "delete"),
            ("usr/bin", "modify"),
            ("usr/bin/sh", "delete"),
            ("usr/bin/new", "add"),
        ]

    def test_marks_of_layers_in_between(self, lower: Path, upper: Path, tmp_path: Path) -> None:
        middle = tmp_path / "middle"
        (middle / "usr").mkdir(parents=True)
        os.setxattr(middle / "usr", "trusted.overlay.opaque", b"y")
        os.mknod(middle / "etc", 0o020000, 0)
        (upper / "usr").mkdir()
        os.mknod(upper / "usr/bin", 0o020000, 0)
        os.mknod(upper / "etc", 0o020000, 0)
        os.utime(middle / "usr", (10**9, 10**9))
        os.utime(upper / "usr", (10**9, 10**9))
        assert told(overlay_changes(upper, [middle, lower])) == []

    def test_whiteouts_by_attribute(self, lower: Path, upper: Path) -> None:
        (upper / "etc").mkdir()
        os.setxattr(upper / "etc", "trusted.overlay.opaque", b"x")
        (upper / "etc/passwd").touch()
        os.setxattr(upper / "etc/passwd", "trusted.overlay.whiteout", b"")
        (upper / "etc/ssl").mkdir()
        assert told(overlay_changes(upper, [lower])) == [
            ("etc", "modify"),
            ("etc/passwd", "delete"),
            ("etc/ssl", "modify"),
        ]

    @pytest.mark.parametrize("name", ["redirect", "metacopy"])
    def test_what_lies_elsewhere_is_refused(self, lower: Path, upper: Path, name: str) -> None:
        (upper / "new").mkdir()
        os.setxattr(upper / "new", f"trusted.overlay.{name}", b"/x")
        with pytest.raises(FailedPrecondition, match="redirect_dir=off"):
            write_layer(overlay_changes(upper, [lower]), None)
