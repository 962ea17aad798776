from __future__ import annotations

import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import DigestMismatch
from slipform.core.oci.digest import Digest
from slipform.layer.apply import apply_layer
from slipform.layer.compress import compress
from slipform.layer.copying import copy_tree
from slipform.layer.decompress import open_compressed
from slipform.layer.diff import directory_changes

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Layer = Callable[..., bytes]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def tar_of(*names: str) -> io.BytesIO:
    """Empty files, directories (with a slash at the end) and whiteouts, in this order."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name in names:
            info = tarfile.TarInfo(name)
            info.uid, info.gid, info.mtime = os.geteuid(), os.getegid(), 500
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(info)
    out.seek(0)
    return out


def tree(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*")}


class TestWhiteouts:
    @pytest.fixture
    def root(self, root: Path) -> Path:
        apply_layer(tar_of("d/", "d/one", "d/two", "d/sub/", "d/sub/x", "f"), root)
        return root

    def test_delete_files_and_directories(self, root: Path) -> None:
        apply_layer(tar_of(".wh.f", "d/.wh.sub", "d/.wh.nothing"), root)
        assert tree(root) == {"d", "d/one", "d/two"}

    def test_in_a_directory_that_is_not_there(self, root: Path) -> None:
        apply_layer(tar_of("no/.wh.f", "f/.wh.x", "no/.wh..wh..opq"), root)
        assert tree(root) == {"d", "d/one", "d/two", "d/sub", "d/sub/x", "f"}

    @pytest.mark.parametrize("mark_first", [True, False])
    def test_opaque_hides_what_was_there_before(self, root: Path, *, mark_first: bool) -> None:
        new = ["d/new", "d/sub/", "d/sub/y"]
        mark = ["d/.wh..wh..opq"]
        apply_layer(tar_of("d/", *(mark + new if mark_first else new + mark)), root)
        assert tree(root) == {"d", "d/new", "d/sub", "d/sub/y", "f"}

    def test_a_whiteout_never_hides_its_own_layer(self, root: Path) -> None:
        apply_layer(tar_of("d/one", "d/sub/z", ".wh.d"), root)
        assert tree(root) == {"d", "d/one", "d/sub", "d/sub/z", "f"}

    def test_opaque_root(self, root: Path) -> None:
        apply_layer(tar_of(".wh..wh..opq", "new"), root)
        assert tree(root) == {"new"}

    def test_deep_trees_below_an_opaque_mark(self, root: Path) -> None:
        deep = "/".join(["n"] * 1200)
        apply_layer(tar_of(f"{deep}/x", ".wh..wh..opq"), root)
        assert os.listdir(root) == ["n"]
        apply_layer(tar_of(".wh.n"), root)
        assert os.listdir(root) == []

    def test_the_books_of_aufs_are_no_files(self, root: Path) -> None:
        before = tree(root)
        apply_layer(tar_of(".wh..wh.plnk/", ".wh..wh.plnk/1.2", ".wh..wh.orph/"), root)
        assert tree(root) == before


class TestTimes:
    def test_of_directories_are_set_at_the_end(self, root: Path) -> None:
        apply_layer(tar_of("d/", "d/x", "d/e/", "d/e/y"), root)
        assert {os.stat(root / name).st_mtime for name in ("d", "d/x", "d/e", "d/e/y")} == {500}

    def test_of_parents_without_an_entry(self, root: Path) -> None:
        """New ones get the time of what needed them, old ones keep theirs."""
        (root / "old").mkdir()
        os.utime(root / "old", (7, 7))
        os.utime(root, (8, 8))
        apply_layer(tar_of("old/x", "new/deep/y"), root)
        times = [os.stat(root / name).st_mtime for name in (".", "old", "new", "new/deep")]
        assert times == [8, 7, 500, 500]
        assert stat.S_IMODE(os.stat(root / "new").st_mode) == 0o755

    def test_of_a_directory_that_loses_a_file(self, root: Path) -> None:
        (root / "d").mkdir()
        (root / "d/x").touch()
        os.utime(root / "d", (7, 7))
        apply_layer(tar_of("d/.wh.x"), root)
        assert os.stat(root / "d").st_mtime == 7


class TestMetadata:
    def test_modes_ignore_the_umask(self, root: Path) -> None:
        old = os.umask(0o077)
        try:
            apply_layer(tar_of("d/", "d/x"), root)
        finally:
            os.umask(old)
        assert stat.S_IMODE(os.stat(root / "d").st_mode) == 0o755
        assert stat.S_IMODE(os.stat(root / "d/x").st_mode) == 0o644

    @pytest.mark.root
    def test_owner_setuid_and_capabilities_together(
        self, tmp_path: Path, root: Path, layer_of: Layer
    ) -> None:
        capability = b"\x01\x00\x00\x02\x00\x20" + bytes(14)
        source = tmp_path / "source"
        source.mkdir()
        source.chmod(0o755)
        (source / "tool").write_bytes(b"x")
        os.chown(source / "tool", 10, 20)
        (source / "tool").chmod(0o6711)
        os.setxattr(source / "tool", "security.capability", capability)
        os.link(source / "tool", source / "alias")
        layer = layer_of(source)
        root.chmod(0o755)
        apply_layer(io.BytesIO(layer), root)
        status = os.stat(root / "tool")
        assert (status.st_uid, status.st_gid, stat.S_IMODE(status.st_mode)) == (10, 20, 0o6711)
        assert os.getxattr(root / "tool", "security.capability") == capability
        assert os.stat(root / "alias").st_ino == status.st_ino
        assert layer_of(root) == layer

    def test_a_directory_loses_attributes_that_the_layer_lacks(self, root: Path) -> None:
        (root / "d").mkdir()
        os.setxattr(root / "d", "user.old", b"1")
        apply_layer(tar_of("d/"), root)
        assert os.listxattr(root / "d") == []

    def test_writing_over_a_hard_link_leaves_the_other_name(self, root: Path) -> None:
        (root / "a").write_bytes(b"1")
        os.link(root / "a", root / "b")
        apply_layer(tar_of("a"), root)
        assert (root / "b").read_bytes() == b"1"


class TestDigests:
    def test_are_those_of_everything(self, root: Path, tmp_path: Path, layer_of: Layer) -> None:
        (tmp_path / "source").mkdir(mode=0o755)
        (tmp_path / "source/x").write_bytes(os.urandom(700_000))
        layer = layer_of(tmp_path / "source") + bytes(20_000)
        for form in ("none", "gzip", "zstd"):
            packed = b"".join(compress([layer], form))
            with open_compressed(io.BytesIO(packed)) as stream:
                applied = apply_layer(stream, root)
                stream.verify(Digest.of(packed))
                assert stream.size == len(packed)
            assert applied.diff_id == Digest.of(layer)
            assert applied.size == len(layer)

    def test_a_wrong_blob_is_found(self, root: Path) -> None:
        with open_compressed(tar_of("x")) as stream:
            apply_layer(stream, root)
            with pytest.raises(DigestMismatch, match="want sha256:0000"):
                stream.verify(Digest("sha256", "0" * 64))

    def test_no_descriptors_are_left(self, root: Path) -> None:
        before = sorted(os.listdir("/proc/self/fd"))
        apply_layer(tar_of(*(f"d{number}/x" for number in range(200))), root)
        assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.root
def test_a_layer_is_the_difference(tmp_path: Path, layer_of: Layer) -> None:
    base, changed = tmp_path / "base", tmp_path / "changed"
    (base / "a/b").mkdir(parents=True)
    (base / "a/b/c").write_bytes(b"1")
    (base / "file").write_bytes(b"2")
    copy_tree(base, changed)
    (changed / "a/b/c").unlink()
    (changed / "a/b").rmdir()
    (changed / "a/b").write_bytes(b"now a file")
    (changed / "file").unlink()
    (changed / "file").mkdir()
    (changed / "file/x").write_bytes(b"3")
    for path in (changed, *changed.rglob("*")):
        os.utime(path, (10**9, 10**9))
    layer = layer_of(changed, base)
    apply_layer(io.BytesIO(layer), base)
    os.utime(base, (10**9, 10**9))
    assert list(directory_changes(base, changed)) == []
