"""The gRPC side of an assembly: which servicers stand in front of which cores.

Each service is imported by the function that makes it: a process that serves one loads one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slipform.api.daemon.v1 import daemon_pb2_grpc
from slipform.rpc.server import Service

if TYPE_CHECKING:
    from collections.abc import Callable

    from slipform.daemon.assembly import Assembly
    from slipform.daemon.service import DaemonServicer
    from slipform.rpc.address import Address
    from slipform.rpc.descriptors import DescriptorServer


@dataclass(slots=True)
class Wired:
    """Services, and what else must run beside them."""

    services: list[Service] = field(default_factory=list)
    descriptors: DescriptorServer | None = None

    def start(self) -> None:
        """Start what runs beside the gRPC server; after its socket is bound."""
        if self.descriptors is not None:
            self.descriptors.start()

    def stop(self) -> None:
        """Stop it; idempotent."""
        if self.descriptors is not None:
            self.descriptors.stop()


def daemon_service(servicer: DaemonServicer) -> Service:
    """The service about the process itself."""
    return Service(
        "slipform.api.daemon.v1.DaemonService",
        lambda server: daemon_pb2_grpc.add_DaemonServiceServicer_to_server(servicer, server),
    )


def wire(assembly: Assembly, address: Address) -> Wired:
    """Make the servicers of what the assembly serves.

    A server on a unix socket also hands out descriptors on ``<socket>.fd``, when the content
    driver has files (DESIGN.md, decision 4).
    """
    wired = Wired()
    makers: dict[str, Callable[[], Service]] = {
        "content": lambda: _content(assembly, address, wired),
        "snapshotter": lambda: _snapshotter(assembly),
        "executor": lambda: _executor(assembly),
        "frontend": lambda: _frontend(assembly),
        "images": lambda: _images(assembly),
        "builder": lambda: _builder(assembly),
    }
    wired.services.extend(makers[name]() for name in assembly.config.serves)
    return wired


def _content(assembly: Assembly, address: Address, wired: Wired) -> Service:
    from slipform.api.content.v1 import content_pb2_grpc
    from slipform.content.service import ContentServicer
    from slipform.rpc.descriptors import DescriptorServer

    path = None
    if address.path is not None:
        path = address.path.with_name("fd.sock")
        wired.descriptors = DescriptorServer(assembly.content_core, path)
    servicer = ContentServicer(assembly.content_core, path)
    return Service(
        "slipform.api.content.v1.ContentService",
        lambda server: content_pb2_grpc.add_ContentServiceServicer_to_server(servicer, server),
    )


def _snapshotter(assembly: Assembly) -> Service:
    from slipform.api.snapshot.v1 import snapshot_pb2_grpc
    from slipform.snapshotter.service import SnapshotServicer

    servicer = SnapshotServicer(assembly.snapshots_core)
    return Service(
        "slipform.api.snapshot.v1.SnapshotService",
        lambda server: snapshot_pb2_grpc.add_SnapshotServiceServicer_to_server(servicer, server),
    )


def _executor(assembly: Assembly) -> Service:
    from slipform.api.executor.v1 import executor_pb2_grpc
    from slipform.executor.service import ExecutorServicer

    servicer = ExecutorServicer(assembly.executor, assembly.containers)
    return Service(
        "slipform.api.executor.v1.ExecutorService",
        lambda server: executor_pb2_grpc.add_ExecutorServiceServicer_to_server(servicer, server),
    )


def _frontend(assembly: Assembly) -> Service:
    from slipform.api.frontend.v1 import frontend_pb2_grpc
    from slipform.frontend.service import FrontendServicer

    servicer = FrontendServicer(assembly.frontend)
    return Service(
        "slipform.api.frontend.v1.FrontendService",
        lambda server: frontend_pb2_grpc.add_FrontendServiceServicer_to_server(servicer, server),
    )


def _images(assembly: Assembly) -> Service:
    from slipform.api.images.v1 import images_pb2_grpc
    from slipform.images.service import ImagesServicer

    servicer = ImagesServicer(assembly.images)
    return Service(
        "slipform.api.images.v1.ImagesService",
        lambda server: images_pb2_grpc.add_ImagesServiceServicer_to_server(servicer, server),
    )


def _builder(assembly: Assembly) -> Service:
    from slipform.api.builder.v1 import builder_pb2_grpc
    from slipform.builder.service import BuilderServicer

    servicer = BuilderServicer(assembly.builder)
    return Service(
        "slipform.api.builder.v1.BuilderService",
        lambda server: builder_pb2_grpc.add_BuilderServiceServicer_to_server(servicer, server),
    )
