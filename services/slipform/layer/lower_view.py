"""The tree that lower directories of an overlay show together, seen without mounting it.

Lower directories never change while they are looked at, so paths are safe to use: every directory
on the way was seen to be one.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIXES: Final = (
    "trusted.overlay.",
    "user.overlay.",
)  # the second one: mounts in user namespaces


class LowerDir(NamedTuple):
    """One real directory that shows through at a path."""

    path: bytes
    xattr_whiteouts: bool = False
    """Empty files with a ``whiteout`` attribute are whiteouts here (``opaque=x``, Linux 6.7)."""


class LowerEntry(NamedTuple):
    """One visible lower file: where it really is."""

    path: bytes
    status: os.stat_result


class OverlayMarks(NamedTuple):
    """What overlayfs wrote on a directory."""

    opaque: bool
    xattr_whiteouts: bool


NO_MARKS: Final = OverlayMarks(opaque=False, xattr_whiteouts=False)


def overlay_marks(directory: int | bytes) -> OverlayMarks:
    """Read the ``opaque`` attribute of a directory: ``y`` hides what is below it."""
    try:
        names = os.listxattr(directory)
    except OSError:
        return NO_MARKS
    for prefix in _PREFIXES:
        name = f"{prefix}opaque"
        if name in names:
            value = os.getxattr(directory, name)
            return OverlayMarks(opaque=value == b"y", xattr_whiteouts=value == b"x")
    return NO_MARKS


def is_whiteout(status: os.stat_result) -> bool:
    """Whether this is overlayfs's mark of a deletion: a character device 0:0."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def is_xattr_whiteout(file: int | bytes, status: os.stat_result) -> bool:
    """Whether an empty file in a directory marked ``opaque=x`` is a whiteout."""
    if not stat.S_ISREG(status.st_mode) or status.st_size:
        return False
    names = os.listxattr(file)
    return any(f"{prefix}whiteout" in names for prefix in _PREFIXES)


def is_absent(status: os.stat_result) -> bool:
    """Whether a layer cannot hold this, so that it counts as not being there: a socket."""
    return stat.S_ISSOCK(status.st_mode)


class LowerView:
    """The merged view of lower directories at one path; ``dirs`` topmost first."""

    __slots__ = ("_dirs", "_listing", "_overlay")

    def __init__(self, dirs: list[LowerDir], *, overlay: bool) -> None:
        """``overlay`` says whether whiteouts and opaque marks mean anything here."""
        self._dirs = dirs
        self._overlay = overlay
        self._listing: dict[bytes, LowerEntry] | None = None

    def __bool__(self) -> bool:
        return bool(self._dirs)

    def roots(self) -> list[bytes]:
        """Where the merged directories really are, topmost first."""
        return [directory.path for directory in self._dirs]

    def listing(self) -> dict[bytes, LowerEntry]:
        """Everything visible here, by name; looked up once."""
        if self._listing is None:
            self._listing = dict(self._visible())
        return self._listing

    def lookup(self, name: bytes) -> LowerEntry | None:
        """The visible file of this name."""
        if self._listing is not None:
            return self._listing.get(name)
        for directory in self._dirs:
            path = b"%b/%b" % (directory.path, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if self._hides(directory, path, status) or is_absent(status):
                return None
            return LowerEntry(path, status)
        return None

    def below(self, name: bytes) -> LowerView:
        """The view of the directory ``name``: of all directories that are merged there."""
        found: list[LowerDir] = []
        for directory in self._dirs:
            path = b"%b/%b" % (directory.path, name)
            try:
                status = os.lstat(path)
            except FileNotFoundError:
                continue
            if not stat.S_ISDIR(status.st_mode):
                break
            marks = overlay_marks(path) if self._overlay else NO_MARKS
            found.append(LowerDir(path, marks.xattr_whiteouts))
            if marks.opaque:
                break
        return LowerView(found, overlay=self._overlay)

    def _visible(self) -> Iterator[tuple[bytes, LowerEntry]]:
        seen: set[bytes] = set()
        for directory in self._dirs:
            with os.scandir(directory.path) as entries:
                for entry in entries:
                    if entry.name in seen:
                        continue
                    seen.add(entry.name)
                    status = entry.stat(follow_symlinks=False)
                    if not self._hides(directory, entry.path, status) and not is_absent(status):
                        yield entry.name, LowerEntry(entry.path, status)

    def _hides(self, directory: LowerDir, path: bytes, status: os.stat_result) -> bool:
        if is_whiteout(status):
            return True
        return directory.xattr_whiteouts and is_xattr_whiteout(path, status)
