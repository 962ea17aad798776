"""The frontend, direct and over a unix socket, under the same suite."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from slipform.api.frontend.v1 import frontend_pb2_grpc as pb_grpc
from slipform.core.plan import Frontend
from slipform.frontend.frontend import DockerfileFrontend
from slipform.frontend.service import FrontendServicer
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.proxy.frontend import RemoteFrontend
from slipform.rpc.server import Server, Service
from slipform.testing.frontends import FrontendContract


class TestDirect(FrontendContract):
    @pytest.fixture
    def frontend(self) -> Frontend:
        return DockerfileFrontend()


class TestOverGrpc(FrontendContract):
    @pytest.fixture
    def frontend(self, tmp_path: Path) -> Iterator[Frontend]:
        path = tmp_path / "run" / "api.sock"
        servicer = FrontendServicer(DockerfileFrontend())
        server = Server(
            [
                Service(
                    "slipform.api.frontend.v1.FrontendService",
                    lambda s: pb_grpc.add_FrontendServiceServicer_to_server(servicer, s),
                )
            ]
        )
        server.listen(Address(path=path))
        server.start()
        with open_channel(f"unix:{path}") as channel:
            yield RemoteFrontend(channel, timeout_s=10)
        server.stop(0)
