"""Random edits, layer upon layer: every driver sees the same tree and makes the same layers."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from slipform.content.store import Content
from slipform.core.errors import Unsupported
from slipform.drivers.content.memory import MemoryBlobs
from slipform.drivers.snapshot.copy import CopyDriver
from slipform.drivers.snapshot.overlay import OverlayDriver
from slipform.snapshotter.store import Snapshots
from slipform.testing.snapshots import SnapshotWorld, describe

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from slipform.core.snapshot_driver import SnapshotDriver

pytestmark = pytest.mark.root

LAYERS = 4
EDITS = 80
NAMES = "abcdef"


@contextlib.contextmanager
def opened(
    factory: Callable[[Path], SnapshotDriver[Any]], directory: Path
) -> Iterator[SnapshotWorld]:
    for name in ("store", "mnt"):
        (directory / name).mkdir(parents=True)
    with (
        contextlib.closing(Content(MemoryBlobs(), None, grace=timedelta(0))) as content,
        contextlib.closing(
            Snapshots(directory / "store", factory(directory / "store"), content.tenant)
        ) as snapshots,
    ):
        yield SnapshotWorld(snapshots.tenant, content.tenant("default"), directory / "mnt")


class Editor:
    """Edits a root by dice that fall the same way for every driver."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)  # noqa: S311 - must repeat
        self.edits = (
            *(self.write, self.write, self.write, self.mkdir, self.delete, self.chmod, self.chown),
            *(self.symlink, self.link, self.rename, self.recreate, self.xattr),
        )

    def __call__(self, root: Path) -> None:
        for _ in range(EDITS):
            path = self.path(root)
            edit = self.dice.choice(self.edits)
            number = self.dice.randrange(1000)
            with contextlib.suppress(OSError):
                edit(root, path, number)
        for path in [root, *root.rglob("*")]:
            os.utime(path, (1000, 1000), follow_symlinks=False)

    def path(self, root: Path) -> Path:
        depth = self.dice.randrange(1, 4)
        return root.joinpath(*(self.dice.choice(NAMES) for _ in range(depth)))

    def write(self, root: Path, path: Path, number: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_symlink() or (path.is_file() and path.lstat().st_nlink > 1):
            path.unlink()  # overlay breaks links when one name is written in place
        path.write_text(f"{number % 3}")

    def mkdir(self, root: Path, path: Path, number: int) -> None:
        path.mkdir(parents=True)

    def delete(self, root: Path, path: Path, number: int) -> None:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()

    def recreate(self, root: Path, path: Path, number: int) -> None:
        self.delete(root, path, number)
        (path / self.dice.choice(NAMES)).mkdir(parents=True)

    def chmod(self, root: Path, path: Path, number: int) -> None:
        if path.is_dir() or (path.is_file() and path.lstat().st_nlink == 1):
            path.chmod(0o700 | number % 64)

    def chown(self, root: Path, path: Path, number: int) -> None:
        if path.is_dir() or path.lstat().st_nlink == 1:
            os.chown(path, number % 3, number % 2, follow_symlinks=False)

    def symlink(self, root: Path, path: Path, number: int) -> None:
        path.symlink_to(NAMES[number % 6])

    def link(self, root: Path, path: Path, number: int) -> None:
        os.link(root / NAMES[number % 6], path, follow_symlinks=False)

    def rename(self, root: Path, path: Path, number: int) -> None:
        if not path.is_dir():
            path.rename(root / NAMES[number % 6])

    def xattr(self, root: Path, path: Path, number: int) -> None:
        if path.is_dir() and not path.is_symlink():
            os.setxattr(path, "user.number", str(number % 3).encode())


@pytest.mark.parametrize("seed", range(12))
def test_random_edits_make_the_same_layers(seed: int, tmp_path: Path) -> None:
    try:
        OverlayDriver.probe(tmp_path)
    except Unsupported as e:
        pytest.skip(str(e))
    found = []
    for factory in (OverlayDriver, CopyDriver):
        with opened(factory, tmp_path / factory.name) as world:
            parent, layers = "", []
            for number in range(LAYERS):
                parent = world.layer(f"layer-{number}", parent, Editor(seed * 100 + number))
                with world.viewed(parent) as root:
                    layers.append(
                        (describe(root, links=False), world.snapshots.diff(parent, store=True))
                    )
            found.append(layers)
            assert sum(len(tree) for tree, _ in layers) > 10 * LAYERS
            copied = ""
            for number, (tree, diff) in enumerate(layers):
                world.snapshots.prepare("key", copied)
                assert diff.descriptor is not None
                world.snapshots.apply("key", diff.descriptor)
                copied = f"copied-{number}"
                world.snapshots.commit(copied, "key")
                with world.viewed(copied) as root:
                    assert describe(root, links=False) == tree
    assert found[0] == found[1]
