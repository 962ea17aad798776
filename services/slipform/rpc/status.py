"""One table between what cores raise and what travels, read in both directions."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc

from slipform.api.types.v1 import types_pb2
from slipform.core import errors, execution
from slipform.core.source import SourceRange
from slipform.rpc.limits import ERROR_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

CODES: Final[dict[type[errors.DomainError], grpc.StatusCode]] = {
    errors.InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    errors.NotFound: grpc.StatusCode.NOT_FOUND,
    errors.AlreadyExists: grpc.StatusCode.ALREADY_EXISTS,
    errors.FailedPrecondition: grpc.StatusCode.FAILED_PRECONDITION,
    errors.OutOfRange: grpc.StatusCode.OUT_OF_RANGE,
    errors.Unsupported: grpc.StatusCode.UNIMPLEMENTED,
    errors.PermissionDenied: grpc.StatusCode.PERMISSION_DENIED,
    errors.ResourceExhausted: grpc.StatusCode.RESOURCE_EXHAUSTED,
    errors.DigestMismatch: grpc.StatusCode.DATA_LOSS,
    errors.Conflict: grpc.StatusCode.ABORTED,
    errors.Unavailable: grpc.StatusCode.UNAVAILABLE,
    errors.Cancelled: grpc.StatusCode.CANCELLED,
    errors.DeadlineExceeded: grpc.StatusCode.DEADLINE_EXCEEDED,
}
_BY_CODE: Final = {code: kind for kind, code in CODES.items()}


def _kinds() -> dict[str, type[errors.DomainError]]:
    """Every class that may travel by name: the table's and their refinements."""
    modules = (errors, execution)
    found = (item for module in modules for item in vars(module).values())
    return {
        item.__name__: item
        for item in found
        if isinstance(item, type) and issubclass(item, errors.DomainError)
    }


_KINDS: Final = _kinds()


def code_of(error: errors.DomainError) -> grpc.StatusCode:
    """The status of an error: that of its nearest class in the table."""
    for kind in type(error).__mro__:
        if kind in CODES:
            return CODES[kind]
    return grpc.StatusCode.UNKNOWN


def details_of(error: errors.DomainError) -> bytes:
    """The ``ErrorDetails`` that ride in the trailer, serialised."""
    details = types_pb2.ErrorDetails(kind=type(error).__name__)
    if isinstance(error, errors.InvalidArgument):
        details.source_line = error.source_line
        details.expected = error.expected
        if error.source is not None:
            details.source.file = error.source.file
            details.source.start_line = error.source.start_line
            details.source.end_line = error.source.end_line
            details.source.start_column = error.source.start_column
    return details.SerializeToString()


def error_of(code: grpc.StatusCode, message: str, details: bytes = b"") -> errors.DomainError:
    """The error that a status stands for; unknown and internal ones become ``Unavailable``."""
    parsed = types_pb2.ErrorDetails.FromString(details)
    kind = _KINDS.get(parsed.kind) or _BY_CODE.get(code)
    if kind is None:
        return errors.Unavailable(f"{code.name.lower()}: {message}")
    if not issubclass(kind, errors.InvalidArgument):
        return kind(message)
    source = None
    if parsed.HasField("source"):
        at = parsed.source
        source = SourceRange(at.file, at.start_line, at.end_line, at.start_column)
    return kind(message, source=source, source_line=parsed.source_line, expected=parsed.expected)


def error_from_rpc(error: grpc.RpcError) -> errors.DomainError:
    """Translate what grpc raises on the client's side."""
    # What stubs raise is an RpcError and a Call at once, which no static type can say.
    call: Any = error
    if not isinstance(call, grpc.Call):
        return errors.Unavailable(str(error))
    trailers = call.trailing_metadata() or ()
    details = next((value for key, value in trailers if key == ERROR_KEY), b"")
    raw = details if isinstance(details, bytes) else b""
    return error_of(call.code(), call.details() or "no message", raw)


@contextmanager
def domain_errors() -> Iterator[None]:
    """Around a unary call of a stub: gRPC errors leave it as ``DomainError``."""
    try:
        yield
    except grpc.RpcError as e:
        raise error_from_rpc(e) from e


def domain_stream(call: Iterable[T]) -> Iterator[T]:
    """Around a response stream: yields its messages, raises ``DomainError``."""
    with domain_errors():
        yield from call
