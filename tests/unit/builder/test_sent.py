"""A context that a client sends: what its list may say, and how much it may send."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from slipform.builder.sent import Piece, SentContext
from slipform.core.context import FileEntry
from slipform.core.errors import Conflict, InvalidArgument, Unavailable

FILE = stat.S_IFREG | 0o644
LINK = stat.S_IFLNK | 0o777


def _context(entries: Sequence[FileEntry], pieces: Sequence[Piece], directory: Path) -> SentContext:
    return SentContext("", iter(entries), lambda _wanted: iter(pieces), directory)


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ([FileEntry("a", FILE, 1, 0), FileEntry("a", FILE, 1, 0)], '"a" is listed twice'),
        ([FileEntry("d/a", FILE, 1, 0)], '"d/a" is listed without its directory'),
        ([FileEntry("d", LINK, 0, 0), FileEntry("d/a", FILE, 1, 0)], "without its directory"),
    ],
)
def test_lists_that_lie(entries: list[FileEntry], said: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=said):
        _context(entries, [], tmp_path).stat("a")


def test_endless_file_is_cut_where_its_announced_size_ends(tmp_path: Path) -> None:
    taken = []

    def endless() -> Iterator[Piece]:
        while True:
            taken.append(1)
            yield Piece(0, bytes(1000), last=False)

    entries = [FileEntry("a", FILE, 3000, 0)]
    context = SentContext("", iter(entries), lambda _wanted: endless(), tmp_path)
    with pytest.raises(Conflict, match='"/a" of the build context changed'):
        context.open("a")
    assert len(taken) == 4


@pytest.mark.parametrize(
    ("pieces", "error"),
    [
        ([Piece(0, b"ab", last=True)], Conflict),
        ([Piece(7, b"abc", last=True)], InvalidArgument),
        ([Piece(0, b"ab", last=False)], Unavailable),
        ([Piece(0, b"", last=True, error="gone")], Conflict),
    ],
)
def test_wrong_bytes(pieces: list[Piece], error: type[Exception], tmp_path: Path) -> None:
    context = _context([FileEntry("a", FILE, 3, 0)], pieces, tmp_path)
    with pytest.raises(error):
        context.open("a")


def test_file_is_asked_for_once(tmp_path: Path) -> None:
    context = _context([FileEntry("a", FILE, 3, 0)], [Piece(0, b"abc", last=True)], tmp_path)
    for _ in range(2):
        with context.open("a") as file:
            assert file.read() == b"abc"
    assert [entry.path for entry in context.entries()] == ["a"]
