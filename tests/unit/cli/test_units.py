"""Sizes, ages and tables as docker prints them."""

from __future__ import annotations

import pytest

from slipform.cli.errors import CommandError
from slipform.cli.units import human_duration, human_size, parse_bytes, table


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"), (999, "999B"), (1000, "1kB"), (1240, "1.24kB"), (7_670_000, "7.67MB"),
        (124_000_000, "124MB"), (999_999_999, "1000MB"), (1_240_000_000, "1.24GB"),
    ],
)  # fmt: skip
def test_size(size: int, text: str) -> None:
    assert human_size(size) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.3, "Less than a second"), (1, "1 second"), (59, "59 seconds"),
        (60, "About a minute"), (150, "2 minutes"), (3600, "About an hour"),
        (47 * 3600, "47 hours"), (3 * 86400, "3 days"), (20 * 86400, "2 weeks"),
        (100 * 86400, "3 months"), (800 * 86400, "2 years"),
    ],
)  # fmt: skip
def test_duration(seconds: float, text: str) -> None:
    assert human_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "size"),
    [("512", 512), ("1k", 1024), ("1.5g", 3 << 29), ("64MB", 64 << 20), ("2GiB", 2 << 30)],
)
def test_bytes(text: str, size: int) -> None:
    assert parse_bytes(text, "-m") == size


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1 2"])
def test_bad_bytes_name_the_flag(text: str) -> None:
    with pytest.raises(CommandError, match="-m") as caught:
        parse_bytes(text, "-m")
    assert caught.value.code == 125


def test_table_sets_columns_three_apart() -> None:
    assert table(("A", "LONGER", "C"), [("xx", "y", "z")]) == ("A    LONGER   C\nxx   y        z\n")
