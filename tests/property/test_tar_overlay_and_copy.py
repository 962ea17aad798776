"""The same edits through an overlay mount and on a plain copy: one layer, byte for byte."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slipform.core.linux.mounting import mounted
from slipform.core.mounts import Mount
from slipform.layer.apply import apply_layer
from slipform.layer.copying import copy_tree
from slipform.layer.diff import directory_changes, overlay_changes
from slipform.layer.tar_writer import write_layer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

pytestmark = pytest.mark.root

OLD = 1_000_000_000
NEW = 2_000_000_000
NAMES = ("a", "b", "a-b", "c.d", "é")

paths = st.lists(st.sampled_from(NAMES), min_size=1, max_size=3).map("/".join)
contents = st.sampled_from((b"", b"one", b"two", b"x" * 5000))
operations = st.one_of(
    st.tuples(st.just("write"), paths, contents),
    st.tuples(st.just("append"), paths, contents),
    st.tuples(st.just("remake"), paths, contents),
    st.tuples(st.just("mkdir"), paths, st.just(b"")),
    st.tuples(st.just("remove"), paths, st.just(b"")),
    st.tuples(st.just("recreate"), paths, st.just(b"")),
    st.tuples(st.just("chmod"), paths, st.sampled_from((b"0600", b"4755", b"0777"))),
    st.tuples(st.just("chown"), paths, st.sampled_from((b"0", b"1000"))),
    st.tuples(st.just("touch"), paths, st.sampled_from((b"1000000000", b"1500000000"))),
    st.tuples(st.just("xattr"), paths, contents),
    st.tuples(st.just("fifo"), paths, st.just(b"")),
    st.tuples(st.just("socket"), paths, st.just(b"")),
    st.tuples(st.just("symlink"), paths, paths.map(os.fsencode)),
    st.tuples(st.just("link"), paths, paths.map(os.fsencode)),
    st.tuples(st.just("move"), paths, paths.map(os.fsencode)),
)
Operation = tuple[str, str, bytes]
scripts = st.lists(operations, max_size=12)


def shared(path: Path) -> bool:
    """A file with several names: overlayfs (without index) copies up one name, a copy keeps all."""
    status = os.lstat(path)
    return status.st_nlink > 1 and not stat.S_ISDIR(status.st_mode)


def perform(root: Path, operation: Operation) -> str:
    """One edit; what went wrong is the answer, and must be the same on both sides."""
    what, where, value = operation
    path = root / where
    if path.is_symlink() and what in ("append", "chmod", "chown", "xattr", "touch"):
        return "link"
    try:
        EDITS[what](root, path, value)
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return ""


def write(_root: Path, path: Path, value: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        path.unlink()
    path.write_bytes(value)


def append(_root: Path, path: Path, value: bytes) -> None:
    if path.exists() and not shared(path) and path.is_file():
        with path.open("ab") as file:
            file.write(value)


def remake(root: Path, path: Path, value: bytes) -> None:
    """Replaced by an equal file: no change but for the directory's time."""
    write(root, path, value)
    os.utime(path, (OLD, OLD))


def mkdir(_root: Path, path: Path, _value: bytes) -> None:
    path.mkdir()


def remove(_root: Path, path: Path, _value: bytes) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def recreate(root: Path, path: Path, _value: bytes) -> None:
    remove(root, path, b"")
    path.mkdir()
    (path / "a").write_bytes(b"one")
    os.utime(path / "a", (OLD, OLD))


def chmod(_root: Path, path: Path, value: bytes) -> None:
    if not shared(path):
        path.chmod(int(value, 8))


def chown(_root: Path, path: Path, value: bytes) -> None:
    if not shared(path):
        os.chown(path, int(value), int(value))


def touch(_root: Path, path: Path, value: bytes) -> None:
    if not shared(path):
        os.utime(path, (int(value), int(value)))


def xattr(_root: Path, path: Path, value: bytes) -> None:
    if (path.is_file() or path.is_dir()) and not shared(path):
        os.setxattr(path, "user.slipform", value[:100])


def fifo(_root: Path, path: Path, _value: bytes) -> None:
    os.mkfifo(path, 0o640)


