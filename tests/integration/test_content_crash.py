"""A process that dies in the middle: nothing committed is lost, nothing half is seen."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from slipform.content.store import Content
from slipform.core.errors import Unavailable
from slipform.core.oci.digest import Digest
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.testing.content import fetch, payload, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEAD = """
import random, sys
from pathlib import Path
from slipform.content.store import Content
from slipform.drivers.content.filesystem import FilesystemBlobs
root = Path(sys.argv[1])
store = Content(FilesystemBlobs(root), root / "db").tenant("t")
say = lambda *words: print(*words, flush=True)
"""
WRITE = """
data = random.Random(1).randbytes(1 << 20)
ingest = store.ingest("r")
while True:
    ingest.write(data[:70_001])
    say(ingest.offset)
"""
COMMIT = """
n = 0
while True:
    n += 1
    data = random.Random(n).randbytes(n * 997 % 100_000)
    with store.ingest(f"r{n}") as ingest:
        ingest.write(data)
        say(ingest.commit(lease=f"l{n}").digest)
"""
DELETE = """
digests = []
for n in range(200):
    with store.ingest("r") as ingest:
        ingest.write(b"%d" % n)
        digests.append(ingest.commit().digest)
for digest in digests:
    store.delete(digest)
    say(digest)
"""


@contextlib.contextmanager
def victim(script: str, root: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that works on the store until it is killed; dead when the block ends."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + script, str(root)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    with process:
        try:
            yield process
        finally:
            process.send_signal(signal.SIGKILL)


def said(process: subprocess.Popen[str], lines: int) -> list[str]:
    """The first lines; the process is dead afterwards, at whatever it was doing by then."""
    assert process.stdout is not None
    words = [process.stdout.readline().strip() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    return [*words, *(line for line in rest.split("\n")[:-1] if line)]


@contextlib.contextmanager
def reopened(root: Path) -> Iterator[Content]:
    content = Content(FilesystemBlobs(root), root / "db", grace=timedelta(0))
    with contextlib.closing(content):
        yield content


@pytest.mark.parametrize("lines", [1, 2, 17, 100])
def test_a_killed_write_goes_on_where_it_was(tmp_path: Path, lines: int) -> None:
    with victim(WRITE, tmp_path) as process:
        acknowledged = int(said(process, lines)[-1])
    part = payload(1 << 20)[:70_001]
    with reopened(tmp_path) as content:
        store = content.tenant("t")
        offset = store.status("r").offset
        assert offset >= acknowledged
        with store.ingest("r") as ingest:
            assert ingest.offset == offset
            whole = part * (offset // len(part) + 2)
            assert ingest.digest() == Digest.of(whole[:offset])
            ingest.truncate(acknowledged)
            ingest.write(b"end")
            digest = ingest.commit(size=ingest.offset).digest
        assert fetch(store, digest) == whole[:acknowledged] + b"end"


@pytest.mark.parametrize("lines", [1, 3, 10, 30, 31, 32, 33])
def test_what_was_committed_is_there_after_a_kill(tmp_path: Path, lines: int) -> None:
    with victim(COMMIT, tmp_path) as process:
        committed = said(process, lines)
    with reopened(tmp_path) as content:
        store = content.tenant("t")
        store.collect()
        found = {str(info.digest) for info in store.walk()}
        assert found >= set(committed)
        for digest in found:
            assert str(Digest.of(fetch(store, Digest.parse(digest)))) == digest
        named = {path.name for path in (tmp_path / "blobs/sha256").iterdir()}
        assert named == {digest.removeprefix("sha256:") for digest in found}
        for status in store.statuses():  # what was in the making is still to be had
            store.ingest(status.ref).close()


@pytest.mark.parametrize("lines", [1, 20, 199])
def test_deletions_stay_deletions(tmp_path: Path, lines: int) -> None:
    with victim(DELETE, tmp_path) as process:
        deleted = said(process, lines)
    with reopened(tmp_path) as content:
        store = content.tenant("t")
        found = {str(info.digest) for info in store.walk()}
        assert not found & set(deleted)
        assert all(fetch(store, Digest.parse(digest)) for digest in found)
        assert list((tmp_path / "trash").iterdir()) == []
        store.collect()
        assert list((tmp_path / "blobs/sha256").iterdir()) == []


def test_a_living_process_keeps_others_out_and_a_dead_one_does_not(tmp_path: Path) -> None:
    with victim(WRITE, tmp_path) as process:
        assert process.stdout is not None
        process.stdout.readline()
        with pytest.raises(Unavailable, match="another process"):
            FilesystemBlobs(tmp_path)
    with reopened(tmp_path) as content:
        put(content.tenant("t"), b"x")
