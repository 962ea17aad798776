"""The build cache: which snapshot an operation on known inputs made, and why it would not fit now.

A record is written after its snapshot was committed under the lease ``cache/<key>``; a record
whose snapshot is gone is no record. The document whose digest is the key is kept, so that a miss
can be explained by comparing two documents.
"""

from __future__ import annotations

import hashlib
import json
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from slipform.core.database import database_errors, open_database, transaction
from slipform.core.oci import canonical

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping
    from pathlib import Path

Document = dict[str, Any]

_SCHEMA: Final = (
    "CREATE TABLE IF NOT EXISTS records (key TEXT PRIMARY KEY, identity TEXT NOT NULL,"
    " snapshot TEXT NOT NULL, place TEXT NOT NULL, document BLOB NOT NULL, listing BLOB NOT NULL,"
    " created_ns INTEGER NOT NULL, used_ns INTEGER NOT NULL)",
    "CREATE INDEX IF NOT EXISTS records_place ON records (place, used_ns)",
    "CREATE INDEX IF NOT EXISTS records_snapshot ON records (snapshot)",
    "CREATE TABLE IF NOT EXISTS results (key TEXT PRIMARY KEY, manifest TEXT NOT NULL,"
    " config TEXT NOT NULL, created_ns INTEGER NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS downloads (url TEXT PRIMARY KEY, etag TEXT NOT NULL,"
    " modified TEXT NOT NULL, digest TEXT NOT NULL) WITHOUT ROWID",
)
_NEIGHBOURS: Final = 8


@dataclass(frozen=True, slots=True)
class Record:
    """One remembered result.

    ``identity`` stands for the result in keys of later steps: the key under which it was first
    made, so that a result found again by its content continues the chain it began.
    """

    key: str
    identity: str
    snapshot: str
    created_ns: int


@dataclass(frozen=True, slots=True)
class Download:
    """What a server said of a URL when its content was last seen."""

    etag: str
    modified: str
    digest: str


@dataclass(frozen=True, slots=True)
class Neighbour:
    """An earlier result of the same place in a Dockerfile, to compare with."""

    document: Document
    listing: bytes


class BuildCache:
    """Records, results and downloads in one SQLite file; safe from several threads.

    Losing the last moments in a power cut is harmless (a step runs again), so commits are not
    synced, and looking up writes nothing: times of use are written along with the next record.
    """

    def __init__(self, path: Path | None, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self._clock_ns = clock_ns
        self._lock = threading.RLock()
        self._db = open_database(path, durable=False)
        self._used: dict[str, int] = {}
        with transaction(self._db, self._lock):
            for statement in _SCHEMA:
                self._db.execute(statement)

    def close(self) -> None:
        """Write times of use and close the file."""
        with transaction(self._db, self._lock):
            self._flush()
        self._db.close()

    def find(self, key: str) -> Record | None:
        """The record of a key; it counts as used."""
        with self._lock, database_errors():
            row = self._db.execute(
                "SELECT identity, snapshot, created_ns FROM records WHERE key = ?", (key,)
            ).fetchone()
            if row is None:
                return None
            self._used[key] = self._clock_ns()
        return Record(key, *row)

    def add(
        self, record: Record, place: str, document: Document, listing: bytes = b""
    ) -> str | None:
        """Remember a result; a former one of the same key is replaced.

        Returns:
            The snapshot of the record that was replaced, when it was another one.
        """
        row = (
            record.key, record.identity, record.snapshot, place,
            canonical.encode_sorted(document), listing, record.created_ns, self._clock_ns(),
        )  # fmt: skip
        with transaction(self._db, self._lock):
            self._flush()
            before = self._db.execute(
                "SELECT snapshot FROM records WHERE key = ?", (record.key,)
            ).fetchone()
            self._db.execute("INSERT OR REPLACE INTO records VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        if before is None or before[0] == record.snapshot:
            return None
        return str(before[0])

    def forget(self, keys: Collection[str]) -> None:
        """Drop records; idempotent."""
        with transaction(self._db, self._lock):
            self._db.executemany("DELETE FROM records WHERE key = ?", [(key,) for key in keys])

    def records(self) -> list[Record]:
        """All records, least recently used first."""
        with transaction(self._db, self._lock):
            self._flush()
            rows = self._db.execute(
                "SELECT key, identity, snapshot, created_ns FROM records ORDER BY used_ns"
            ).fetchall()
        return [Record(*row) for row in rows]

    def neighbours(self, place: str) -> list[Neighbour]:
        """Earlier results of this place, most recently used first."""
        with self._lock, database_errors():
            rows = self._db.execute(
                "SELECT document, listing FROM records WHERE place = ?"
                " ORDER BY used_ns DESC LIMIT ?",
                (place, _NEIGHBOURS),
            ).fetchall()
        return [Neighbour(json.loads(document), listing) for document, listing in rows]

    def result(self, key: str) -> tuple[str, str] | None:
        """(manifest digest, config digest) of an image made before of the same parts."""
        with self._lock, database_errors():
            row = self._db.execute(
                "SELECT manifest, config FROM results WHERE key = ?", (key,)
            ).fetchone()
        return None if row is None else (row[0], row[1])

    def add_result(self, key: str, manifest: str, config: str) -> None:
        """Remember the image that these parts made."""
        with transaction(self._db, self._lock):
            self._db.execute(
                "INSERT OR REPLACE INTO results VALUES (?, ?, ?, ?)",
                (key, manifest, config, self._clock_ns()),
            )

    def forget_results(self) -> None:
        """Drop all results: the next build of the same parts makes its image anew."""
        with transaction(self._db, self._lock):
            self._db.execute("DELETE FROM results")

    def download(self, url: str) -> Download | None:
        """What is known of a URL."""
        with self._lock, database_errors():
            row = self._db.execute(
                "SELECT etag, modified, digest FROM downloads WHERE url = ?", (url,)
            ).fetchone()
        return None if row is None else Download(*row)

    def add_download(self, url: str, download: Download) -> None:
        """Remember what a server said."""
        with transaction(self._db, self._lock):
            self._db.execute(
                "INSERT OR REPLACE INTO downloads VALUES (?, ?, ?, ?)",
                (url, download.etag, download.modified, download.digest),
            )

    def _flush(self) -> None:
        used, self._used = self._used, {}
        self._db.executemany(
            "UPDATE records SET used_ns = ? WHERE key = ?",
            [(at, key) for key, at in used.items()],
        )


def key_of(document: Mapping[str, Any]) -> str:
    """The cache key: SHA-256, in hex, of the canonical document."""
    return canonical_digest(document)


def canonical_digest(value: object) -> str:
    """SHA-256, in hex, of the sorted canonical JSON of a value."""
    return hashlib.sha256(canonical.encode_sorted(value)).hexdigest()
