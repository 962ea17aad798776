from __future__ import annotations

import stat

import pytest

from slipform.builder.modes import ModeChange
from slipform.core.errors import InvalidArgument

FILE, DIRECTORY = stat.S_IFREG, stat.S_IFDIR


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("0644", FILE | 0o777, 0o644),
        ("4755", FILE, 0o4755),
        ("u+x", FILE | 0o644, 0o744),
        ("+x", FILE | 0o644, 0o755),
        ("a-w", FILE | 0o666, 0o444),
        ("u+x,go=rX", FILE | 0o640, 0o744 | 0o055),
        ("go=rX", FILE | 0o600, 0o644),
        ("go=rX", DIRECTORY | 0o700, 0o755),
        ("g=u", FILE | 0o640, 0o660),
        ("o=", FILE | 0o777, 0o770),
        ("u+s", FILE | 0o755, 0o4755),
        ("+t", DIRECTORY | 0o777, 0o1777),
        ("u=rwx,g=u-w,o=g", FILE, 0o755),
    ],
)
def test_changes(text: str, before: int, after: int) -> None:
    assert ModeChange.parse(text).apply(before) == after


@pytest.mark.parametrize("text", ["", "9", "17777", "u", "u=z", "x+r", "0x1", "u+x,", "rw"])
def test_refuses(text: str) -> None:
    with pytest.raises(InvalidArgument):
        ModeChange.parse(text)
