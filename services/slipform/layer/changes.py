"""A change: one path at which a tree differs from the one it was made from."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import os


class ChangeKind(enum.Enum):
    """What happened at a path; a layer says the same of ``ADD``, ``MODIFY`` and ``PARENT``."""

    ADD = "add"
    MODIFY = "modify"
    DELETE = "delete"
    PARENT = "parent"
    """An unchanged directory that is there because something below it changed."""


class Change(NamedTuple):
    """One changed path; changes come parents first, each directory's deletions first, by name.

    Attributes:
        path: relative to the root, ``/`` between names, never ``.`` or ``..``; the root is ``b""``.
        kind: what happened.
        name: the last part of ``path`` (``b"."`` for the root).
        dir_fd: open directory that holds ``name``; valid until the next change is asked for.
        status: ``lstat`` of the new file; None for ``DELETE``.
    """

    path: bytes
    kind: ChangeKind
    name: bytes
    dir_fd: int
    status: os.stat_result | None
