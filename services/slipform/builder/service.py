"""Builds over gRPC."""

from __future__ import annotations

import contextlib
import queue
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.api.builder.v1 import builder_pb2 as pb
from slipform.api.builder.v1 import builder_pb2_grpc as pb_grpc
from slipform.builder.sent import Piece, SentContext
from slipform.core.build import BuildFailed, BuildSucceeded, SupportsStaging
from slipform.core.content import DEFAULT_TENANT
from slipform.core.errors import DomainError, InvalidArgument, Unavailable, Unsupported
from slipform.rpc.convert.builder import entry_from_pb, event_to_pb, request_from_spec
from slipform.rpc.metadata import tenant_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import grpc

    from slipform.core.build import Builder, BuildHandle
    from slipform.core.context import FileEntry

_WAITING: Final = 64
_POLL_S: Final = 1.0


class BuilderServicer(pb_grpc.BuilderServiceServicer):
    """One tenant's builder on the wire."""

    def __init__(self, builder: Builder) -> None:
        self._builder = builder

    def Build(
        self, request_iterator: Iterator[pb.BuildRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.BuildResponse]:
        """Build; ends when the build has ended."""
        _own_tenant(context)
        first = next(request_iterator, None)
        if first is None or first.WhichOneof("message") != "spec":
            raise InvalidArgument("the first message of a build must be its specification")
        request = request_from_spec(first.spec)
        if first.spec.WhichOneof("context") != "sent":
            handle = self._builder.build(request)
            context.add_callback(handle.cancel)
            for event in handle:
                yield event_to_pb(event)
            return
        with self._staging() as directory:
            talk = _Talk(request_iterator)
            source = SentContext(first.spec.sent.name, talk.entries(), talk.ask, directory)
            handle = self._builder.build(request, source)
            context.add_callback(handle.cancel)
            yield from talk.responses(handle)

    def Prune(self, request: pb.PruneRequest, context: grpc.ServicerContext) -> pb.PruneResponse:
        """Forget the cache."""
        _own_tenant(context)
        return pb.PruneResponse(freed=self._builder.prune())

    @contextlib.contextmanager
    def _staging(self) -> Iterator[Path]:
        if isinstance(self._builder, SupportsStaging):
            with self._builder.staging() as directory:
                yield directory
            return
        with tempfile.TemporaryDirectory(prefix="slipform-context-") as name:
            yield Path(name)


class _Talk:
    """Both directions of a build with a sent context.

    Whoever needs files reads them from the request stream, one at a time; what is to be said
    passes through one bounded queue, so that a slow client slows nothing but itself.
    """

    def __init__(self, requests: Iterator[pb.BuildRequest]) -> None:
        self._requests = requests
        self._out: queue.Queue[pb.BuildResponse | DomainError | None] = queue.Queue(_WAITING)
        self._over = threading.Event()

    def entries(self) -> Iterator[FileEntry]:
        """The list, as it comes in."""
        for request in self._requests:
            if request.WhichOneof("message") != "entries":
                raise InvalidArgument("expected the list of the build context")
            for entry in request.entries.entries:
                yield entry_from_pb(entry)
            if request.entries.last:
                return
        raise Unavailable("the client went away before it had listed its build context")

    def ask(self, indices: Sequence[int]) -> Iterator[Piece]:
        """Ask for files; their pieces as they come."""
        self._say(pb.BuildResponse(want=pb.Want(indices=indices)))
        for request in self._requests:
            if request.WhichOneof("message") != "chunk":
                raise InvalidArgument("expected a file of the build context")
            chunk = request.chunk
            yield Piece(chunk.index, chunk.data, chunk.last, chunk.error)

    def responses(self, handle: BuildHandle) -> Iterator[pb.BuildResponse]:
        """Everything that is to be said, until the build has ended."""
        pump = threading.Thread(target=self._pump, args=(handle,), name="build-events", daemon=True)
        pump.start()
        try:
            while (response := self._out.get()) is not None:
                if isinstance(response, DomainError):
                    raise response
                yield response
        finally:
            self._over.set()
            handle.cancel()
            pump.join()

    def _pump(self, handle: BuildHandle) -> None:
        try:
            for event in handle:
                self._say(event_to_pb(event))
                if isinstance(event, BuildSucceeded | BuildFailed):
                    break
        except DomainError as e:
            self._say(e)
        finally:
            self._say(None)

    def _say(self, response: pb.BuildResponse | DomainError | None) -> None:
        while not self._over.is_set():
            with contextlib.suppress(queue.Full):
                self._out.put(response, timeout=_POLL_S)
                return


def _own_tenant(context: grpc.ServicerContext) -> None:
    tenant = tenant_of(context)
    if tenant != DEFAULT_TENANT:
        raise Unsupported(f'this builder builds for tenant "{DEFAULT_TENANT}", not for "{tenant}"')
