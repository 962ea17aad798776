"""Snapshots: file systems in layers, in containerd's words, plus apply and diff by name.

An *active* snapshot or a *view* has a key; committing gives an active one a name and makes it
immutable. A ``Snapshotter`` is one tenant's view, as a ``ContentStore`` is.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from slipform.core.leases import Leases

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from slipform.core.mounts import Mount
    from slipform.core.oci.descriptor import Descriptor
    from slipform.core.oci.digest import Digest


class Kind(enum.Enum):
    """Active and view snapshots have a key, committed ones a name."""

    ACTIVE = "active"
    VIEW = "view"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    """What is known of a snapshot; ``parent`` is empty for one on nothing."""

    name: str
    kind: Kind
    parent: str
    created_at: datetime
    updated_at: datetime
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Usage:
    """Disk use of one snapshot without its parents; ``size`` is allocated bytes."""

    size: int
    inodes: int


@dataclass(frozen=True, slots=True)
class LayerDiff:
    """A canonical layer tar made of one snapshot.

    ``size`` is the bytes of the uncompressed tar; ``descriptor`` points at the stored blob and is
    None when no blob was asked for.
    """

    diff_id: Digest
    size: int
    descriptor: Descriptor | None = None


@dataclass(frozen=True, slots=True)
class AppliedLayer:
    """What came out of a layer blob: the digest and size of its uncompressed tar."""

    diff_id: Digest
    size: int


@dataclass(frozen=True, slots=True)
class ChainRecord:
    """A committed snapshot that holds the content of a layer chain.

    ``clamp_mtime`` is what ``diff`` must be given to make the layer with this ``diff_id`` again;
    ``regenerable`` is False for layers that came from elsewhere, whose blob must be kept.
    """

    chain_id: Digest
    snapshot: str
    diff_id: Digest
    size: int
    clamp_mtime: int | None = None
    regenerable: bool = True


class Snapshotter(Leases, Protocol):
    """One tenant's snapshots. All methods are safe to call from several threads."""

    def prepare(
        self,
        key: str,
        parent: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        lease: str = "",
    ) -> tuple[Mount, ...]:
        """Make an active snapshot on a committed parent ("" = on nothing).

        The root directory of one without a parent is 0755 root:root whatever the umask.

        Raises:
            AlreadyExists: the key is in use.
            NotFound: no such parent.
            FailedPrecondition: the parent is not committed.
        """
        ...

    def view(
        self,
        key: str,
        parent: str,
        *,
        labels: Mapping[str, str] | None = None,
        lease: str = "",
    ) -> tuple[Mount, ...]:
        """Make a read-only view of a committed parent; raises as ``prepare`` does."""
        ...

    def mounts(self, key: str) -> tuple[Mount, ...]:
        """The mounts of an active snapshot or view, as ``prepare`` answered them."""
        ...

    def commit(
        self, name: str, key: str, *, labels: Mapping[str, str] | None = None, lease: str = ""
    ) -> None:
        """Freeze the active snapshot ``key`` as ``name``; its labels are those given here.

        Raises:
            AlreadyExists: the name is taken; the active snapshot stays.
            NotFound: no such key.
            FailedPrecondition: ``key`` is a view or committed.
        """
        ...

    def remove(self, key: str) -> None:
        """Remove a snapshot and free its disk space.

        Raises:
            NotFound: no such snapshot.
            FailedPrecondition: it has children, or it is committed and a lease holds it.
        """
        ...

    def stat(self, key: str) -> SnapshotInfo:
        """Raises ``NotFound``."""
        ...

    def update_labels(self, key: str, labels: Mapping[str, str]) -> SnapshotInfo:
        """Set the given labels, leave others alone; an empty value removes that label."""
        ...

    def walk(
        self,
        *,
        parent: str | None = None,
        kind: Kind | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Iterator[SnapshotInfo]:
        """Snapshots by name, filtered by all that is given (label value "" = any value)."""
        ...

    def usage(self, key: str) -> Usage:
        """Disk use of this snapshot alone. Raises ``NotFound``."""
        ...

    def apply(self, key: str, layer: Descriptor) -> AppliedLayer:
        """Unpack a layer blob of the content store into the active snapshot ``key``.

        Gzip, zstd, bzip2, xz and plain tar are recognised by content. Every path is resolved
        inside the root.

        Raises:
            NotFound: no such snapshot or blob.
            InvalidArgument: a broken or hostile archive; names the entry.
            DigestMismatch: the blob does not hash to its digest.
        """
        ...

    def diff(self, key: str, *, clamp_mtime: int | None = None, store: bool = False) -> LayerDiff:
        """The canonical layer of what ``key`` changed on its parent.

        The same changes give the same bytes with every driver. Results for committed snapshots
        are remembered, so asking twice costs nothing.

        Args:
            key: an active or committed snapshot.
            clamp_mtime: seconds since the epoch (SOURCE_DATE_EPOCH); later times become this.
            store: also write the uncompressed tar as a blob into the content store.
        """
        ...

    def record_chain(self, record: ChainRecord) -> None:
        """Remember that a committed snapshot holds a chain; idempotent.

        Raises:
            NotFound: no such committed snapshot.
        """
        ...

    def find_chain(self, chain_id: Digest) -> ChainRecord:
        """Raises ``NotFound``; records vanish with their snapshot."""
        ...

    def collect(self) -> int:
        """Remove every committed snapshot that neither a lease nor a child needs; bytes freed."""
        ...
