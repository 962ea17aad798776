"""Builds of folders on the same host, without importing grpc: the command line's hot path."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.api.builder.v1 import builder_pb2 as pb
from slipform.core.build import BuildFailed, BuildSucceeded
from slipform.core.errors import Cancelled, DomainError
from slipform.rpc.convert.builder import event_from_pb, request_to_spec
from slipform.rpc.lean import LeanCall

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from slipform.core.build import BuildEvent, BuildHandle, BuildRequest

_METHOD: Final = "/slipform.api.builder.v1.BuilderService/Build"


def lean_build(path: Path, request: BuildRequest) -> BuildHandle:
    """Begin a build whose context is local, or that has none.

    Args:
        path: of the daemon's unix socket.
        request: what to build.

    Raises:
        Unavailable: no daemon answers there.
    """
    call = LeanCall(path, _METHOD)
    message = pb.BuildRequest(spec=request_to_spec(request, sent=False))
    call.send(message.SerializeToString())
    call.done_sending()
    return _LeanBuild(call)


class _LeanBuild:
    """Satisfies ``BuildHandle`` for one thread."""

    def __init__(self, call: LeanCall) -> None:
        self._call = call

    def __iter__(self) -> Iterator[BuildEvent]:
        # Whoever is interrupted here may cancel and then iterate again for the end, so the
        # connection is closed at the end and not before.
        try:
            for data in self._call:
                event = event_from_pb(pb.BuildResponse.FromString(data))
                if event is None:
                    continue
                if isinstance(event, BuildSucceeded | BuildFailed):
                    self._call.close()
                    yield event
                    return
                yield event
        except Cancelled:
            self._call.close()
            yield BuildFailed("the build was cancelled", cancelled=True)
        except DomainError:
            self._call.close()
            raise

    def cancel(self) -> None:
        """As ``BuildHandle.cancel``."""
        self._call.cancel()
