"""SQLite as Slipform's services use it: one connection, one lock, explicit transactions."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING, Final

from slipform.core.errors import FailedPrecondition, ResourceExhausted, Unavailable

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from pathlib import Path

BUSY_TIMEOUT_MS: Final = 10_000
CHECKPOINT_PAGES: Final = 200
RESERVE: Final = 1 << 20
"""Bytes: more than the log needs between two checkpoints."""


def open_database(path: Path | None, *, durable: bool = True) -> sqlite3.Connection:
    """Open (or make, mode 0600) a database in WAL mode that several threads may share.

    The connection is in autocommit mode (``isolation_level=None``): what belongs together goes
    into a ``transaction``. Use it from one thread at a time, under the lock given to it.

    Its log has a reserve of disk space, so that what deletes still works when the disk is full.

    Args:
        path: the file; None is a database in memory.
        durable: a commit returns when it would survive a power cut (``synchronous=FULL``);
            otherwise it survives the death of the process only.

    Raises:
        FailedPrecondition: the file is not a database, or is damaged.
        ResourceExhausted: the disk is full.
    """
    if path is not None and not path.exists():
        # Never opened by us when it exists: closing it would drop the locks that another
        # connection of this process has on it.
        path.touch(mode=0o600)
    connection = sqlite3.connect(
        ":memory:" if path is None else path, check_same_thread=False, isolation_level=None
    )
    try:
        with database_errors():
            connection.execute(f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}")
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
            connection.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
            connection.execute("PRAGMA foreign_keys=ON")
        if path is not None:
            _reserve_log(path)
    except BaseException:
        connection.close()
        raise
    return connection


def _reserve_log(path: Path) -> None:
    """Give the write-ahead log its space now: on a full disk, deleting must still be possible.

    SQLite writes the log from its start after each checkpoint, never shortens it while it is
    open, and takes what follows the last valid frame (zeros, here) as the end.
    """
    with contextlib.suppress(OSError):  # a disk that is full already, or one without fallocate
        log = os.open(f"{path}-wal", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(log, 0, RESERVE)
        finally:
            os.close(log)


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """Turn what SQLite raises about disk, damage and locks into domain errors."""
    try:
        yield
    except sqlite3.OperationalError as e:
        if e.sqlite_errorcode == sqlite3.SQLITE_FULL:
            raise ResourceExhausted(f"database: {e}") from e
        if e.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise Unavailable(f"database: {e}") from e
        raise
    except sqlite3.DatabaseError as e:
        if e.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
            raise FailedPrecondition(f"database: {e}") from e
        raise


@contextlib.contextmanager
def transaction(
    connection: sqlite3.Connection, lock: threading.RLock
) -> Iterator[sqlite3.Connection]:
    """Hold the lock and do everything inside atomically; an exception undoes all of it.

    Inside another ``transaction`` of the same thread it joins that one: the outer one commits.
    So a join must either succeed or let its exception reach the outer block.
    """
    with lock, database_errors():
        if connection.in_transaction:
            yield connection
            return
        connection.execute("BEGIN IMMEDIATE")
        try:
            yield connection
            connection.execute("COMMIT")
        except BaseException:
            _roll_back(connection)
            raise


def _roll_back(connection: sqlite3.Connection) -> None:
    if connection.in_transaction:  # SQLite has rolled back itself when the disk was full
        connection.execute("ROLLBACK")
