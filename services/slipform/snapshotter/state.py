"""What all tenants of one snapshotter share."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

from slipform.core.database import database_errors, transaction
from slipform.core.errors import FailedPrecondition, NotFound
from slipform.core.leasebook import LeaseBook
from slipform.core.snapshots import Kind
from slipform.snapshotter.catalog import Catalog
from slipform.snapshotter.chains import Chains
from slipform.snapshotter.inuse import InUse
from slipform.snapshotter.reserve import Reserve

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from slipform.core.snapshot_driver import SnapshotDriver
    from slipform.snapshotter.catalog import Row


class State:
    """Metadata, driver, and the lock that guards the former.

    ``lock`` is held for lookups and quick changes only; never while files are copied, unpacked,
    compared or deleted.
    """

    def __init__(
        self,
        root: Path,
        driver: SnapshotDriver[Any],
        connection: sqlite3.Connection,
        clock_ns: Callable[[], int],
    ) -> None:
        self.root = root
        self.driver = driver
        self.lock = threading.RLock()
        self.catalog = Catalog(connection, clock_ns)
        self.chains = Chains(connection)
        self.leases = LeaseBook(connection, self.lock, clock_ns=clock_ns)
        self.in_use = InUse(self.lock)
        self.reserve = Reserve(root / "reserve")
        self.on_commit: Callable[[], None] = lambda: None
        self._connection = connection
        self._closed = False

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """All of the block or nothing of it, and nobody else meanwhile."""
        with self.lock:
            if self._closed:
                raise FailedPrecondition("the snapshotter is closed")
            with transaction(self._connection, self.lock):
                yield

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """One consistent look, without a write transaction's cost."""
        with self.lock:
            if self._closed:
                raise FailedPrecondition("the snapshotter is closed")
            with database_errors():
                yield

    def close(self) -> None:
        """Close the metadata; idempotent."""
        with self.lock:
            self._closed = True
            self._connection.close()

    def require(self, tenant: str, name: str) -> Row:
        """The tenant's snapshot of that key or name. Raises ``NotFound``."""
        row = self.catalog.find(tenant, name)
        if row is None:
            raise NotFound(f'snapshot "{name}" does not exist')
        return row

    def require_active(self, tenant: str, key: str) -> Row:
        """Also raises ``FailedPrecondition`` for one that can't be changed."""
        row = self.require(tenant, key)
        if row.kind is not Kind.ACTIVE:
            raise FailedPrecondition(f'snapshot "{key}" is {_a(row.kind)}, want an active one')
        return row

    def require_committed(self, tenant: str, name: str, what: str) -> Row:
        """Also raises ``FailedPrecondition`` for one that is not committed."""
        row = self.catalog.find(tenant, name)
        if row is None:
            raise NotFound(f'{what} "{name}" does not exist')
        if row.kind is not Kind.COMMITTED:
            raise FailedPrecondition(f'{what} "{name}" is {_a(row.kind)}, want a committed one')
        return row


def _a(kind: Kind) -> str:
    return {Kind.ACTIVE: "active", Kind.VIEW: "a view", Kind.COMMITTED: "committed"}[kind]
