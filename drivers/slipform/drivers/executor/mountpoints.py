"""Mount points that a root lacks: made before a run, gone after it, no trace left.

What a run leaves in its root becomes a layer, so neither the empty targets of mounts nor the
changed times of their parents may stay.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from slipform.core.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

_MOST_LINKS: Final = 40


@dataclass(frozen=True, slots=True)
class _Made:
    parent: int
    name: str
    inode: int
    is_directory: bool


@dataclass(slots=True)
class MountPoints:
    """What was made, so that it can be removed.

    With an ``owner`` it belongs to them and is meant to stay: times of parents change then.
    """

    root: int
    owner: tuple[int, int] | None = None
    _made: list[_Made] = field(default_factory=list)
    _times: dict[tuple[int, int], tuple[int, os.stat_result]] = field(default_factory=dict)
    """By device and inode: a directory, and what it was before."""

    def ensure(self, target: str, *, is_directory: bool) -> None:
        """Make ``target`` inside the root unless it exists.

        Symbolic links are followed as a process in the root would follow them, also those that
        lead to nothing yet: what they name is made.

        Raises:
            InvalidArgument: the path leads through something that is not a directory.
        """
        pending = deque(part for part in target.split("/") if part not in ("", "."))
        stack = [self.root]
        links = 0
        while pending:
            name = pending.popleft()
            if name == "..":
                if len(stack) > 1:
                    stack.pop()
                continue
            found = self._enter(stack[-1], name, target)
            if found is None:
                found = self._make(stack[-1], name, bool(pending) or is_directory)
            mode = os.fstat(found).st_mode
            if stat.S_ISLNK(mode):
                links += 1
                if links > _MOST_LINKS:
                    raise InvalidArgument(f"mount target {target}: too many symbolic links")
                text = os.readlink("", dir_fd=found)
                if text.startswith("/"):
                    stack = [self.root]
                pending.extendleft(
                    reversed([part for part in text.split("/") if part not in ("", ".")])
                )
            elif stat.S_ISDIR(mode):
                stack.append(found)
            elif pending or is_directory:
                raise InvalidArgument(f"mount target {target}: {name} is not a directory")

    def _enter(self, parent: int, name: str, target: str) -> int | None:
        try:
            fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise InvalidArgument(f"mount target {target}: {name}: {e.strerror}") from e
        return fd

    def _make(self, parent: int, name: str, is_directory: bool) -> int:
        before = os.fstat(parent)
        if is_directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            os.close(os.open(name, flags, 0o644, dir_fd=parent))
        fd = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
        self._made.append(_Made(parent, name, os.fstat(fd).st_ino, is_directory))
        self._times.setdefault((before.st_dev, before.st_ino), (parent, before))
        if self.owner is not None:
            os.chown(name, *self.owner, dir_fd=parent, follow_symlinks=False)
        return fd

    def restore_times(self) -> None:
        """Give the directories in which something was made the times that they had."""
        for directory, before in self._times.values():
            times = (before.st_atime_ns, before.st_mtime_ns)
            os.utime(f"/proc/self/fd/{directory}", ns=times)
        self._times.clear()

    def remove(self) -> None:
        """Remove what was made and is still empty; idempotent.

        Descriptors stay open until the process ends: closing the last one of a removed file makes
        its file system do the real work, and somebody waits for this run.
        """
        for made in self._made:
            before = os.fstat(made.parent)
            self._times.setdefault((before.st_dev, before.st_ino), (made.parent, before))
        for made in reversed(self._made):
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(made.name, dir_fd=made.parent, follow_symlinks=False)
                if found.st_ino == made.inode:
                    self._unlink(made)
        self.restore_times()
        self._made.clear()

    def _unlink(self, made: _Made) -> None:
        try:
            if made.is_directory:
                os.rmdir(made.name, dir_fd=made.parent)
            else:
                os.unlink(made.name, dir_fd=made.parent)
        except OSError as e:
            # The run put something beside the mount point's children: that is its result.
            if e.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return
            raise


def prepare(root: int, mounts: Sequence[dict[str, Any]]) -> MountPoints:
    """Make the targets of a runtime-spec's mounts; those on top of other mounts come later."""
    points = MountPoints(root)
    try:
        covered: list[str] = []
        for mount in mounts:
            target = mount["destination"].rstrip("/") or "/"
            if not any(target.startswith(f"{above}/") for above in covered):
                points.ensure(target, is_directory=wants_directory(mount))
            covered.append(target)
        points.restore_times()
    except BaseException:
        points.remove()
        raise
    return points


def make_cwd(root: int, process: dict[str, Any], mounts: Sequence[dict[str, Any]]) -> MountPoints:
    """Make the working directory, for good, the user's; one below a mount has to wait.

    Before the process starts, because the root may become read-only, and because runtimes would
    make it root's.

    Returns:
        What was made; to be removed only when the process does not start.
    """
    cwd, user = process["cwd"], process["user"]
    made = MountPoints(root, (user["uid"], user["gid"]))
    if any(f"{cwd}/".startswith(f"{m['destination'].rstrip('/')}/") for m in mounts):
        return made
    try:
        made.ensure(cwd, is_directory=True)
    except BaseException:
        made.remove()
        raise
    return made


def wants_directory(mount: dict[str, Any]) -> bool:
    """Whether a runtime-spec mount stands on a directory: all but binds of other things do."""
    options = mount.get("options") or ()
    if mount.get("type") not in ("bind", "rbind") and not {"bind", "rbind"} & {*options}:
        return True
    return os.path.isdir(mount["source"])
