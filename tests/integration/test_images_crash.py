"""The image service dies at every step of its work; nothing that was promised may be lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import slipform
from slipform.content.store import Content
from slipform.core.content import DEFAULT_TENANT
from slipform.core.images import ArchiveFormat
from slipform.core.linux.mounting import private_mount_namespace
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.drivers.snapshot.overlay import OverlayDriver
from slipform.images.store import Images
from slipform.snapshotter.store import Snapshots
from slipform.testing.images import chunked, tar_of, tiny_image, tiny_oci_layout

if TYPE_CHECKING:
    from collections.abc import Callable

    from slipform.core.content import ContentStore
    from slipform.core.images import ImageStore
    from slipform.core.snapshots import Snapshotter

pytestmark = pytest.mark.root
ARCHIVE = tar_of(tiny_oci_layout({"a:1": tiny_image("1"), "b:1": tiny_image("2")}))
POINTS = (*range(0, 168, 8), 10_000)


@dataclass
class Fuse:
    """Kills the process at the n-th call."""

    left: int

    def burn(self) -> None:
        self.left -= 1
        if self.left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass
class Fused:
    """A store whose every call burns the fuse before and after it is made."""

    store: Any
    fuse: Fuse
    _calls: dict[str, Callable[..., Any]] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        inner = getattr(self.store, name)

        def call(*args: Any, **options: Any) -> Any:
            self.fuse.burn()
            result = inner(*args, **options)
            self.fuse.burn()
            return result

        return call


@dataclass
class Stores:
    """Everything on disk, open."""

    directory: Path

    def __post_init__(self) -> None:
        root = self.directory / "snapshots"
        root.mkdir(exist_ok=True)
        self._content = Content(
            FilesystemBlobs(self.directory / "blobs"),
            self.directory / "content.db",
            grace=timedelta(0),
        )
        self.content: ContentStore = self._content.tenant(DEFAULT_TENANT)
        self._snapshots = Snapshots(root, OverlayDriver(root), self.content)
        self.snapshotter: Snapshotter = self._snapshots.tenant(DEFAULT_TENANT)

    def images(self, fuse: Fuse | None = None) -> Images:
        content: Any = self.content
        snapshotter: Any = self.snapshotter
        if fuse is not None:
            content, snapshotter = Fused(content, fuse), Fused(snapshotter, fuse)
        return Images(self.directory / "images.db", content, snapshotter)

    def close(self) -> None:
        self._snapshots.close()
        self._content.close()


def in_a_child(work: Callable[[], None]) -> int:
    """Run in a process of its own, which never comes back into pytest; its wait status."""
    pid = os.fork()
    if pid == 0:
        status = 70
        try:
            private_mount_namespace()
            work()
            status = 0
        finally:
            os._exit(status)
    return os.waitpid(pid, 0)[1]


def everything(images: ImageStore) -> None:
    for _ in images.load(chunked(ARCHIVE)):
        pass
    images.unpack("a:1")
    images.tag("a:1", "c:1")
    images.remove("b:1")
    images.remove("a:1")


@pytest.mark.parametrize("point", POINTS)
def test_killed_at_any_step(tmp_path: Path, point: int) -> None:
    roots = [str(Path(entry).parent) for entry in slipform.__path__]
    command = [sys.executable, __file__, str(tmp_path), str(point)]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(roots)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def killed_and_checked(directory: Path, point: int) -> None:
    """In a process without threads, which may fork."""

    def work() -> None:
        everything(Stores(directory).images(Fuse(point)))

    status = in_a_child(work)
    assert status == (0 if point == POINTS[-1] else signal.SIGKILL), status
    assert in_a_child(lambda: check(directory)) == 0


def check(directory: Path) -> None:
    stores = Stores(directory)
    images = stores.images()
    images.recover()
    known = {f"image/{image.target.digest}" for image in images.list_images()}
    assert {lease.id for lease in stores.content.list_leases()} == known
    assert {lease.id for lease in stores.snapshotter.list_leases()} <= known
    stores.content.collect()
    stores.snapshotter.collect()
    assert stores.content.statuses() == []
    for image in images.list_images():
        name = str(image.target.digest)
        assert b"".join(images.save([name], ArchiveFormat.OCI))
        assert images.unpack(name).snapshot
    everything(images)
    assert "docker.io/library/c:1" in [n for i in images.list_images() for n in i.references]
    images.close()
    stores.close()


if __name__ == "__main__":
    killed_and_checked(Path(sys.argv[1]), int(sys.argv[2]))
