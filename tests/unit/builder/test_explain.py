from __future__ import annotations

import zlib
from typing import Any

import pytest

from slipform.builder.cache import Neighbour
from slipform.builder.explain import NEVER_BUILT, miss_reason

RUN: dict[str, Any] = {
    "op": "run",
    "rootfs": "k1",
    "args": ["a"],
    "env": ["A=1", "B=2"],
    "cwd": "/",
}
COPY: dict[str, Any] = {"op": "copy", "rootfs": "k1", "dest": "/", "content": "c1"}


def lines(**digests: str) -> bytes:
    return zlib.compress("\n".join(f"{k}\0{v}" for k, v in digests.items()).encode())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"args": ("b",)}, "the command changed"),
        ({"env": ("A=1", "B=3", "C=4")}, "environment changed: B, C"),
        ({"cwd": "/w"}, "cwd changed"),
        ({"rootfs": "k2"}, "a step before it has a new result"),
        ({"rootfs": "chain/sha256:1"}, "the base image changed"),
    ],
)
def test_run(change: dict[str, Any], words: str) -> None:
    assert miss_reason(RUN | change, b"", [Neighbour(RUN, b"")]) == words


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ({"a": "1", "b": "1"}, {"a": "2", "b": "1"}, "file a changed"),
        ({"a": "1"}, {"a": "1", "b": "1"}, "file b is new"),
        ({"a": "1", "b": "1"}, {"a": "1"}, "file b is gone"),
        ({"a": "1", "b": "1"}, {"a": "2", "b": "2"}, "file a changed (and 1 more)"),
    ],
)
def test_copy(before: dict[str, str], after: dict[str, str], words: str) -> None:
    earlier = Neighbour(COPY, lines(**before))
    assert miss_reason(COPY | {"content": "c2"}, lines(**after), [earlier]) == words


def test_nothing_to_compare_with() -> None:
    assert miss_reason(RUN, b"", []) == NEVER_BUILT
    assert miss_reason(RUN, b"", [Neighbour(COPY, b"")]) == NEVER_BUILT


def test_nearest_of_several_is_compared() -> None:
    far = Neighbour(RUN | {"args": ["x"], "env": [], "rootfs": "k9"}, b"")
    near = Neighbour(RUN | {"cwd": "/old"}, b"")
    assert miss_reason(RUN, b"", [far, near]) == "cwd changed"
