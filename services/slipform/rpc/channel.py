"""Channels to services."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from slipform.core.errors import FailedPrecondition
from slipform.rpc.address import Address
from slipform.rpc.limits import CHANNEL_OPTIONS, KEEPALIVE_MS
from slipform.rpc.tls import channel_credentials

if TYPE_CHECKING:
    from slipform.rpc.tls import TlsFiles


def open_channel(address: str, tls: TlsFiles | None = None) -> grpc.Channel:
    """A channel to ``unix:…`` or ``dns:…``; connects at the first call.

    Each channel has its own connection: grpc would otherwise share one between all of a process.

    Raises:
        FailedPrecondition: TCP without ``tls``: contexts and secrets never travel in the clear.
        InvalidArgument: a malformed address, or files of ``tls`` that are not what they should be.
        NotFound: a file of ``tls`` does not exist.
    """
    parsed = Address.parse(address)
    options = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    if parsed.path is not None:
        return grpc.insecure_channel(str(parsed), options=options)
    if tls is None:
        raise FailedPrecondition(
            f"{parsed}: TCP is dialled with mutual TLS only: configure [tls] ca, cert, key, or set"
            " SLIPFORM_TLS_CA, SLIPFORM_TLS_CERT, SLIPFORM_TLS_KEY"
        )
    return grpc.secure_channel(
        str(parsed),
        channel_credentials(tls),
        options=(*options, ("grpc.keepalive_time_ms", KEEPALIVE_MS)),
    )
