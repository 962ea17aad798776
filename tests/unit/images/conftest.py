from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from slipform.content.store import Content
from slipform.core.content import DEFAULT_TENANT
from slipform.drivers.content.memory import MemoryBlobs
from slipform.drivers.snapshot.overlay import OverlayDriver
from slipform.images.store import Images
from slipform.snapshotter.store import Snapshots
from slipform.testing.images import ImagesWorld

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def world(tmp_path: Path) -> Iterator[ImagesWorld]:
    content = Content(MemoryBlobs(), None, grace=timedelta(0))
    blobs = content.tenant(DEFAULT_TENANT)
    root = tmp_path / "snapshots"
    root.mkdir()
    snapshots = Snapshots(root, OverlayDriver(root), blobs)
    images = Images(None, blobs, snapshots.tenant(DEFAULT_TENANT))
    yield ImagesWorld(images, blobs, snapshots.tenant(DEFAULT_TENANT))
    images.close()
    snapshots.close()
    content.close()
