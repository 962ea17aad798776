"""What stands in a container's root besides the image: mounts, devices, masks.

All of it is done before ``pivot_root``, with every path resolved inside the root.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from slipform.core.errors import InvalidArgument
from slipform.core.linux import cgroups, mountapi
from slipform.core.linux.mounting import attach, domain_errors, open_in_root
from slipform.core.mounts import Mount
from slipform.drivers.executor.mountpoints import MountPoints, wants_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_DEVICES: Final = (
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
)
_LINKS: Final = (
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
)
_TYPES: Final = {"c": stat.S_IFCHR, "u": stat.S_IFCHR, "b": stat.S_IFBLK, "p": stat.S_IFIFO}


def mount(root: str, entry: Mapping[str, Any], group: cgroups.Group) -> None:
    """Make one of the runtime-spec's mounts.

    Raises:
        DomainError: as ``mounting.perform`` does.
    """
    target = str(entry["destination"])
    options = tuple(entry.get("options") or ())
    source = str(entry.get("source") or "")
    fstype = str(entry.get("type") or "none")
    if fstype == "cgroup":
        _mount_cgroups(root, target, options, group)
        return
    with domain_errors(f"mount {fstype} {source} on {target}"):
        _attach(root, Mount(fstype, source, target, options), entry)


def _attach(root: str, value: Mount, entry: Mapping[str, Any]) -> None:
    try:
        fd = open_in_root(root, value.target)
    except FileNotFoundError:
        # Below another mount, so it could not be made with the others; goes with that mount.
        top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        points = MountPoints(top)
        points.ensure(value.target, is_directory=wants_directory(dict(entry)))
        points.restore_times()
        fd = open_in_root(root, value.target)
    try:
        attach(value, fd)
    finally:
        os.close(fd)


def move(root: str, target: str, top: int) -> None:
    """Move a mount, and what is mounted on it, from where it was prepared into the root."""
    if target == "/dev":
        _refuse_link(root)
    with domain_errors(f"mount {target}"):
        place = open_in_root(root, target)
        try:
            mountapi.move_mount(top, place)
        finally:
            os.close(place)


def _refuse_link(root: str) -> None:
    if stat.S_ISLNK(os.lstat(f"{root}/dev").st_mode):
        raise InvalidArgument("/dev of the image is a symbolic link")


def _mount_cgroups(root: str, target: str, options: tuple[str, ...], group: cgroups.Group) -> None:
    """The process's own groups; of v1 only the hierarchies in which it has one."""
    found = cgroups.hierarchies()
    if found.version == 2:
        with contextlib.suppress(OSError):
            _attach(root, Mount("cgroup2", "cgroup2", target, options), {"type": "cgroup2"})
        return
    owned = [name for name, place in found.v1.items()
             if any(directory.is_relative_to(place) for directory in group.own)]  # fmt: skip
    if not owned:
        return
    plain = tuple(option for option in options if option != "ro")
    with domain_errors(f"mount cgroups on {target}"):
        _attach(root, Mount("tmpfs", "tmpfs", target, (*plain, "mode=755")), {"type": "tmpfs"})
        for name in owned:
            place = f"{target}/{name}"
            with contextlib.suppress(OSError):
                _attach(
                    root, Mount("cgroup", "cgroup", place, (*options, name)), {"type": "cgroup"}
                )
    if "ro" in options:
        restrict(f"{root}{target}", mountapi.MOUNT_ATTR_RDONLY)


def populate_dev(root: str, devices: Iterable[Mapping[str, Any]], *, guarded: bool) -> None:
    """Fill a fresh /dev.

    Args:
        root: the container's root.
        devices: more than the default ones, as the runtime-spec lists them.
        guarded: a cgroup decides which devices may be opened. Without one, nodes are bind mounts
            and no file system of the container may have others.
    """
    dev = f"{root}/dev"
    _refuse_link(root)
    before = os.umask(0)
    try:
        for name, major, minor in _DEVICES:
            if guarded:
                os.mknod(f"{dev}/{name}", 0o666 | stat.S_IFCHR, os.makedev(major, minor))
            else:
                os.close(os.open(f"{dev}/{name}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
                mountapi.mount(f"/dev/{name}", f"{dev}/{name}", "", mountapi.MS_BIND)
        for device in devices:
            _make_node(root, device)
    finally:
        os.umask(before)
    for name, text in _LINKS:
        os.symlink(text, f"{dev}/{name}")
    if not guarded:
        restrict(dev, mountapi.MOUNT_ATTR_NODEV)


def _make_node(root: str, device: Mapping[str, Any]) -> None:
    path = Path(f"{root}{device['path']}")
    if not path.is_relative_to(f"{root}/dev") or ".." in path.parts:
        raise InvalidArgument(f"device {device['path']} is not below /dev")
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    number = os.makedev(int(device.get("major") or 0), int(device.get("minor") or 0))
    with contextlib.suppress(FileExistsError):
        os.mknod(path, int(device.get("fileMode") or 0o666) | _TYPES[device["type"]], number)
        os.chown(path, int(device.get("uid") or 0), int(device.get("gid") or 0))


def make_read_only(root: str, path: str) -> None:
    """Mount a path on itself, read-only; absent is fine."""
    fd = _open_existing(root, path)
    if fd is None:
        return
    try:
        attach(Mount("bind", f"/proc/self/fd/{fd}", path, ("rbind", "ro")), fd)
    finally:
        os.close(fd)


def mask(root: str, path: str) -> None:
    """Hide a path behind nothing; absent is fine."""
    fd = _open_existing(root, path)
    if fd is None:
        return
    try:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            attach(Mount("tmpfs", "tmpfs", path, ("ro", "size=0k")), fd)
        else:
            attach(Mount("bind", "/dev/null", path), fd)
    finally:
        os.close(fd)


def restrict(path: str, attributes: int) -> None:
    """Add attributes to the mount that is seen at a path."""
    fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mountapi.mount_setattr(fd, add=attributes)
    finally:
        os.close(fd)


def _open_existing(root: str, path: str) -> int | None:
    try:
        return open_in_root(root, path)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.EACCES):
            return None
        raise
