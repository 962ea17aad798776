"""Trees through layers and back: nothing is lost, and how bytes are cut does not show."""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

from slipform.core.errors import DomainError
from slipform.layer.apply import apply_layer
from slipform.layer.compress import compress
from slipform.layer.decompress import open_compressed
from slipform.layer.diff import directory_changes
from slipform.layer.tar_writer import write_layer

if TYPE_CHECKING:
    from slipform.layer.compress import Compression

FORMS: tuple[Compression, ...] = ("gzip", "zstd")
names = st.one_of(
    st.text(st.characters(exclude_characters="/\0", codec="utf-8"), min_size=1),
    st.binary(min_size=1, max_size=255).map(lambda raw: os.fsdecode(raw.translate(None, b"/\0"))),
    st.sampled_from(("a", "b" * 99, "c" * 200)),
).filter(
    lambda name: (
        name not in ("", ".", "..") and not name.startswith(".wh.") and len(os.fsencode(name)) < 256
    )
)
modes = st.sampled_from((0o644, 0o600, 0o755, 0o4711, 0o1777))
times = st.integers(-(2**31), 2**33)
files = st.tuples(st.just("file"), st.binary(max_size=2000), modes, times)
links = st.tuples(
    st.just("link"), st.binary(min_size=1, max_size=300), st.just(0o777), st.just(0)
).filter(lambda link: b"\0" not in link[1])
fifos = st.tuples(st.just("fifo"), st.just(b""), modes, times)
trees = st.recursive(
    st.dictionaries(names, st.one_of(files, links, fifos), max_size=5),
    lambda below: st.dictionaries(names, st.one_of(files, links, below), max_size=4),
    max_leaves=15,
)


Leaf = tuple[str, bytes, int, int]
Tree = dict[str, "Leaf | Tree"]


def plant(root: Path, tree: Tree) -> None:
    for name, what in tree.items():
        path = root / name
        if isinstance(what, dict):
            path.mkdir()
            plant(path, what)
            continue
        kind, data, mode, mtime = what
        if kind == "link":
            os.symlink(data, os.fsencode(path))
            continue
        if kind == "fifo":
            os.mkfifo(path)
        else:
            path.write_bytes(data)
        path.chmod(mode)
        os.utime(path, (mtime, mtime))


@given(tree=trees)
@settings(max_examples=150)
def test_there_and_back_again(tree: Tree) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        source, back = Path(scratch, "source"), Path(scratch, "back")
        for root in (source, back):
            root.mkdir()
            root.chmod(0o755)
        plant(source, tree)
        sink = io.BytesIO()
        summary = write_layer(directory_changes(None, source), sink)
        layer = sink.getvalue()
        applied = apply_layer(io.BytesIO(layer), back)
        assert (applied.diff_id, applied.size) == (summary.diff_id, summary.size)
        again = io.BytesIO()
        write_layer(directory_changes(None, back), again)
        assert again.getvalue() == layer
        with tarfile.open(fileobj=io.BytesIO(layer), mode="r:") as tar:
            seen = {os.fsencode(name) for name in tar.getnames()} - {b"."}
        there = {os.fsencode(path.relative_to(source)) for path in source.rglob("*")}
        assert seen == there


@given(
    data=st.binary(max_size=5000),
    copies=st.integers(0, 600),
    cuts=st.lists(st.integers(1, 100_000), max_size=20),
    form=st.sampled_from(FORMS),
)
@settings(max_examples=60)
def test_cuts_do_not_show(data: bytes, copies: int, cuts: list[int], form: Compression) -> None:
    whole = data * copies
    chunks, at = [], 0
    for cut in cuts:
        chunks.append(whole[at : at + cut])
        at += cut
    chunks.append(whole[at:])
    packed = b"".join(compress(chunks, form, workers=2))
    assert packed == b"".join(compress([whole], form))
    with open_compressed(io.BytesIO(packed)) as stream:
        assert b"".join(iter(stream.read, b"")) == whole


def sample() -> bytes:
    """One of everything, to be damaged."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, kind, link in (
            ("d", tarfile.DIRTYPE, ""),
            ("d/file", tarfile.REGTYPE, ""),
            ("d/é" + "n" * 120, tarfile.REGTYPE, ""),
            ("d/hard", tarfile.LNKTYPE, "d/file"),
            ("d/soft", tarfile.SYMTYPE, "../d/file"),
            ("d/.wh.gone", tarfile.REGTYPE, ""),
            ("d/pipe", tarfile.FIFOTYPE, ""),
        ):
            info = tarfile.TarInfo(name)
            info.type, info.linkname, info.mtime = kind, link, 1.5
            info.uid, info.gid = os.geteuid(), os.getegid()
            if kind == tarfile.REGTYPE and ".wh." not in name:
                info.size = 700
            tar.addfile(info, io.BytesIO(b"x" * 700))
    return out.getvalue()


SAMPLE = sample()


def resealed(damaged: bytearray, at: int) -> None:
    """Make the checksum of the block around ``at`` right, so that the damage is looked at."""
    start = at // 512 * 512
    block = damaged[start : start + 512]
    block[148:156] = b" " * 8
    damaged[start + 148 : start + 156] = b"%06o\0 " % sum(block)


@given(
    edits=st.lists(
        st.tuples(st.integers(0, len(SAMPLE) - 513), st.binary(min_size=1, max_size=12)),
        min_size=1,
        max_size=4,
    ),
    seal=st.booleans(),
)
@settings(max_examples=300)
def test_damage_is_either_harmless_or_named(edits: list[tuple[int, bytes]], seal: bool) -> None:
    damaged = bytearray(SAMPLE)
    for at, data in edits:
        damaged[at : at + len(data)] = data
        if seal:
            resealed(damaged, at)
    with tempfile.TemporaryDirectory() as scratch:
        root = Path(scratch, "in", "root")
        root.mkdir(parents=True)
        try:
            apply_layer(io.BytesIO(bytes(damaged)), root)
        except DomainError as error:
            assert "tar" in str(error) or "archive" in str(error)  # noqa: PT017 - either is fine
        root.chmod(0o755)
        assert os.listdir(Path(scratch, "in")) == ["root"]
        assert os.listdir(scratch) == ["in"]


@given(data=st.binary(max_size=3000), magic=st.sampled_from((b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd",
       b"BZh9", b"\xfd7zXZ\0", b"")))  # fmt: skip
@settings(max_examples=200)
def test_rubbish_is_refused(data: bytes, magic: bytes) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        try:
            apply_layer(io.BytesIO(magic + data), Path(scratch))
        except DomainError:
            return
        assert not data.strip(b"\0")
