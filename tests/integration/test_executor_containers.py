from __future__ import annotations

import contextlib
import io
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slipform.api.executor.v1 import executor_pb2_grpc
from slipform.content.store import Content
from slipform.core.containers import ContainerRequest, Containers
from slipform.core.content import DEFAULT_TENANT
from slipform.core.errors import InvalidArgument, NotFound
from slipform.core.execution import ExecutableNotFound, Exited, Network, Started
from slipform.core.mounts import Mount
from slipform.core.snapshots import Kind
from slipform.drivers.content.filesystem import FilesystemBlobs
from slipform.drivers.executor.native import NativeDriver
from slipform.drivers.snapshot.copy import CopyDriver
from slipform.executor.containers import ContainerRunner
from slipform.executor.execution import Execution
from slipform.executor.service import ExecutorServicer
from slipform.images.store import Images
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.proxy.executor import RemoteContainers
from slipform.rpc.server import Server, Service
from slipform.snapshotter.store import Snapshots
from slipform.testing.execution_world import Ran, collect, make_root
from testkit.requires import find_tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.core.snapshots import Snapshotter

pytestmark = [pytest.mark.root, pytest.mark.requires("busybox")]

CHANGES = (
    "ENV COLOUR=blue",
    "WORKDIR /work",
    "VOLUME /data /fresh",
    'CMD ["echo", "from cmd"]',
)


def archive(root: Path) -> bytes:
    (root / "data").mkdir()
    (root / "data" / "seed").write_text("seed")
    (root / "data").chmod(0o777)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(root, ".")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def parts(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ContainerRunner, Snapshotter, Execution, Images]]:
    base = tmp_path_factory.mktemp("c")
    for name in ("content", "snapshots", "images", "executor"):
        (base / name).mkdir()
    with contextlib.ExitStack() as stack:
        driver = stack.enter_context(contextlib.closing(NativeDriver(base / "executor")))
        content = Content(FilesystemBlobs(base / "content"), base / "content" / "m.db")
        stack.callback(content.close)
        blobs = content.tenant(DEFAULT_TENANT)
        snapshots = Snapshots(base / "snapshots", CopyDriver(base / "snapshots"), blobs)
        stack.callback(snapshots.close)
        snapshotter = snapshots.tenant(DEFAULT_TENANT)
        images = Images(base / "images" / "images.db", blobs, snapshotter)
        stack.callback(images.close)
        root = make_root(base / "root", Path(str(find_tool("busybox"))))
        images.import_rootfs([archive(root)], "box", changes=CHANGES)
        execution = Execution(driver, base / "executor")
        yield ContainerRunner(images, snapshotter, execution), snapshotter, execution, images


@pytest.fixture(params=["local", "grpc"])
def containers(
    request: pytest.FixtureRequest,
    parts: tuple[ContainerRunner, Snapshotter, Execution, Images],
    tmp_path: Path,
) -> Iterator[Containers]:
    if request.param == "local":
        yield parts[0]
        return
    servicer = ExecutorServicer(parts[2], parts[0])
    server = Server(
        [
            Service(
                "slipform.api.executor.v1.ExecutorService",
                lambda s: executor_pb2_grpc.add_ExecutorServiceServicer_to_server(servicer, s),
            )
        ],
        reflection=False,
    )
    address = Address(path=tmp_path / "s.sock")
    server.listen(address)
    server.start()
    try:
        with open_channel(str(address)) as channel:
            yield RemoteContainers(channel)
    finally:
        server.stop(0)


@pytest.fixture(autouse=True)
def _no_file_system_stays(
    parts: tuple[ContainerRunner, Snapshotter, Execution, Images],
) -> Iterator[None]:
    yield
    assert [*parts[1].walk(kind=Kind.ACTIVE)] == []


def run(containers: Containers, *args: str, **more: object) -> Ran:
    return collect(containers.run_container(ContainerRequest("box", args, **more)))  # type: ignore[arg-type]


