"""Files that survive a power cut, and paths that stay inside a root.

Durable writes put bytes aside, sync them, and only then give them their name. Paths of an image
are resolved by the kernel (``openat2(RESOLVE_IN_ROOT)``): symbolic links, absolute or not, and
``..`` never lead out of the root, also when somebody changes the tree meanwhile.

A *root* is an open directory (``O_PATH`` will do; see ``root_handle``) or a ``Path`` that the host
administrator chose. Paths inside it may be bytes, text or pure paths; a leading ``/`` is the root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from collections import deque
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final, TypeAlias

from slipform.core.linux.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Root: TypeAlias = int | Path
InnerPath: TypeAlias = bytes | str | PurePosixPath

_CONFINED: Final = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_HANDLE: Final = os.O_PATH | os.O_CLOEXEC
_MAX_LINKS: Final = 40  # the kernel's own limit (path_resolution(7))


def sync_dir(path: Path) -> None:
    """Make names that were added to or removed from a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_durably(path: Path, data: bytes | Iterable[bytes], *, mode: int = 0o600) -> int:
    """Replace ``path`` by these bytes: after a crash it holds all of the old or all of the new.

    Args:
        path: its directory must exist; a temporary file beside it is used and removed on failure.
        data: the content, or chunks of it.
        mode: permission bits of the file, whatever the umask is.

    Returns:
        The number of bytes written.
    """
    fd, aside = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(fd, "wb") as file:
            size = 0
            for chunk in (data,) if isinstance(data, bytes) else data:
                size += file.write(chunk)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.rename(aside, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(aside)
        raise
    sync_dir(path.parent)
    return size


@contextlib.contextmanager
def root_handle(root: Root) -> Iterator[int]:
    """An ``O_PATH`` descriptor of a root directory; closed afterwards unless it was given."""
    if isinstance(root, int):
        yield root
        return
    fd = os.open(root, _HANDLE | os.O_DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)


def open_in_root(
    root: Root,
    path: InnerPath,
    flags: int = os.O_RDONLY,
    *,
    mode: int = 0,
    follow_last: bool = True,
) -> int:
    """Open a path of an image for the caller, who closes the descriptor.

    Links in the middle of the path are followed inside the root. The last component is followed
    (inside the root) only when ``follow_last``; otherwise a link there is ``ELOOP``, or is itself
    opened when ``flags`` has ``O_PATH``.

    Args:
        root: the directory that paths cannot leave.
        path: ``""`` and ``/`` are the root itself.
        flags: as for open(2); ``O_CLOEXEC`` is added.
        mode: permission bits for ``O_CREAT``.
        follow_last: whether a link in the last place is followed.

    Raises:
        OSError: as open(2) raises it.
    """
    inner = inner_bytes(path) or b"."
    if not follow_last:
        flags |= os.O_NOFOLLOW
    with root_handle(root) as root_fd:
        return openat2(root_fd, inner, flags, mode=mode, resolve=_CONFINED)


def stat_in_root(root: Root, path: InnerPath, *, follow_last: bool = True) -> os.stat_result:
    """``os.stat`` of a path of an image; raises ``OSError`` as it does."""
    fd = open_in_root(root, path, os.O_PATH, follow_last=follow_last)
    try:
        return os.fstat(fd)
    finally:
        os.close(fd)


def exists_in_root(root: Root, path: InnerPath, *, follow_last: bool = True) -> bool:
    """Whether a path of an image names something; a dangling link does so only unfollowed."""
    try:
        stat_in_root(root, path, follow_last=follow_last)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return False
        raise
    return True


def reopen(fd: int, flags: int) -> int:
    """Open what a descriptor (``O_PATH`` ones too) refers to once more, with other flags."""
    return os.open(f"/proc/self/fd/{fd}", (flags & ~os.O_NOFOLLOW) | os.O_CLOEXEC)


def resolve_in_root(root: Root, path: InnerPath, *, follow_last: bool = True) -> PurePosixPath:
    """Where a path of an image really is: absolute, without links and ``..``.

    What does not exist is kept as written, so this also answers where a new file would come to be
    (dangling links are followed, as docker does). The answer holds as long as nobody changes the
    tree; whoever opens it afterwards still uses ``open_in_root``.

    Raises:
        OSError: ``ELOOP`` for too many links, ``ENAMETOOLONG``.
    """
    todo = deque(_components(inner_bytes(path)))
    done: list[bytes] = []
    links = 0
    with root_handle(root) as root_fd:
        while todo:
            name = todo.popleft()
            if name == b"..":
                del done[-1:]
                continue
            target = None
            if todo or follow_last:
                target = _read_link(root_fd, [*done, name])
            if target is None:
                done.append(name)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), inner_bytes(path))
            if target.startswith(b"/"):
                done.clear()
            todo.extendleft(reversed(_components(target)))
    return PurePosixPath("/", *map(os.fsdecode, done))


def mkdirs_in_root(
    root: Root, path: InnerPath, mode: int = 0o755, uid: int = 0, gid: int = 0
) -> list[PurePosixPath]:
    """Make a directory of an image and its parents; existing ones are left as they are.

    Links on the way, the last component too, are followed inside the root; a dangling one has its
    target made.

    Args:
        root: the directory that paths cannot leave.
        path: the directory to make.
        mode: permission bits of every new directory, whatever the umask is.
        uid: owner of every new directory.
        gid: group of every new directory.

    Returns:
        The directories that were made, parents first, as absolute resolved paths.

    Raises:
        OSError: ``ENOTDIR`` or ``EEXIST`` when something else is in the way.
    """
    made: list[PurePosixPath] = []
    with root_handle(root) as root_fd:
        resolved = resolve_in_root(root_fd, path)
        parent = os.dup(root_fd)
        try:
            for depth, name in enumerate(resolved.parts[1:], start=2):
                child, is_new = _mkdir(parent, name, mode, uid, gid)
                os.close(parent)
                parent = child
                if is_new:
                    made.append(PurePosixPath(*resolved.parts[:depth]))
        finally:
            os.close(parent)
    return made


def _mkdir(parent: int, name: str, mode: int, uid: int, gid: int) -> tuple[int, bool]:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return os.open(name, _HANDLE | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=parent), False
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(name, flags, dir_fd=parent)
    try:
        if (uid, gid) != (os.geteuid(), os.getegid()) or os.fstat(fd).st_gid != gid:
            os.fchown(fd, uid, gid)
        os.fchmod(fd, mode)
    except BaseException:
        os.close(fd)
        raise
    return fd, True


def _read_link(root_fd: int, components: list[bytes]) -> bytes | None:
    """The target when these link-free components name a link, else None."""
    try:
        fd = openat2(root_fd, b"/".join(components), os.O_PATH | os.O_NOFOLLOW, resolve=_CONFINED)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise
    try:
        if not stat.S_ISLNK(os.fstat(fd).st_mode):
            return None
        return os.readlink(b"", dir_fd=fd)
    finally:
        os.close(fd)


def _components(path: bytes) -> list[bytes]:
    return [name for name in path.split(b"/") if name not in (b"", b".")]


def inner_bytes(path: InnerPath) -> bytes:
    """A path of an image as bytes; undecodable names survive as ``os.fsencode`` has them."""
    return path if isinstance(path, bytes) else os.fsencode(path)
