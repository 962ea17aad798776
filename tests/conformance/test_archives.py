from __future__ import annotations

import json
import subprocess
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from slipform.content.store import Content
from slipform.core.content import DEFAULT_TENANT
from slipform.core.images import ArchiveFormat
from slipform.core.oci.config import RunConfig
from slipform.drivers.content.memory import MemoryBlobs
from slipform.drivers.snapshot.overlay import OverlayDriver
from slipform.images.store import Images
from slipform.snapshotter.store import Snapshots
from slipform.testing.images import (
    Directory,
    File,
    HardLink,
    ImagesWorld,
    Symlink,
    TinyImage,
    chunked,
    gzip_layer,
    layout_faults,
    plain_layer,
    untar,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICY = "--insecure-policy"


def run(*command: str | Path) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    return done.stdout


def inspect(where: str) -> Any:
    return json.loads(run("skopeo", POLICY, "inspect", where))


def image() -> TinyImage:
    lower = plain_layer(
        {
            "bin": Directory(),
            "bin/tool": File(b"#!/bin/true\n", 0o4755),
            "bin/same": HardLink("bin/tool"),
            "gone": b"soon\n",
        }
    )
    upper = gzip_layer(
        {"etc": Directory(0o700), "etc/link": Symlink("../bin/tool"), ".wh.gone": b""}
    )
    return TinyImage((lower, upper), RunConfig(env=("A=b",), cmd=("tool",), labels={"k": "v"}))


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


def save(world: ImagesWorld, kind: ArchiveFormat, path: Path, *names: str) -> Path:
    path.write_bytes(b"".join(world.images.save(names, kind)))
    return path


def load(world: ImagesWorld, path: Path) -> list[str]:
    return [str(image.id) for image in world.images.load(chunked(path.read_bytes()))]


@pytest.mark.requires("skopeo")
class TestSkopeo:
    @pytest.mark.parametrize(
        ("kind", "transport"),
        [(ArchiveFormat.OCI, "oci-archive"), (ArchiveFormat.DOCKER, "docker-archive")],
    )
    def test_reads_what_is_saved(
        self, world: ImagesWorld, tmp_path: Path, kind: ArchiveFormat, transport: str
    ) -> None:
        tiny = image()
        world.create(tiny, "busybox:1")
        path = save(world, kind, tmp_path / "a.tar", "busybox:1")
        found = inspect(f"{transport}:{path}")
        assert found["Env"] == ["A=b"]
        assert found["Labels"] == {"k": "v"}
        assert len(found["Layers"]) == 2
        raw = run("skopeo", POLICY, "inspect", "--config", "--raw", f"{transport}:{path}")
        assert raw.encode() == tiny.config

    def test_finds_one_of_several_by_name(self, world: ImagesWorld, tmp_path: Path) -> None:
        world.create(image(), "a:1")
        world.create(TinyImage(()), "b:2")
        docker = save(world, ArchiveFormat.DOCKER, tmp_path / "d.tar", "a:1", "b:2")
        oci = save(world, ArchiveFormat.OCI, tmp_path / "o.tar", "a:1", "b:2")
        assert inspect(f"docker-archive:{docker}:a:1")["Env"] == ["A=b"]
        assert inspect(f"oci-archive:{oci}:1")["Env"] == ["A=b"]

    @pytest.mark.parametrize("kind", ArchiveFormat)
    @pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
    def test_what_it_copied_comes_back(
        self, world: ImagesWorld, tmp_path: Path, kind: ArchiveFormat, transport: str
    ) -> None:
        tiny = image()
        world.create(tiny, "busybox:1")
        source = save(world, kind, tmp_path / "a.tar", "busybox:1")
        own = "oci-archive" if kind is ArchiveFormat.OCI else "docker-archive"
        target = tmp_path / "b.tar"
        run("skopeo", POLICY, "copy", f"{own}:{source}", f"{transport}:{target}:busybox:2")
        world.images.remove("busybox:1")
        assert load(world, target) == [str(world.images.get("busybox:2").image.id)]
        details = world.images.get("busybox:2")
        assert details.config.diff_ids == tuple(layer.diff_id for layer in tiny.layers)
        assert details.config.config.labels == {"k": "v"}

    def test_both_ways_through_a_layout_directory(self, world: ImagesWorld, tmp_path: Path) -> None:
        world.create(image(), "busybox:1")
        source = save(world, ArchiveFormat.OCI, tmp_path / "a.tar", "busybox:1")
        run("skopeo", POLICY, "copy", f"oci-archive:{source}", f"oci:{tmp_path}/layout:x")
        run("tar", "-C", tmp_path / "layout", "-cf", tmp_path / "b.tar", ".")
        world.images.remove("busybox:1")
        assert load(world, tmp_path / "b.tar") == [str(image().id)]


@pytest.mark.root
@pytest.mark.requires("umoci")
class TestUmoci:
    def test_unpacks_what_is_saved(self, world: ImagesWorld, tmp_path: Path) -> None:
        world.create(image(), "busybox:1")
        archive = save(world, ArchiveFormat.OCI, tmp_path / "a.tar", "busybox:1")
        layout = tmp_path / "layout"
        layout.mkdir()
        run("tar", "-C", layout, "-xf", archive)
        assert "1" in run("umoci", "list", "--layout", layout).split()
        run("umoci", "unpack", "--image", f"{layout}:1", tmp_path / "bundle")
        root = tmp_path / "bundle" / "rootfs"
        assert (root / "bin/tool").stat().st_mode & 0o7777 == 0o4755
        assert (root / "bin/tool").stat().st_nlink == 2
        assert (root / "etc/link").readlink().as_posix() == "../bin/tool"
        assert not (root / "gone").exists()

    def test_what_it_changed_comes_back(self, world: ImagesWorld, tmp_path: Path) -> None:
        world.create(image(), "busybox:1")
        archive = save(world, ArchiveFormat.OCI, tmp_path / "a.tar", "busybox:1")
        layout = tmp_path / "layout"
        layout.mkdir()
        run("tar", "-C", layout, "-xf", archive)
        run("umoci", "unpack", "--image", f"{layout}:1", tmp_path / "bundle")
        (tmp_path / "bundle/rootfs/new").write_text("new\n")
        run("umoci", "repack", "--image", f"{layout}:2", tmp_path / "bundle")
        run("umoci", "config", "--image", f"{layout}:2", "--config.label", "more=1")
        run("tar", "-C", layout, "-czf", tmp_path / "b.tar", ".")
        ids = load(world, tmp_path / "b.tar")
        assert len(ids) == 2
        assert str(image().id) in ids
        changed = next(i for i in ids if i != str(image().id))
        details = world.images.get(changed)
        assert len(details.layers) == 3
        assert details.config.config.labels == {"k": "v", "more": "1"}
        assert world.images.unpack(changed).snapshot
        assert world.images.history(changed)[0].image_id == details.image.id


def test_a_saved_layout_keeps_the_rules_of_the_specification(
    world: ImagesWorld, tmp_path: Path
) -> None:
    world.create(image(), "busybox:1", "me/app:1")
    archive = save(world, ArchiveFormat.OCI, tmp_path / "a.tar", "busybox:1", "me/app:1")
    assert layout_faults(untar(archive.read_bytes())) == []
