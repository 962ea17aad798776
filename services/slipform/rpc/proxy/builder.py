"""A builder behind a channel, also for contexts that it cannot read in place."""

from __future__ import annotations

import queue
import socket
from typing import TYPE_CHECKING, Final

import grpc

from slipform.api.builder.v1 import builder_pb2 as pb
from slipform.api.builder.v1 import builder_pb2_grpc as pb_grpc
from slipform.core.build import BuildFailed, BuildSucceeded
from slipform.core.content import CHUNK_SIZE, DEFAULT_TENANT
from slipform.core.errors import DomainError
from slipform.rpc.convert.builder import entry_to_pb, event_from_pb, request_to_spec
from slipform.rpc.metadata import tenant_metadata
from slipform.rpc.status import domain_errors, error_from_rpc

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slipform.core.build import BuildEvent, BuildHandle, BuildRequest
    from slipform.core.context import ContextSource, FileEntry

_BATCH: Final = 1000
_PRUNE_S: Final = 600.0


class RemoteBuilder:
    """Satisfies ``Builder``.

    Args:
        channel: stays the caller's.
        tenant: whose images.
        timeout_s: of pruning; builds take as long as they take.
    """

    def __init__(
        self, channel: grpc.Channel, tenant: str = DEFAULT_TENANT, timeout_s: float = _PRUNE_S
    ) -> None:
        self._stub = pb_grpc.BuilderServiceStub(channel)
        self._metadata = tenant_metadata(tenant)
        self._timeout_s = timeout_s

    def build(self, request: BuildRequest, context: ContextSource | None = None) -> BuildHandle:
        """As ``Builder.build``; a context is listed and its files are sent when asked for."""
        conversation = _Conversation(request, context)
        call = self._stub.Build(conversation.requests(), metadata=self._metadata)
        return _RemoteBuild(call, conversation)

    def prune(self) -> int:
        """As ``Builder.prune``."""
        with domain_errors():
            answer = self._stub.Prune(
                pb.PruneRequest(), timeout=self._timeout_s, metadata=self._metadata
            )
        return answer.freed


class _RemoteBuild:
    """A build elsewhere; satisfies ``BuildHandle``."""

    def __init__(self, call: grpc.Call, conversation: _Conversation) -> None:
        self._call = call
        self._conversation = conversation
        self._cancelled = False

    def __iter__(self) -> Iterator[BuildEvent]:
        try:
            yield from self._events()
        except grpc.RpcError as e:
            error = self._conversation.error or error_from_rpc(e)
            if not self._cancelled:
                raise error from e
            yield BuildFailed("the build was cancelled", cancelled=True)
        finally:
            self._conversation.end()

    def cancel(self) -> None:
        """As ``BuildHandle.cancel``."""
        self._cancelled = True
        self._call.cancel()

    def _events(self) -> Iterator[BuildEvent]:
        for message in self._call:  # type: ignore[attr-defined]  # what streaming stubs return
            if message.WhichOneof("message") == "want":
                self._conversation.want(message.want.indices)
                continue
            event = event_from_pb(message)
            if event is None:
                continue
            if isinstance(event, BuildSucceeded | BuildFailed):
                self._conversation.end()
            yield event


class _Conversation:
    """The client's side: grpc takes ``requests`` in a thread of its own."""

    def __init__(self, request: BuildRequest, context: ContextSource | None) -> None:
        self._request = request
        self._context = context
        self._wanted: queue.SimpleQueue[Sequence[int] | None] = queue.SimpleQueue()
        self._entries: list[FileEntry] = []
        self.error: DomainError | None = None
        """Why the context could not be listed."""

    def want(self, indices: Sequence[int]) -> None:
        """Send these files next."""
        self._wanted.put(list(indices))

    def end(self) -> None:
        """Say no more."""
        self._wanted.put(None)

    def requests(self) -> Iterator[pb.BuildRequest]:
        """Everything the client says, as it is needed."""
        context = self._context
        if context is None:
            yield pb.BuildRequest(spec=request_to_spec(self._request, sent=False))
            return
        spec = request_to_spec(self._request, sent=True, name=_name(context))
        yield pb.BuildRequest(spec=spec)
        try:
            yield from self._list(context)
        except DomainError as e:
            self.error = e
            return
        while (indices := self._wanted.get()) is not None:
            for index in indices:
                yield from self._file(context, index)

    def _list(self, context: ContextSource) -> Iterator[pb.BuildRequest]:
        batch = pb.ContextEntries()
        for entry in context.entries():
            self._entries.append(entry)
            batch.entries.append(entry_to_pb(entry))
            if len(batch.entries) >= _BATCH:
                yield pb.BuildRequest(entries=batch)
                batch = pb.ContextEntries()
        batch.last = True
        yield pb.BuildRequest(entries=batch)

    def _file(self, context: ContextSource, index: int) -> Iterator[pb.BuildRequest]:
        try:
            with context.open(self._entries[index].path) as file:
                while data := file.read(CHUNK_SIZE):
                    yield pb.BuildRequest(chunk=pb.FileChunk(index=index, data=data))
        except (OSError, IndexError, DomainError) as e:
            yield pb.BuildRequest(chunk=pb.FileChunk(index=index, last=True, error=str(e)))
            return
        yield pb.BuildRequest(chunk=pb.FileChunk(index=index, last=True))


def _name(context: ContextSource) -> str:
    """A name for the folder that stays the same from build to build; "" when it has none."""
    path = getattr(context, "path", None)
    return f"{socket.gethostname()}:{path}" if path is not None else ""
