"""The extended attributes that belong to an image, and no others.

File capabilities, POSIX ACLs and ``user.*`` are part of a file; ``trusted.*`` (where overlayfs
keeps its books) and the labels of the host's security modules are not: they neither leave with a
layer nor come in with one.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from slipform.core.errors import FailedPrecondition
from slipform.layer.faults import shown

if TYPE_CHECKING:
    from collections.abc import Sequence

_EXACT: Final = frozenset(
    {"security.capability", "system.posix_acl_access", "system.posix_acl_default"}
)
_PARTIAL_COPY: Final = frozenset({"trusted.overlay.metacopy", "trusted.overlay.redirect"})
_ABSENT: Final = frozenset({errno.ENODATA, errno.EOPNOTSUPP})


def is_portable(name: str) -> bool:
    """Whether an attribute belongs to the image."""
    if name in _EXACT:
        return True
    return name.startswith("user.") and not name.startswith("user.overlay.")


def read_portable(file: int | bytes, path: bytes) -> list[tuple[str, bytes]]:
    """The image's attributes of an open file, or of a path that no link can hijack, by name.

    Raises:
        FailedPrecondition: overlayfs keeps the data of this file elsewhere (``metacopy``,
            ``redirect_dir``): reading it here would lose it.
    """
    try:
        names = os.listxattr(file)
    except OSError as error:
        if error.errno in _ABSENT:
            return []
        raise
    if not names:
        return []
    if not _PARTIAL_COPY.isdisjoint(names):
        raise FailedPrecondition(
            f"{shown(path)} is an overlayfs redirect or metadata-only copy; "
            "want the snapshot mounted with redirect_dir=off,metacopy=off"
        )
    return sorted((name, os.getxattr(file, name)) for name in names if is_portable(name))


def write_portable(file: int | bytes, attributes: Sequence[tuple[str, bytes]]) -> None:
    """Set the image's attributes of a file; a file system without attributes keeps none."""
    for name, value in attributes:
        if not is_portable(name):
            continue
        try:
            os.setxattr(file, name, value)
        except OSError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise


def clear_portable(file: int | bytes, path: bytes, *, keep: Sequence[tuple[str, bytes]]) -> None:
    """Remove the image's attributes of a file, but for those in ``keep``."""
    kept = {name for name, _ in keep}
    for name, _ in read_portable(file, path):
        if name not in kept:
            os.removexattr(file, name)


def by_descriptor(fd: int) -> bytes:
    """A path for what an ``O_PATH`` descriptor holds: attribute calls refuse the descriptor."""
    return b"/proc/self/fd/%d" % fd
