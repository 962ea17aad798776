"""A remote content store when things around it change: sockets vanish, servers restart, fill up."""

from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from slipform.api.content.v1 import content_pb2_grpc
from slipform.content.service import ContentServicer
from slipform.content.store import Content
from slipform.core.content import CHUNK_SIZE
from slipform.core.errors import FailedPrecondition, ResourceExhausted, Unavailable, Unsupported
from slipform.core.oci.digest import Digest
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.drivers.content.memory import MemoryBlobs
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.descriptors import DescriptorServer
from slipform.rpc.proxy.content import RemoteContentStore
from slipform.rpc.server import Server, Service
from slipform.testing.content import ABSENT, fetch, payload, put

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slipform.core.blob_driver import BlobDriver


@contextlib.contextmanager
def serving(driver: BlobDriver, folder: Path) -> Iterator[tuple[Server, DescriptorServer]]:
    content = Content(driver, folder / "db", grace=timedelta(0))
    servicer = ContentServicer(content, folder / "fd.sock")
    service = Service(
        "slipform.api.content.v1.ContentService",
        lambda server: content_pb2_grpc.add_ContentServiceServicer_to_server(servicer, server),
    )
    server, handout = (
        Server([service], reflection=False),
        DescriptorServer(content, folder / "fd.sock"),
    )
    server.listen(Address(path=folder / "api.sock"))
    handout.start()
    server.start()
    try:
        yield server, handout
    finally:
        server.stop(1)
        handout.stop()
        content.close()


@contextlib.contextmanager
def connected(folder: Path) -> Iterator[RemoteContentStore]:
    with open_channel(f"unix:{folder / 'api.sock'}") as channel:
        store = RemoteContentStore(channel, timeout_s=30)
        with contextlib.closing(store):
            yield store


def descriptor_works(store: RemoteContentStore, digest: Digest) -> bool:
    try:
        fd = store.open_descriptor(digest)
    except (Unavailable, Unsupported):
        return False
    with open(fd, "rb") as file:
        return Digest.of(file.read()) == digest


def test_reads_go_on_by_stream_when_the_descriptor_socket_dies(tmp_path: Path) -> None:
    with (
        serving(FilesystemBlobs(tmp_path / "store"), tmp_path) as (_, handout),
        connected(tmp_path) as store,
    ):
        digest = put(store, payload(3 * CHUNK_SIZE))
        assert descriptor_works(store, digest)
        handout.stop()
        assert len(fetch(store, digest)) == 3 * CHUNK_SIZE
        assert not descriptor_works(store, digest)


def test_a_client_outlives_its_server(tmp_path: Path) -> None:
    with connected(tmp_path) as store:
        for number in range(2):  # the second one is another instance on the same paths
            with serving(FilesystemBlobs(tmp_path / "store"), tmp_path):
                digest = put(store, b"%d" % number)
                assert fetch(store, digest) == b"%d" % number
                assert fetch(store, Digest.of(b"0")) == b"0"
                assert descriptor_works(store, digest)


def test_nobody_there(tmp_path: Path) -> None:
    with connected(tmp_path) as store:
        for use in (store.info, store.read, store.open_descriptor):
            with pytest.raises(Unavailable):
                use(ABSENT)
        with pytest.raises(Unavailable):
            store.ingest("r")


def test_a_server_that_ends_in_the_middle_of_a_write(tmp_path: Path) -> None:
    with connected(tmp_path) as store:
        with serving(FilesystemBlobs(tmp_path / "store"), tmp_path) as (server, _):
            ingest = store.ingest("r")
            ingest.write(b"abc")
            assert ingest.digest() == Digest.of(b"abc")
            server.stop(0)
            with pytest.raises(Unavailable):
                ingest.digest()
            ingest.close()
            with pytest.raises(FailedPrecondition):
                ingest.write(b"x")
        with serving(FilesystemBlobs(tmp_path / "store"), tmp_path), store.ingest("r") as again:
            assert again.offset == 3
            assert again.commit().digest == Digest.of(b"abc")


def test_a_full_store_is_told_through_the_stream(tmp_path: Path) -> None:
    driver = MemoryBlobs(limit=2 * CHUNK_SIZE + 10)
    with serving(driver, tmp_path), connected(tmp_path) as store:
        with store.ingest("r") as ingest, pytest.raises(ResourceExhausted):  # noqa: PT012
            ingest.write(payload(3 * CHUNK_SIZE))
            ingest.commit()
        assert store.status("r").offset == 2 * CHUNK_SIZE
        with store.ingest("r") as ingest:
            ingest.write(b"fits")
            assert ingest.commit().size == 2 * CHUNK_SIZE + 4


def test_many_infos_in_few_calls(tmp_path: Path) -> None:
    with serving(MemoryBlobs(), tmp_path), connected(tmp_path) as store:
        digests = [put(store, b"%d" % n) for n in range(5)]
        assert [info.digest for info in store.infos([*digests, ABSENT])] == digests
        assert store.infos([]) == []
