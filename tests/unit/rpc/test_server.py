"""Servers: sockets that cannot be stolen, statuses that arrive, bugs that stay inside."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from slipform.core.errors import DomainError, FailedPrecondition, InvalidArgument, NotFound
from slipform.core.source import SourceRange
from slipform.rpc.address import Address
from slipform.rpc.channel import open_channel
from slipform.rpc.server import Server, Service
from slipform.rpc.status import domain_errors, domain_stream


def _raise(request: bytes, context: grpc.ServicerContext) -> bytes:
    if request == b"bug":
        raise KeyError("a secret detail")
    if request == b"odd":
        line = "\udcff\ud800\0" + "ü" * 100_000
        at = SourceRange(line, 1, 1, 1)
        raise InvalidArgument(line, source=at, source_line=line, expected=line)
    raise NotFound("blob x is not here")


def _stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    yield b"first"
    _raise(request, context)


def _service(name: str = "test.Service") -> Service:
    handlers: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(_raise),
        "Stream": grpc.unary_stream_rpc_method_handler(_stream),
    }
    generic = grpc.method_handlers_generic_handler(name, handlers)
    return Service(name, lambda server: server.add_generic_rpc_handlers((generic,)))


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "run" / "api.sock"


@pytest.fixture
def channel(socket: Path) -> Iterator[grpc.Channel]:
    server = Server([_service()])
    server.listen(Address(path=socket))
    server.start()
    with open_channel(f"unix:{socket}") as channel:
        yield channel
    server.stop(0)


def _unary(channel: grpc.Channel) -> Callable[..., bytes]:
    return channel.unary_unary("/test.Service/Unary")


def test_errors_arrive_whatever_they_quote_and_however_long(channel: grpc.Channel) -> None:
    with (
        pytest.raises(InvalidArgument, match=r"^\\udcff\\ud800\0üü.*ü …$") as caught,
        domain_errors(),
    ):
        _unary(channel)(b"odd")
    assert caught.value.source_line.startswith("\\udcff")
    assert caught.value.source is not None


def test_domain_error_arrives_as_itself(channel: grpc.Channel) -> None:
    with pytest.raises(NotFound, match="blob x is not here"), domain_errors():
        _unary(channel)(b"", timeout=5)


def test_domain_error_after_messages_of_a_stream(channel: grpc.Channel) -> None:
    call: Callable[..., Iterator[bytes]] = channel.unary_stream("/test.Service/Stream")
    stream = domain_stream(call(b"", timeout=5))
    assert next(stream) == b"first"
    with pytest.raises(NotFound):
        next(stream)


def test_bug_says_internal_error_and_nothing_else(channel: grpc.Channel) -> None:
    with pytest.raises(DomainError) as caught, domain_errors():
        _unary(channel)(b"bug", timeout=5)
    assert str(caught.value) == "internal: internal error"


def test_socket_is_private_and_cannot_be_stolen(channel: grpc.Channel, socket: Path) -> None:
    assert stat.S_IMODE(socket.stat().st_mode) == 0o600
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    second = Server([_service("test.Second")])
    with pytest.raises(FailedPrecondition, match="another server"):
        second.listen(Address(path=socket))
    second.stop(0)


@pytest.mark.parametrize("text", ["", "unix:relative", "dns:nohost", "http://x:1", "dns::80"])
def test_malformed_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match="want unix:/absolute/path or dns:host:port"):
        Address.parse(text)


@pytest.mark.parametrize("text", ["unix:/run/x.sock", "dns:localhost:80"])
def test_addresses_print_as_they_parse(text: str) -> None:
    assert str(Address.parse(text)) == text
