"""The builder's contract: on both snapshot drivers, in process and over gRPC."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, cast

import pytest

from slipform.api.builder.v1 import builder_pb2_grpc
from slipform.builder.builder import ImageBuilder
from slipform.builder.service import BuilderServicer
from slipform.content.store import Content
from slipform.drivers.registry import load
from slipform.executor.execution import Execution
from slipform.frontend.frontend import DockerfileFrontend
from slipform.images.store import Images
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.proxy.builder import RemoteBuilder
from slipform.rpc.server import Server, Service
from slipform.snapshotter.store import Snapshots
from slipform.testing.building import BuilderContract, Site, busybox_members, import_rootfs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slipform.core.build import Builder

pytestmark = pytest.mark.root


def open_site(root: Path, snapshot: str) -> Site:
    resources = contextlib.ExitStack()
    places = {name: root / name for name in ("content", "snapshots", "executor", "images")}
    for place in places.values():
        place.mkdir(parents=True, exist_ok=True)
    driver = load("executor", "native")(places["executor"])
    resources.callback(driver.close)  # type: ignore[attr-defined]
    executor = Execution(driver, places["executor"])  # type: ignore[arg-type]
    blobs = load("content", "filesystem")(places["content"])
    content_core = Content(blobs, places["content"] / "metadata.db")  # type: ignore[arg-type]
    resources.callback(content_core.close)
    content = content_core.tenant("default")
    layers = load("snapshot", snapshot)(places["snapshots"])
    snapshots = Snapshots(places["snapshots"], layers, content)  # type: ignore[arg-type]
    resources.callback(snapshots.close)
    snapshotter = snapshots.tenant("default")
    images = Images(places["images"] / "images.db", content, snapshotter)
    resources.callback(images.close)
    frontend = DockerfileFrontend()

    def new_builder() -> Builder:
        state = root / "builder"
        made = ImageBuilder(state, frontend, content, snapshotter, executor, images, workers=4)
        return cast("Builder", made)

    return Site(root, frontend, content, snapshotter, executor, images, new_builder, resources)


@pytest.fixture(params=["overlay", "copy"])
def site(request: pytest.FixtureRequest, tmp_path: Path, busybox: Path) -> Iterator[Site]:
    made = open_site(tmp_path / "root", request.param)
    try:
        import_rootfs(made.images, "busybox", busybox_members(busybox))
        yield made
    finally:
        made.close()


class TestInProcess(BuilderContract):
    @pytest.fixture
    def builder(self, site: Site) -> Iterator[Builder]:
        made = site.new_builder()
        yield made
        made.close()  # type: ignore[attr-defined]


class TestOverGrpc(BuilderContract):
    @pytest.fixture
    def builder(self, site: Site, tmp_path: Path) -> Iterator[Builder]:
        core = site.new_builder()
        servicer = BuilderServicer(core)
        name = "slipform.api.builder.v1.BuilderService"
        service = Service(
            name,
            lambda server: builder_pb2_grpc.add_BuilderServiceServicer_to_server(servicer, server),
        )
        server = Server([service], reflection=False)
        address = f"unix:{tmp_path}/run/b.sock"
        server.listen(Address.parse(address))
        server.start()
        channel = open_channel(address)
        try:
            yield RemoteBuilder(channel)
        finally:
            channel.close()
            server.stop(1.0)
            core.close()  # type: ignore[attr-defined]
