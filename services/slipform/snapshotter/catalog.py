"""Rows of snapshots: every question and every change, in SQL, without locks or directories.

The caller holds the lock, and a transaction around changes that belong together.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from slipform.core.snapshots import Kind, SnapshotInfo, Usage

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Mapping

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_PAGE: Final = 256
_HAS_LABEL: Final = "EXISTS (SELECT 1 FROM labels WHERE number = s.number AND key = ?)"
_HAS_LABEL_VALUE: Final = f"{_HAS_LABEL[:-1]} AND value = ?)"
_INFO: Final = (
    "SELECT s.name, s.kind, coalesce(p.name, ''), s.created_ns, s.updated_ns,"
    " (SELECT json_group_object(key, value) FROM labels WHERE number = s.number)"
    " FROM snapshots s LEFT JOIN snapshots p ON p.number = s.parent"
)


@dataclass(frozen=True, slots=True)
class Row:
    """What deciding about a snapshot needs; ``parent`` is a number or None."""

    number: int
    name: str
    kind: Kind
    parent: int | None


@dataclass(frozen=True, slots=True)
class Filter:
    """What ``walk`` asks for; None means anything."""

    parent: str | None = None
    kind: Kind | None = None
    labels: Mapping[str, str] | None = None

    def where(self, tenant: str) -> tuple[str, list[str]]:
        """An SQL condition on ``s`` (snapshot) and ``p`` (its parent), and its values."""
        terms, values = ["s.tenant = ? AND s.ready"], [tenant]
        if self.kind is not None:
            terms.append("s.kind = ?")
            values.append(self.kind.value)
        if self.parent == "":
            terms.append("s.parent IS NULL")
        elif self.parent is not None:
            terms.append("p.name = ?")
            values.append(self.parent)
        for key, value in (self.labels or {}).items():
            terms.append(_HAS_LABEL_VALUE if value else _HAS_LABEL)
            values += [key, value] if value else [key]
        return " AND ".join(terms), values


class Catalog:
    """The tables ``snapshots`` and ``labels``.

    Args:
        connection: as ``slipform.snapshotter.schema`` opened it.
        clock_ns: nanoseconds since the epoch; given by tests.
    """

    def __init__(
        self, connection: sqlite3.Connection, clock_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._db = connection
        self._clock_ns = clock_ns

    def find(self, tenant: str, name: str, *, ready: bool = True) -> Row | None:
        """The snapshot of that key or name; with ``ready`` False also one that is being made."""
        found = self._db.execute(
            "SELECT number, name, kind, parent FROM snapshots"
            " WHERE tenant = ? AND name = ? AND ready >= ?",
            (tenant, name, ready),
        ).fetchone()
        return None if found is None else Row(found[0], found[1], Kind(found[2]), found[3])

    def parents(self, parent: int | None) -> tuple[int, ...]:
        """``parent`` and what is below it, newest first."""
        rows = self._db.execute(
            "WITH RECURSIVE up (number, depth) AS (SELECT ?, 0 UNION ALL"
            " SELECT s.parent, depth + 1 FROM up JOIN snapshots s ON s.number = up.number)"
            " SELECT number FROM up WHERE number IS NOT NULL ORDER BY depth",
            (parent,),
        )
        return tuple(number for (number,) in rows)

    def children(self, number: int) -> list[str]:
        """Up to three names of snapshots that stand on this one, also of half-made ones."""
        rows = self._db.execute("SELECT name FROM snapshots WHERE parent = ? LIMIT 3", (number,))
        return [name for (name,) in rows]

    def insert(self, tenant: str, key: str, kind: Kind, parent: int | None) -> int:
        """Reserve key and parent, not ready yet; the new number."""
        now = self._clock_ns()
        cursor = self._db.execute(
            "INSERT INTO snapshots (tenant, name, kind, parent, created_ns, updated_ns)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            (tenant, key, kind.value, parent, now, now),
        )
        assert cursor.lastrowid is not None  # noqa: S101 - an INSERT always sets it
        return cursor.lastrowid

    def make_ready(self, number: int) -> None:
        """Its directory is complete: show it."""
        self._db.execute("UPDATE snapshots SET ready = 1 WHERE number = ?", (number,))

    def commit(self, number: int, name: str, boot: str) -> None:
        """Make it a committed one, whose data may not be on disk yet."""
        self._db.execute(
            "UPDATE snapshots SET name = ?, kind = 'committed', boot = ?, updated_ns = ?"
            " WHERE number = ?",
            (name, boot, self._clock_ns(), number),
        )

    def delete(self, number: int) -> None:
        """Forget it, with its labels, chains and diffs; it must have no children."""
        self._db.execute("DELETE FROM snapshots WHERE number = ?", (number,))

    def set_labels(self, number: int, labels: Mapping[str, str]) -> None:
        """Set or (empty value) remove these; leave others."""
        gone = [(number, key) for key, value in labels.items() if not value]
        kept = [(number, key, value) for key, value in labels.items() if value]
        self._db.executemany("DELETE FROM labels WHERE number = ? AND key = ?", gone)
        self._db.executemany("INSERT OR REPLACE INTO labels VALUES (?, ?, ?)", kept)

    def clear_labels(self, number: int) -> None:
        """Remove all labels."""
        self._db.execute("DELETE FROM labels WHERE number = ?", (number,))

    def touch(self, number: int) -> None:
        """It changed now; the time moves forward even when the clock does not."""
        self._db.execute(
            "UPDATE snapshots SET updated_ns = max(?, updated_ns + 1000) WHERE number = ?",
            (self._clock_ns(), number),
        )

    def info(self, tenant: str, name: str) -> SnapshotInfo | None:
        """All that is known of one."""
        rows = self._infos("s.tenant = ? AND s.ready AND s.name = ?", [tenant, name], 1)
        return rows[0] if rows else None

    def page(self, tenant: str, after: str, wanted: Filter) -> list[SnapshotInfo]:
        """The next snapshots by name; none at the end."""
        condition, values = wanted.where(tenant)
        return self._infos(f"{condition} AND s.name > ?", [*values, after], _PAGE)

    def _infos(self, condition: str, values: list[Any], limit: int) -> list[SnapshotInfo]:
        query = f"{_INFO} WHERE {condition} ORDER BY s.name LIMIT {limit}"
        rows = self._db.execute(query, values)
        return [
            SnapshotInfo(name, Kind(kind), parent, _time(created), _time(updated), json.loads(more))
            for name, kind, parent, created, updated, more in rows
        ]

    def usage(self, number: int) -> Usage | None:
        """What was remembered of a committed one."""
        row = self._db.execute(
            "SELECT size, inodes FROM snapshots WHERE number = ? AND size IS NOT NULL", (number,)
        ).fetchone()
        return None if row is None else Usage(*row)

    def remember_usage(self, number: int, usage: Usage) -> None:
        """Committed ones do not change, so once is enough."""
        self._db.execute(
            "UPDATE snapshots SET size = ?, inodes = ? WHERE number = ? AND kind = 'committed'",
            (usage.size, usage.inodes, number),
        )

    def garbage(self, tenant: str, held: Iterable[str]) -> list[Row]:
        """Committed ones that neither ``held`` names nor anything live needs; children first."""
        rows = {
            row[0]: Row(row[0], row[1], Kind(row[2]), row[3])
            for row in self._db.execute(
                "SELECT number, name, kind, parent FROM snapshots WHERE tenant = ?", (tenant,)
            )
        }
        roots = set(held)
        live: set[int] = set()
        for row in rows.values():
            if row.kind is not Kind.COMMITTED or row.name in roots:
                number: int | None = row.number
                while number is not None and number not in live:
                    live.add(number)
                    number = rows[number].parent
        # A child is younger than its parent, so its number is greater.
        return [rows[number] for number in sorted(rows.keys() - live, reverse=True)]

    def numbers(self) -> set[int]:
        """Every number, of all tenants."""
        return {number for (number,) in self._db.execute("SELECT number FROM snapshots")}

    def unready(self) -> set[int]:
        """Those whose making was never finished."""
        rows = self._db.execute("SELECT number FROM snapshots WHERE NOT ready")
        return {number for (number,) in rows}

    def unsynced(self) -> dict[int, str]:
        """Those whose data is not known to be on disk, with the boot id they were made under."""
        rows = self._db.execute("SELECT number, boot FROM snapshots WHERE boot IS NOT NULL")
        return dict(rows.fetchall())

    def mark_synced(self, numbers: Iterable[int]) -> None:
        """Their data is on disk."""
        self._db.executemany(
            "UPDATE snapshots SET boot = NULL WHERE number = ?", [(n,) for n in numbers]
        )

    def descendants(self, numbers: Iterable[int]) -> list[tuple[int, str, str]]:
        """These and all that stand on them: number, tenant, name; children first."""
        rows = self._db.execute(
            "WITH RECURSIVE down (number) AS (SELECT value FROM json_each(?) UNION"
            " SELECT s.number FROM snapshots s JOIN down ON s.parent = down.number)"
            " SELECT number, tenant, name FROM snapshots WHERE number IN down"
            " ORDER BY number DESC",
            (json.dumps(sorted(numbers)),),
        )
        return rows.fetchall()


def _time(ns: int) -> datetime:
    return _EPOCH + timedelta(microseconds=ns // 1000)