def test_the_images_command_runs_by_default(containers: Containers) -> None:
    assert run(containers).lines == ["from cmd"]


def test_arguments_replace_the_command(containers: Containers) -> None:
    assert run(containers, "pwd").lines == ["/work"]


def test_an_entrypoint_drops_the_command(containers: Containers) -> None:
    assert run(containers, entrypoint=("echo",)).lines == [""]
    assert run(containers, "a", entrypoint=("echo", "b")).lines == ["b a"]


def test_without_any_command(containers: Containers) -> None:
    with pytest.raises(InvalidArgument, match="no command"):
        run(containers, entrypoint=())


def test_environment(containers: Containers) -> None:
    lines = run(containers, "env", hostname="box").lines
    assert {"COLOUR=blue", "HOSTNAME=box", "HOME=/root"} <= {*lines}
    assert any(line.startswith("PATH=/usr/local/sbin:") for line in lines)
    lines = run(containers, "env", env=("COLOUR", "X=1")).lines
    assert "X=1" in lines
    assert not [line for line in lines if line.startswith("COLOUR")]


def test_user_and_directory_can_be_given(containers: Containers) -> None:
    ran = run(containers, "sh", "-c", "id -u; pwd", user="app", cwd="/tmp/x")
    assert ran.lines == ["1000", "/tmp/x"]


def test_a_hostname_is_made_from_the_id(containers: Containers) -> None:
    name = run(containers, "hostname", network=Network.NONE).stdout.strip()
    assert len(name) == 12


def test_volumes_of_the_image_hold_its_content(containers: Containers) -> None:
    script = "cat /data/seed; echo x >/data/seed && echo y >/fresh/y && echo done"
    for read_only in (False, True):
        ran = run(containers, "sh", "-c", script, read_only=read_only, user="0")
        assert ran.stdout == "seeddone\n", ran.stderr


def test_a_given_volume_is_made_and_kept(containers: Containers, tmp_path: Path) -> None:
    volume = Mount("bind", str(tmp_path / "new" / "dir"), "/data", ("rbind", "rw"))
    run(containers, "sh", "-c", "ls /data; echo kept >/data/file", volumes=(volume,))
    assert (tmp_path / "new" / "dir" / "file").read_text() == "kept\n"


def test_two_containers_share_nothing(containers: Containers) -> None:
    assert run(containers, "sh", "-c", "echo 1 >/tmp/x").exited == Exited(0)
    assert run(containers, "cat", "/tmp/x").exited.code == 1


def test_missing_image_and_missing_executable_are_told_apart(containers: Containers) -> None:
    with pytest.raises(ExecutableNotFound):
        run(containers, "nosuch")
    with pytest.raises(NotFound) as caught:
        collect(containers.run_container(ContainerRequest("nosuch")))
    assert not isinstance(caught.value, ExecutableNotFound)


def test_standard_input_is_fed(containers: Containers) -> None:
    handle = containers.run_container(ContainerRequest("box", ("cat",), attach_stdin=True))
    handle.write_stdin(b"hello")
    handle.close_stdin()
    assert collect(handle).stdout == "hello"


def test_cancelling_ends_the_container(containers: Containers) -> None:
    handle = containers.run_container(ContainerRequest("box", ("sleep", "1000")))
    events = iter(handle)
    assert isinstance(next(events), Started)
    handle.cancel()
    assert [*events] == [Exited(137, signal=9, cancelled=True)]


def test_file_systems_of_dead_daemons_are_swept(
    parts: tuple[ContainerRunner, Snapshotter, Execution, Images],
) -> None:
    _, snapshotter, execution, images = parts
    host = Path("/proc/sys/kernel/hostname").read_text().strip()
    labels = {"slipform.container.owner": f"{host} another-boot 1 1"}
    snapshotter.prepare("container-dead", labels=labels)
    ContainerRunner(images, snapshotter, execution)
    assert [*snapshotter.walk(kind=Kind.ACTIVE)] == []
