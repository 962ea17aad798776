from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from slipform.api.content.v1 import content_pb2_grpc
from slipform.api.snapshot.v1 import snapshot_pb2_grpc
from slipform.content.service import ContentServicer
from slipform.content.store import Content
from slipform.core.errors import Unsupported
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.drivers.content.memory import MemoryBlobs
from slipform.drivers.snapshot.copy import CopyDriver
from slipform.drivers.snapshot.overlay import OverlayDriver
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.descriptors import DescriptorServer
from slipform.rpc.proxy.content import RemoteContentStore
from slipform.rpc.proxy.snapshot import RemoteSnapshotter
from slipform.rpc.server import Server, Service
from slipform.snapshotter.service import SnapshotServicer
from slipform.snapshotter.store import Snapshots
from slipform.testing.snapshot_layers import SnapshotLayersContract
from slipform.testing.snapshots import SnapshotterContract, SnapshotWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from slipform.core.content import ContentStore
    from slipform.core.snapshot_driver import SnapshotDriver

pytestmark = pytest.mark.root


@contextlib.contextmanager
def local(
    factory: Callable[[Path], SnapshotDriver[Any]],
    directory: Path,
    content: Callable[[str], ContentStore],
) -> Iterator[Snapshots]:
    for name in ("store", "mnt"):
        (directory / name).mkdir()
    driver = factory(directory / "store")
    with contextlib.closing(Snapshots(directory / "store", driver, content)) as snapshots:
        yield snapshots


@pytest.fixture
def content() -> Iterator[Content]:
    with contextlib.closing(Content(MemoryBlobs(), None, grace=timedelta(0))) as content:
        yield content


@pytest.fixture(params=["descriptors", "streams"])
def remote_content(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[[str], ContentStore]]:
    """A content store behind a socket: blobs come as open files, or as streams."""
    sockets = tmp_path / "content-run"
    content = Content(
        FilesystemBlobs(tmp_path / "blobs"), tmp_path / "blobs.db", grace=timedelta(0)
    )
    servicer = ContentServicer(content, sockets / "fd.sock")
    service = Service(
        "slipform.api.content.v1.ContentService",
        lambda s: content_pb2_grpc.add_ContentServiceServicer_to_server(servicer, s),
    )
    server = Server([service], reflection=False)
    handout = DescriptorServer(content, sockets / "fd.sock")
    address = Address(path=sockets / "api.sock")
    server.listen(address)
    handout.start()
    server.start()
    stores: dict[str, RemoteContentStore] = {}
    descriptors = request.param == "descriptors"

    def tenant(name: str) -> ContentStore:
        if name not in stores:
            stores[name] = RemoteContentStore(channel, name, descriptors=descriptors)
        return stores[name]

    try:
        with open_channel(str(address)) as channel:
            yield tenant
    finally:
        for store in stores.values():
            store.close()
        server.stop(1)
        handout.stop()
        content.close()


@contextlib.contextmanager
def served(snapshots: Snapshots, socket: Path) -> Iterator[Callable[[str], RemoteSnapshotter]]:
    servicer = SnapshotServicer(snapshots)
    service = Service(
        "slipform.api.snapshot.v1.SnapshotService",
        lambda s: snapshot_pb2_grpc.add_SnapshotServiceServicer_to_server(servicer, s),
    )
    server = Server([service], reflection=False)
    address = Address(path=socket)
    server.listen(address)
    server.start()
    try:
        with open_channel(str(address)) as channel:
            yield lambda tenant: RemoteSnapshotter(channel, tenant)
    finally:
        server.stop(1)


@pytest.fixture
def overlay_works(tmp_path: Path) -> None:
    try:
        OverlayDriver.probe(tmp_path)
    except Unsupported as e:
        pytest.skip(str(e))


class TestOverlay(SnapshotterContract):
    @pytest.fixture
    def world(
        self, tmp_path: Path, overlay_works: None, content: Content
    ) -> Iterator[SnapshotWorld]:
        with local(OverlayDriver, tmp_path, content.tenant) as snapshots:
            yield SnapshotWorld(snapshots.tenant, content.tenant("default"), tmp_path / "mnt")


class TestCopy(SnapshotterContract):
    @pytest.fixture
    def world(self, tmp_path: Path, content: Content) -> Iterator[SnapshotWorld]:
        with local(CopyDriver, tmp_path, content.tenant) as snapshots:
            yield SnapshotWorld(snapshots.tenant, content.tenant("default"), tmp_path / "mnt")


class TestOverGrpc(SnapshotterContract):
    @pytest.fixture
    def world(
        self, tmp_path: Path, overlay_works: None, content: Content
    ) -> Iterator[SnapshotWorld]:
        with (
            local(OverlayDriver, tmp_path, content.tenant) as snapshots,
            served(snapshots, tmp_path / "run" / "api.sock") as tenant,
        ):
            yield SnapshotWorld(tenant, content.tenant("default"), tmp_path / "mnt")


class TestWithRemoteContent(SnapshotLayersContract):
    @pytest.fixture
    def world(
        self,
        tmp_path: Path,
        overlay_works: None,
        remote_content: Callable[[str], ContentStore],
    ) -> Iterator[SnapshotWorld]:
        with local(OverlayDriver, tmp_path, remote_content) as snapshots:
            yield SnapshotWorld(snapshots.tenant, remote_content("default"), tmp_path / "mnt")
