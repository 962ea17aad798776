"""Slipform for programs: build, run and manage images with one object.

Example::

    from slipform.client import Client

    with Client.local() as client:
        for event in client.build("examples/webapp", references=["webapp"]):
            print(event)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from slipform.client.client import Client, DaemonInfo, Endpoints

if TYPE_CHECKING:
    from slipform.rpc.tls import TlsFiles

__all__ = ["Client", "DaemonInfo", "Endpoints", "TlsFiles"]


def __getattr__(name: str) -> object:
    # The command line starts with this package, and nearly always without TCP.
    if name == "TlsFiles":
        from slipform.rpc.tls import TlsFiles

        return TlsFiles
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
