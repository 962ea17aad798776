"""What the kernel refused, as the error that says what the caller can do."""

from __future__ import annotations

import errno
import os
from typing import Final

from slipform.core.errors import (
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    PermissionDenied,
    ResourceExhausted,
    Unsupported,
)

_CLASSES: Final[dict[int, type[DomainError]]] = {
    errno.ENOSPC: ResourceExhausted,
    errno.EDQUOT: ResourceExhausted,
    errno.EMFILE: ResourceExhausted,
    errno.ENFILE: ResourceExhausted,
    errno.ENOMEM: ResourceExhausted,
    errno.EPERM: PermissionDenied,
    errno.EACCES: PermissionDenied,
    errno.EROFS: FailedPrecondition,
    errno.EBUSY: FailedPrecondition,
    errno.ENOSYS: Unsupported,
    errno.EOPNOTSUPP: Unsupported,
}
_HOSTILE: Final = frozenset(
    {
        errno.ENOENT,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EEXIST,
        errno.ENOTEMPTY,
        errno.ELOOP,
        errno.ENAMETOOLONG,
        errno.EINVAL,
        errno.EFBIG,
        errno.EMLINK,
        errno.EXDEV,
        errno.E2BIG,
        errno.ENODEV,
        errno.ENXIO,
        errno.ERANGE,
        errno.EOVERFLOW,
    }
)


def from_os_error(error: OSError, what: str, *, hostile: bool = True) -> DomainError | None:
    """The domain error for an ``OSError`` met while doing ``what``, None for one that is a bug.

    Args:
        error: what the kernel said.
        what: the thing, as the message names it: ``tar entry "a/b" at offset 512``.
        hostile: whether impossible paths and numbers came from an archive, and are its fault.
    """
    number = error.errno or 0
    kind = _CLASSES.get(number)
    if kind is None and number in _HOSTILE:
        kind = InvalidArgument if hostile else FailedPrecondition
    return None if kind is None else kind(f"{what}: {os.strerror(number)}")


def shown(path: bytes) -> str:
    """A path of an image for a message: quoted, control characters escaped, at most 200 long."""
    text = path.decode("utf-8", "backslashreplace")
    if not text.isprintable():
        text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    if len(text) > 200:
        text = f"{text[:120]}…{text[-60:]}"
    return f'"{text}"'
