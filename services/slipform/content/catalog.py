"""What is known of blobs and ingests, in SQLite (docs/content.md has the schema).

``blobs`` says that bytes are whole and how many they are; ``claims`` says which tenants have
them, under which labels. A blob lives as long as a claim on it. Methods that write expect an
open transaction of the caller: what a store does in one step is one transaction.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from slipform.core.content import GC_REF
from slipform.core.oci.digest import Digest

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator, Mapping

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS blobs (digest TEXT PRIMARY KEY, size INTEGER NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS claims (tenant TEXT NOT NULL, digest TEXT NOT NULL,"
    " created_ns INTEGER NOT NULL, updated_ns INTEGER NOT NULL, labels TEXT NOT NULL,"
    " PRIMARY KEY (tenant, digest)) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS claims_digest ON claims (digest)",
    "CREATE TABLE IF NOT EXISTS ingests (number INTEGER PRIMARY KEY AUTOINCREMENT,"
    " tenant TEXT NOT NULL, ref TEXT NOT NULL, total INTEGER NOT NULL, expected TEXT NOT NULL,"
    " started_ns INTEGER NOT NULL, UNIQUE (tenant, ref))",
)
_CLAIM: Final = (
    "SELECT c.digest, b.size, c.created_ns, c.updated_ns, c.labels"
    " FROM claims c JOIN blobs b ON b.digest = c.digest WHERE c.tenant = ?"
)
_INGEST: Final = (
    "SELECT number, tenant, ref, total, expected, started_ns FROM ingests WHERE tenant = ?"
)


@dataclass(frozen=True, slots=True)
class Claim:
    """A tenant's row about a blob."""

    digest: Digest
    size: int
    created_ns: int
    updated_ns: int
    labels: dict[str, str]


@dataclass(frozen=True, slots=True)
class IngestRecord:
    """An unfinished write; its bytes lie with the driver, under ``number``."""

    number: int
    tenant: str
    ref: str
    total: int
    expected: Digest | None
    started_ns: int


class Catalog:
    """The tables of one content store; the caller holds the lock of the connection."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection
        for statement in _SCHEMA:
            connection.execute(statement)

    def claim(self, tenant: str, digest: Digest) -> Claim | None:
        """What the tenant has under this digest."""
        row = self._db.execute(f"{_CLAIM} AND c.digest = ?", (tenant, str(digest))).fetchone()
        return None if row is None else _claim(row)

    def page(self, tenant: str, after: str, size: int) -> list[Claim]:
        """The next claims by digest."""
        rows = self._db.execute(
            f"{_CLAIM} AND c.digest > ? ORDER BY c.digest LIMIT ?", (tenant, after, size)
        )
        return [_claim(row) for row in rows]

    def put_claim(
        self, tenant: str, digest: Digest, labels: Mapping[str, str], now_ns: int
    ) -> None:
        """Claim a blob, or replace the labels of a claim."""
        self._db.execute(
            "INSERT INTO claims (tenant, digest, created_ns, updated_ns, labels)"
            " VALUES (?1, ?2, ?3, ?3, ?4) ON CONFLICT (tenant, digest)"
            " DO UPDATE SET updated_ns = excluded.updated_ns, labels = excluded.labels",
            (tenant, str(digest), now_ns, json.dumps(dict(labels))),
        )

    def drop_claim(self, tenant: str, digest: Digest) -> bool:
        """End a claim; True when it was the last one, and the blob's row went with it."""
        self._db.execute(
            "DELETE FROM claims WHERE tenant = ? AND digest = ?", (tenant, str(digest))
        )
        ended = self._db.execute(
            "DELETE FROM blobs WHERE digest = ?1"
            " AND NOT EXISTS (SELECT 1 FROM claims WHERE digest = ?1)",
            (str(digest),),
        )
        return ended.rowcount > 0

    def claims(self, tenant: str) -> dict[str, list[str]]:
        """Every digest that the tenant has, with those that its labels refer to."""
        rows = self._db.execute("SELECT digest, labels FROM claims WHERE tenant = ?", (tenant,))
        return {digest: _references(labels) for digest, labels in rows}

    def blob_size(self, digest: Digest) -> int | None:
        """Size on record of a blob of any tenant."""
        row = self._db.execute("SELECT size FROM blobs WHERE digest = ?", (str(digest),)).fetchone()
        return None if row is None else int(row[0])

    def put_blob(self, digest: Digest, size: int) -> None:
        """Record that a blob is whole."""
        self._db.execute(
            "INSERT OR REPLACE INTO blobs (digest, size) VALUES (?, ?)", (str(digest), size)
        )

    def drop_blob(self, digest: Digest) -> None:
        """Forget a blob whose bytes are gone, and every claim on it."""
        self._db.execute("DELETE FROM claims WHERE digest = ?", (str(digest),))
        self._db.execute("DELETE FROM blobs WHERE digest = ?", (str(digest),))

    def ingest(self, tenant: str, ref: str) -> IngestRecord | None:
        """The unfinished write of that name."""
        row = self._db.execute(f"{_INGEST} AND ref = ?", (tenant, ref)).fetchone()
        return None if row is None else _ingest(row)

    def ingests(self, tenant: str, prefix: str) -> list[IngestRecord]:
        """Unfinished writes by ref."""
        rows = self._db.execute(
            f"{_INGEST} AND substr(ref, 1, ?) = ? ORDER BY ref", (tenant, len(prefix), prefix)
        )
        return [_ingest(row) for row in rows]

    def ingest_numbers(self) -> set[int]:
        """Numbers of the unfinished writes of all tenants."""
        return {number for (number,) in self._db.execute("SELECT number FROM ingests")}

    def add_ingest(
        self, tenant: str, ref: str, total: int, expected: Digest | None, now_ns: int
    ) -> IngestRecord:
        """Record a new write; numbers are never used twice."""
        cursor = self._db.execute(
            "INSERT INTO ingests (tenant, ref, total, expected, started_ns) VALUES (?, ?, ?, ?, ?)",
            (tenant, ref, total, str(expected or ""), now_ns),
        )
        number = cursor.lastrowid
        assert number is not None  # noqa: S101 - an INSERT always sets it
        return IngestRecord(number, tenant, ref, total, expected, now_ns)

    def announce(self, number: int, total: int, expected: Digest | None) -> None:
        """Record what a later opening announced."""
        self._db.execute(
            "UPDATE ingests SET total = ?, expected = ? WHERE number = ?",
            (total, str(expected or ""), number),
        )

    def drop_ingest(self, number: int) -> None:
        """Forget a write; idempotent."""
        self._db.execute("DELETE FROM ingests WHERE number = ?", (number,))

    def orphans(self, named: Iterator[Digest]) -> list[Digest]:
        """Those of the driver's blobs that no row knows."""
        known = {digest for (digest,) in self._db.execute("SELECT digest FROM blobs")}
        return [digest for digest in named if str(digest) not in known]


def _claim(row: tuple[str, int, int, int, str]) -> Claim:
    digest, size, created, updated, labels = row
    return Claim(Digest.parse(digest), size, created, updated, json.loads(labels))


def _ingest(row: tuple[int, str, str, int, str, int]) -> IngestRecord:
    number, tenant, ref, total, expected, started = row
    return IngestRecord(
        number, tenant, ref, total, Digest.parse(expected) if expected else None, started
    )


def _references(labels: str) -> list[str]:
    if GC_REF not in labels:  # most blobs refer to nothing: don't parse their labels
        return []
    found: dict[str, str] = json.loads(labels)
    return [value for key, value in found.items() if key.startswith(GC_REF)]
