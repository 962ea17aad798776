from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from slipform.content.store import Content
from slipform.core.content import DEFAULT_TENANT
from slipform.core.errors import ResourceExhausted
from slipform.core.linux.mounting import mounted
from slipform.core.mounts import Mount
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.drivers.snapshot.copy import CopyDriver
from slipform.images.store import Images
from slipform.snapshotter.store import Snapshots
from slipform.testing.images import (
    TinyImage,
    chunked,
    plain_layer,
    tar_of,
    tiny_docker_archive,
    tiny_image,
)

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.root


def test_a_full_disk_is_said_and_loses_nothing(tmp_path: Path) -> None:
    disk, root = tmp_path / "disk", tmp_path / "snapshots"
    disk.mkdir()
    root.mkdir()
    small = tar_of(tiny_docker_archive({"small": tiny_image()}))
    large = TinyImage((plain_layer({"large": os.urandom(6 << 20)}),))
    with mounted([Mount("tmpfs", "tmpfs", options=("size=4m",))], disk):
        content = Content(FilesystemBlobs(disk / "blobs"), None, grace=timedelta(0))
        blobs = content.tenant(DEFAULT_TENANT)
        snapshots = Snapshots(root, CopyDriver(root), blobs)
        images = Images(None, blobs, snapshots.tenant(DEFAULT_TENANT))
        try:
            before = list(images.load(chunked(small)))
            with pytest.raises(ResourceExhausted):
                list(images.load(chunked(tar_of(tiny_docker_archive({"large": large})), 1 << 20)))
            with pytest.raises(ResourceExhausted):
                images.import_rootfs(chunked(large.layers[0].tar, 1 << 20), "large")
            assert images.list_images() == before
            assert blobs.statuses() == []
            assert len(blobs.list_leases()) == 1
            assert list(images.load(chunked(small))) == before
        finally:
            images.close()
            snapshots.close()
            content.close()
