"""What goes wrong in a step, as the one sentence that its build ends with."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Final

from slipform.core.errors import (
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.core.plan import Step

_FULL: Final = (errno.ENOSPC, errno.EDQUOT)
_BAD_PATH: Final = (errno.ELOOP, errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


class ProcessFailed(FailedPrecondition):
    """The process of a RUN step ended badly: a result of the build, not a fault of ours."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class StepFailed(Exception):
    """A step ended the build; ``tail`` is the end of its output."""

    def __init__(self, step: Step, error: BaseException, tail: tuple[str, ...] = ()) -> None:
        super().__init__(str(error))
        self.step = step
        self.error = error
        self.tail = tail


@contextlib.contextmanager
def os_errors(doing: str) -> Iterator[None]:
    """Around system calls on an image's files: ``OSError`` leaves as ``DomainError``."""
    try:
        yield
    except OSError as e:
        name = f' "{e.filename!s}"' if isinstance(e.filename, str) else ""
        message = f"{doing}:{name} {(e.strerror or str(e)).lower()}"
        kind: type[DomainError] = FailedPrecondition
        if e.errno in _FULL:
            kind = ResourceExhausted
        elif e.errno in (errno.EPERM, errno.EACCES):
            kind = PermissionDenied
        elif e.errno in _BAD_PATH:
            kind = InvalidArgument
        raise kind(message) from e
