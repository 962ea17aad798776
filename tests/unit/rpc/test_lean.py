"""The small gRPC client against a real grpc server: it must agree with grpc itself."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slipform.core.errors import Cancelled, InvalidArgument, Unavailable
from slipform.core.source import SourceRange
from slipform.rpc.address import Address
from slipform.rpc.hpack import decode_headers, encode_headers
from slipform.rpc.lean import LeanCall
from slipform.rpc.server import Server, Service


class Handlers:
    """Echo, a long stream, a failure, and a call that waits to be cancelled."""

    def __init__(self) -> None:
        self.ended = threading.Event()

    def echo(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield from requests

    def many(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(2000):
            yield number.to_bytes(4, "big") * 500

    def fail(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        yield b"first"
        raise InvalidArgument(
            'bad "line" é 100 %', source=SourceRange("Dockerfile", 3, 3, 7), source_line="RUNN"
        )

    def wait(self, requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self.ended.set)
        yield b"waiting"
        self.ended.wait(30)


@pytest.fixture
def handlers() -> Handlers:
    return Handlers()


@pytest.fixture
def path(tmp_path: Path, handlers: Handlers) -> Iterator[Path]:
    methods: dict[str, Any] = {
        name: grpc.stream_stream_rpc_method_handler(getattr(handlers, name))
        for name in ("echo", "many", "fail", "wait")
    }
    generic = grpc.method_handlers_generic_handler("t.S", methods)
    server = Server([Service("t.S", lambda s: s.add_generic_rpc_handlers((generic,)))])
    server.listen(Address(path=tmp_path / "s.sock"))
    server.start()
    yield tmp_path / "s.sock"
    server.stop(0)


@pytest.mark.parametrize("size", [0, 1, 16_384, 200_000, 5_000_000])
def test_echo_of_any_size(path: Path, size: int) -> None:
    call = LeanCall(path, "/t.S/echo")
    message = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    call.send(message)
    call.send(b"second")
    call.done_sending()
    assert list(call) == [message, b"second"]
    call.close()


def test_long_stream_is_not_stopped_by_windows(path: Path) -> None:
    call = LeanCall(path, "/t.S/many")
    call.done_sending()
    assert [int.from_bytes(message[:4], "big") for message in call] == list(range(2000))
    call.close()


def test_error_with_its_details(path: Path) -> None:
    call = LeanCall(path, "/t.S/fail")
    call.done_sending()
    answers = iter(call)
    assert next(answers) == b"first"
    with pytest.raises(InvalidArgument) as caught:
        next(answers)
    assert str(caught.value) == 'bad "line" é 100 %'
    assert caught.value.source == SourceRange("Dockerfile", 3, 3, 7)
    call.close()


def test_unknown_method(path: Path) -> None:
    call = LeanCall(path, "/t.S/nope")
    call.done_sending()
    with pytest.raises(Exception, match="not found"):
        list(call)
    call.close()


def test_cancel_reaches_the_server(path: Path, handlers: Handlers) -> None:
    call = LeanCall(path, "/t.S/wait")
    answers = iter(call)
    assert next(answers) == b"waiting"
    call.cancel()
    assert handlers.ended.wait(30)
    with pytest.raises(Cancelled):
        next(answers)
    call.close()


def test_server_that_goes_away(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "s.sock"))
    listener.listen()
    call = LeanCall(tmp_path / "s.sock", "/t.S/echo")
    accepted, _ = listener.accept()
    accepted.close()
    listener.close()
    with pytest.raises(Unavailable, match="went away"):
        list(call)
    call.close()
    with pytest.raises(Unavailable, match="no daemon answers"):
        LeanCall(tmp_path / "s.sock", "/t.S/echo")


TOKEN = st.text("abcdefghijklmnopqrstuvwxyz-", min_size=1, max_size=300).filter(
    lambda name: not name.endswith("-bin")
)


@given(st.dictionaries(TOKEN, st.text("abc XYZ019/", max_size=20_000)))
def test_headers_round_trip(headers: dict[str, str]) -> None:
    decoded = decode_headers(encode_headers(*headers.items()))
    assert {name: value.decode() for name, value in decoded.items()} == headers


@given(st.binary(max_size=200))
def test_hostile_headers_end_in_one_error(block: bytes) -> None:
    try:
        decode_headers(block)
    except Unavailable:
        return
