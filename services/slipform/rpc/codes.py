"""What cores raise, as gRPC's numbers, and the details that ride beside them; no grpc here."""

from __future__ import annotations

from typing import Final

from slipform.api.types.v1 import types_pb2
from slipform.core import errors, execution
from slipform.core.source import SourceRange

NUMBERS: Final[dict[type[errors.DomainError], int]] = {
    errors.Cancelled: 1,
    errors.InvalidArgument: 3,
    errors.DeadlineExceeded: 4,
    errors.NotFound: 5,
    errors.AlreadyExists: 6,
    errors.PermissionDenied: 7,
    errors.ResourceExhausted: 8,
    errors.FailedPrecondition: 9,
    errors.Conflict: 10,
    errors.OutOfRange: 11,
    errors.Unsupported: 12,
    errors.Unavailable: 14,
    errors.DigestMismatch: 15,
}
"""The one table between errors and statuses, read in both directions (grpc statuscodes.md)."""

UNKNOWN: Final = 2
_MESSAGE_BYTES: Final = 2000
_DETAIL_BYTES: Final = 500
"""Of each text; together, and percent-encoded, they fit into the 8 KiB of gRPC's trailers."""

_BY_NUMBER: Final = {number: kind for kind, number in NUMBERS.items()}


def _kinds() -> dict[str, type[errors.DomainError]]:
    """Every class that may travel by name: the table's and their refinements."""
    found = (item for module in (errors, execution) for item in vars(module).values())
    return {
        item.__name__: item
        for item in found
        if isinstance(item, type) and issubclass(item, errors.DomainError)
    }


_KINDS: Final = _kinds()


def number_of(error: errors.DomainError) -> int:
    """The status number of an error: that of its nearest class in the table."""
    for kind in type(error).__mro__:
        if kind in NUMBERS:
            return NUMBERS[kind]
    return UNKNOWN


def message_of(error: errors.DomainError) -> str:
    """The sentence of an error, as it may travel: it may quote anything, of any length."""
    return _carried(str(error), _MESSAGE_BYTES)


def details_of(error: errors.DomainError) -> bytes:
    """The ``ErrorDetails`` that ride in the trailer, serialised."""
    details = types_pb2.ErrorDetails(kind=type(error).__name__)
    if isinstance(error, errors.InvalidArgument):
        details.source_line = _carried(error.source_line, _DETAIL_BYTES)
        details.expected = _carried(error.expected, _DETAIL_BYTES)
        if error.source is not None:
            details.source.file = _carried(error.source.file, _DETAIL_BYTES)
            details.source.start_line = error.source.start_line
            details.source.end_line = error.source.end_line
            details.source.start_column = error.source.start_column
    return details.SerializeToString()


def error_of(number: int, message: str, details: bytes = b"") -> errors.DomainError:
    """The error that a status stands for; unknown and internal ones become ``Unavailable``."""
    parsed = types_pb2.ErrorDetails.FromString(details)
    kind = _KINDS.get(parsed.kind) or _BY_NUMBER.get(number)
    if kind is None:
        return errors.Unavailable(f"internal: {message}" if number != UNKNOWN else message)
    if not issubclass(kind, errors.InvalidArgument):
        return kind(message)
    source = None
    if parsed.HasField("source"):
        at = parsed.source
        source = SourceRange(at.file, at.start_line, at.end_line, at.start_column)
    return kind(message, source=source, source_line=parsed.source_line, expected=parsed.expected)


def _carried(text: str, limit: int) -> str:
    """Text that protobuf takes (no lone surrogates, as names of files have), and not too long."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > limit:
        return data[:limit].decode("utf-8", "ignore") + " …"
    return data.decode()
