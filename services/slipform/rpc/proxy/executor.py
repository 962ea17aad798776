"""The executor over a channel: ``Executor``, ``Containers`` and their handles."""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING, Any, Final

from slipform.api.executor.v1 import executor_pb2 as pb
from slipform.api.executor.v1 import executor_pb2_grpc as pb_grpc
from slipform.core.content import DEFAULT_TENANT
from slipform.core.errors import FailedPrecondition, InvalidArgument, Unavailable
from slipform.core.execution import Exited
from slipform.core.executor_driver import DriverInfo
from slipform.rpc.convert import executor as convert
from slipform.rpc.metadata import tenant_metadata
from slipform.rpc.status import domain_errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import grpc

    from slipform.core.containers import ContainerRequest
    from slipform.core.execution import RunEvent, RunRequest

_CHUNK: Final = 1 << 20
_PENDING: Final = 8
"""Messages that wait for the wire before ``write_stdin`` blocks."""

Message = type[pb.RunRequest] | type[pb.RunContainerRequest]


class RemoteExecutor:
    """An ``Executor`` behind a channel."""

    def __init__(
        self, channel: grpc.Channel, tenant: str = DEFAULT_TENANT, *, timeout_s: float = 30.0
    ) -> None:
        """Use a channel that somebody else owns; ``timeout_s`` bounds unary calls only."""
        self._stub = pb_grpc.ExecutorServiceStub(channel)
        self._metadata = tenant_metadata(tenant)
        self._timeout_s = timeout_s

    def run(self, request: RunRequest) -> RemoteRun:
        """See ``Executor.run``; returns when the process runs."""
        start = pb.RunRequest(start=convert.request_to_pb(request))
        return RemoteRun(
            lambda messages: self._stub.Run(messages, metadata=self._metadata),
            pb.RunRequest,
            start,
            interactive=request.open_stdin,
        )

    def info(self) -> DriverInfo:
        """What runs processes there."""
        with domain_errors():
            found = self._stub.GetInfo(
                pb.GetInfoRequest(), metadata=self._metadata, timeout=self._timeout_s
            )
        return DriverInfo(found.driver, found.runtime, found.cgroup_version, found.device_rules)


class RemoteContainers:
    """``Containers`` behind a channel."""

    def __init__(self, channel: grpc.Channel, tenant: str = DEFAULT_TENANT) -> None:
        """Use a channel that somebody else owns."""
        self._stub = pb_grpc.ExecutorServiceStub(channel)
        self._metadata = tenant_metadata(tenant)

    def run_container(self, request: ContainerRequest) -> RemoteRun:
        """See ``Containers.run_container``; returns when the container runs."""
        start = pb.RunContainerRequest(start=convert.container_to_pb(request))
        return RemoteRun(
            lambda messages: self._stub.RunContainer(messages, metadata=self._metadata),
            pb.RunContainerRequest,
            start,
            interactive=request.attach_stdin,
        )


class RemoteRun:
    """The ``RunHandle`` of a call."""

    def __init__(
        self, call: Callable[[Iterator[Any]], Any], message: Message, start: Any, *,
        interactive: bool,
    ) -> None:  # fmt: skip
        """Make the call and wait for its first event."""
        self._message = message
        self._interactive = interactive
        self._outgoing: queue.Queue[Any] = queue.Queue(_PENDING)
        self._ended = threading.Event()
        self._outgoing.put(start)
        self._call = call(self._messages())
        try:
            self._first = self._receive()
        except BaseException:
            self._end()
            raise

    def _messages(self) -> Iterator[Any]:
        """What gRPC's own thread sends; ends with the call."""
        while (message := self._outgoing.get()) is not None:
            yield message

    def __iter__(self) -> Iterator[RunEvent]:
        """The events; closing the iterator early cancels the call, which kills the process."""
        event: RunEvent = self._first
        try:
            while not isinstance(event, Exited):
                yield event
                event = self._receive()
        finally:
            self._end()
        yield event

    def _receive(self) -> RunEvent:
        with domain_errors():
            received = next(self._call, None)
        if received is None:
            raise Unavailable("the executor ended the call without an exit status")
        return convert.event_from_pb(received)

    def _end(self) -> None:
        """End the call, however far it is; idempotent."""
        if self._ended.is_set():
            return
        self._ended.set()
        self._call.cancel()
        # Wakes gRPC's sender; where the queue is full it is awake, and drops what it takes.
        while True:
            try:
                self._outgoing.put_nowait(None)
            except queue.Full:
                with contextlib.suppress(queue.Empty):
                    self._outgoing.get_nowait()
            else:
                return

    def cancel(self) -> None:
        """Kill the process; returns at once."""
        self._say(self._message(cancel=True))

    def signal(self, number: int) -> None:
        """Send a signal to the process."""
        if not 1 <= number <= 64:
            raise InvalidArgument(f"signal {number} is not between 1 and 64")
        self._say(self._message(signal=number))

    def write_stdin(self, data: bytes) -> None:
        """Feed standard input; blocks while the process and the wire are slow."""
        if not self._interactive:
            raise FailedPrecondition("the run was not asked for with open standard input")
        for offset in range(0, len(data), _CHUNK):
            self._say(self._message(stdin=data[offset : offset + _CHUNK]))

    def close_stdin(self) -> None:
        """End standard input."""
        if self._interactive:
            self._say(self._message(stdin_closed=True))

    def _say(self, message: Any) -> None:
        while not self._ended.is_set():
            try:
                self._outgoing.put(message, timeout=0.2)
            except queue.Full:
                continue
            return

    def __del__(self) -> None:
        if getattr(self, "_call", None) is not None:
            self._end()
