"""From environment and flags to a connected client."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from slipform.cli.errors import CommandError
from slipform.client.client import Client, Endpoints
from slipform.core.errors import DomainError
from slipform.core.locations import Locations

if TYPE_CHECKING:
    from slipform.rpc.tls import TlsFiles


def root() -> Path:
    """The data directory: ``SLIPFORM_ROOT``, the configuration's, the system's, or the user's."""
    if named := os.environ.get("SLIPFORM_ROOT"):
        return Path(named).absolute()
    if configured := _configuration().get("root"):
        return Path(str(configured)).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/slipform")
    try:
        data = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    except RuntimeError as e:
        raise CommandError("slipform: this user has no home: set SLIPFORM_ROOT") from e
    return Path(data) / "slipform"


def connect(host: str = "", *, start: bool = True, failure: int = 1) -> Client:
    """A client of the daemon that flags and environment name.

    Without any name it is the daemon of the data directory, started when none answers.

    Args:
        host: an address given on the command line; wins over the environment.
        start: start a daemon when none answers.
        failure: exit status when there is no daemon.

    Raises:
        CommandError: no daemon can be reached or started.
    """
    try:
        endpoints = _endpoints(host, start=start)
        return Client(endpoints, tls=_tls(endpoints))
    except DomainError as e:
        raise CommandError(f"slipform: {e}", failure) from e


def _endpoints(host: str, *, start: bool) -> Endpoints:
    if named := host or os.environ.get("SLIPFORM_HOST", ""):
        return Endpoints(named)
    if (apart := _configured()) is not None:
        return apart
    from slipform.client.launch import IDLE_TIMEOUT_S, answers, ensure_daemon

    locations = Locations(root())
    if start:
        idle = float(os.environ.get("SLIPFORM_IDLE_TIMEOUT") or IDLE_TIMEOUT_S)
        ensure_daemon(locations, idle_timeout_s=idle)
    elif not answers(locations.socket):
        raise CommandError(f"slipform: no daemon is running for {locations.root}")
    return Endpoints(f"unix:{locations.socket}")


def _configured() -> Endpoints | None:
    """Where the configuration file says that services are; None when it names no address."""
    values = _configuration()
    services = {
        name: str(table["address"])
        for name, table in values.items()
        if isinstance(table, dict) and "address" in table
    }
    default = str(values.get("address") or services.get("builder", ""))
    return Endpoints(default, services) if default else None


def _tls(endpoints: Endpoints) -> TlsFiles | None:
    """The files for TCP; looked for only when something is dialled by TCP."""
    addresses = (endpoints.default, *endpoints.services.values())
    if not any(address.startswith("dns:") for address in addresses):
        return None
    from slipform.rpc.tls import tls_files

    named = os.environ.get("SLIPFORM_CONFIG", "")
    return tls_files(
        _configuration().get("tls"),
        os.environ,
        where=named or "environment",
        base=Path(named).absolute().parent,
    )


def _configuration() -> dict[str, Any]:
    named = os.environ.get("SLIPFORM_CONFIG")
    if not named:
        return {}
    import tomllib

    try:
        return tomllib.loads(Path(named).read_text("utf-8"))
    except (OSError, ValueError) as e:
        raise CommandError(f"slipform: SLIPFORM_CONFIG: {named}: {e}") from e
