"""Rows about layers: which snapshot holds which chain, and what a diff came to.

As in ``slipform.snapshotter.catalog``, the caller holds lock and transaction.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipform.core.oci.digest import Digest
from slipform.core.snapshots import ChainRecord, LayerDiff

if TYPE_CHECKING:
    import sqlite3


class Chains:
    """The tables ``chains`` and ``diffs``; their rows vanish with their snapshot."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._db = connection

    def record(self, number: int, record: ChainRecord) -> None:
        """Remember a chain; the same chain and snapshot again replace what was known."""
        self._db.execute(
            "INSERT OR REPLACE INTO chains VALUES (?, ?, ?, ?, ?, ?)",
            (
                str(record.chain_id),
                number,
                str(record.diff_id),
                record.size,
                record.clamp_mtime,
                record.regenerable,
            ),
        )

    def find(self, tenant: str, chain_id: Digest) -> ChainRecord | None:
        """The tenant's oldest snapshot that holds the chain."""
        row = self._db.execute(
            "SELECT s.name, c.diff_id, c.size, c.clamp, c.regenerable"
            " FROM chains c JOIN snapshots s ON s.number = c.number"
            " WHERE c.chain_id = ? AND s.tenant = ? ORDER BY c.number LIMIT 1",
            (str(chain_id), tenant),
        ).fetchone()
        if row is None:
            return None
        name, diff_id, size, clamp, regenerable = row
        return ChainRecord(
            chain_id, name, Digest.parse(diff_id), size, clamp, regenerable=bool(regenerable)
        )

    def diff(self, number: int, clamp_mtime: int | None) -> LayerDiff | None:
        """What was remembered of a diff."""
        row = self._db.execute(
            "SELECT diff_id, size FROM diffs WHERE number = ? AND clamp = ?",
            (number, _clamp(clamp_mtime)),
        ).fetchone()
        return None if row is None else LayerDiff(Digest.parse(row[0]), row[1])

    def remember_diff(self, number: int, clamp_mtime: int | None, diff: LayerDiff) -> None:
        """Keep a diff of a committed snapshot."""
        self._db.execute(
            "INSERT OR IGNORE INTO diffs VALUES (?, ?, ?, ?)",
            (number, _clamp(clamp_mtime), str(diff.diff_id), diff.size),
        )


def _clamp(clamp_mtime: int | None) -> int:
    return -1 if clamp_mtime is None else clamp_mtime
