"""The tables of ``metadata.db`` (docs/snapshotter.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slipform.core.database import open_database
from slipform.core.errors import FailedPrecondition

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

VERSION: Final = 1

_TABLES: Final = (
    # AUTOINCREMENT: a number is never used twice, so a directory without a row is nobody's.
    # ready: 0 while the driver makes the directory; such a row reserves its name and its parent.
    # boot: the boot id under which the data was committed, NULL once it is known to be on disk.
    """CREATE TABLE snapshots (
        number INTEGER PRIMARY KEY AUTOINCREMENT,
        tenant TEXT NOT NULL,
        name TEXT NOT NULL,
        kind TEXT NOT NULL CHECK (kind IN ('active', 'view', 'committed')),
        ready INTEGER NOT NULL DEFAULT 0,
        parent INTEGER REFERENCES snapshots (number),
        created_ns INTEGER NOT NULL,
        updated_ns INTEGER NOT NULL,
        boot TEXT,
        size INTEGER,
        inodes INTEGER,
        UNIQUE (tenant, name)
    )""",
    "CREATE INDEX snapshots_parent ON snapshots (parent)",
    "CREATE INDEX snapshots_boot ON snapshots (boot) WHERE boot IS NOT NULL",
    """CREATE TABLE labels (
        number INTEGER NOT NULL REFERENCES snapshots (number) ON DELETE CASCADE,
        key TEXT NOT NULL,
        value TEXT NOT NULL,
        PRIMARY KEY (number, key)
    ) WITHOUT ROWID""",
    "CREATE INDEX labels_key ON labels (key, value)",
    """CREATE TABLE chains (
        chain_id TEXT NOT NULL,
        number INTEGER NOT NULL REFERENCES snapshots (number) ON DELETE CASCADE,
        diff_id TEXT NOT NULL,
        size INTEGER NOT NULL,
        clamp INTEGER,
        regenerable INTEGER NOT NULL,
        PRIMARY KEY (chain_id, number)
    ) WITHOUT ROWID""",
    "CREATE INDEX chains_number ON chains (number)",
    # clamp: seconds since the epoch, -1 for none (a key column can't be NULL).
    """CREATE TABLE diffs (
        number INTEGER NOT NULL REFERENCES snapshots (number) ON DELETE CASCADE,
        clamp INTEGER NOT NULL,
        diff_id TEXT NOT NULL,
        size INTEGER NOT NULL,
        PRIMARY KEY (number, clamp)
    ) WITHOUT ROWID""",
)


def open_metadata(path: Path) -> sqlite3.Connection:
    """Open ``metadata.db``, making its tables when it is new.

    A commit survives the death of the process at once, and a power cut as soon as the data it
    speaks of does (``slipform.snapshotter.flusher``); waiting for the disk here would gain nothing.

    Raises:
        FailedPrecondition: damaged, or written by a newer version.
    """
    connection = open_database(path, durable=False)
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == VERSION:
        return
    if version != 0:
        raise FailedPrecondition(f"{path}: format {version}, this version reads {VERSION}")
    connection.execute("BEGIN EXCLUSIVE")
    for statement in _TABLES:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {VERSION}")
    connection.execute("COMMIT")
