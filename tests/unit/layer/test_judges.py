"""Layers that others unpack, and layers that others made."""

from __future__ import annotations

import io
import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from slipform.layer.apply import apply_layer
from slipform.layer.copying import copy_tree
from slipform.layer.diff import directory_changes
from slipform.layer.removal import remove_tree

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = [pytest.mark.root, pytest.mark.requires("umoci")]


def umoci(*arguments: str | Path) -> None:
    subprocess.run(["umoci", *arguments], check=True, capture_output=True)


def settle(tree: Path) -> None:
    for path in (*tree.rglob("*"), tree):
        os.utime(path, (10**9, 10**9), follow_symlinks=False)


@pytest.fixture
def trees(tmp_path: Path) -> tuple[Path, Path]:
    """A tree, and what became of it: every kind of change there is."""
    before, after = tmp_path / "before", tmp_path / "after"
    for name in ("dir/sub/x", "dir/y", "gone/deep/z", "file", "again/old", "again/sub/old"):
        (before / name).parent.mkdir(parents=True, exist_ok=True)
        (before / name).write_bytes(name.encode())
    before.chmod(0o755)
    os.symlink("dir", before / "link")
    settle(before)
    copy_tree(before, after)
    remove_tree(os.fsencode(after / "gone"))
    remove_tree(os.fsencode(after / "dir/sub"))
    (after / "dir/sub").write_bytes(b"a file in the place of a directory")
    (after / "file").unlink()
    (after / "file").mkdir()
    (after / "file/inside").write_bytes(b"a directory in the place of a file")
    remove_tree(os.fsencode(after / "again"))
    (after / "again").mkdir()
    (after / "again/new").write_bytes(b"removed and made again")
    (after / "link").unlink()
    (after / "link").mkdir()
    os.link(after / "dir/y", after / "a-link")
    os.link(after / "again/new", after / "again/other")
    (after / "setuid").write_bytes(b"x")
    os.chown(after / "setuid", 5, 6)
    (after / "setuid").chmod(0o4755)
    (after / ("ü" * 80)).write_bytes(b"long")
    os.mkfifo(after / "pipe")
    os.mknod(after / "null", 0o020666, os.makedev(1, 3))
    os.setxattr(after / "dir", "user.kept", b"1")
    os.setxattr(after / "setuid", "security.capability", b"\x01\x00\x00\x02\x00\x20" + bytes(14))
    settle(after)
    return before, after


def test_umoci_unpacks_what_we_wrote(
    tmp_path: Path, trees: tuple[Path, Path], layer_of: Callable[..., bytes]
) -> None:
    before, after = trees
    layout = tmp_path / "layout"
    image = f"{layout}:x"
    umoci("init", "--layout", layout)
    umoci("new", "--image", image)
    for number, layer in enumerate((layer_of(before), layer_of(after, before))):
        (tmp_path / f"{number}.tar").write_bytes(layer)
        umoci("raw", "add-layer", "--image", image, tmp_path / f"{number}.tar")
    umoci("raw", "unpack", "--image", image, tmp_path / "rootfs")
    rootfs = tmp_path / "rootfs"
    settle(rootfs)
    assert [change.path for change in directory_changes(after, rootfs) if change.path] == []


def test_we_unpack_what_umoci_wrote(tmp_path: Path, trees: tuple[Path, Path]) -> None:
    before, after = trees
    layout = tmp_path / "layout"
    image = f"{layout}:x"
    bundle = tmp_path / "bundle"
    umoci("init", "--layout", layout)
    umoci("new", "--image", image)
    root = tmp_path / "root"
    root.mkdir(mode=0o755)
    known: set[str] = set()
    for tree in (before, after):
        umoci("unpack", "--image", image, bundle)
        remove_tree(os.fsencode(bundle / "rootfs"))
        copy_tree(tree, bundle / "rootfs")
        umoci("repack", "--image", image, bundle)
        remove_tree(os.fsencode(bundle))
        blobs = layout / "blobs/sha256"
        new = [n for n in os.listdir(blobs) if n not in known and is_gzip(blobs / n)]
        known |= set(new)
        (name,) = new
        apply_layer(io.BytesIO((blobs / name).read_bytes()), root)
    settle(root)
    assert [change.path for change in directory_changes(after, root) if change.path] == []


def is_gzip(path: Path) -> bool:
    return path.read_bytes()[:2] == b"\x1f\x8b"
