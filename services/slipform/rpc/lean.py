"""One gRPC call over a unix socket with the standard library alone.

The command line's start decides how fast a cached build feels, and importing grpc costs more
than all the rest of it (docs/adr/0005-lean-client-for-build.md). This speaks just enough HTTP/2
(RFC 9113), HPACK (RFC 7541) and gRPC (grpc/doc/PROTOCOL-HTTP2.md) for one call on one connection
with a grpc server: header tables of size 0, no compression, binary metadata as it is. Everything
else uses grpc itself.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Final

from slipform.core.errors import Cancelled, ResourceExhausted, Unavailable
from slipform.rpc.codes import error_of
from slipform.rpc.hpack import decode_headers, encode_headers
from slipform.rpc.limits import ERROR_KEY, MESSAGE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE, _CONTINUATION = (
    0, 1, 3, 4, 6, 7, 8, 9,
)  # fmt: skip
_END_STREAM: Final = 0x1
_ACK: Final = 0x1
_END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_PRIORITY: Final = 0x20
_CANCEL: Final = 8
_STREAM: Final = 1
_WINDOW: Final = 1 << 30
_FRAME_BYTES: Final = 16 << 10
"""Largest frame that every peer takes (RFC 9113, section 4.2)."""

_SETTINGS_SENT: Final = (
    (0x1, 0),  # HEADER_TABLE_SIZE
    (0x2, 0),  # ENABLE_PUSH
    (0x4, _WINDOW),  # INITIAL_WINDOW_SIZE
    (0xFE03, 1),  # GRPC_ALLOW_TRUE_BINARY_METADATA
)


class LeanCall:
    """One call: send messages, iterate the answers.

    Iterating raises the ``DomainError`` that the server ended the call with. ``cancel`` may be
    called from a signal handler.
    """

    def __init__(self, path: Path, method: str, metadata: Iterable[tuple[str, str]] = ()) -> None:
        """Connect and begin a call.

        Args:
            path: of the server's unix socket.
            method: ``/package.Service/Method``.
            metadata: pairs of lower-case names and ASCII values.

        Raises:
            Unavailable: nobody listens there.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._socket.connect(str(path))
        except OSError as e:
            self._socket.close()
            raise Unavailable(f"no daemon answers on {path}: {e.strerror}") from e
        self._received = bytearray()
        self._messages: deque[bytes] = deque()
        self._partial = bytearray()
        self._trailers: dict[str, bytes] | None = None
        self._send_window = 65_535
        self._peer_window = 65_535
        self._cancelled = False
        settings = b"".join(struct.pack(">HI", *pair) for pair in _SETTINGS_SENT)
        headers = encode_headers(
            (":method", "POST"),
            (":scheme", "http"),
            (":path", method),
            (":authority", "localhost"),
            ("te", "trailers"),
            ("content-type", "application/grpc"),
            *metadata,
        )
        self._socket.sendall(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, settings)
            + _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW))
            + _frame(_HEADERS, _END_HEADERS, _STREAM, headers)
        )

    def send(self, message: bytes) -> None:
        """Send one message; blocks while the server's window is full."""
        data = memoryview(struct.pack(">BI", 0, len(message)) + message)
        while data:
            while self._send_window <= 0 and self._trailers is None:
                self._read_frame()
            if self._trailers is not None:
                return
            room = min(self._send_window, _FRAME_BYTES)
            self._send(_frame(_DATA, 0, _STREAM, data[:room]))
            self._send_window -= len(data[:room])
            data = data[room:]

    def done_sending(self) -> None:
        """Tell the server that no message follows."""
        self._send(_frame(_DATA, _END_STREAM, _STREAM, b""))

    def cancel(self) -> None:
        """End the call; the server notices at once. Iteration then raises ``Cancelled``.

        Does nothing when the call is over.
        """
        self._cancelled = True
        if self._socket.fileno() < 0:
            return
        self._send(_frame(_RST_STREAM, 0, _STREAM, struct.pack(">I", _CANCEL)))

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._socket.close()

    def __iter__(self) -> Iterator[bytes]:
        """The answers, until the server has ended the call."""
        while True:
            while self._messages:
                yield self._messages.popleft()
            if self._cancelled:
                raise Cancelled("the call was cancelled")
            if self._trailers is not None:
                self._raise_status(self._trailers)
                return
            self._read_frame()

    def _send(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as e:
            raise Unavailable(f"the daemon went away: {e.strerror}") from e

    def _raise_status(self, trailers: dict[str, bytes]) -> None:
        status = int(trailers.get("grpc-status", b"2"))
        if status:
            text = _percent_decoded(trailers.get("grpc-message", b"no message"))
            raise error_of(status, text, trailers.get(ERROR_KEY, b""))

    def _read_frame(self) -> None:
        header = self._exactly(9)
        length = int.from_bytes(header[:3], "big")
        kind, flags = header[3], header[4]
        stream = int.from_bytes(header[5:9], "big") & 0x7FFFFFFF
        if length > MESSAGE_BYTES:
            raise ResourceExhausted(f"the daemon sent a frame of {length} bytes")
        payload = self._exactly(length)
        if kind == _DATA:
            self._on_data(flags, payload)
        elif kind == _HEADERS:
            self._on_headers(flags, payload)
        elif kind == _SETTINGS and not flags & _ACK:
            self._on_settings(payload)
        elif kind == _PING and not flags & _ACK:
            self._send(_frame(_PING, _ACK, 0, payload))
        elif kind == _WINDOW_UPDATE and stream == _STREAM:
            self._send_window += int.from_bytes(payload, "big")
        elif kind == _RST_STREAM and self._trailers is None:
            self._trailers = {"grpc-status": b"14", "grpc-message": b"the daemon ended the call"}
        elif kind == _GOAWAY and self._trailers is None and payload[4:8] != bytes(4):
            raise Unavailable("the daemon is ending")

    def _on_data(self, flags: int, payload: bytes) -> None:
        if flags & _PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        self._partial += payload
        while len(self._partial) >= 5:
            size = int.from_bytes(self._partial[1:5], "big")
            if self._partial[0] or size > MESSAGE_BYTES:
                raise ResourceExhausted(f"the daemon sent a message of {size} bytes")
            if len(self._partial) < 5 + size:
                break
            self._messages.append(bytes(self._partial[5 : 5 + size]))
            del self._partial[: 5 + size]
        if payload:
            grown = struct.pack(">I", len(payload))
            self._send(
                _frame(_WINDOW_UPDATE, 0, 0, grown) + _frame(_WINDOW_UPDATE, 0, _STREAM, grown)
            )

    def _on_headers(self, flags: int, payload: bytes) -> None:
        if flags & _PADDED:
            payload = payload[1 : len(payload) - payload[0]]
        if flags & _PRIORITY:
            payload = payload[5:]
        block = bytearray(payload)
        while not flags & _END_HEADERS:
            header = self._exactly(9)
            if header[3] != _CONTINUATION:
                raise Unavailable("the daemon broke off its headers")
            flags |= header[4] & _END_HEADERS
            block += self._exactly(int.from_bytes(header[:3], "big"))
        headers = decode_headers(bytes(block))
        if "grpc-status" in headers or flags & _END_STREAM:
            self._trailers = headers

    def _on_settings(self, payload: bytes) -> None:
        for number, value in struct.iter_unpack(">HI", payload):
            if number == 0x4:
                self._send_window += value - self._peer_window
                self._peer_window = value
        self._send(_frame(_SETTINGS, _ACK, 0, b""))

    def _exactly(self, size: int) -> bytes:
        while len(self._received) < size:
            try:
                data = self._socket.recv(1 << 16)
            except OSError as e:
                raise Unavailable(f"the daemon went away: {e.strerror}") from e
            if not data:
                raise Unavailable("the daemon went away in the middle of a call")
            self._received += data
        taken = bytes(self._received[:size])
        del self._received[:size]
        return taken


def _frame(kind: int, flags: int, stream: int, payload: bytes | memoryview) -> bytes:
    return b"".join(
        (len(payload).to_bytes(3, "big"), bytes((kind, flags)), stream.to_bytes(4, "big"), payload)
    )


def _percent_decoded(text: bytes) -> str:
    from urllib.parse import unquote_to_bytes

    return unquote_to_bytes(text).decode("utf-8", "replace")
