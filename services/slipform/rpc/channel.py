"""Channels to services."""

from __future__ import annotations

import grpc

from slipform.rpc.address import Address
from slipform.rpc.limits import CHANNEL_OPTIONS


def open_channel(address: str) -> grpc.Channel:
    """A channel to ``unix:…`` or ``dns:…``; connects at the first call.

    Each channel has its own connection: grpc would otherwise share one between all of a process.

    Raises:
        InvalidArgument: a malformed address.
    """
    target = str(Address.parse(address))
    options = (*CHANNEL_OPTIONS, ("grpc.use_local_subchannel_pool", 1))
    return grpc.insecure_channel(target, options=options)
