"""An image's VOLUMEs: directories of the container, filled from the image, gone with it.

In a writable root they are simply directories of the root. A read-only root gets copies beside it.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from slipform.core.errors import InvalidArgument
from slipform.core.linux.mounting import mounted
from slipform.core.linux.openat2 import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2
from slipform.core.mounts import Mount

if TYPE_CHECKING:
    import contextlib
    from collections.abc import Sequence


def provide(
    rootfs: Sequence[Mount],
    paths: Sequence[str],
    *,
    writable_root: bool,
    undo: contextlib.ExitStack,
) -> tuple[Mount, ...]:
    """Make sure that the volumes exist.

    Args:
        rootfs: the container's root; mounted for the time of this call.
        paths: where the volumes stand in the root.
        writable_root: False copies each volume, since the root will be read-only.
        undo: gets what removes the copies.

    Returns:
        The mounts of the copies.

    Raises:
        InvalidArgument: the image has something else than a directory there.
    """
    if not paths:
        return ()
    place = Path(tempfile.mkdtemp(prefix="slipform-volumes-"))
    undo.callback(shutil.rmtree, place, ignore_errors=True)
    root = place / "root"
    root.mkdir()
    made: list[Mount] = []
    with mounted(rootfs, root):
        for number, path in enumerate(sorted(set(paths))):
            found = _ensure(root, path)
            try:
                if not writable_root:
                    copy = place / str(number)
                    _copy(f"/proc/self/fd/{found}", copy)
                    made.append(Mount("bind", str(copy), path, ("rbind", "rw")))
            finally:
                os.close(found)
    return tuple(made)


def _ensure(root: Path, path: str) -> int:
    """A descriptor of the directory ``path`` inside the root, made where it is absent."""
    current = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    top = current
    so_far = ""
    try:
        for part in filter(None, path.split("/")):
            so_far += f"/{part}"
            below = _open_directory(top, so_far)
            if below is None:
                os.mkdir(part, 0o755, dir_fd=current)
                below = _open_directory(top, so_far)
            if below is None:
                raise InvalidArgument(f"volume {path}: {so_far} cannot be made in the image")
            if current != top:
                os.close(current)
            current = below
    except (NotADirectoryError, FileExistsError) as e:
        raise InvalidArgument(f"volume {path}: {so_far} of the image is not a directory") from e
    finally:
        if current != top:
            os.close(top)
    return current


def _open_directory(top: int, path: str) -> int | None:
    try:
        return openat2(
            top,
            os.fsencode(path),
            os.O_PATH | os.O_DIRECTORY,
            resolve=RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS,
        )
    except FileNotFoundError:
        return None


def _copy(source: str, target: Path) -> None:
    """Copy a tree with owners, modes, times and extended attributes."""
    shutil.copytree(source, target, symlinks=True, copy_function=_copy_file)
    for directory, names, _ in os.walk(source):
        inside = os.path.relpath(directory, source)
        for name in (".", *names):
            _copy_owner(os.path.join(directory, name), target / inside / name)


def _copy_file(source: str, target: str) -> None:
    status = os.lstat(source)
    if stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode):
        shutil.copy2(source, target, follow_symlinks=False)
    else:
        # Opening a fifo or a device of a hostile image could block or never end.
        os.mknod(target, status.st_mode, status.st_rdev)
    _copy_owner(source, Path(target))


def _copy_owner(source: str, target: Path) -> None:
    status = os.stat(source, follow_symlinks=source.endswith("/."))
    os.chown(target, status.st_uid, status.st_gid, follow_symlinks=False)
    if not os.path.islink(target):
        # A change of owner drops the setuid bits.
        os.chmod(target, status.st_mode & 0o7777)
