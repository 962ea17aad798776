from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from slipform.api.executor.v1 import executor_pb2_grpc
from slipform.core.errors import DomainError
from slipform.drivers.executor.native import NativeDriver
from slipform.drivers.executor.oci import OciDriver
from slipform.executor.execution import Execution
from slipform.executor.service import ExecutorServicer
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.proxy.executor import RemoteExecutor
from slipform.rpc.server import Server, Service
from slipform.testing.execution import ExecutionWorld, ExecutorContract
from slipform.testing.execution_world import make_root
from testkit.requires import find_tool

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.core.executor_driver import ExecutorDriver

pytestmark = [pytest.mark.root, pytest.mark.requires("busybox")]


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Execution]:
    yield from running(NativeDriver, tmp_path_factory.mktemp("native"))


@pytest.fixture(scope="module")
def oci(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Execution]:
    if not (find_tool("runc") or find_tool("crun")):
        pytest.skip("needs runc or crun (apt-get install runc)")
    yield from running(OciDriver, tmp_path_factory.mktemp("oci"))


@pytest.fixture(scope="module")
def remote_native(
    native: Execution, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RemoteExecutor]:
    with over_grpc(native, tmp_path_factory.mktemp("s")) as executor:
        yield executor


@pytest.fixture(scope="module")
def remote_oci(
    oci: Execution, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[RemoteExecutor]:
    with over_grpc(oci, tmp_path_factory.mktemp("s")) as executor:
        yield executor


def running(factory: type[NativeDriver | OciDriver], state: Path) -> Iterator[Execution]:
    try:
        factory.probe(state)
    except DomainError as e:
        pytest.skip(str(e))
    driver: ExecutorDriver = factory(state)
    with contextlib.closing(driver):
        yield Execution(driver, state)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return make_root(tmp_path / "root", Path(str(find_tool("busybox"))))


@contextlib.contextmanager
def over_grpc(execution: Execution, sockets: Path) -> Iterator[RemoteExecutor]:
    servicer = ExecutorServicer(execution)
    server = Server(
        [
            Service(
                "slipform.api.executor.v1.ExecutorService",
                lambda s: executor_pb2_grpc.add_ExecutorServiceServicer_to_server(servicer, s),
            )
        ],
        reflection=False,
    )
    address = Address(path=sockets / "api.sock")
    server.listen(address)
    server.start()
    try:
        with open_channel(str(address)) as channel:
            yield RemoteExecutor(channel)
    finally:
        server.stop(0)


class TestNative(ExecutorContract):
    @pytest.fixture
    def world(self, native: Execution, root: Path) -> ExecutionWorld:
        return ExecutionWorld(native, root)


class TestOci(ExecutorContract):
    @pytest.fixture
    def world(self, oci: Execution, root: Path) -> ExecutionWorld:
        return ExecutionWorld(oci, root)


class TestNativeOverGrpc(ExecutorContract):
    @pytest.fixture
    def world(self, remote_native: RemoteExecutor, root: Path) -> ExecutionWorld:
        return ExecutionWorld(remote_native, root)

    def test_info_travels(self, native: Execution, remote_native: RemoteExecutor) -> None:
        assert remote_native.info() == native.info()


class TestOciOverGrpc(ExecutorContract):
    @pytest.fixture
    def world(self, remote_oci: RemoteExecutor, root: Path) -> ExecutionWorld:
        return ExecutionWorld(remote_oci, root)
