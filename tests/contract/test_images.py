from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from slipform.api.images.v1 import images_pb2_grpc
from slipform.content.store import Content
from slipform.core.content import DEFAULT_TENANT
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.drivers.content.memory import MemoryBlobs
from slipform.drivers.snapshot.copy import CopyDriver
from slipform.drivers.snapshot.overlay import OverlayDriver
from slipform.images.service import ImagesServicer
from slipform.images.store import Images
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.proxy.images import RemoteImages
from slipform.rpc.server import Server, Service
from slipform.snapshotter.store import Snapshots
from slipform.testing.images import ImageStoreContract, ImagesWorld, UnpackContract

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextlib.contextmanager
def local(tmp_path: Path, content: Content, driver: Any) -> Iterator[ImagesWorld]:
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.closing(content))
        blobs = content.tenant(DEFAULT_TENANT)
        snapshots = stack.enter_context(
            contextlib.closing(Snapshots(tmp_path / "snapshots", driver, blobs))
        )
        snapshotter = snapshots.tenant(DEFAULT_TENANT)
        images = Images(tmp_path / "images.db", blobs, snapshotter)
        stack.callback(images.close)
        yield ImagesWorld(images, blobs, snapshotter)


@contextlib.contextmanager
def remote(world: ImagesWorld, socket: Path) -> Iterator[ImagesWorld]:
    servicer = ImagesServicer(world.images)
    service = Service(
        "slipform.api.images.v1.ImagesService",
        lambda s: images_pb2_grpc.add_ImagesServiceServicer_to_server(servicer, s),
    )
    server = Server([service], reflection=False)
    address = Address(path=socket)
    server.listen(address)
    server.start()
    try:
        with open_channel(str(address)) as channel:
            yield ImagesWorld(RemoteImages(channel), world.content, world.snapshotter)
    finally:
        server.stop(1)


@pytest.fixture
def snapshots_root(tmp_path: Path) -> Path:
    root = tmp_path / "snapshots"
    root.mkdir()
    return root


class TestLocal(ImageStoreContract, UnpackContract):
    @pytest.fixture
    def world(self, tmp_path: Path, snapshots_root: Path) -> Iterator[ImagesWorld]:
        content = Content(MemoryBlobs(), None, grace=timedelta(0))
        with local(tmp_path, content, CopyDriver(snapshots_root)) as world:
            yield world


class TestFiles(ImageStoreContract, UnpackContract):
    @pytest.fixture
    def world(self, tmp_path: Path, snapshots_root: Path) -> Iterator[ImagesWorld]:
        content = Content(
            FilesystemBlobs(tmp_path / "content"), tmp_path / "content.db", grace=timedelta(0)
        )
        with local(tmp_path, content, OverlayDriver(snapshots_root)) as world:
            yield world


class TestOverGrpc(ImageStoreContract, UnpackContract):
    @pytest.fixture
    def world(self, tmp_path: Path, snapshots_root: Path) -> Iterator[ImagesWorld]:
        content = Content(MemoryBlobs(), None, grace=timedelta(0))
        with (
            local(tmp_path, content, OverlayDriver(snapshots_root)) as world,
            remote(world, tmp_path / "s" / "api.sock") as far,
        ):
            yield far
