"""What can go wrong, by what the caller can do about it.

Every class has exactly one gRPC status (``slipform.rpc.status``); anything that is not a
``DomainError`` is a bug and reaches a client as "internal error".
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slipform.core.source import SourceRange


class DomainError(Exception):
    """Base of all expected failures; ``str()`` of it is one sentence a person can act on."""


class InvalidArgument(DomainError):
    """The request can never succeed as written: a bad Dockerfile, a malformed digest."""

    def __init__(
        self,
        message: str,
        *,
        source: SourceRange | None = None,
        source_line: str = "",
        expected: str = "",
    ) -> None:
        """Keep the place of the fault beside the sentence.

        Args:
            message: one sentence: the thing, what was found, what was expected.
            source: file, lines and column of the fault, when it stands in a text.
            source_line: the text of the first line of ``source``.
            expected: what would have been right, in a few words; may be empty.
        """
        super().__init__(message)
        self.source = source
        self.source_line = source_line
        self.expected = expected


class NotFound(DomainError):
    """No such blob, snapshot, image, container or driver."""


class AlreadyExists(DomainError):
    """The name or key is taken; for content-addressed things this is as good as success."""


class FailedPrecondition(DomainError):
    """A right request in the wrong state: parent not committed, store read-only, in use."""


class OutOfRange(DomainError):
    """An offset past the end of what exists."""


class Unsupported(DomainError):
    """This driver, kernel or build lacks the ability."""


class PermissionDenied(DomainError):
    """EPERM and EACCES, or a peer that is not allowed."""


class ResourceExhausted(DomainError):
    """ENOSPC, EDQUOT, or a configured limit."""


class DigestMismatch(DomainError):
    """Bytes do not hash to their name; never retried, never kept."""


class Conflict(DomainError):
    """Lost a race; redo the whole operation."""


class Unavailable(DomainError):
    """Nobody is there, or the thing is locked; try the same call again."""


class Cancelled(DomainError):
    """The caller asked to stop, and it was stopped."""


class DeadlineExceeded(DomainError):
    """The time allowed for the operation ran out."""
