"""Between what cores raise and what grpc carries; the table itself is ``slipform.rpc.codes``."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar

import grpc

from slipform.core import errors
from slipform.rpc.codes import error_of, number_of
from slipform.rpc.connecting import explained
from slipform.rpc.limits import ERROR_KEY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

T = TypeVar("T")

_STATUSES: Final[dict[int, grpc.StatusCode]] = {code.value[0]: code for code in grpc.StatusCode}


def code_of(error: errors.DomainError) -> grpc.StatusCode:
    """The status of an error."""
    return _STATUSES[number_of(error)]


def error_from_rpc(error: grpc.RpcError) -> errors.DomainError:
    """Translate what grpc raises on the client's side."""
    # What stubs raise is an RpcError and a Call at once, which no static type can say.
    call: Any = error
    if not isinstance(call, grpc.Call):
        return errors.Unavailable(str(error))
    trailers = call.trailing_metadata() or ()
    details = next((value for key, value in trailers if key == ERROR_KEY), b"")
    raw = details if isinstance(details, bytes) else b""
    message = call.details() or "no message"
    if call.code() is grpc.StatusCode.UNAVAILABLE and not raw and (known := explained(message)):
        return known
    return error_of(call.code().value[0], message, raw)


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
