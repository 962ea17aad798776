"""Every state that a death can leave, made by hand, and what the next start makes of it."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import FailedPrecondition, NotFound
from slipform.core.oci.digest import Digest
from slipform.core.snapshots import ChainRecord, Kind
from slipform.drivers.snapshot.copy import CopyDriver
from slipform.snapshotter import flusher, recovery
from slipform.snapshotter.store import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from slipform.content.store import Content


def names(snapshots: Snapshots) -> list[str]:
    return [info.name for info in snapshots.tenant("default").walk()]


def directories(root: Path) -> list[str]:
    return sorted(os.listdir(root / "snapshots"), key=int)


def stack(snapshots: Snapshots) -> None:
    """base (1) < middle (2) < top (3), and an active one (4) on top."""
    s = snapshots.tenant("default")
    parent = ""
    for name in ("base", "middle", "top"):
        s.prepare("key", parent)
        s.commit(name, "key", lease=f"lease-{name}")
        parent = name
    s.prepare("active", parent)


def test_everything_is_there_after_a_death(reopen: Callable[[], Snapshots], root: Path) -> None:
    snapshots = reopen()
    stack(snapshots)
    digest = Digest.of(b"x")
    snapshots.tenant("default").record_chain(ChainRecord(digest, "top", digest, 1))
    again = reopen()
    assert names(again) == ["active", "base", "middle", "top"]
    assert again.tenant("default").find_chain(digest).snapshot == "top"
    assert again.tenant("default").lease_resources("lease-top") == ["top"]
    assert directories(root) == ["1", "2", "3", "4"]


def test_directories_without_a_row_are_removed(reopen: Callable[[], Snapshots], root: Path) -> None:
    stack(reopen())
    (root / "snapshots/77/fs/deep/er").mkdir(parents=True)
    (root / "trash/5.1.abc/fs").mkdir(parents=True)
    assert names(reopen()) == ["active", "base", "middle", "top"]
    assert directories(root) == ["1", "2", "3", "4"]
    assert os.listdir(root / "trash") == []


def test_half_made_snapshots_are_dropped(reopen: Callable[[], Snapshots], root: Path) -> None:
    snapshots = reopen()
    stack(snapshots)
    with snapshots._state.transaction():
        snapshots._state.catalog.insert("default", "half", Kind.ACTIVE, 3)
    (root / "snapshots/5").mkdir()
    again = reopen()
    assert names(again) == ["active", "base", "middle", "top"]
    assert directories(root) == ["1", "2", "3", "4"]
    again.tenant("default").prepare("half", "top")


def test_a_row_without_directory_takes_what_stands_on_it_along(
    reopen: Callable[[], Snapshots], root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stack(reopen())
    (root / "snapshots/2").rename(root / "trash/2")
    again = reopen()
    assert names(again) == ["base"]
    assert directories(root) == ["1"]
    assert 'dropped snapshot "top"' in caplog.text
    assert again.tenant("default").lease_resources("lease-top") == []
    assert again.tenant("default").lease_resources("lease-base") == ["base"]


def test_after_a_power_cut_only_what_reached_the_disk_is_trusted(
    reopen: Callable[[], Snapshots], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshots = reopen()
    s = snapshots.tenant("default")
    s.prepare("key")
    s.commit("flushed", "key")
    snapshots.flush()
    s.prepare("key", "flushed")
    s.commit("torn", "key")
    s.prepare("active", "flushed")
    s.prepare("active-on-torn", "torn")
    monkeypatch.setattr(recovery, "boot_id", lambda: "another boot")
    assert names(reopen()) == ["active", "flushed"]
    assert directories(root) == ["1", "3"]


def test_the_thread_flushes_behind_the_builds_back(root: Path, content: Content) -> None:
    snapshots = Snapshots(root, CopyDriver(root), content.tenant, flush_delay_s=0)
    s = snapshots.tenant("default")
    s.prepare("key")
    s.commit("name", "key")
    thread = snapshots._flusher._thread
    assert thread is not None
    snapshots.close()
    assert not thread.is_alive()
    with sqlite3.connect(root / "metadata.db") as database:
        assert database.execute("SELECT boot FROM snapshots").fetchall() == [(None,)]
    database.close()


def test_the_boot_id_is_one_line() -> None:
    assert len(flusher.boot_id().split()) == 1


def test_two_processes_do_not_share_a_directory(
    snapshots: Snapshots, root: Path, content: Content
) -> None:
    with pytest.raises(FailedPrecondition, match="another process"):
        Snapshots(root, CopyDriver(root), content.tenant)
    assert names(snapshots) == []


def test_a_closed_snapshotter_says_so(snapshots: Snapshots) -> None:
    tenant = snapshots.tenant("default")
    tenant.prepare("key")
    snapshots.close()
    snapshots.close()
    for use in (lambda: tenant.stat("key"), lambda: tenant.prepare("other"), tenant.collect):
        with pytest.raises(FailedPrecondition, match="closed"):
            use()


@pytest.mark.parametrize(
    "damage", [b"this is no database" * 1000, b"SQLite format 3\0" + b"x" * 5000]
)
def test_damaged_metadata_is_told(
    reopen: Callable[[], Snapshots], root: Path, damage: bytes
) -> None:
    (root / "metadata.db").write_bytes(damage)
    with pytest.raises(FailedPrecondition):
        reopen()
    (root / "metadata.db").unlink()
    assert names(reopen()) == []


def test_metadata_of_a_newer_version_is_refused(
    reopen: Callable[[], Snapshots], root: Path
) -> None:
    database = sqlite3.connect(root / "metadata.db")
    database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(FailedPrecondition, match="format 99"):
        reopen()


def test_numbers_are_never_used_twice(reopen: Callable[[], Snapshots], root: Path) -> None:
    s = reopen().tenant("default")
    for _ in range(3):
        s.prepare("key")
        s.remove("key")
    s = reopen().tenant("default")
    s.prepare("key")
    assert directories(root) == ["4"]
    with pytest.raises(NotFound):
        s.stat("other")
