from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from slipform.builder.statcache import RACY_NS, Content, StatCache
from slipform.core.context import FileEntry

if TYPE_CHECKING:
    from pathlib import Path

NOW = 10 * RACY_NS
CONTENT = Content(b"d" * 32, (("user.a", b"1"), ("user.b", b"")))


def entry(path: str = "a", *, size: int = 1, changed: int = 1, inode: int = 7) -> FileEntry:
    return FileEntry(path, stat.S_IFREG, size, changed, inode=(1, inode), ctime_ns=changed)


def test_finds_what_it_learnt_after_a_restart(tmp_path: Path) -> None:
    names = ["a", "dir/b", "odd\udcff"]
    known = StatCache(tmp_path, lambda: NOW).root("/context")
    for name in names:
        known.learn(entry(name), CONTENT, known.now_ns())
    known.save()
    again = StatCache(tmp_path, lambda: NOW).root("/context")
    assert [again.find(entry(name)) for name in names] == [CONTENT] * 3


def test_any_difference_of_the_stat_is_a_miss(tmp_path: Path) -> None:
    known = StatCache(tmp_path, lambda: NOW).root("/context")
    known.learn(entry(), CONTENT, NOW)
    for other in (entry(size=2), entry(changed=2), entry(inode=8), entry("b")):
        assert known.find(other) is None


def test_file_that_changed_just_now_is_not_trusted() -> None:
    known = StatCache(None, lambda: NOW).root("")
    known.learn(entry(changed=NOW - RACY_NS + 1), CONTENT, NOW)
    assert known.find(entry(changed=NOW - RACY_NS + 1)) is None


def test_torn_index_is_no_index(tmp_path: Path) -> None:
    known = StatCache(tmp_path, lambda: NOW).root("/context")
    known.learn(entry(), CONTENT, NOW)
    known.save()
    (index,) = tmp_path.iterdir()
    data = bytearray(index.read_bytes())
    for damaged in (data[:-1], data[: len(data) // 2], b"", bytes(data[:40]) + b"x" + data[41:]):
        index.write_bytes(damaged)
        assert StatCache(tmp_path, lambda: NOW).root("/context").find(entry()) is None
