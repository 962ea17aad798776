"""A write into a remote content store: streamed without waiting, answered where it matters."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final, Self

import grpc

from slipform.api.content.v1 import content_pb2 as pb
from slipform.core.content import CHUNK_SIZE
from slipform.core.errors import FailedPrecondition, InvalidArgument, Unavailable
from slipform.core.oci.digest import Digest
from slipform.rpc.convert.content import info_from_pb, labels_to_pb, text_to_pb
from slipform.rpc.status import domain_errors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from slipform.api.content.v1 import content_pb2_grpc as pb_grpc
    from slipform.core.content import BlobInfo

WINDOW: Final = 4
"""Messages that wait to be sent; a writer that is faster than the server blocks."""


class RemoteIngest:
    """Satisfies ``Ingest``; one thread at a time.

    The server hashes; ``write`` returns before the bytes are there. When the server refuses some
    (``ResourceExhausted``, ``OutOfRange``), a later ``write``, ``digest`` or ``commit`` raises
    that; the ref then keeps what was written until then.
    """

    def __init__(
        self,
        stub: pb_grpc.ContentServiceStub,
        metadata: tuple[tuple[str, str], ...],
        ref: str,
        total: int,
        expected: Digest | None,
    ) -> None:
        opening = pb.WriteOpen(
            ref=text_to_pb("ref", ref),
            total=_int64("total", total),
            expected=str(expected or ""),
        )
        self._ref = ref
        self._open = True
        self._requests = _Requests()
        self._call = stub.Write(self._requests, metadata=metadata)
        if not self._call.add_callback(self._requests.end):
            self._requests.end()
        try:
            self._offset = self._ask(pb.WriteRequest(open=opening)).offset
        except BaseException:
            self.close()
            raise

    @property
    def offset(self) -> int:
        """Bytes written so far, or on their way."""
        return self._offset

    def write(self, data: bytes | bytearray | memoryview) -> int:
        """Append all of it, in messages of at most ``CHUNK_SIZE``."""
        self._check_open()
        view = memoryview(data).cast("B")
        for start in range(0, len(view), CHUNK_SIZE):
            chunk = bytes(view[start : start + CHUNK_SIZE])
            self._send(pb.WriteRequest(data=pb.WriteData(offset=self._offset, data=chunk)))
            self._offset += len(chunk)
        return len(view)

    def truncate(self, size: int = 0) -> None:
        """Drop what was written after ``size``."""
        self._check_open()
        truncate = pb.WriteTruncate(size=_int64("size", size))
        self._offset = self._ask(pb.WriteRequest(truncate=truncate)).offset

    def digest(self) -> Digest:
        """Digest of the bytes written so far, as the server sees them."""
        self._check_open()
        return Digest.parse(self._ask(pb.WriteRequest(stat=pb.WriteStat())).digest)

    def commit(
        self,
        *,
        size: int = 0,
        expected: Digest | None = None,
        labels: Mapping[str, str] | None = None,
        lease: str = "",
    ) -> BlobInfo:
        """Make the bytes a blob; closes the ingest, whatever comes of it."""
        self._check_open()
        try:
            step = pb.WriteCommit(
                size=_int64("size", size),
                expected=str(expected or ""),
                labels=labels_to_pb(labels),
                lease=text_to_pb("lease", lease),
            )
            return info_from_pb(self._ask(pb.WriteRequest(commit=step)).info)
        finally:
            self.close()

    def close(self) -> None:
        """Close without committing: the server has kept the bytes when this returns."""
        if not self._open:
            return
        self._open = False
        self._requests.close()
        try:
            for _ in self._call:
                pass
        except grpc.RpcError:
            pass  # told by the call that met it; what was kept is told when the ref is reopened

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _check_open(self) -> None:
        if not self._open:
            raise FailedPrecondition(f'ingest "{self._ref}" is closed')

    def _send(self, request: pb.WriteRequest) -> None:
        if not self._requests.put(request):
            self._answer()  # raises what ended the stream

    def _ask(self, request: pb.WriteRequest) -> pb.WriteResponse:
        self._send(request)
        return self._answer()

    def _answer(self) -> pb.WriteResponse:
        with domain_errors():
            for answer in self._call:
                return answer
        raise Unavailable(f'ingest "{self._ref}": the server ended the stream')


class _Requests:
    """What grpc's sending thread iterates over; bounded, and never left waiting."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._waiting: deque[pb.WriteRequest] = deque()
        self._closed = False
        self._ended = False

    def put(self, request: pb.WriteRequest) -> bool:
        """Queue a message; False when the call has ended and nobody will send it."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or len(self._waiting) < WINDOW)
            if self._ended:
                return False
            self._waiting.append(request)
            self._changed.notify_all()
            return True

    def close(self) -> None:
        """No more messages: the stream half-closes after what is queued."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def end(self) -> None:
        """The call is over: wake whoever waits, on both sides."""
        with self._changed:
            self._ended = True
            self._waiting.clear()
            self._changed.notify_all()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> pb.WriteRequest:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._closed or bool(self._waiting))
            if not self._waiting:
                raise StopIteration
            self._changed.notify_all()
            return self._waiting.popleft()


def _int64(what: str, value: int) -> int:
    if not 0 <= value < 1 << 63:
        raise InvalidArgument(f"{what} {value}: want no less than 0")
    return value
