"""Performs ``Mount`` values, in a mount namespace of the process's own.

Nothing here forks or changes the working directory of the process, so it is safe in a server with
many threads. Targets are opened inside the root before anything is mounted on them; a symbolic
link in a rootfs cannot lead a mount out of it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.core import errors
from slipform.core.linux import mountapi, overlay
from slipform.core.linux.mountoptions import MountOptions
from slipform.core.linux.namespaces import CLONE_NEWNS, unshare
from slipform.core.linux.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from slipform.core.mounts import Mount

_private_in: int | None = None


def private_mount_namespace() -> None:
    """Give this process mounts of its own, which vanish with it; idempotent.

    Mounts made on the host later still appear here, ours never there. Call it before the first
    thread is started: threads that exist already would stay behind.

    Raises:
        FailedPrecondition: threads run already.
        PermissionDenied: without CAP_SYS_ADMIN.
        Unsupported: the root directory is no mount point, as in a plain chroot.
    """
    global _private_in
    if _private_in == os.getpid():
        return
    if len(os.listdir("/proc/self/task")) > 1:
        raise errors.FailedPrecondition(
            "private_mount_namespace: must be called before threads are started"
        )
    with domain_errors("private mount namespace"):
        unshare(CLONE_NEWNS)
        if not _root_is_mount_point():
            # Neither propagation nor pivot_root(2) work then; every container tool fails here.
            raise errors.Unsupported(
                "the root directory is not a mount point, as in a plain chroot: make it one "
                "before entering it (mount --bind DIR DIR)"
            )
        mountapi.mount("", "/", "", mountapi.MS_REC | mountapi.MS_SLAVE)
    _private_in = os.getpid()


def _root_is_mount_point() -> bool:
    lines = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines()
    return any(line.split(" ")[4] == "/" for line in lines)


def perform(mounts: Sequence[Mount], root: Path) -> None:
    """Make the mounts, in order; what was made is removed again when one fails.

    Those with an empty target stand on ``root`` itself. Targets inside the root must exist; they
    are resolved as a process whose root is ``root`` would resolve them.

    Raises:
        NotFound: a source or target does not exist.
        InvalidArgument: an option is malformed, or a target is not absolute.
        PermissionDenied: the kernel forbids it.
        Unsupported: the kernel lacks the file system or refuses the options.
    """
    with contextlib.ExitStack() as undo:
        for mount in mounts:
            undo.callback(unmount, _perform_one(mount, root))
        undo.pop_all()


@contextlib.contextmanager
def mounted(mounts: Sequence[Mount], target: Path) -> Iterator[Path]:
    """Perform the mounts on ``target`` for the time of the block; always unmounts.

    Raises:
        as ``perform`` does.
    """
    with contextlib.ExitStack() as undo:
        for mount in mounts:
            undo.callback(unmount, _perform_one(mount, target))
        yield target


def unmount(target: Path) -> None:
    """Remove the topmost mount of ``target``; lazily when it is busy. Absent is fine."""
    try:
        mountapi.umount(target, mountapi.UMOUNT_NOFOLLOW)
    except OSError as e:
        if e.errno in (errno.EINVAL, errno.ENOENT):
            return
        with domain_errors(f"unmount {target}"):
            mountapi.umount(target, mountapi.UMOUNT_NOFOLLOW | mountapi.MNT_DETACH)


def _perform_one(mount: Mount, root: Path) -> Path:
    """Make one mount; answers the real path it stands on."""
    with domain_errors(f"mount {mount.type} {mount.source} on {root}{mount.target}"):
        target = open_in_root(root, mount.target)
        try:
            attach(mount, target)
            return Path(os.readlink(f"/proc/self/fd/{target}"))
        finally:
            os.close(target)


def open_in_root(root: Path | str, target: str) -> int:
    """An O_PATH descriptor of ``target`` as seen by a process whose root is ``root``."""
    root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    if not target or target == "/":
        return root_fd
    if not target.startswith("/"):
        os.close(root_fd)
        raise errors.InvalidArgument(f"mount target {target!r} is not an absolute path")
    try:
        confined = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
        return openat2(root_fd, os.fsencode(target), os.O_PATH, resolve=confined)
    finally:
        os.close(root_fd)


def attach(mount: Mount, target: int) -> None:
    """Mount on the file or directory behind a descriptor.

    Raises:
        OSError: as the kernel says.
        InvalidArgument: a malformed option.
    """
    options = MountOptions.parse(mount.options)
    place = f"/proc/self/fd/{target}"
    if options.bind or mount.type in ("bind", "rbind"):
        _bind(mount.source, place, options, recursive=options.recursive or mount.type == "rbind")
    elif mount.type == "overlay" and overlay.needs_help(options):
        overlay.mount_deep(mount.source, target, options)
    else:
        mountapi.mount(mount.source, place, mount.type, options.flags, options.data)
    if options.propagation:
        # The descriptor still means what lies below the mount; the path leads to the top.
        mountapi.mount("", _top(target), "", options.propagation)


def _bind(source: str, place: str, options: MountOptions, *, recursive: bool) -> None:
    flags = mountapi.MS_BIND | (mountapi.MS_REC if recursive else 0)
    mountapi.mount(source, place, "", flags)
    if not options.flags:
        return
    top = _top(int(place.rpartition("/")[2]))
    try:
        _restrict(top, options, recursive=recursive)
    except OSError:
        # A bind that was asked to be read-only must never stay writable.
        mountapi.umount(top, mountapi.MNT_DETACH)
        raise


def _restrict(top: str, options: MountOptions, *, recursive: bool) -> None:
    """Set the flags of a fresh bind mount: mount(2) ignores them in the first call."""
    fd = os.open(top, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        mountapi.mount_setattr(fd, add=options.attributes, recursive=recursive)
    except OSError as e:
        if e.errno != errno.ENOSYS:
            raise
        flags = mountapi.MS_REMOUNT | mountapi.MS_BIND | options.flags | _inherited_flags(top)
        mountapi.mount("", top, "", flags)
    finally:
        os.close(fd)


def _inherited_flags(top: str) -> int:
    """Flags that a remount must repeat, or the kernel takes it for an attempt to drop them."""
    known = (
        (os.ST_RDONLY, mountapi.MS_RDONLY),
        (os.ST_NOSUID, mountapi.MS_NOSUID),
        (os.ST_NODEV, mountapi.MS_NODEV),
        (os.ST_NOEXEC, mountapi.MS_NOEXEC),
        (os.ST_NOATIME, mountapi.MS_NOATIME),
        (os.ST_NODIRATIME, mountapi.MS_NODIRATIME),
        (os.ST_RELATIME, mountapi.MS_RELATIME),
    )
    present = os.statvfs(top).f_flag
    return sum(flag for bit, flag in known if present & bit)


def _top(target: int) -> str:
    """The path that leads to the mount which now covers ``target``."""
    return os.readlink(f"/proc/self/fd/{target}")


_BY_ERRNO: Final[dict[int, Callable[[str], errors.DomainError]]] = {
    errno.ENOENT: errors.NotFound,
    errno.ENOTDIR: errors.InvalidArgument,
    errno.ELOOP: errors.InvalidArgument,
    errno.EPERM: errors.PermissionDenied,
    errno.EACCES: errors.PermissionDenied,
    errno.ENOSPC: errors.ResourceExhausted,
    errno.ENOMEM: errors.ResourceExhausted,
    errno.EMFILE: errors.ResourceExhausted,
    errno.EBUSY: errors.Unavailable,
}


@contextlib.contextmanager
def domain_errors(doing: str) -> Iterator[None]:
    """Around mount calls: ``OSError`` leaves as the ``DomainError`` that ``perform`` promises."""
    try:
        yield
    except OSError as e:
        raise _BY_ERRNO.get(e.errno or 0, errors.Unsupported)(f"{doing}: {e.strerror}") from e
