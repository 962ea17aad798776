"""Leases kept in SQLite: the one implementation that content store and snapshotter share.

How connection, lock and transactions are shared: the owner opens one connection in autocommit
mode (``slipform.core.database.open_database``), makes one ``threading.RLock`` for it, and gives
both to the book. Every method takes the lock and runs in ``slipform.core.database.transaction``:
alone it is atomic and as durable as the connection's ``synchronous`` setting; called inside an
open ``transaction`` of the same thread it becomes part of that one. So an owner can do

    with transaction(connection, lock):
        connection.execute("INSERT INTO snapshots …")
        book.add(tenant, lease, [name])          # both or neither

The owner keeps connection and lock; the book closes nothing.
"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from slipform.core.database import transaction
from slipform.core.errors import AlreadyExists, InvalidArgument, NotFound
from slipform.core.leases import Lease

if TYPE_CHECKING:
    import sqlite3
    import threading
    from collections.abc import Callable, Iterable, Mapping

MAX_NAME: Final = 1024
"""Characters of a lease id or a resource."""
_FOREVER_NS: Final = 2**63 - 1
"""The latest moment that the database can say, in the year 2262."""


class LeaseBook:
    """The leases of all tenants of one store; safe to use from several threads.

    Expired leases don't exist: no method shows them, and each writing method purges them.

    Args:
        connection: SQLite, ``isolation_level=None``, ``check_same_thread=False``.
        lock: guards the connection; reentrant, because methods nest in the owner's transactions.
        prefix: of the table names, an identifier; two books with different prefixes may share
            one database.
        clock_ns: nanoseconds since the epoch; given by tests.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        lock: threading.RLock,
        *,
        prefix: str = "",
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        if prefix and not prefix.isidentifier():
            raise InvalidArgument(f'lease table prefix "{prefix}" is not an identifier')
        self._db = connection
        self._lock = lock
        self._clock_ns = clock_ns
        self._table = f"{prefix}leases"
        self._held_table = f"{prefix}lease_resources"
        with transaction(connection, lock):
            for statement in self._schema():
                connection.execute(statement)

    def _schema(self) -> tuple[str, ...]:
        return (
            f"CREATE TABLE IF NOT EXISTS {self._table} (id INTEGER PRIMARY KEY,"
            " tenant TEXT NOT NULL, name TEXT NOT NULL, created_ns INTEGER NOT NULL,"
            " expires_ns INTEGER, labels TEXT NOT NULL, UNIQUE (tenant, name))",
            f"CREATE INDEX IF NOT EXISTS {self._table}_expiry ON {self._table} (expires_ns)"
            " WHERE expires_ns IS NOT NULL",
            f"CREATE TABLE IF NOT EXISTS {self._held_table} (resource TEXT NOT NULL,"
            " lease INTEGER NOT NULL, PRIMARY KEY (resource, lease)) WITHOUT ROWID",
            f"CREATE INDEX IF NOT EXISTS {self._held_table}_lease ON {self._held_table} (lease)",
        )

    def tenant(self, name: str) -> TenantLeases:
        """One tenant's leases, as the ``Leases`` Protocol."""
        return TenantLeases(self, name)

    def create(
        self,
        tenant: str,
        lease_id: str,
        *,
        ttl: timedelta | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Lease:
        """As ``Leases.create_lease``; ``ttl`` must be positive."""
        _check_name("lease id", lease_id)
        if ttl is not None and ttl <= timedelta(0):
            raise InvalidArgument(f'lease "{lease_id}": ttl must be positive, found {ttl}')
        with transaction(self._db, self._lock):
            now = self._purge()
            if self._find(tenant, lease_id) is not None:
                raise AlreadyExists(f'lease "{lease_id}" already exists')
            expires = None if ttl is None else min(now + _to_ns(ttl), _FOREVER_NS)
            self._insert(tenant, lease_id, now, expires, labels)
        return Lease(lease_id, from_ns(now), _to_expiry(expires), dict(labels or {}))

    def delete(self, tenant: str, lease_id: str) -> None:
        """As ``Leases.delete_lease``: idempotent."""
        with transaction(self._db, self._lock):
            self._purge()
            key = self._find(tenant, lease_id)
            if key is not None:
                self._drop("id = ?", key)

    def leases(self, tenant: str) -> list[Lease]:
        """As ``Leases.list_leases``: oldest first."""
        query = (
            f"SELECT name, created_ns, expires_ns, labels FROM {self._table}"  # noqa: S608 - own prefix
            " WHERE tenant = ? AND (expires_ns IS NULL OR expires_ns > ?) ORDER BY created_ns, id"
        )
        with self._lock:
            rows = self._db.execute(query, (tenant, self._clock_ns())).fetchall()
        return [
            Lease(name, from_ns(created), _to_expiry(expires), json.loads(labels))
            for name, created, expires, labels in rows
        ]

    def resources(self, tenant: str, lease_id: str) -> list[str]:
        """As ``Leases.lease_resources``: sorted."""
        query = f"SELECT resource FROM {self._held_table} WHERE lease = ? ORDER BY resource"  # noqa: S608
        with self._lock:
            key = self._require(tenant, lease_id)
            return [resource for (resource,) in self._db.execute(query, (key,))]

    def add(self, tenant: str, lease_id: str, resources: Iterable[str]) -> None:
        """As ``Leases.add_to_lease``: makes the lease when it does not exist."""
        _check_name("lease id", lease_id)
        wanted = list(resources)
        for resource in wanted:
            _check_name("leased resource", resource)
        with transaction(self._db, self._lock):
            now = self._purge()
            key = self._find(tenant, lease_id)
            if key is None:
                key = self._insert(tenant, lease_id, now, None, None)
            self._db.executemany(
                f"INSERT OR IGNORE INTO {self._held_table} (resource, lease) VALUES (?, ?)",  # noqa: S608
                [(resource, key) for resource in wanted],
            )

    def remove(self, tenant: str, lease_id: str, resources: Iterable[str]) -> None:
        """As ``Leases.remove_from_lease``: idempotent per resource."""
        wanted = list(resources)
        with transaction(self._db, self._lock):
            self._purge()
            key = self._require(tenant, lease_id)
            self._db.executemany(
                f"DELETE FROM {self._held_table} WHERE resource = ? AND lease = ?",  # noqa: S608
                [(resource, key) for resource in wanted],
            )

    def held(self, tenant: str) -> set[str]:
        """Every resource that a live lease of the tenant names: the roots of a collection."""
        query = (
            f"SELECT DISTINCT r.resource FROM {self._held_table} r"  # noqa: S608
            f" JOIN {self._table} l ON l.id = r.lease"
            " WHERE l.tenant = ? AND (l.expires_ns IS NULL OR l.expires_ns > ?)"
        )
        with self._lock:
            return {name for (name,) in self._db.execute(query, (tenant, self._clock_ns()))}

    def holders(self, tenant: str, resource: str) -> list[str]:
        """Ids of the tenant's live leases that name the resource, sorted."""
        query = (
            f"SELECT l.name FROM {self._held_table} r JOIN {self._table} l ON l.id = r.lease"  # noqa: S608
            " WHERE r.resource = ? AND l.tenant = ?"
            " AND (l.expires_ns IS NULL OR l.expires_ns > ?) ORDER BY l.name"
        )
        with self._lock:
            rows = self._db.execute(query, (resource, tenant, self._clock_ns()))
            return [name for (name,) in rows]

    def tenants(self) -> list[str]:
        """Tenants that have a live lease, sorted."""
        query = (
            f"SELECT DISTINCT tenant FROM {self._table}"  # noqa: S608
            " WHERE expires_ns IS NULL OR expires_ns > ? ORDER BY tenant"
        )
        with self._lock:
            return [tenant for (tenant,) in self._db.execute(query, (self._clock_ns(),))]

    def _insert(
        self,
        tenant: str,
        lease_id: str,
        now: int,
        expires: int | None,
        labels: Mapping[str, str] | None,
    ) -> int:
        _check_name("tenant", tenant)
        cursor = self._db.execute(
            f"INSERT INTO {self._table} (tenant, name, created_ns, expires_ns, labels)"  # noqa: S608
            " VALUES (?, ?, ?, ?, ?)",
            (tenant, lease_id, now, expires, json.dumps(dict(labels or {}))),
        )
        assert cursor.lastrowid is not None  # noqa: S101 - an INSERT always sets it
        return cursor.lastrowid

    def _find(self, tenant: str, lease_id: str) -> int | None:
        row = self._db.execute(
            f"SELECT id FROM {self._table} WHERE tenant = ? AND name = ?"  # noqa: S608
            " AND (expires_ns IS NULL OR expires_ns > ?)",
            (tenant, lease_id, self._clock_ns()),
        ).fetchone()
        return None if row is None else int(row[0])

    def _require(self, tenant: str, lease_id: str) -> int:
        key = self._find(tenant, lease_id)
        if key is None:
            raise NotFound(f'lease "{lease_id}" does not exist')
        return key

    def _purge(self) -> int:
        now = self._clock_ns()
        self._drop("expires_ns <= ?", now)
        return now

    def _drop(self, condition: str, value: int) -> None:
        which = f"SELECT id FROM {self._table} WHERE {condition}"  # noqa: S608 - literals only
        self._db.execute(f"DELETE FROM {self._held_table} WHERE lease IN ({which})", (value,))  # noqa: S608
        self._db.execute(f"DELETE FROM {self._table} WHERE {condition}", (value,))  # noqa: S608


class TenantLeases:
    """One tenant's page of a ``LeaseBook``; satisfies ``slipform.core.leases.Leases``."""

    def __init__(self, book: LeaseBook, tenant: str) -> None:
        self._book = book
        self._tenant = tenant

    def create_lease(
        self,
        lease_id: str,
        *,
        ttl: timedelta | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Lease:
        """Make a lease. Raises ``AlreadyExists`` when the id is taken."""
        return self._book.create(self._tenant, lease_id, ttl=ttl, labels=labels)

    def delete_lease(self, lease_id: str) -> None:
        """End a lease; idempotent."""
        self._book.delete(self._tenant, lease_id)

    def list_leases(self) -> list[Lease]:
        """All leases that have not expired, oldest first."""
        return self._book.leases(self._tenant)

    def lease_resources(self, lease_id: str) -> list[str]:
        """What the lease holds, sorted. Raises ``NotFound``."""
        return self._book.resources(self._tenant, lease_id)

    def add_to_lease(self, lease_id: str, resources: Iterable[str]) -> None:
        """Hold more; idempotent; makes the lease when it does not exist."""
        self._book.add(self._tenant, lease_id, resources)

    def remove_from_lease(self, lease_id: str, resources: Iterable[str]) -> None:
        """Hold less; idempotent. Raises ``NotFound`` when the lease does not exist."""
        self._book.remove(self._tenant, lease_id, resources)


def _check_name(what: str, name: str) -> None:
    if not name or len(name) > MAX_NAME or not _is_text(name):
        raise InvalidArgument(f"{what} {name[:64]!r}: want 1 to {MAX_NAME} characters of text")


def _is_text(name: str) -> bool:
    try:
        return b"\0" not in name.encode()
    except UnicodeEncodeError:  # lone surrogates: SQLite could not store them
        return False


def _to_ns(delta: timedelta) -> int:
    return delta // timedelta(microseconds=1) * 1000


def from_ns(ns: int) -> datetime:
    """An aware time (UTC) from nanoseconds since the epoch, to the microsecond."""
    return datetime.fromtimestamp(ns // 1_000_000_000, UTC).replace(
        microsecond=ns // 1000 % 1_000_000
    )


def _to_expiry(ns: int | None) -> datetime | None:
    return None if ns is None else from_ns(ns)
