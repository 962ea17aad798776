"""Messages with descriptors over a stream socket: a length (4 bytes, big endian), then JSON."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Final

from slipform.core.errors import InvalidArgument

if TYPE_CHECKING:
    from collections.abc import Sequence

_HEAD: Final = struct.Struct(">I")
_MOST_DESCRIPTORS: Final = 4
_PART: Final = 1 << 20


def send(to: socket.socket, content: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send one message.

    Raises:
        BrokenPipeError: nobody listens.
    """
    parts = [_HEAD.pack(len(content)), content]
    # One call as a rule; a large message may be taken in pieces.
    sent = socket.send_fds(to, parts, descriptors) if descriptors else to.sendmsg(parts)
    if sent < _HEAD.size + len(content):
        to.sendall(b"".join(parts)[sent:])


def receive(source: socket.socket) -> tuple[bytes, list[int]] | None:
    """The next message and its descriptors, or None when no more will come.

    Raises:
        InvalidArgument: it is cut short.
    """
    head, descriptors, _, _ = socket.recv_fds(
        source, _HEAD.size, _MOST_DESCRIPTORS, socket.MSG_CMSG_CLOEXEC
    )
    if not head:
        return None
    if len(head) != _HEAD.size:
        raise InvalidArgument("a malformed message")
    missing = _HEAD.unpack(head)[0]
    parts = []
    while missing:
        part = source.recv(min(missing, _PART))
        if not part:
            raise InvalidArgument("a truncated message")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts), descriptors
