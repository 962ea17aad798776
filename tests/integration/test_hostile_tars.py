"""Archives made to do harm: nothing outside the root is touched, every fault has one message."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import resource
import stat
import subprocess
import sys
import tarfile
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import InvalidArgument, ResourceExhausted
from slipform.core.linux.mounting import mounted
from slipform.core.mounts import Mount
from slipform.layer.apply import apply_layer, unpack_archive
from slipform.layer.compress import compress
from slipform.layer.decompress import open_compressed

if TYPE_CHECKING:
    from pathlib import Path

SECRET = b"of the host"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with something outside that an archive would like to reach."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret").write_bytes(SECRET)
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


def entry(name: str, kind: bytes = tarfile.REGTYPE, data: bytes = b"", **fields: object) -> bytes:
    """One member as GNU tar would write it, with whatever name."""
    info = tarfile.TarInfo(name)
    info.type = kind
    info.size = len(data)
    info.uid, info.gid = os.geteuid(), os.getegid()
    for key, value in fields.items():
        setattr(info, key, value)
    if info.pax_headers:
        header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    else:
        header = info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
    return header + data + bytes(-len(data) % 512)


def resealed(block: bytes) -> bytes:
    """A header with its checksum made right."""
    blank = block[:148] + b" " * 8 + block[156:]
    return blank[:148] + b"%06o\0 " % sum(blank) + blank[156:]


def apply(root: Path, *entries: bytes) -> None:
    apply_layer(io.BytesIO(b"".join(entries) + bytes(1024)), root)


def untouched(root: Path) -> bool:
    outside = root.parent / "outside"
    return os.listdir(outside) == ["secret"] and (outside / "secret").read_bytes() == SECRET


class TestPathsThatClimb:
    @pytest.mark.parametrize(
        "name", ["../outside/x", "a/../../outside/x", "/../outside/x", "a/b/../../../outside/x"]
    )
    def test_dots_that_leave_the_root_are_refused(self, root: Path, name: str) -> None:
        with pytest.raises(InvalidArgument, match=r"leaves the root"):
            apply(root, entry(name, data=b"x"))
        assert untouched(root)

    def test_dots_inside_the_root_are_resolved_as_text(self, root: Path) -> None:
        apply(root, entry("a", tarfile.DIRTYPE, mode=0o755), entry("./a/b/.././../c", data=b"x"))
        assert (root / "c").read_bytes() == b"x"

    def test_absolute_names_mean_the_root(self, root: Path) -> None:
        apply(root, entry("//etc//passwd", data=b"x"))
        assert (root / "etc/passwd").read_bytes() == b"x"

    def test_whiteouts_cannot_climb(self, root: Path) -> None:
        with pytest.raises(InvalidArgument, match="leaves the root"):
            apply(root, entry("../outside/.wh.secret"))
        assert untouched(root)

    @pytest.mark.parametrize("name", [".wh...", ".wh..", ".wh.", "a/.wh..."])
    def test_whiteouts_of_dots_are_refused(self, root: Path, name: str) -> None:
        (root / "a").mkdir()
        with pytest.raises(InvalidArgument, match="would delete"):
            apply(root, entry(name))
        assert untouched(root)

    @pytest.mark.parametrize("name", ["", ".", "./", "/", "a/.."])
    def test_the_root_cannot_become_a_file_or_link(self, root: Path, name: str) -> None:
        with pytest.raises(InvalidArgument, match="replace the root"):
            apply(root, entry(name, tarfile.SYMTYPE, linkname="/outside"))
        assert root.is_dir()
        assert not root.is_symlink()


class TestLinksThatLeadOut:
    @pytest.mark.parametrize("target", ["../outside", "/outside", "../../../../../../outside"])
    def test_a_file_through_a_link_stays_inside(self, root: Path, target: str) -> None:
        (root / "outside").mkdir()
        apply(
            root,
            entry("link", tarfile.SYMTYPE, linkname=target),
            entry("link/x", data=b"inside"),
        )
        assert (root / "outside/x").read_bytes() == b"inside"
        assert untouched(root)

    def test_links_to_links_to_links_stay_inside(self, root: Path) -> None:
        absolute = str(root.parent / "outside")
        apply(
            root,
            entry("one", tarfile.SYMTYPE, linkname=".."),
            entry("two", tarfile.SYMTYPE, linkname="one/.."),
            entry("three", tarfile.SYMTYPE, linkname="two" + absolute),
            entry("three/x", data=b"inside"),
        )
        assert (root / absolute.lstrip("/") / "x").read_bytes() == b"inside"
        assert untouched(root)

    def test_a_link_loop_is_a_fault_of_the_archive(self, root: Path) -> None:
        with pytest.raises(InvalidArgument, match=r'"a/x" at byte 1024'):
            apply(
                root,
                entry("a", tarfile.SYMTYPE, linkname="b"),
                entry("b", tarfile.SYMTYPE, linkname="a"),
                entry("a/x", data=b"x"),
            )

    def test_a_directory_turned_link_is_seen_by_later_entries(self, root: Path) -> None:
        (root / "outside").mkdir()
        apply(
            root,
            entry("d", tarfile.DIRTYPE, mode=0o755),
            entry("d/first", data=b"1"),
            entry("d", tarfile.SYMTYPE, linkname="../outside"),
            entry("d/second", data=b"2"),
        )
        assert os.listdir(root / "outside") == ["second"]
        assert untouched(root)

    def test_the_last_component_is_never_followed(self, root: Path) -> None:
        secret = root.parent / "outside" / "secret"
        os.symlink(secret, root / "file")
        os.symlink(secret.parent, root / "dir")
        apply(root, entry("file", data=b"new"), entry("dir", tarfile.DIRTYPE, mode=0o700))
        assert not (root / "file").is_symlink()
        assert not (root / "dir").is_symlink()
        assert untouched(root)

    def test_modes_and_times_do_not_go_through_links(self, root: Path) -> None:
        outside = root.parent / "outside"
        before = os.stat(outside)
        apply(
            root,
            entry("d", tarfile.DIRTYPE, mode=0o777, mtime=1),
            entry("d", tarfile.SYMTYPE, linkname=str(outside), mode=0o777, mtime=1),
        )
        assert os.stat(outside).st_mode == before.st_mode
        assert os.stat(outside).st_mtime_ns == before.st_mtime_ns

    def test_a_whiteout_of_a_link_removes_the_link(self, root: Path) -> None:
        os.symlink(root.parent / "outside", root / "link")
        apply(root, entry(".wh.link"))
        assert not (root / "link").is_symlink()
        assert untouched(root)

    def test_an_opaque_mark_through_a_link_stays_inside(self, root: Path) -> None:
        os.symlink(root.parent / "outside", root / "link")
        apply(root, entry("link/.wh..wh..opq"))
        assert untouched(root)

    def test_a_link_in_the_root_itself_from_lower_layers_is_confined(self, root: Path) -> None:
        os.symlink("/", root / "up")
        apply(root, entry("up/x", data=b"x"))
        assert (root / "x").read_bytes() == b"x"


class TestHardLinks:
    @pytest.mark.parametrize("target", ["../outside/secret", "/outside/secret", "link/secret"])
    def test_targets_outside_are_not_there(self, root: Path, target: str) -> None:
        os.symlink(root.parent / "outside", root / "link")
        with pytest.raises(InvalidArgument, match=r"hard|leaves"):
            apply(root, entry("x", tarfile.LNKTYPE, linkname=target))
        assert os.stat(root.parent / "outside/secret").st_nlink == 1

    def test_a_link_to_a_link_does_not_follow_it(self, root: Path) -> None:
        secret = root.parent / "outside" / "secret"
        os.symlink(secret, root / "link")
        apply(root, entry("x", tarfile.LNKTYPE, linkname="link", mode=0o777, mtime=1))
        assert (root / "x").is_symlink()
        assert os.stat(secret).st_mtime != 1
        with pytest.raises(InvalidArgument, match="leaves"):
            apply(root, entry("y", tarfile.LNKTYPE, linkname="../root/link"))

    def test_a_link_to_a_directory_is_refused(self, root: Path) -> None:
        (root / "d").mkdir()
        with pytest.raises(InvalidArgument, match="directory"):
            apply(root, entry("x", tarfile.LNKTYPE, linkname="d"))

    def test_a_link_to_itself_changes_nothing(self, root: Path) -> None:
        (root / "x").write_bytes(b"1")
        apply(root, entry("x", tarfile.LNKTYPE, linkname="./x", mode=0o600))
        assert (root / "x").read_bytes() == b"1"

    def test_sizes_of_links_are_not_data(self, root: Path) -> None:
        first = entry("a", data=b"1")
        lying = resealed(
            entry("b", tarfile.LNKTYPE, linkname="a").replace(b"00000000000\0", b"00000100000\0", 1)
        )
        apply(root, first, lying, entry("c", data=b"3"))
        assert (root / "c").read_bytes() == b"3"


class TestSpecialFiles:
    @pytest.mark.root
    def test_a_whiteout_device_is_refused(self, root: Path) -> None:
        with pytest.raises(InvalidArgument, match="0:0"):
            apply(root, entry("x", tarfile.CHRTYPE))

    @pytest.mark.root
    def test_devices_are_made_and_not_opened(self, root: Path) -> None:
        apply(root, entry("null", tarfile.CHRTYPE, devmajor=1, devminor=3, mode=0o666))
        status = os.lstat(root / "null")
        assert stat.S_ISCHR(status.st_mode)
        assert status.st_rdev == os.makedev(1, 3)
        assert stat.S_IMODE(status.st_mode) == 0o666

    def test_a_file_over_a_fifo_does_not_wait_for_a_reader(self, root: Path) -> None:
        os.mkfifo(root / "pipe")
        apply(root, entry("pipe", data=b"x"))
        assert (root / "pipe").read_bytes() == b"x"

    def test_unknown_types_are_refused(self, root: Path) -> None:
        with pytest.raises(InvalidArgument, match="unknown type"):
            apply(root, entry("x", b"Z"))

    @pytest.mark.root
    def test_overlay_attributes_do_not_come_in(self, root: Path) -> None:
        apply(
            root,
            entry(
                "d",
                tarfile.DIRTYPE,
                pax_headers={
                    "SCHILY.xattr.trusted.overlay.opaque": "y",
                    "SCHILY.xattr.user.overlay.redirect": "/etc",
                    "SCHILY.xattr.user.kept": "1",
                },
            ),
        )
        assert os.listxattr(root / "d") == ["user.kept"]


class TestNames:
    def test_ten_thousand_bytes_of_directories(self, root: Path) -> None:
        name = "/".join(["d" * 200] * 50)
        apply(root, entry(name, data=b"deep"))
        depth = 0
        fd = os.open(root, os.O_RDONLY)
        while True:
            (name,) = os.listdir(fd)
            if name != "d" * 200:
                break
            child = os.open(name, os.O_RDONLY, dir_fd=fd)
            status = os.fstat(child)
            os.close(fd)
            fd = child
            depth += 1
            if not stat.S_ISDIR(status.st_mode):
                break
        os.close(fd)
        assert depth == 50

    def test_a_name_that_no_file_system_takes(self, root: Path) -> None:
        with pytest.raises(InvalidArgument, match="File name too long"):
            apply(root, entry("n" * 10_000, data=b"x"))

    def test_a_path_without_end(self, root: Path) -> None:
        with pytest.raises(InvalidArgument, match="path of 200000 bytes"):
            apply(root, entry("a/" * 100_000, tarfile.DIRTYPE))

    def test_nul_in_a_pax_path(self, root: Path) -> None:
        with pytest.raises(InvalidArgument, match="NUL"):
            apply(root, entry("x", pax_headers={"path": "a\0b"}))

    def test_pax_overrides_everything(self, root: Path) -> None:
        with pytest.raises(InvalidArgument, match="leaves the root"):
            apply(root, entry("harmless", pax_headers={"path": "../outside/x"}))
        apply(root, entry("f", data=b"123", pax_headers={"path": "renamed", "mtime": "1.25"}))
        assert os.stat(root / "renamed").st_mtime_ns == 1_250_000_000

    def test_pax_size_overrides_the_header(self, root: Path) -> None:
        apply(root, entry("f", data=b"123", pax_headers={"size": "3"}), entry("g", data=b"4"))
        assert (root / "f").read_bytes() == b"123"
        assert (root / "g").read_bytes() == b"4"

    def test_global_records_hold_for_what_follows(self, root: Path) -> None:
        info = tarfile.TarInfo.create_pax_global_header({"mtime": "5"})
        apply(root, info, entry("f", data=b"1"))
        assert os.stat(root / "f").st_mtime == 5
        with pytest.raises(InvalidArgument, match="for all entries"):
            apply(root, tarfile.TarInfo.create_pax_global_header({"path": "x"}))

    def test_later_entries_win(self, root: Path) -> None:
        apply(
            root,
            entry("x", data=b"1"),
            entry("x", tarfile.DIRTYPE, mode=0o755),
            entry("x/y", data=b"2"),
            entry("x", data=b"3"),
        )
        assert (root / "x").read_bytes() == b"3"

    def test_a_file_is_no_parent(self, root: Path) -> None:
        with pytest.raises(InvalidArgument, match=r'"x/y" at byte 1024: Not a directory'):
            apply(root, entry("x", data=b"1"), entry("x/y", data=b"2"))


class TestDamage:
    def whole(self) -> bytes:
        return entry("a", data=b"1" * 2000) + entry("b", data=b"2") + bytes(1024)

    @pytest.mark.parametrize("cut", [1, 511, 513, 1000, 2559, 3000, 3585])
    def test_a_tar_that_ends_early(self, root: Path, cut: int) -> None:
        with pytest.raises(InvalidArgument, match="ends"):
            apply_layer(io.BytesIO(self.whole()[:cut]), root)

    def test_a_wrong_checksum(self, root: Path) -> None:
        damaged = bytearray(self.whole())
        damaged[2560 + 10] ^= 1
        with pytest.raises(InvalidArgument, match="byte 2560: header checksum"):
            apply_layer(io.BytesIO(bytes(damaged)), root)

    def test_a_size_that_lies(self, root: Path) -> None:
        header = entry("a").replace(b"00000000000\0", b"77777777777\0", 1)
        with pytest.raises(InvalidArgument, match=r'"a" at byte 0: the archive ends early'):
            apply(root, resealed(header))

    def test_a_negative_size(self, root: Path) -> None:
        header = entry("a").replace(b"00000000000\0", b"\xff" * 11 + b"\0", 1)
        with pytest.raises(InvalidArgument, match="impossible size"):
            apply(root, resealed(header))

    def test_letters_in_a_number(self, root: Path) -> None:
        header = entry("a").replace(b"00000000000\0", b"0000zzz0000\0", 1)
        with pytest.raises(InvalidArgument, match="not octal"):
            apply(root, resealed(header))

    def test_no_tar_at_all(self, root: Path) -> None:
        with pytest.raises(InvalidArgument, match="not a tar"):
            apply_layer(io.BytesIO(b"<html>" * 1000), root)

    @pytest.mark.parametrize(
        "records",
        [b"0 a=b\n", b"99 a=b\n", b"6 a=b", b"x a=b\n", b"5 a=\n ", b"6 =bc\n", b"-6 a=b\n"],
    )
    def test_broken_pax_records(self, root: Path, records: bytes) -> None:
        header = entry("h", b"x", records)
        with pytest.raises(InvalidArgument, match="PAX record"):
            apply(root, header, entry("a"))

    def test_a_pax_header_larger_than_memory(self, root: Path) -> None:
        header = entry("h", b"x").replace(b"00000000000\0", b"77777777777\0", 1)
        with pytest.raises(InvalidArgument, match="want at most"):
            apply(root, resealed(header))

    @pytest.mark.root
    @pytest.mark.parametrize("what", ["a file", "a directory"])
    def test_a_full_disk(self, root: Path, what: str) -> None:
        size = "size=64k" if what == "a file" else "nr_inodes=8"
        data = (
            entry("a", data=b"x" * 200_000)
            if what == "a file"
            else b"".join(entry(f"d{number}", tarfile.DIRTYPE) for number in range(20))
        )
        with (
            mounted([Mount("tmpfs", "tmpfs", options=(size,))], root),
            pytest.raises(ResourceExhausted, match="No space left"),
        ):
            apply(root, data)


class TestSparse:
    """GNU tar makes them all; the bytes must be those of the file."""

    def content(self) -> bytes:
        return b"start" + bytes(300_000) + b"middle" * 1000 + bytes(500_000) + b"end"

    @pytest.mark.requires("tar")
    @pytest.mark.parametrize(
        "form", [("gnu", ""), ("posix", "0.0"), ("posix", "0.1"), ("posix", "1.0")]
    )
    @pytest.mark.parametrize("segments", [3, 40])
    def test_what_gnu_tar_makes(self, root: Path, form: tuple[str, str], segments: int) -> None:
        source = root.parent / "source"
        source.mkdir()
        with (source / "sparse").open("wb") as file:
            for number in range(segments):
                file.seek(number * 100_000)
                file.write(b"%d" % number * 100)
            file.truncate(segments * 100_000 + 5)
        options = [f"--sparse-version={form[1]}"] if form[1] else []
        archive = root.parent / "x.tar"
        subprocess.run(
            ["tar", "--sparse", f"--format={form[0]}", *options, "-C", source, "-cf", archive, "."],
            check=True,
        )
        with archive.open("rb") as file:
            apply_layer(file, root)
        assert (root / "sparse").read_bytes() == (source / "sparse").read_bytes()
        assert os.stat(root / "sparse").st_blocks * 512 < segments * 100_000

    @pytest.mark.parametrize(
        "records",
        [
            {"GNU.sparse.map": "0,1", "GNU.sparse.size": "-1"},
            {"GNU.sparse.map": "0,1", "GNU.sparse.size": "99999999999999999999"},
            {"GNU.sparse.map": "0,1"},
            {"GNU.sparse.map": "5,1,0,1", "GNU.sparse.size": "10"},
            {"GNU.sparse.map": "0,9", "GNU.sparse.size": "10"},
            {"GNU.sparse.map": "0,1,2", "GNU.sparse.size": "10"},
            {"GNU.sparse.map": "9,2", "GNU.sparse.size": "10"},
            {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "10"},
        ],
    )
    def test_maps_that_lie(self, root: Path, records: dict[str, str]) -> None:
        with pytest.raises(InvalidArgument):
            apply(root, entry("x", data=b"12", pax_headers=records))


class TestCompressed:
    def tar(self) -> bytes:
        return entry("f", data=b"data" * 10_000) + bytes(1024)

    @pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
    def test_cut_streams_are_faults(self, root: Path, pack: object) -> None:
        packed = pack(self.tar())  # type: ignore[operator]
        with pytest.raises(InvalidArgument, match="ends early"):
            apply_layer(io.BytesIO(packed[:-9]), root)

    def test_a_cut_zstd_stream(self, root: Path) -> None:
        packed = b"".join(compress([self.tar()], "zstd"))
        with pytest.raises(InvalidArgument, match="ends early"):
            apply_layer(io.BytesIO(packed[:-3]), root)

    def test_a_flipped_bit(self, root: Path) -> None:
        packed = bytearray(gzip.compress(self.tar()))
        packed[-5] ^= 1
        with pytest.raises(InvalidArgument, match="broken"):
            apply_layer(io.BytesIO(bytes(packed)), root)

    def test_rubbish_after_the_end(self, root: Path) -> None:
        with pytest.raises(InvalidArgument, match="followed by something else"):
            apply_layer(io.BytesIO(gzip.compress(self.tar()) + b"rubbish"), root)

    def test_members_and_padding(self, root: Path) -> None:
        data = self.tar()
        packed = gzip.compress(data[:700]) + gzip.compress(data[700:]) + bytes(100)
        apply_layer(io.BytesIO(packed), root)
        assert (root / "f").stat().st_size == 40_000

    @pytest.mark.parametrize("form", ["gzip", "bzip2", "xz"])
    def test_a_bomb_needs_no_memory(self, form: str) -> None:
        """A gibibyte of zeros, in less than 64 MiB more than before."""
        zeros = bytes(1 << 24)
        if form == "gzip":
            member = gzip.compress(zeros)
        elif form == "bzip2":
            member = bz2.compress(zeros)
        else:
            member = lzma.compress(zeros)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        total = 0
        with open_compressed(io.BytesIO(member * 64)) as stream:
            while piece := stream.read():
                total += len(piece)
        assert total == 1 << 30
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 << 10


class TestArchivesOfAdd:
    def test_whiteout_names_are_files(self, root: Path) -> None:
        (root / "d").mkdir()
        (root / "d/x").write_bytes(b"1")
        data = entry(".wh.x") + entry(".wh..wh..opq") + bytes(1024)
        unpack_archive(io.BytesIO(data), root, b"/d")
        assert sorted(os.listdir(root / "d")) == [".wh..wh..opq", ".wh.x", "x"]

    @pytest.mark.parametrize("dest", [b"/link", b"../link/.", b"link"])
    def test_the_destination_is_followed_inside_the_root(self, root: Path, dest: bytes) -> None:
        os.symlink("/outside", root / "link")
        unpack_archive(io.BytesIO(entry("x", data=b"1") + bytes(1024)), root, dest)
        assert (root / "outside/x").read_bytes() == b"1"
        assert untouched(root)

    def test_entries_cannot_climb_out_of_the_destination(self, root: Path) -> None:
        with pytest.raises(InvalidArgument, match="leaves"):
            unpack_archive(io.BytesIO(entry("../x", data=b"1") + bytes(1024)), root, b"a/b")

    @pytest.mark.root
    def test_an_owner_for_everything(self, root: Path) -> None:
        data = entry("d/x", data=b"1", uid=5) + entry("l", tarfile.SYMTYPE, linkname="x", uid=5)
        unpack_archive(io.BytesIO(data + bytes(1024)), root, b"", owner=(7, 8))
        for name in ("d/x", "l"):
            status = os.lstat(root / name)
            assert (status.st_uid, status.st_gid) == (7, 8)


def test_many_entries_in_little_memory(tmp_path: Path) -> None:
    """In a process of its own, so that the peak is this archive's."""
    script = """
import resource, sys
from pathlib import Path
from slipform.layer.apply import apply_layer
from slipform.layer.tar_header import plain_header

class Entries:
    left, number = b"", 0
    def read(self, size):
        if self.number >= 50_000:
            return b""
        self.number += 1000
        return b"".join(
            plain_header(b"d/%d" % (n % 50), 0o644, 0, 0, 0, 0, b"0")
            for n in range(self.number - 1000, self.number)
        )

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
apply_layer(Entries(), Path(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    (tmp_path / "root").mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "root"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert int(done.stdout) < 32 << 10
