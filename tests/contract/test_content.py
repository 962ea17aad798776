from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from slipform.api.content.v1 import content_pb2_grpc
from slipform.content.service import ContentServicer
from slipform.content.store import Content
from slipform.core.content import SupportsDescriptors
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.drivers.content.memory import MemoryBlobs
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.descriptors import DescriptorServer
from slipform.rpc.proxy.content import RemoteContentStore
from slipform.rpc.server import Server, Service
from slipform.testing.content import ContentStoreContract, ContentWorld

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slipform.core.blob_driver import BlobDriver


@contextlib.contextmanager
def local(driver: BlobDriver, database: Path | None) -> Iterator[ContentWorld]:
    with contextlib.closing(Content(driver, database, grace=timedelta(0))) as content:
        yield ContentWorld(content.tenant)


@contextlib.contextmanager
def remote(
    driver: BlobDriver, database: Path | None, sockets: Path, *, descriptors: bool
) -> Iterator[ContentWorld]:
    content = Content(driver, database, grace=timedelta(0))
    servicer = ContentServicer(content, sockets / "fd.sock" if descriptors else None)
    server = Server(
        [
            Service(
                "slipform.api.content.v1.ContentService",
                lambda s: content_pb2_grpc.add_ContentServiceServicer_to_server(servicer, s),
            )
        ],
        reflection=False,
    )
    address = Address(path=sockets / "api.sock")
    handout = DescriptorServer(content, sockets / "fd.sock")
    stores: dict[str, RemoteContentStore] = {}
    server.listen(address)
    handout.start()
    server.start()
    try:
        with open_channel(str(address)) as channel:
            yield ContentWorld(
                lambda name: stores.setdefault(name, RemoteContentStore(channel, name))
            )
    finally:
        for store in stores.values():
            store.close()
        server.stop(1)
        handout.stop()
        content.close()


class TestFilesystem(ContentStoreContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[ContentWorld]:
        with local(FilesystemBlobs(tmp_path / "store"), tmp_path / "db") as world:
            assert isinstance(world.store, SupportsDescriptors)
            yield world


class TestMemory(ContentStoreContract):
    @pytest.fixture
    def world(self) -> Iterator[ContentWorld]:
        with local(MemoryBlobs(), None) as world:
            assert not isinstance(world.store, SupportsDescriptors)
            yield world


class TestFilesystemOverGrpc(ContentStoreContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[ContentWorld]:
        driver = FilesystemBlobs(tmp_path / "store")
        with remote(driver, tmp_path / "db", tmp_path, descriptors=False) as world:
            yield world


class TestFilesystemByDescriptor(ContentStoreContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[ContentWorld]:
        driver = FilesystemBlobs(tmp_path / "store")
        with remote(driver, tmp_path / "db", tmp_path, descriptors=True) as world:
            yield world


class TestMemoryOverGrpc(ContentStoreContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[ContentWorld]:
        with remote(MemoryBlobs(), None, tmp_path, descriptors=True) as world:
            yield world
