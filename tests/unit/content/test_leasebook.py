from __future__ import annotations

import contextlib
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from slipform.core.database import open_database, transaction
from slipform.core.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from slipform.core.leasebook import LeaseBook

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

SECOND = 1_000_000_000


class Clock:
    def __init__(self) -> None:
        self.ns = 1_700_000_000 * SECOND

    def __call__(self) -> int:
        return self.ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def database() -> Iterator[sqlite3.Connection]:
    with contextlib.closing(open_database(None)) as connection:
        yield connection


@pytest.fixture
def lock() -> threading.RLock:
    return threading.RLock()


@pytest.fixture
def book(database: sqlite3.Connection, lock: threading.RLock, clock: Clock) -> LeaseBook:
    return LeaseBook(database, lock, prefix="test_", clock_ns=clock)


def test_an_expired_lease_does_not_exist(book: LeaseBook, clock: Clock) -> None:
    leases = book.tenant("t")
    leases.create_lease("short", ttl=timedelta(seconds=10))
    leases.add_to_lease("short", ["a"])
    clock.ns += 10 * SECOND - 1
    assert book.held("t") == {"a"}
    clock.ns += 1
    assert book.held("t") == set()
    assert book.holders("t", "a") == []
    assert book.tenants() == []
    assert leases.list_leases() == []
    with pytest.raises(NotFound):
        leases.lease_resources("short")
    with pytest.raises(NotFound):
        leases.remove_from_lease("short", ["a"])


def test_the_id_of_an_expired_lease_is_free_and_holds_nothing(
    book: LeaseBook, clock: Clock
) -> None:
    leases = book.tenant("t")
    for use in ("create", "add"):
        leases.create_lease(use, ttl=timedelta(seconds=1))
        leases.add_to_lease(use, ["old"])
    clock.ns += SECOND
    assert leases.create_lease("create").expires_at is None
    leases.add_to_lease("add", ["new"])
    assert leases.lease_resources("create") == []
    assert leases.lease_resources("add") == ["new"]


def test_expired_leases_are_purged(
    book: LeaseBook, clock: Clock, database: sqlite3.Connection
) -> None:
    book.create("t", "short", ttl=timedelta(seconds=1))
    book.add("t", "short", ["a", "b"])
    clock.ns += SECOND
    book.create("other", "any")
    assert database.execute("SELECT name FROM test_leases").fetchall() == [("any",)]
    assert database.execute("SELECT * FROM test_lease_resources").fetchall() == []


def test_a_book_joins_the_transaction_of_its_owner(
    book: LeaseBook, database: sqlite3.Connection, lock: threading.RLock
) -> None:
    with contextlib.suppress(KeyError), transaction(database, lock):
        book.create("t", "kept?")
        book.add("t", "kept?", ["a"])
        raise KeyError
    assert book.leases("t") == []
    with transaction(database, lock):
        book.add("t", "kept", ["a"])
    assert book.held("t") == {"a"}


def test_books_of_one_database_are_apart(
    book: LeaseBook, database: sqlite3.Connection, lock: threading.RLock
) -> None:
    second = LeaseBook(database, lock, prefix="second_")
    book.create("t", "same")
    second.create("t", "same")
    with pytest.raises(AlreadyExists):
        second.create("t", "same")
    with pytest.raises(InvalidArgument):
        LeaseBook(database, lock, prefix="x; DROP TABLE")


def test_tenants_are_apart(book: LeaseBook) -> None:
    book.add("one", "l", ["a"])
    book.add("two", "l", ["b"])
    book.delete("one", "l")
    assert book.held("one") == set()
    assert book.held("two") == {"b"}
    assert book.holders("two", "b") == ["l"]
    assert book.tenants() == ["two"]


def test_leases_are_listed_oldest_first(book: LeaseBook, clock: Clock) -> None:
    for name in ("c", "a", "b"):
        book.create("t", name, labels={"n": name})
        clock.ns += SECOND
    assert [(lease.id, lease.labels) for lease in book.leases("t")] == [
        (name, {"n": name}) for name in ("c", "a", "b")
    ]


def test_leases_outlive_the_process(tmp_path: Path) -> None:
    for _ in range(2):
        with contextlib.closing(open_database(tmp_path / "db")) as connection:
            book = LeaseBook(connection, threading.RLock())
            book.add("t", "l", ["a"])
            assert book.held("t") == {"a"}
    assert (tmp_path / "db").stat().st_mode & 0o777 == 0o600


def test_a_damaged_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "db").write_bytes(b"no database, but long enough to look at" * 100)
    with pytest.raises(FailedPrecondition, match="database"):
        open_database(tmp_path / "db")
