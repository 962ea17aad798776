"""The ``copy`` driver: every snapshot is a whole tree; works wherever directories do.

Where the file system shares extents (XFS, btrfs), a copy costs metadata only; elsewhere the
kernel copies.

::

    root/snapshots/12/fs       the tree
    root/snapshots/12/copied   an empty file, made when the copy was complete
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipform.core.mounts import Mount
from slipform.drivers.snapshot.directories import Directories, check_owner, make_root
from slipform.drivers.snapshot.usage import tree_usage
from slipform.layer.copying import copy_tree
from slipform.layer.diff import directory_changes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from slipform.core.snapshots import Usage
    from slipform.layer.changes import Change


class CopyDriver:
    """Satisfies ``slipform.core.snapshot_driver.SnapshotDriver`` with plain directories.

    Args:
        root: an existing directory.
    """

    name = "copy"

    def __init__(self, root: Path) -> None:
        self._directories = Directories(root, self.name)

    @classmethod
    def probe(cls, root: Path) -> None:
        """Works everywhere but among another driver's directories. Raises ``Unsupported``."""
        check_owner(root, cls.name)

    def create(self, number: int, parents: Sequence[int], *, read_only: bool) -> None:
        """Copy the newest parent; a view needs no copy."""
        path = self._directories.make(number)
        if not parents:
            make_root(path / "fs")
        elif not read_only:
            copy_tree(self._directories.tree(parents[0]), path / "fs")
            (path / "copied").touch()

    def mounts(self, number: int, parents: Sequence[int], *, read_only: bool) -> tuple[Mount, ...]:
        """One bind mount of the tree; a view's is its parent's."""
        shown = parents[0] if read_only and parents else number
        options = ("rbind", "ro" if read_only else "rw")
        return (Mount("bind", str(self._directories.tree(shown)), options=options),)

    def seal(self, number: int) -> None:
        """Nothing to do: the tree is complete as it is."""

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
        """Of the whole tree, for that is what lies on the disk (shared extents count in full)."""
        tree = self._directories.tree(number)
        return tree_usage(tree if tree.exists() else self._directories.path(number))

    def changes(self, number: int, parents: Sequence[int]) -> Iterator[Change]:
        """Found by comparing the two trees; what nobody touched since the copy is not read."""
        tree = self._directories.tree(number)
        if not parents:
            return directory_changes(None, tree)
        copied_ns = (self._directories.path(number) / "copied").stat().st_ctime_ns
        base = self._directories.tree(parents[0])
        return directory_changes(base, tree, untouched_before_ns=copied_ns)

    def sync(self) -> None:
        """As the Protocol says."""
        self._directories.sync()
