"""What the operating system says about disks, in words that a caller can act on."""

from __future__ import annotations

import contextlib
import errno
from typing import TYPE_CHECKING, Final

from slipform.core import errors

if TYPE_CHECKING:
    from collections.abc import Iterator

_BY_ERRNO: Final[dict[int, type[errors.DomainError]]] = {
    errno.ENOSPC: errors.ResourceExhausted,
    errno.EDQUOT: errors.ResourceExhausted,
    errno.EFBIG: errors.ResourceExhausted,
    errno.ENOMEM: errors.ResourceExhausted,
    errno.EMFILE: errors.ResourceExhausted,
    errno.ENFILE: errors.ResourceExhausted,
    errno.EMLINK: errors.ResourceExhausted,
    errno.EPERM: errors.PermissionDenied,
    errno.EACCES: errors.PermissionDenied,
    errno.EROFS: errors.FailedPrecondition,
    errno.EBUSY: errors.Unavailable,
    errno.EOPNOTSUPP: errors.Unsupported,
}


@contextlib.contextmanager
def disk_errors(doing: str) -> Iterator[None]:
    """Turn ``OSError`` into a domain error; one that means a bug passes as it is."""
    try:
        yield
    except OSError as e:
        kind = _BY_ERRNO.get(e.errno or 0)
        if kind is None:
            raise
        raise kind(f"{doing}: {e.strerror}") from e