def make_socket(root: Path, path: Path, _value: bytes) -> None:
    path.parent.stat()
    with socket.socket(socket.AF_UNIX) as server:
        fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
        try:
            server.bind(f"/proc/self/fd/{fd}/{path.name}")
        finally:
            os.close(fd)


def symlink(_root: Path, path: Path, value: bytes) -> None:
    os.symlink(os.fsdecode(value), path)


def link(root: Path, path: Path, value: bytes) -> None:
    os.link(path, root / os.fsdecode(value), follow_symlinks=False)


def move(root: Path, path: Path, value: bytes) -> None:
    """Like mv(1): a directory that overlayfs cannot rename is copied."""
    target = root / os.fsdecode(value)
    if path.is_dir() and not path.is_symlink():
        if target.exists() or target.is_relative_to(path):
            return
        target.parent.stat()
        copy_tree(path, target)
        shutil.rmtree(path)
    else:
        path.rename(target)


EDITS: dict[str, Callable[[Path, Path, bytes], None]] = {
    "write": write,
    "append": append,
    "remake": remake,
    "mkdir": mkdir,
    "remove": remove,
    "recreate": recreate,
    "chmod": chmod,
    "chown": chown,
    "touch": touch,
    "xattr": xattr,
    "fifo": fifo,
    "socket": make_socket,
    "symlink": symlink,
    "link": link,
    "move": move,
}


def settle(root: Path) -> None:
    """Times of what was edited just now become one time, which both sides can have."""
    for directory, _, files in os.walk(root, topdown=False):
        for name in (*files, "."):
            path = Path(directory) / name
            if os.lstat(path).st_mtime > NEW - OLD // 2:
                os.utime(path, (NEW, NEW), follow_symlinks=False)
        for entry in os.scandir(directory):
            if entry.is_symlink() and entry.stat(follow_symlinks=False).st_mtime > NEW - OLD // 2:
                os.utime(entry.path, (NEW, NEW), follow_symlinks=False)


def edited(root: Path, script: list[Operation]) -> list[str]:
    answers = [perform(root, operation) for operation in script]
    settle(root)
    return answers


@contextlib.contextmanager
def overlay(work: Path, lowers: list[Path], upper: Path) -> Iterator[Path]:
    upper.mkdir()
    (work / "merged").mkdir(exist_ok=True)
    (work / "work").mkdir()
    options = (
        "lowerdir=" + ":".join(map(str, lowers)),
        f"upperdir={upper}",
        f"workdir={work / 'work'}",
        "index=off",
        "redirect_dir=off",
        "metacopy=off",
    )
    with mounted([Mount("overlay", "overlay", options=options)], work / "merged") as merged:
        yield merged
    shutil.rmtree(work / "work")


@given(base=scripts, first=scripts, second=scripts)
@settings(max_examples=80)
def test_every_driver_makes_the_same_layer(
    base: list[Operation], first: list[Operation], second: list[Operation]
) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        work = Path(scratch)
        ground = work / "ground"
        ground.mkdir(mode=0o755)
        edited(ground, base)
        for path in (ground, *ground.rglob("*")):
            os.utime(path, (OLD, OLD), follow_symlinks=False)
        lowers, tree = [ground], ground
        for number, script in enumerate((first, second)):
            upper, copy = work / f"upper{number}", work / f"copy{number}"
            with overlay(work, lowers, upper) as merged:
                answers = edited(merged, script)
            copy_tree(tree, copy)
            marker = work / f"copied{number}"
            marker.touch()
            assert edited(copy, script) == answers
            through_overlay, by_copy = io.BytesIO(), io.BytesIO()
            mine = write_layer(overlay_changes(upper, lowers), through_overlay)
            other = write_layer(directory_changes(tree, copy), by_copy)
            quick = write_layer(
                directory_changes(tree, copy, untouched_before_ns=marker.stat().st_ctime_ns), None
            )
            assert through_overlay.getvalue() == by_copy.getvalue()
            assert mine == other == quick
            rebuilt = work / f"rebuilt{number}"
            copy_tree(tree, rebuilt)
            apply_layer(io.BytesIO(by_copy.getvalue()), rebuilt)
            assert list(directory_changes(copy, rebuilt)) == []
            lowers, tree = [upper, *lowers], copy
