"""The executor over gRPC."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import grpc

from slipform.api.executor.v1 import executor_pb2 as pb
from slipform.api.executor.v1 import executor_pb2_grpc as pb_grpc
from slipform.core.errors import DomainError, InvalidArgument, Unsupported
from slipform.core.executor_driver import SupportsInfo
from slipform.executor.spec import DEFAULT_CAPABILITIES
from slipform.rpc.convert import executor as convert

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from slipform.core.containers import Containers
    from slipform.core.execution import Executor, RunEvent, RunHandle

_Response = TypeVar("_Response")


class ExecutorServicer(pb_grpc.ExecutorServiceServicer):
    """Translates; ends what runs when its caller goes away."""

    def __init__(self, executor: Executor, containers: Containers | None = None) -> None:
        """Stand in front of an executor.

        Args:
            executor: what runs processes.
            containers: what runs images; None answers RunContainer with UNIMPLEMENTED.
        """
        self._executor = executor
        self._containers = containers

    def Run(
        self, request_iterator: Iterator[pb.RunRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.RunResponse]:
        """Run one process."""
        first = _first(request_iterator)
        handle = self._executor.run(convert.request_from_pb(first.start))
        return _serve(handle, request_iterator, context, convert.event_to_pb)

    def RunContainer(
        self, request_iterator: Iterator[pb.RunContainerRequest], context: grpc.ServicerContext
    ) -> Iterator[pb.RunContainerResponse]:
        """Run one container."""
        if self._containers is None:
            raise Unsupported("this executor runs no containers of images")
        first = _first(request_iterator)
        handle = self._containers.run_container(convert.container_from_pb(first.start))
        return _serve(handle, request_iterator, context, convert.container_event_to_pb)

    def GetInfo(
        self, request: pb.GetInfoRequest, context: grpc.ServicerContext
    ) -> pb.GetInfoResponse:
        """Say what runs processes here."""
        if not isinstance(self._executor, SupportsInfo):
            raise Unsupported("this executor says nothing about itself")
        found = self._executor.info()
        return pb.GetInfoResponse(
            driver=found.name,
            runtime=found.runtime,
            cgroup_version=found.cgroup_version,
            device_rules=found.device_rules,
            capabilities=DEFAULT_CAPABILITIES,
        )


def _first(messages: Iterator[Any]) -> Any:
    first = next(messages, None)
    if first is None or not first.HasField("start"):
        raise InvalidArgument("the first message of the call must have `start`")
    return first


def _serve(
    handle: RunHandle,
    messages: Iterator[Any],
    context: grpc.ServicerContext,
    convert_event: Callable[[RunEvent], _Response],
) -> Iterator[_Response]:
    """Forward events one way and commands the other; a call that ends early kills the run."""
    if not context.add_callback(handle.cancel):
        handle.cancel()
    threading.Thread(target=_obey, args=(handle, messages), daemon=True).start()
    for event in handle:
        yield convert_event(event)


def _obey(handle: RunHandle, messages: Iterator[Any]) -> None:
    """Carry out the messages of a call until it ends."""
    # So gRPC ends the messages of a cancelled call; the callback has seen to the process.
    with contextlib.suppress(grpc.RpcError):
        for message in messages:
            _carry_out(handle, message)
    handle.close_stdin()


def _carry_out(handle: RunHandle, message: Any) -> None:
    kind = message.WhichOneof("request")
    with contextlib.suppress(DomainError):
        if kind == "stdin":
            handle.write_stdin(message.stdin)
        elif kind == "stdin_closed":
            handle.close_stdin()
        elif kind == "signal":
            handle.signal(message.signal)
        elif kind == "cancel":
            handle.cancel()
