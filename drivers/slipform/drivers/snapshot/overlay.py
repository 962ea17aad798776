"""The ``overlay`` driver: each snapshot keeps what it changed; the kernel stacks them.

::

    root/snapshots/12/fs     the upper directory, a lower one for those above it
    root/snapshots/12/work   overlay's own; gone once the snapshot is sealed
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from slipform.core.errors import DomainError, ResourceExhausted, Unsupported
from slipform.core.linux.mounting import mounted
from slipform.core.mounts import Mount
from slipform.drivers.snapshot.directories import (
    Directories,
    check_owner,
    copy_root_attributes,
    make_root,
)
from slipform.drivers.snapshot.usage import tree_usage
from slipform.layer.diff import overlay_changes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from slipform.core.snapshots import Usage
    from slipform.layer.changes import Change

MAX_PARENTS: Final = 499
"""Lower layers: the kernel stacks at most 500 (``OVL_MAX_STACK``)."""

_PARAMETERS: Final = Path("/sys/module/overlay/parameters")


def _options() -> tuple[str, ...]:
    """What makes an upper directory plain: every file whole, every name where it is.

    The defaults depend on how the kernel was built; an option that it does not know is refused.
    """
    wanted = {
        # An upper directory becomes a lower one of others, which index=on would refuse later.
        "index": "index=off",
        # A moved directory or a changed mode would else be a note that only this stack can read;
        # and a layer must not be able to smuggle in such a note ("nofollow").
        "redirect_dir": "redirect_dir=nofollow",
        "metacopy": "metacopy=off",
    }
    return tuple(option for name, option in wanted.items() if (_PARAMETERS / name).exists())


class OverlayDriver:
    """Satisfies ``slipform.core.snapshot_driver.SnapshotDriver`` with overlayfs.

    Args:
        root: an existing directory, on a file system that can hold an upper directory.
    """

    name = "overlay"

    def __init__(self, root: Path) -> None:
        self._directories = Directories(root, self.name)
        self._options = _options()

    @classmethod
    def probe(cls, root: Path) -> None:
        """Mount an overlay on ``root`` and use it. Raises ``Unsupported`` with the reason."""
        check_owner(root, cls.name)
        kind = _file_system(root)
        if kind == "overlay":
            raise Unsupported(f"overlay: upper dir is on overlayfs ({root})")
        scratch = Path(tempfile.mkdtemp(prefix="probe-", dir=root))
        try:
            _try_overlay(scratch)
        except (OSError, DomainError) as e:
            raise Unsupported(f"overlay: on {root} ({kind or 'unknown file system'}): {e}") from e
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def create(self, number: int, parents: Sequence[int], *, read_only: bool) -> None:
        """As the Protocol says: an upper and a work directory."""
        if len(parents) > MAX_PARENTS:
            raise ResourceExhausted(
                f"overlay: {len(parents)} parents, the kernel stacks at most {MAX_PARENTS}"
            )
        path = self._directories.make(number)
        if not parents:
            make_root(path / "fs")
            return
        if read_only:
            return
        (path / "work").mkdir()
        (path / "fs").mkdir()
        copy_root_attributes(self._directories.tree(parents[0]), path / "fs")

    def mounts(self, number: int, parents: Sequence[int], *, read_only: bool) -> tuple[Mount, ...]:
        """As containerd's overlay snapshotter answers."""
        if not parents:
            return (_bind(self._directories.tree(number), read_only=read_only),)
        if read_only and len(parents) == 1:
            return (_bind(self._directories.tree(parents[0]), read_only=True),)
        lowers = self._directories.tree_names(parents)
        upper = None if read_only else self._directories.tree(number)
        return (_overlay(lowers, upper, self._options),)

    def seal(self, number: int) -> None:
        """The work directory has served."""
        work = self._directories.path(number) / "work"
        with contextlib.suppress(
            OSError
        ):  # some kernels leave files of their own; they harm nobody
            for name in os.listdir(work):
                (work / name).rmdir()
            work.rmdir()

    def remove(self, number: int) -> None:
        """As the Protocol says."""
        self._directories.remove(number)

    def purge(self) -> int:
        """As the Protocol says."""
        return self._directories.purge()

    def numbers(self) -> list[int]:
        """As the Protocol says."""
        return self._directories.numbers()

    def usage(self, number: int) -> Usage:
        """Of the upper directory; a view on parents has none and counts its own directory."""
        tree = self._directories.tree(number)
        return tree_usage(tree if tree.exists() else self._directories.path(number))

    def changes(self, number: int, parents: Sequence[int]) -> Iterator[Change]:
        """Read from the upper directory; what equals the lower ones is no change."""
        lowers = [self._directories.tree(parent) for parent in parents]
        return overlay_changes(self._directories.tree(number), lowers)

    def sync(self) -> None:
        """As the Protocol says."""
        self._directories.sync()


def _bind(tree: Path, *, read_only: bool) -> Mount:
    return Mount("bind", str(tree), options=("rbind", "ro" if read_only else "rw"))


def _overlay(lowers: Sequence[str], upper: Path | None, options: Sequence[str]) -> Mount:
    found = ["lowerdir=" + ":".join(lowers)]  # newest first, as overlayfs reads it
    if upper is None:
        return Mount("overlay", "overlay", options=("ro", *found, *options))
    found += [f"upperdir={upper}", f"workdir={upper.with_name('work')}"]
    return Mount("overlay", "overlay", options=(*found, *options))


def _try_overlay(scratch: Path) -> None:
    """Do on a real mount what a build does: replace a lower directory, delete a lower file."""
    lower, upper, root = scratch / "lower", scratch / "fs", scratch / "root"
    for directory in (lower, upper, scratch / "work", root, lower / "directory"):
        directory.mkdir()
    (lower / "file").touch()
    with mounted((_overlay([str(lower)], upper, _options()),), root):
        (root / "file").unlink()
        (root / "directory").rmdir()
        (root / "directory").mkdir()
    if not stat.S_ISCHR((upper / "file").lstat().st_mode):
        raise Unsupported("a deleted file left no whiteout")
    if os.getxattr(upper / "directory", "trusted.overlay.opaque") != b"y":
        raise Unsupported("a replaced directory was not marked opaque")


def _file_system(path: Path) -> str:
    """The type of the file system that holds ``path``, or "" when it can't be told."""
    device = path.stat().st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = Path("/proc/self/mountinfo").read_text("utf-8", "replace").splitlines()
    except OSError as e:
        if e.errno not in (errno.ENOENT, errno.EACCES):
            raise
        return ""
    for line in lines:
        mount, _, rest = line.partition(" - ")
        if mount.split(" ")[2] == wanted:
            return rest.split(" ")[0]
    return ""
