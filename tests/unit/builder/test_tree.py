from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from slipform.builder.selection import clamp, select
from slipform.builder.tree import follow
from slipform.core.errors import Conflict, InvalidArgument, NotFound, PermissionDenied
from slipform.core.folder import Folder
from slipform.core.patterns import IgnoreMatcher
from slipform.core.plan import CopyOp

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/b/c", "a/x.txt", "y.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


@pytest.mark.parametrize(
    ("path", "clean"),
    [("", ""), ("/", ""), ("../../a", "a"), ("a/../../b", "b"), ("./a//b/.", "a/b")],
)
def test_clamp(path: str, clean: str) -> None:
    assert clamp(path) == clean


@pytest.mark.parametrize(
    ("target", "want"),
    [("a", "a"), ("/a/b", "a/b"), ("../../../a", "a"), ("a/../y.txt", "y.txt"), ("nope", None)],
)
def test_links_are_followed_inside_the_tree(folder: Path, target: str, want: str | None) -> None:
    (folder / "link").symlink_to(target)
    entry = follow(Folder(folder), "link")
    assert (entry.path if entry else None) == want


def test_loop_of_links_is_an_error(folder: Path) -> None:
    (folder / "one").symlink_to("two")
    (folder / "two").symlink_to("one")
    with pytest.raises(InvalidArgument, match="symbolic links"):
        follow(Folder(folder), "one")


def test_ignored_files_are_not_there(folder: Path) -> None:
    tree = Folder(folder, IgnoreMatcher(["a/*", "!a/b"]))
    assert [entry.path for entry in tree.entries()] == ["a", "a/b", "a/b/c", "y.txt"]
    assert tree.lookup("a/x.txt") is None
    with pytest.raises(NotFound):
        tree.open("a/x.txt")


def test_file_that_became_a_link_is_not_opened(folder: Path) -> None:
    tree = Folder(folder)
    entry = tree.stat("y.txt")
    (folder / "y.txt").unlink()
    (folder / "y.txt").symlink_to("/etc/hostname")
    with pytest.raises((InvalidArgument, Conflict, PermissionDenied)):
        tree.open_fd(entry)


def test_file_that_changed_is_a_conflict(folder: Path) -> None:
    tree = Folder(folder)
    entry = tree.stat("y.txt")
    (folder / "y.txt").write_text("longer than before")
    with pytest.raises(Conflict, match="changed during the build"):
        tree.open_fd(entry)


def test_only_what_is_asked_for_is_listed(folder: Path) -> None:
    tree = Folder(folder)
    select(tree, CopyOp(dest="/", dest_is_dir=True, sources=("y.txt",)))
    assert set(tree._listed) == {""}
