from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from slipform.core.errors import AlreadyExists, DomainError, Unavailable

if TYPE_CHECKING:
    from slipform.content.store import Content
    from slipform.core.snapshots import Snapshotter
    from slipform.snapshotter.store import Snapshots


def test_one_of_many_gets_a_key(snapshots: Snapshots) -> None:
    s = snapshots.tenant("default")
    start = threading.Barrier(8)

    def take(_: int) -> bool:
        start.wait()
        try:
            s.prepare("key")
        except AlreadyExists:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(take, range(8))) == 1


def test_many_threads_build_and_collect_at_once(snapshots: Snapshots) -> None:
    s = snapshots.tenant("default")
    s.prepare("base.key")
    s.commit("base", "base.key", lease="keep")

    def build(worker: int) -> None:
        parent = "base"
        for step in range(10):
            key, name = f"{worker}.key", f"{worker}.{step}"
            s.prepare(key, parent, lease=f"build-{worker}")
            s.commit(name, key, lease=f"build-{worker}")
            parent = name

    def collect(_: int) -> None:
        for _ in range(20):
            s.collect()
            list(s.walk())

    with ThreadPoolExecutor(6) as pool:
        work = [pool.submit(build, n) for n in range(4)] + [pool.submit(collect, n) for n in (0, 1)]
        for each in work:
            each.result()
    assert len(list(s.walk())) == 41
    for worker in range(4):
        s.delete_lease(f"build-{worker}")
    s.collect()
    assert [info.name for info in s.walk()] == ["base"]


def test_files_in_use_are_neither_changed_nor_removed(
    snapshots: Snapshots, content: Content
) -> None:
    """While a layer is written to a slow store, its snapshot stays; others do not wait."""
    s = snapshots.tenant("default")
    s.prepare("key")
    s.commit("name", "key")
    s.prepare("key")
    state = snapshots._state
    name, key = (state.require("default", each).number for each in ("name", "key"))
    with state.in_use.reading(name, "name"), state.in_use.writing(key, "key"):
        attempts: list[tuple[str, object]] = [
            ("read", lambda: s.remove("name")),
            ("applied", lambda: s.remove("key")),
            ("applied", lambda: s.commit("other", "key")),
            ("applied", lambda: s.diff("key")),
        ]
        for word, attempt in attempts:
            with pytest.raises(Unavailable, match=word):
                attempt()  # type: ignore[operator]
        assert s.collect() == 0
        s.diff("name")
        s.prepare("child", "name")
    s.remove("child")
    s.remove("name")
    s.commit("other", "key")


def test_a_diff_asked_for_by_many_is_made_once(snapshots: Snapshots) -> None:
    s = snapshots.tenant("default")
    s.prepare("key")
    s.commit("name", "key")
    made = []
    driver = snapshots._state.driver
    original = driver.changes

    def counted(number: int, parents: tuple[int, ...]) -> object:
        made.append(number)
        return original(number, parents)

    driver.changes = counted  # type: ignore[method-assign, assignment]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: s.diff("name"), range(16)))
    assert len(made) == 1
    assert len(set(found)) == 1


def test_a_failed_preparation_leaves_nothing(snapshots: Snapshots) -> None:
    s = snapshots.tenant("default")
    with pytest.raises(DomainError):
        s.prepare("key", lease="x" * 2000)
    assert list(s.walk()) == []
    assert list(snapshots._state.driver.numbers()) == []
    s.prepare("key")


def test_walking_while_things_change(snapshots: Snapshots) -> None:
    s: Snapshotter = snapshots.tenant("default")
    for n in range(600):
        s.prepare(f"{n:03}")
    seen = []
    for info in s.walk():
        seen.append(info.name)
        if info.name.endswith("0"):
            s.remove(info.name)
    assert len(seen) == 600
