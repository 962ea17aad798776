from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from slipform.api.snapshot.v1 import snapshot_pb2_grpc
from slipform.content.store import Content
from slipform.core.errors import Unsupported
from slipform.drivers.content.memory import MemoryBlobs
from slipform.drivers.snapshot.copy import CopyDriver
from slipform.drivers.snapshot.overlay import OverlayDriver
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.proxy.snapshot import RemoteSnapshotter
from slipform.rpc.server import Server, Service
from slipform.snapshotter.service import SnapshotServicer
from slipform.snapshotter.store import Snapshots
from slipform.testing.snapshots import SnapshotterContract, SnapshotWorld

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from slipform.core.snapshot_driver import SnapshotDriver

pytestmark = pytest.mark.root


@contextlib.contextmanager
def local(
    factory: Callable[[Path], SnapshotDriver[Any]], directory: Path
) -> Iterator[tuple[Snapshots, Content]]:
    for name in ("store", "mnt"):
        (directory / name).mkdir()
    with (
        contextlib.closing(Content(MemoryBlobs(), None, grace=timedelta(0))) as content,
        contextlib.closing(
            Snapshots(directory / "store", factory(directory / "store"), content.tenant)
        ) as snapshots,
    ):
        yield snapshots, content


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


class TestOverlay(SnapshotterContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[SnapshotWorld]:
        try:
            OverlayDriver.probe(tmp_path)
        except Unsupported as e:
            pytest.skip(str(e))
        with local(OverlayDriver, tmp_path) as (snapshots, content):
            yield SnapshotWorld(snapshots.tenant, content.tenant("default"), tmp_path / "mnt")


class TestCopy(SnapshotterContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[SnapshotWorld]:
        with local(CopyDriver, tmp_path) as (snapshots, content):
            yield SnapshotWorld(snapshots.tenant, content.tenant("default"), tmp_path / "mnt")


class TestOverGrpc(SnapshotterContract):
    @pytest.fixture
    def world(self, tmp_path: Path) -> Iterator[SnapshotWorld]:
        try:
            OverlayDriver.probe(tmp_path)
        except Unsupported as e:
            pytest.skip(str(e))
        with (
            local(OverlayDriver, tmp_path) as (snapshots, content),
            served(snapshots, tmp_path / "run" / "api.sock") as tenant,
        ):
            yield SnapshotWorld(tenant, content.tenant("default"), tmp_path / "mnt")
