"""Moving blobs: into and out of a content store, by call, stream and descriptor.

One JSON line per case: the median of several runs, after one that does not count. The store is a
process of its own. Yardsticks in the same run: SHA-256 alone, a copy in memory, a plain file
write with fsync, and a raw unix stream. Small blobs are counted per second.

    blob_stream.py [--size MIB] [--repetitions N] [--directory PATH]
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import platform
import random
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

import grpc

from slipform.api.content.v1 import content_pb2_grpc
from slipform.content.service import ContentServicer
from slipform.content.store import Content
from slipform.core.content import CHUNK_SIZE, ContentStore
from slipform.core.oci.digest import Digest
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.descriptors import DescriptorServer
from slipform.rpc.proxy.content import RemoteContentStore
from slipform.rpc.server import Server, Service

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

MIB: Final = 1 << 20
SMALL: Final = 200
"""Blobs of 1000 bytes: manifests and configs."""


def main() -> int:
    """Print one JSON line per case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=256, help="MiB of the large blob")
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--directory", type=Path, default=None, help="where the store lies")
    parser.add_argument("--serve", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve is not None:
        return serve(arguments.serve)
    directory = Path(tempfile.mkdtemp(prefix="slipform-bench-", dir=arguments.directory))
    try:
        run(directory, arguments.size * MIB, arguments.repetitions)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
    return 0


def serve(directory: Path) -> int:
    """A content service until stdin ends."""
    content = Content(FilesystemBlobs(directory / "remote"), directory / "remote.db")
    servicer = ContentServicer(content, directory / "fd.sock")
    service = Service(
        "slipform.api.content.v1.ContentService",
        lambda server: content_pb2_grpc.add_ContentServiceServicer_to_server(servicer, server),
    )
    server, handout = Server([service]), DescriptorServer(content, directory / "fd.sock")
    server.listen(Address(path=directory / "api.sock"))
    handout.start()
    server.start()
    print("ready", flush=True)
    sys.stdin.read()
    server.stop(1)
    handout.stop()
    content.close()
    return 0


@contextlib.contextmanager
def service(directory: Path) -> Iterator[grpc.Channel]:
    """A channel to a content service in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--serve", str(directory)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process, open_channel(f"unix:{directory / 'api.sock'}") as channel:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == "ready\n"
        yield channel
        process.stdin.close()


def run(directory: Path, size: int, repetitions: int) -> None:
    """Measure everything about one large blob and many small ones."""
    seeded = random.Random(7)
    data = b"".join(seeded.randbytes(MIB) for _ in range(size // MIB))
    digest = Digest.of(data)
    content = Content(FilesystemBlobs(directory / "local"), directory / "local.db")
    with contextlib.closing(content), service(directory) as channel:
        local = content.tenant("default")
        streamed = RemoteContentStore(channel, descriptors=False)
        passed = RemoteContentStore(channel)
        for store in (local, streamed):
            write(store, data, digest)
        for name, work in yardsticks(directory, data).items():
            report(name, work, size, repetitions)
        cases: dict[str, Callable[[], object]] = {
            "write local": lambda: rewrite(local, data, digest),
            "write stream": lambda: rewrite(streamed, data, digest),
            "read local": lambda: read(local, digest, size),
            "read stream": lambda: read(streamed, digest, size),
            "read descriptor": lambda: read(passed, digest, size),
            "read descriptor sha256": lambda: read_and_hash(passed, digest),
            "open descriptor": lambda: os.close(passed.open_descriptor(digest)),
        }
        for name, work in cases.items():
            report(name, work, size, repetitions)
        for name, store in (("local", local), ("stream", streamed), ("descriptor", passed)):
            report_small(name, store, repetitions)
        passed.close()


def yardsticks(directory: Path, data: bytes) -> dict[str, Callable[[], object]]:
    """What the machine does without us."""
    source = directory / "yardstick"
    source.write_bytes(data)
    return {
        "yardstick memcpy": lambda: bytearray(data),
        "yardstick sha256": lambda: hashlib.sha256(data).digest(),
        "yardstick file write, fsync": lambda: plain_write(directory / "plain", data),
        "yardstick file read": lambda: plain_read(source),
        "yardstick unix stream": lambda: unix_stream(data),
    }


def write(store: ContentStore, data: bytes, digest: Digest) -> None:
    """Commit the blob in chunks, under a lease."""
    view = memoryview(data)
    with store.ingest(f"bench-{digest}", total=len(data)) as ingest:
        for start in range(0, len(data), CHUNK_SIZE):
            ingest.write(view[start : start + CHUNK_SIZE])
        ingest.commit(expected=digest)


def rewrite(store: ContentStore, data: bytes, digest: Digest) -> None:
    """As ``write``, after removing it; removal is a few hundred microseconds of it."""
    store.delete(digest)
    write(store, data, digest)


def read(store: ContentStore, digest: Digest, size: int) -> None:
    """All bytes, looked at by nobody."""
    assert sum(map(len, store.read(digest))) == size


def read_and_hash(store: ContentStore, digest: Digest) -> None:
    """All bytes, verified."""
    hasher = hashlib.sha256()
    for chunk in store.read(digest):
        hasher.update(chunk)
    assert hasher.hexdigest() == digest.hex


def plain_write(path: Path, data: bytes) -> None:
    """The least a durable write costs, without hashing."""
    view = memoryview(data)
    with path.open("wb", buffering=0) as file:
        for start in range(0, len(data), CHUNK_SIZE):
            file.write(view[start : start + CHUNK_SIZE])
        os.fsync(file.fileno())
    path.unlink()


def plain_read(path: Path) -> None:
    """From the page cache, in chunks."""
    with path.open("rb", buffering=0) as file:
        while file.read(CHUNK_SIZE):
            pass


def unix_stream(data: bytes) -> None:
    """Through a socket pair, with nothing on top."""
    left, right = socket.socketpair()

    def send() -> None:
        left.sendall(data)
        left.close()

    thread = threading.Thread(target=send)
    thread.start()
    buffer = bytearray(CHUNK_SIZE)
    with right:
        while right.recv_into(buffer):
            pass
    thread.join()


def report(name: str, work: Callable[[], object], size: int, repetitions: int) -> None:
    """One line about a large blob."""
    seconds = median(work, repetitions)
    line = {"bytes": size, "seconds": round(seconds, 6), "mib_per_s": round(size / seconds / MIB)}
    emit(name, line, repetitions)


def report_small(name: str, store: ContentStore, repetitions: int) -> None:
    """Lines about small blobs, each with its own commit."""
    blobs = [random.Random(n).randbytes(1000) for n in range(SMALL)]
    digests = [Digest.of(blob) for blob in blobs]

    def commit() -> None:
        for blob, digest in zip(blobs, digests, strict=True):
            write(store, blob, digest)

    def delete() -> None:
        for digest in digests:
            store.delete(digest)

    writes = []
    for _ in range(repetitions + 1):
        writes.append(timed(commit))
        reads = [timed(lambda: [b"".join(store.read(d)) for d in digests])]
        infos = [timed(lambda: [store.info(d) for d in digests])]
        delete()
    for what, seconds in (("commit", writes[1:]), ("read", reads), ("info", infos)):
        each = statistics.median(seconds) / SMALL
        line = {"bytes": 1000, "seconds": round(each, 7), "per_s": round(1 / each)}
        emit(f"small {what} {name}", line, len(seconds) * SMALL)


def median(work: Callable[[], object], repetitions: int) -> float:
    """Seconds of the middle run; the first one, which warms up, does not count."""
    return statistics.median([timed(work) for _ in range(repetitions + 1)][1:])


def timed(work: Callable[[], object]) -> float:
    """Seconds of one run."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def emit(name: str, line: Mapping[str, object], repetitions: int) -> None:
    """Print a line with what one must know to compare it."""
    about = {
        "repetitions": repetitions,
        "cache": "warm",
        "file_system": file_system(),
        "cpu": f"{cpu()} x{os.cpu_count()}",
        "python": platform.python_version(),
        "grpcio": grpc.__version__,
        "kernel": platform.release(),
    }
    print(json.dumps({"benchmark": "blob_stream", "case": name, **line, **about}), flush=True)


def file_system() -> str:
    """Type of the file system below the temporary directory."""
    run = subprocess.run(
        ["stat", "-f", "-c", "%T", tempfile.gettempdir()], capture_output=True, text=True
    )
    return run.stdout.strip()


def cpu() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


if __name__ == "__main__":
    raise SystemExit(main())
