"""One gRPC server: lifecycle, health, reflection, sockets that cannot be stolen."""

from __future__ import annotations

import fcntl
import os
import threading
from concurrent import futures
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from slipform.core.errors import FailedPrecondition, PermissionDenied, Unavailable
from slipform.rpc.interceptors import StatusInterceptor
from slipform.rpc.limits import CHANNEL_OPTIONS, KEEPALIVE_MS
from slipform.rpc.tls import server_credentials

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from slipform.rpc.address import Address
    from slipform.rpc.tls import TlsFiles

WORKERS: Final = 256
"""Threads are made on demand; open streams (progress, logs) must never starve a unary call."""
MAX_STREAMS: Final = 1024


@dataclass(frozen=True, slots=True)
class Service:
    """One gRPC service to offer: its full name and how it is added to a server."""

    name: str
    add: Callable[[grpc.Server], None]


@dataclass(slots=True)
class _Activity:
    """How many calls are running, and when the last one ended: for idle shutdown."""

    running: int = 0
    generation: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class ActivityInterceptor(grpc.ServerInterceptor):
    """Counts calls, so that a daemon started by the CLI can end when nobody needs it."""

    def __init__(self) -> None:
        """Start with no call running."""
        self._activity = _Activity()

    def snapshot(self) -> tuple[int, int]:
        """(calls running now, number of calls ever begun)."""
        with self._activity.lock:
            return self._activity.running, self._activity.generation

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Count a call in, and out when it terminates."""
        handler: Any = continuation(handler_call_details)
        if handler is None or str(handler_call_details.method).startswith("/grpc."):
            return handler  # type: ignore[no-any-return]
        kind = ("stream" if handler.request_streaming else "unary") + (
            "_stream" if handler.response_streaming else "_unary"
        )
        behaviour = getattr(handler, kind)

        def call(request: Any, context: grpc.ServicerContext) -> Any:
            with self._activity.lock:
                self._activity.running += 1
                self._activity.generation += 1
            if not context.add_callback(self._end):
                self._end()
            return behaviour(request, context)

        wrapped: grpc.RpcMethodHandler[Any, Any] = getattr(grpc, f"{kind}_rpc_method_handler")(
            call,
            request_deserializer=handler.request_deserializer,
            response_serializer=handler.response_serializer,
        )
        return wrapped

    def _end(self) -> None:
        with self._activity.lock:
            self._activity.running -= 1


class Server:
    """Services on one address, with ``grpc.health.v1`` for each and for the whole."""

    def __init__(self, services: Sequence[Service], *, reflection: bool = True) -> None:
        """Prepare a server; nothing listens before ``listen``.

        Args:
            services: what to offer.
            reflection: also serve gRPC reflection (v1alpha, and the same under v1).
        """
        self.activity = ActivityInterceptor()
        self._pool = futures.ThreadPoolExecutor(WORKERS, thread_name_prefix="rpc")
        self._server = grpc.server(
            self._pool,
            interceptors=[self.activity, StatusInterceptor()],
            options=(
                *CHANNEL_OPTIONS,
                ("grpc.so_reuseport", 0),
                # Otherwise the third ping of our own clients would end their connection.
                ("grpc.http2.min_ping_interval_without_data_ms", KEEPALIVE_MS // 2),
            ),
            maximum_concurrent_rpcs=MAX_STREAMS,
        )
        self._names = ["", *(service.name for service in services)]
        for service in services:
            service.add(self._server)
        self._health = health.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if reflection:
            _add_reflection(self._server, [name for name in self._names if name])
        self._locks: list[int] = []

    def listen(self, address: Address, tls: TlsFiles | None = None) -> None:
        """Bind an address; TCP with mutual TLS and not otherwise.

        A unix socket is made 0600 in a 0700 directory, after taking a lock file beside it: grpc
        would silently steal the socket of a live server.

        Raises:
            FailedPrecondition: another server holds the socket, or TCP without ``tls``.
            PermissionDenied: the directory belongs to somebody else.
            Unavailable: the port is taken, or the address is not of this host.
            NotFound: a file of ``tls`` does not exist.
            InvalidArgument: a file of ``tls`` is not what it should be.
        """
        if address.path is None:
            self._listen_tcp(address, tls)
            return
        _private_directory(address.path.parent)
        self._locks.append(_lock(address.path))
        address.path.unlink(missing_ok=True)
        # The process has one umask: listen() is called before any thread serves.
        before = os.umask(0o177)
        try:
            self._server.add_insecure_port(f"unix:{address.path}")
        finally:
            os.umask(before)

    def _listen_tcp(self, address: Address, tls: TlsFiles | None) -> None:
        if tls is None:
            raise FailedPrecondition(
                f"{address}: TCP is served with mutual TLS only: configure [tls] ca, cert, key"
            )
        credentials = server_credentials(tls)
        try:
            self._server.add_secure_port(address.host, credentials)
        except RuntimeError as e:
            # grpc tells no more; the files of TLS have been checked.
            raise Unavailable(
                f"cannot listen on {address}: the port is taken or the address is not of this host"
            ) from e

    def start(self) -> None:
        """Serve, and say so through the health service."""
        self._server.start()
        for name in self._names:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)

    def stop(self, grace_s: float) -> None:
        """Take no new calls, give running ones ``grace_s`` seconds, then end them."""
        self._health.enter_graceful_shutdown()
        self._server.stop(grace_s).wait()
        self._pool.shutdown(wait=False, cancel_futures=True)
        for descriptor in self._locks:
            os.close(descriptor)
        self._locks.clear()


def _private_directory(path: Path) -> None:
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise PermissionDenied(
            f"socket directory {path} belongs to uid {found.st_uid}, want uid {os.geteuid()}"
        )


def _lock(socket: Path) -> int:
    descriptor = os.open(f"{socket}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(descriptor)
        raise FailedPrecondition(f"another server is listening on {socket}") from e
    return descriptor


def _add_reflection(server: grpc.Server, names: Sequence[str]) -> None:
    # Imported here: 25 ms that an embedded start with reflection off need not pay.
    from grpc_reflection.v1alpha import reflection

    offered = (*names, "grpc.health.v1.Health", reflection.SERVICE_NAME)
    reflection.enable_server_reflection(offered, server)
