"""Numbers that both ends of a connection must agree on (COMPAT measurements, section 5)."""

from __future__ import annotations

from typing import Final

MESSAGE_BYTES: Final = 16 << 20
"""Largest message either side takes."""

TENANT_KEY: Final = "slipform-tenant"
LEASE_KEY: Final = "slipform-lease"
ERROR_KEY: Final = "slipform-error-bin"

KEEPALIVE_MS: Final = 60_000
"""How long a call over TCP may be silent before its client asks whether the server still lives.

A step may say nothing for an hour, and routers forget connections after minutes.
"""

CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_send_message_length", MESSAGE_BYTES),
)
