"""One tenant's snapshots: the ``Snapshotter`` Protocol over the shared state.

Rows and directories can't change in one step, so the order is always such that a death in
between leaves something that recovery can tell apart: a row is reserved before its directory is
made, and shown afterwards; a directory goes to the trash just before its row is gone for good.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Final

from slipform.core.errors import (
    AlreadyExists,
    DomainError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Unavailable,
)
from slipform.core.leasebook import TenantLeases
from slipform.core.snapshots import Kind
from slipform.snapshotter.catalog import Filter
from slipform.snapshotter.faults import disk_errors
from slipform.snapshotter.flusher import boot_id
from slipform.snapshotter.names import check_labels, check_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from slipform.core.content import ContentStore
    from slipform.core.mounts import Mount
    from slipform.core.oci.descriptor import Descriptor
    from slipform.core.oci.digest import Digest
    from slipform.core.snapshots import AppliedLayer, ChainRecord, LayerDiff, SnapshotInfo, Usage
    from slipform.snapshotter.catalog import Row
    from slipform.snapshotter.layers import LayerWork
    from slipform.snapshotter.state import State

_log = logging.getLogger(__name__)

_MAX_INTEGER: Final = (1 << 63) - 1


class TenantSnapshots(TenantLeases):
    """Satisfies ``slipform.core.snapshots.Snapshotter``, whose docstrings are the promises."""

    def __init__(self, state: State, layers: LayerWork, tenant: str, content: ContentStore) -> None:
        super().__init__(state.leases, tenant)
        self._state = state
        self._layers = layers
        self._name = tenant
        self._content = content

    def prepare(
        self,
        key: str,
        parent: str = "",
        *,
        labels: Mapping[str, str] | None = None,
        lease: str = "",
    ) -> tuple[Mount, ...]:
        """Make an active snapshot."""
        return self._make(key, parent, Kind.ACTIVE, labels or {}, lease)

    def view(
        self,
        key: str,
        parent: str,
        *,
        labels: Mapping[str, str] | None = None,
        lease: str = "",
    ) -> tuple[Mount, ...]:
        """Make a read-only view; one on nothing is an empty directory."""
        return self._make(key, parent, Kind.VIEW, labels or {}, lease)

    def _make(
        self, key: str, parent: str, kind: Kind, labels: Mapping[str, str], lease: str
    ) -> tuple[Mount, ...]:
        check_name("snapshot key", key)
        check_labels(labels)
        read_only = kind is Kind.VIEW
        number, parents = self._reserve(key, parent, kind, labels)
        driver = self._state.driver
        try:
            with disk_errors(f'prepare snapshot "{key}"'):
                driver.create(number, parents, read_only=read_only)
            with self._state.transaction():
                self._state.catalog.make_ready(number)
                self._hold(lease, key)
        except BaseException:
            self._abandon(number, key)
            raise
        return driver.mounts(number, parents, read_only=read_only)

    def _reserve(
        self, key: str, parent: str, kind: Kind, labels: Mapping[str, str]
    ) -> tuple[int, tuple[int, ...]]:
        catalog = self._state.catalog
        with self._state.transaction():
            below = None
            if parent:
                below = self._state.require_committed(self._name, parent, "parent").number
            self._check_vacant("snapshot key", key)
            number = catalog.insert(self._name, key, kind, below)
            catalog.set_labels(number, labels)
            return number, catalog.parents(below)

    def _check_vacant(self, what: str, name: str) -> None:
        if self._state.catalog.find(self._name, name, ready=False) is not None:
            raise AlreadyExists(f'{what} "{name}" is in use')

    def _abandon(self, number: int, key: str) -> None:
        """Undo a reservation; if even that fails, recovery does it at the next start."""
        try:
            self._state.reserve.spend_on(lambda: self._abandon_now(number))
            self._purge()
        except (OSError, DomainError) as e:
            _log.warning('half-made snapshot "%s" stays until the next start: %s', key, e)

    def _abandon_now(self, number: int) -> None:
        with self._state.transaction():
            self._state.catalog.delete(number)
            self._state.driver.remove(number)

    def _hold(self, lease: str, name: str) -> None:
        if lease:
            self._state.leases.add(self._name, lease, [name])

    def mounts(self, key: str) -> tuple[Mount, ...]:
        """As ``prepare`` or ``view`` answered them."""
        with self._state.reading():
            row = self._state.require(self._name, key)
            if row.kind is Kind.COMMITTED:
                raise FailedPrecondition(
                    f'snapshot "{key}" is committed, want an active one or a view'
                )
            parents = self._state.catalog.parents(row.parent)
        return self._state.driver.mounts(row.number, parents, read_only=row.kind is Kind.VIEW)

    def commit(
        self, name: str, key: str, *, labels: Mapping[str, str] | None = None, lease: str = ""
    ) -> None:
        """Freeze ``key`` as ``name``; leases that held the key hold the name."""
        check_name("snapshot name", name)
        check_labels(labels or {})
        catalog = self._state.catalog
        with disk_errors(f'commit snapshot "{key}"'), self._state.transaction():
            row = self._state.require_active(self._name, key)
            self._check_vacant("snapshot name", name)
            self._state.in_use.check_idle(row.number, key)
            catalog.commit(row.number, name, boot_id())
            catalog.clear_labels(row.number)
            catalog.set_labels(row.number, labels or {})
            self._rename_in_leases(key, name)
            self._hold(lease, name)
        self._state.on_commit()

    def _rename_in_leases(self, old: str, new: str) -> None:
        leases = self._state.leases
        for holder in leases.holders(self._name, old):
            leases.remove(self._name, holder, [old])
            if new:
                leases.add(self._name, holder, [new])

    def remove(self, key: str) -> None:
        """Remove it; a lease protects committed ones only."""
        self._state.reserve.spend_on(lambda: self._remove_now(key))
        self._purge()

    def _remove_now(self, key: str) -> None:
        with self._state.transaction():
            self._remove_row(self._state.require(self._name, key))

    def _purge(self) -> int:
        freed = self._state.driver.purge()
        self._state.reserve.restore()
        return freed

    def _remove_row(self, row: Row) -> None:
        """Both or neither: the row is gone, the directory is in the trash."""
        state, name = self._state, row.name
        if children := state.catalog.children(row.number):
            raise FailedPrecondition(
                f'snapshot "{name}" has children: {", ".join(map(repr, children))}'
            )
        holders = state.leases.holders(self._name, name)
        if holders and row.kind is Kind.COMMITTED:
            raise FailedPrecondition(f'snapshot "{name}" is held by lease "{holders[0]}"')
        state.in_use.check_idle(row.number, name)
        self._rename_in_leases(name, "")
        state.catalog.delete(row.number)
        with disk_errors(f'remove snapshot "{name}"'):
            state.driver.remove(row.number)

    def stat(self, key: str) -> SnapshotInfo:
        """Raises ``NotFound``."""
        with self._state.reading():
            info = self._state.catalog.info(self._name, key)
        if info is None:
            raise NotFound(f'snapshot "{key}" does not exist')
        return info

    def update_labels(self, key: str, labels: Mapping[str, str]) -> SnapshotInfo:
        """Set these labels, remove those with an empty value, leave others."""
        check_labels(labels)
        with self._state.transaction():
            row = self._state.require(self._name, key)
            self._state.catalog.set_labels(row.number, labels)
            self._state.catalog.touch(row.number)
            return self.stat(key)

    def walk(
        self,
        *,
        parent: str | None = None,
        kind: Kind | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Iterator[SnapshotInfo]:
        """By name; no lock is held between two of them."""
        wanted = Filter(parent, kind, labels)
        after = ""
        while True:
            with self._state.reading():
                page = self._state.catalog.page(self._name, after, wanted)
            yield from page
            if not page:
                return
            after = page[-1].name

    def usage(self, key: str) -> Usage:
        """Measured once for committed snapshots, each time for others."""
        with self._state.reading():
            row = self._state.require(self._name, key)
            known = self._state.catalog.usage(row.number)
        if known is not None:
            return known
        try:
            with disk_errors(f'usage of snapshot "{key}"'):
                found = self._state.driver.usage(row.number)
        except FileNotFoundError as e:
            raise NotFound(f'snapshot "{key}" was removed meanwhile') from e
        if row.kind is Kind.COMMITTED:
            with self._state.transaction():
                self._state.catalog.remember_usage(row.number, found)
        return found

    def apply(self, key: str, layer: Descriptor) -> AppliedLayer:
        """Unpack a layer; when that fails, the snapshot is half full and the caller's."""
        return self._layers.apply(self._name, key, layer, self._content)

    def diff(self, key: str, *, clamp_mtime: int | None = None, store: bool = False) -> LayerDiff:
        """The canonical layer of what ``key`` changed."""
        _check_integer("clamp_mtime", clamp_mtime or 0)
        return self._layers.diff(self._name, key, clamp_mtime, self._content if store else None)

    def record_chain(self, record: ChainRecord) -> None:
        """Remember that a committed snapshot holds a chain."""
        _check_integer("clamp_mtime", record.clamp_mtime or 0)
        _check_integer("size", record.size)
        with self._state.transaction():
            row = self._state.catalog.find(self._name, record.snapshot)
            if row is None or row.kind is not Kind.COMMITTED:
                raise NotFound(f'committed snapshot "{record.snapshot}" does not exist')
            self._state.chains.record(row.number, record)

    def find_chain(self, chain_id: Digest) -> ChainRecord:
        """Of several snapshots that hold the chain, the oldest."""
        with self._state.reading():
            found = self._state.chains.find(self._name, chain_id)
        if found is None:
            raise NotFound(f"no snapshot holds the chain {chain_id}")
        return found

    def collect(self) -> int:
        """Remove what nothing needs. Active snapshots and views are needed as they are."""
        with self._state.reading():
            held = self._state.leases.held(self._name)
            garbage = self._state.catalog.garbage(self._name, held)
        for row in garbage:
            self._state.reserve.spend_on(partial(self._collect_one, row))
        return self._purge()

    def _collect_one(self, row: Row) -> None:
        """Remove it if it still is what it was: somebody may have leased it or built on it."""
        try:
            with self._state.transaction():
                if self._state.catalog.find(self._name, row.name) == row:
                    self._remove_row(row)
        except (FailedPrecondition, Unavailable):
            return


def _check_integer(what: str, value: int) -> None:
    if not 0 <= value <= _MAX_INTEGER:
        raise InvalidArgument(f"{what} is {value}, want a whole number from 0 to {_MAX_INTEGER}")
