"""What a snapshot driver does: keep file systems by number and say how to mount them.

Keys, names, tenants, labels, leases and kinds are the snapshotter's; a driver sees numbers, which
are positive, ascend from parent to child and are never used twice. Numbers name directories,
because ``:`` and ``,`` in a name break overlay's ``lowerdir``.

The snapshotter calls from several threads, but never two at a time for the same number. A class
also has a ``probe(root)`` class method (``SnapshotDriverFactory``), which automatic choice asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from slipform.core.mounts import Mount
    from slipform.core.snapshots import Usage

ChangeT_co = TypeVar("ChangeT_co", covariant=True)
"""``slipform.layer``'s Change: core knows no layer engine, so the Protocol is generic in it."""


class SnapshotDriver(Protocol[ChangeT_co]):
    """File systems by number. ``parents`` are always newest first, and all of them."""

    @property
    def name(self) -> str:
        """The driver's word in a configuration, for messages."""
        ...

    def create(self, number: int, parents: Sequence[int], *, read_only: bool) -> None:
        """Make the file system: what the newest parent holds, or an empty root.

        The root of one without parents is 0755 root:root whatever the umask; with parents it has
        mode, owner, times and extended attributes of the newest parent's root. What a failed
        call leaves behind is removed by ``remove``.

        Raises:
            ResourceExhausted: no space, or more parents than can be stacked.
        """
        ...

    def mounts(self, number: int, parents: Sequence[int], *, read_only: bool) -> tuple[Mount, ...]:
        """How to mount it; the same answer for the same arguments, touching nothing."""
        ...

    def seal(self, number: int) -> None:
        """It was committed, maybe long ago: nobody writes to it any more. Idempotent."""
        ...

    def remove(self, number: int) -> None:
        """Take it away all at once, quickly; the space is freed by ``purge``. Absent is fine."""
        ...

    def purge(self) -> int:
        """Free the space of what was removed; bytes freed. May take long."""
        ...

    def numbers(self) -> Iterable[int]:
        """Every file system that exists, also half-made ones, in any order."""
        ...

    def usage(self, number: int) -> Usage:
        """Allocated bytes and inodes without parents; hard links count once."""
        ...

    def changes(self, number: int, parents: Sequence[int]) -> Iterator[ChangeT_co]:
        """What it changed on its newest parent: equal for equal results with every driver."""
        ...

    def sync(self) -> None:
        """Return when everything written before would survive a power cut."""
        ...


class SnapshotDriverFactory(Protocol[ChangeT_co]):
    """What a driver's class must be able to do before there is an instance."""

    def __call__(self, root: Path) -> SnapshotDriver[ChangeT_co]:
        """Use ``root``, an existing directory, for file systems of this driver only."""
        ...

    def probe(self, root: Path) -> None:
        """Find out whether the driver works on ``root``, and leave no trace.

        Raises:
            Unsupported: it doesn't; the message says why, for people.
        """
        ...
