"""One object for all services; each connection is made when it is first needed."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from slipform.core.build import BuildRequest
from slipform.core.errors import Unavailable
from slipform.core.locations import Locations

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    import grpc

    from slipform.core.build import Builder, BuildHandle
    from slipform.core.containers import Containers
    from slipform.core.content import ContentStore
    from slipform.core.execution import Executor
    from slipform.core.images import ImageStore
    from slipform.core.plan import Frontend
    from slipform.core.snapshots import Snapshotter
    from slipform.rpc.tls import TlsFiles

_TIMEOUT_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where services are: one address for all, and others for services that run apart."""

    default: str
    services: Mapping[str, str] = field(default_factory=dict)
    """Name of a service ("content", "builder", …) → address."""

    def of(self, service: str) -> str:
        """The address of one service."""
        return self.services.get(service) or self.default

    def socket_of(self, service: str) -> Path | None:
        """The unix socket of a service on this host, which reads local paths in place."""
        scheme, _, path = self.of(service).partition(":")
        return Path(path.removeprefix("//")) if scheme == "unix" else None


@dataclass(frozen=True, slots=True)
class DaemonInfo:
    """What a serving process says of itself; ``memory`` is bytes."""

    version: str
    pid: int
    root: str
    services: tuple[str, ...]
    drivers: Mapping[str, str]
    kernel: str
    architecture: str
    python: str
    cpus: int
    memory: int
    images: int


class Client:
    """Slipform's services at some address. Safe to use from several threads."""

    def __init__(self, endpoints: Endpoints | str, tls: TlsFiles | None = None) -> None:
        """Connect lazily; nothing is dialled before the first call.

        Args:
            endpoints: one address (``unix:/path`` or ``dns:host:port``), or one per service.
            tls: for ``dns:`` addresses, which are dialled with mutual TLS only.
        """
        self.endpoints = Endpoints(endpoints) if isinstance(endpoints, str) else endpoints
        self._tls = tls
        self._channels: dict[str, grpc.Channel] = {}

    @classmethod
    def local(cls, root: Path | str = "/var/lib/slipform") -> Client:
        """The daemon of a data directory on this host; started when none answers."""
        from slipform.client.launch import ensure_daemon

        locations = Locations(Path(root).absolute())
        ensure_daemon(locations)
        return cls(f"unix:{locations.socket}")

    def __enter__(self) -> Self:
        """Use as a context manager to close the connections."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connections."""
        self.close()

    def close(self) -> None:
        """Close all connections; idempotent."""
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    @cached_property
    def builder(self) -> Builder:
        """Builds."""
        from slipform.rpc.proxy.builder import RemoteBuilder

        return RemoteBuilder(self._channel("builder"))

    @cached_property
    def images(self) -> ImageStore:
        """Images and their names."""
        from slipform.rpc.proxy.images import RemoteImages

        return RemoteImages(self._channel("images"))

    @cached_property
    def containers(self) -> Containers:
        """Containers of images."""
        from slipform.rpc.proxy.executor import RemoteContainers

        return RemoteContainers(self._channel("executor"))

    @cached_property
    def executor(self) -> Executor:
        """Processes in prepared roots."""
        from slipform.rpc.proxy.executor import RemoteExecutor

        return RemoteExecutor(self._channel("executor"))

    @cached_property
    def content(self) -> ContentStore:
        """Blobs."""
        from slipform.rpc.proxy.content import RemoteContentStore

        return RemoteContentStore(self._channel("content"))

    @cached_property
    def snapshotter(self) -> Snapshotter:
        """Snapshots."""
        from slipform.rpc.proxy.snapshot import RemoteSnapshotter

        return RemoteSnapshotter(self._channel("snapshotter"))

    @cached_property
    def frontend(self) -> Frontend:
        """Dockerfiles and plans."""
        from slipform.rpc.proxy.frontend import RemoteFrontend

        return RemoteFrontend(self._channel("frontend"))

    def build(
        self,
        context: Path | str | None = None,
        *,
        references: Sequence[str] = (),
        request: BuildRequest | None = None,
    ) -> BuildHandle:
        """Build a folder.

        Args:
            context: a local folder; read in place by a builder on this host, sent to another.
            references: names for the image.
            request: everything else; its context and references are replaced.

        Returns:
            The running build: iterate it for its events.
        """
        wanted = replace(request or BuildRequest(), references=tuple(references))
        folder = None if context is None else Path(context).absolute()
        socket = self.endpoints.socket_of("builder")
        if socket is not None:
            from slipform.rpc.proxy.lean_builder import lean_build

            return lean_build(socket, replace(wanted, local_context=folder))
        if folder is None:
            return self.builder.build(wanted)
        from slipform.client.remote_context import remote_build

        return remote_build(self.builder, wanted, folder)

    def info(self) -> DaemonInfo:
        """What the process at the default address is made of."""
        from slipform.api.daemon.v1 import daemon_pb2, daemon_pb2_grpc
        from slipform.rpc.status import domain_errors

        stub = daemon_pb2_grpc.DaemonServiceStub(self._channel(""))
        with domain_errors():
            got = stub.GetInfo(daemon_pb2.GetInfoRequest(), timeout=_TIMEOUT_S)
        return DaemonInfo(
            got.version,
            got.pid,
            got.root,
            tuple(got.services),
            dict(got.drivers),
            got.kernel,
            got.architecture,
            got.python,
            got.cpus,
            got.memory,
            got.images,
        )

    def shutdown(self, *, grace_s: float = 0.0) -> int:
        """End the process at the default address; returns its number."""
        from slipform.api.daemon.v1 import daemon_pb2, daemon_pb2_grpc
        from slipform.rpc.status import domain_errors

        pid = self.info().pid
        stub = daemon_pb2_grpc.DaemonServiceStub(self._channel(""))
        # A process that ends may take its answer with it.
        with contextlib.suppress(Unavailable), domain_errors():
            request = daemon_pb2.ShutdownRequest(grace_ms=int(grace_s * 1000))
            stub.Shutdown(request, timeout=_TIMEOUT_S)
        return pid

    def _channel(self, service: str) -> grpc.Channel:
        from slipform.rpc.channel import open_channel

        address = self.endpoints.of(service)
        if address not in self._channels:
            self._channels[address] = open_channel(address, self._tls)
        return self._channels[address]
