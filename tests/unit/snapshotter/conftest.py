from __future__ import annotations

import contextlib
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from slipform.content.store import Content
from slipform.drivers.content.memory import MemoryBlobs
from slipform.drivers.snapshot.copy import CopyDriver
from slipform.snapshotter.store import Snapshots

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def content() -> Iterator[Content]:
    with contextlib.closing(Content(MemoryBlobs(), None, grace=timedelta(0))) as content:
        yield content


@pytest.fixture
def root(tmp_path: Path) -> Path:
    path = tmp_path / "store"
    path.mkdir()
    return path


@pytest.fixture
def reopen(root: Path, content: Content) -> Iterator[Callable[[], Snapshots]]:
    """Opens the store; one that is open is abandoned first, as if its process had died."""
    opened: list[Snapshots] = []

    def open_again() -> Snapshots:
        for before in opened:
            before._flusher.stop()
            before._close_files()
        opened[:] = [Snapshots(root, CopyDriver(root), content.tenant, flush_delay_s=3600)]
        return opened[0]

    yield open_again
    for last in opened:
        last.close()


@pytest.fixture
def snapshots(reopen: Callable[[], Snapshots]) -> Snapshots:
    return reopen()
