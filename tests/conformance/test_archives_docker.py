from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from slipform.content.store import Content
from slipform.core.content import DEFAULT_TENANT
from slipform.core.errors import DomainError
from slipform.core.images import ArchiveFormat
from slipform.core.oci.config import Healthcheck, RunConfig
from slipform.core.oci.docker_inspect import docker_inspect
from slipform.drivers.content.memory import MemoryBlobs
from slipform.drivers.snapshot.overlay import OverlayDriver
from slipform.images.store import Images
from slipform.snapshotter.store import Snapshots
from slipform.testing.images import (
    ImagesWorld,
    TinyImage,
    busybox_rootfs_tar,
    chunked,
    gzip_layer,
    plain_layer,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from testkit.docker import Docker

pytestmark = [pytest.mark.root, pytest.mark.requires("dockerd")]


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


def image(text: str) -> TinyImage:
    layers = (plain_layer({"a": b"a\n"}), gzip_layer({"b": text.encode()}))
    run = RunConfig(  # noqa: S604 - the SHELL of an image
        user="1000",
        exposed_ports=("80/tcp",),
        env=("PATH=/bin", "A=b"),
        entrypoint=("/init",),
        cmd=("x", "y"),
        volumes=("/data",),
        working_dir="/srv",
        labels={"k": "v"},
        stop_signal="SIGINT",
        healthcheck=Healthcheck(("CMD", "true"), interval=10**9),
        on_build=("RUN true",),
        shell=("/bin/ash", "-c"),
    )
    return TinyImage(layers, run)


def docker_json(dockerd: Docker, *args: str) -> Any:
    return json.loads(dockerd.run(*args).stdout)


def test_docker_takes_what_is_saved(world: ImagesWorld, dockerd: Docker) -> None:
    tiny = image("taken")
    world.create(tiny, "slipform/taken:1", "slipform/taken:2")
    archive = b"".join(world.images.save(["slipform/taken"], ArchiveFormat.DOCKER))
    said = dockerd.run("load", stdin=archive).stdout.decode()
    assert "Loaded image: slipform/taken:1" in said
    (theirs,) = docker_json(dockerd, "image", "inspect", "slipform/taken:2")
    ours = docker_inspect(world.images.get("slipform/taken:2"))
    # A digest of a manifest exists there only for what came from a registry; Metadata and
    # GraphDriver are about that daemon; docker keeps empty files' sizes its own way.
    for key in ("RepoDigests", "Descriptor", "Size"):
        ours.pop(key)
    for key in ("RepoDigests", "Metadata", "GraphDriver", "Size", "VirtualSize"):
        theirs.pop(key, None)
    container = ("Container", "ContainerConfig")
    assert ours == {key: item for key, item in theirs.items() if key not in container}


def test_what_docker_saves_is_taken(world: ImagesWorld, dockerd: Docker) -> None:
    tar = busybox_rootfs_tar()
    change = ("-c", 'CMD ["sh"]', "-c", "ENV A=b C='d e'", "-c", "EXPOSE 80 443/udp")
    dockerd.run("import", *change, "-m", "by hand", "-", "slipform/imported:1", stdin=tar)
    archive = dockerd.run("save", "slipform/imported:1").stdout
    (loaded,) = world.images.load(chunked(archive))
    (theirs,) = docker_json(dockerd, "image", "inspect", "slipform/imported:1")
    assert str(loaded.id) == theirs["Id"]
    assert loaded.references == ("docker.io/slipform/imported:1",)
    ours = world.images.import_rootfs([tar], "mine", changes=change[1::2], message="by hand")
    mine = docker_inspect(world.images.get("mine"))
    assert mine["RootFS"] == theirs["RootFS"]
    assert mine["Comment"] == theirs["Comment"]
    for key in ("Cmd", "Env", "ExposedPorts", "Entrypoint", "WorkingDir", "Volumes", "User"):
        assert mine["Config"].get(key) == theirs["Config"].get(key), key
    assert ours.size == loaded.size
    assert world.images.unpack("mine").snapshot == world.images.unpack(str(loaded.id)).snapshot


@pytest.mark.parametrize("force", [False, True])
def test_removal_speaks_as_docker_does(world: ImagesWorld, dockerd: Docker, force: bool) -> None:
    tiny = image(f"removed {force}")
    names = [f"slipform/r{force}:1".lower(), f"slipform/r{force}:2".lower()]
    world.create(tiny, *names)
    dockerd.run("load", stdin=b"".join(world.images.save(names, ArchiveFormat.DOCKER)))
    short = tiny.id.hex[:12]
    done = dockerd.run("rmi", *(["-f"] if force else []), short, check=False)
    try:
        removals = world.images.remove(short, force=force)
        ours = [
            f"Untagged: {r.untagged}" if r.untagged else f"Deleted: {r.deleted}" for r in removals
        ]
    except DomainError as e:
        ours = [f"Error response from daemon: {e}"]
    theirs = (done.stdout + done.stderr).decode().splitlines()
    # Docker also names the layers that it deletes.
    assert ours == theirs[: len(ours)]
    if not force:
        dockerd.run("rmi", *names)
