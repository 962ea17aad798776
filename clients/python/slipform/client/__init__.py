"""Slipform for programs: build, run and manage images with one object.

Example::

    from slipform.client import Client

    with Client.local() as client:
        for event in client.build("examples/webapp", references=["webapp"]):
            print(event)
"""

from __future__ import annotations

from slipform.client.client import Client, DaemonInfo, Endpoints

__all__ = ["Client", "DaemonInfo", "Endpoints"]
