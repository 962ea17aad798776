from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from slipform.api.images.v1 import images_pb2 as pb
from slipform.api.images.v1 import images_pb2_grpc
from slipform.core.errors import InvalidArgument, NotFound, PermissionDenied
from slipform.images.service import ImagesServicer
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.proxy.images import RemoteImages
from slipform.rpc.server import Server, Service
from slipform.rpc.status import domain_errors
from slipform.testing.images import ImagesWorld, rootfs_tar, tar_of, tiny_image, tiny_oci_layout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from slipform.core.images import Image, ImageStore


class Watched:
    """The image store, and when its last load ended."""

    def __init__(self, images: ImageStore) -> None:
        self._images = images
        self.load_ended = threading.Event()

    def load(self, archive: Iterable[bytes]) -> Iterator[Image]:
        try:
            yield from self._images.load(archive)
        finally:
            self.load_ended.set()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._images, name)


@pytest.fixture
def watched(world: ImagesWorld) -> Watched:
    return Watched(world.images)


@pytest.fixture
def server(watched: Any, tmp_path: Path) -> Iterator[Server]:
    servicer = ImagesServicer(watched)
    server = Server(
        [
            Service(
                "slipform.api.images.v1.ImagesService",
                lambda s: images_pb2_grpc.add_ImagesServiceServicer_to_server(servicer, s),
            )
        ],
        reflection=False,
    )
    server.listen(Address(path=tmp_path / "s" / "api.sock"))
    yield server
    server.stop(1)


@pytest.fixture
def channel(server: Server, tmp_path: Path) -> Iterator[grpc.Channel]:
    server.start()
    with open_channel(f"unix:{tmp_path}/s/api.sock") as channel:
        yield channel


def test_an_archive_is_read_in_place(channel: grpc.Channel, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(tar_of(tiny_oci_layout({"a": tiny_image()})))
    (image,) = RemoteImages(channel).load_file(tmp_path / "a.tar")
    assert image.id == tiny_image().id


def test_a_root_file_system_is_read_in_place(channel: grpc.Channel, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(rootfs_tar({"f": b"x"}))
    image = RemoteImages(channel).import_file(tmp_path / "a.tar", "a", message="m")
    assert image.references == ("docker.io/library/a:latest",)


def test_paths_that_are_no_files(channel: grpc.Channel, tmp_path: Path) -> None:
    images = RemoteImages(channel)
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidArgument, match="is not a regular file"):
        list(images.load_file(tmp_path / "fifo"))
    with pytest.raises(InvalidArgument, match="is not a regular file"):
        images.import_file(tmp_path)
    with pytest.raises(NotFound, match="no such file"):
        list(images.load_file(tmp_path / "absent"))
    with pytest.raises(InvalidArgument, match="is not absolute"):
        list(images.load_file((tmp_path / "x").relative_to("/")))


def test_a_path_is_not_read_for_a_client_that_may_be_elsewhere(world: ImagesWorld) -> None:
    servicer = ImagesServicer(world.images)

    class Far:
        def peer(self) -> str:
            return "ipv4:192.0.2.1:1234"

        def invocation_metadata(self) -> tuple[()]:
            return ()

    request = pb.LoadRequest(path="/etc/hostname")
    with pytest.raises(PermissionDenied, match="send the bytes"):
        list(servicer.Load(iter((request,)), Far()))  # type: ignore[arg-type]
    options = pb.ImportRequest(options=pb.ImportOptions(path="/etc/hostname"))
    with pytest.raises(PermissionDenied, match="send the bytes"):
        servicer.Import(iter((options,)), Far())  # type: ignore[arg-type]


def test_another_tenant_has_nothing_here(channel: grpc.Channel, world: ImagesWorld) -> None:
    world.create(tiny_image(), "a")
    with pytest.raises(NotFound, match='tenant "other" has no images here'):
        RemoteImages(channel, "other").list_images()


def test_an_import_begins_with_its_options(channel: grpc.Channel) -> None:
    stub = images_pb2_grpc.ImagesServiceStub(channel)
    with pytest.raises(InvalidArgument, match="must be options"), domain_errors():
        stub.Import(iter((pb.ImportRequest(data=b"x"),)))
    with pytest.raises(InvalidArgument, match="must be options"), domain_errors():
        stub.Import(iter(()))


def test_a_save_needs_a_format(channel: grpc.Channel) -> None:
    stub = images_pb2_grpc.ImagesServiceStub(channel)
    with pytest.raises(InvalidArgument, match="archive format 0 is unknown"), domain_errors():
        list(stub.Save(pb.SaveRequest(names=["a"])))


def test_an_empty_load(channel: grpc.Channel) -> None:
    with pytest.raises(InvalidArgument, match="is empty"):
        list(RemoteImages(channel).load(()))


def test_a_client_that_goes_away_leaves_nothing(
    channel: grpc.Channel, world: ImagesWorld, watched: Watched
) -> None:
    archive = tar_of(tiny_oci_layout({"a": tiny_image()}) | {"big": b"b" * 3_000_000})

    def breaks_off() -> Iterator[bytes]:
        yield archive[:2_000_000]
        raise ConnectionError("the client died")

    with pytest.raises(ConnectionError, match="the client died"):
        list(RemoteImages(channel).load(breaks_off()))
    assert watched.load_ended.wait(60)
    assert world.images.list_images() == []
    assert world.content.statuses() == []
    assert world.content.list_leases() == []
