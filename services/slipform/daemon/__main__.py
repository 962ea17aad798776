"""``python -m slipform.daemon``: what ``slipform serve`` becomes."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from slipform.core.errors import DomainError
from slipform.daemon.config import SERVICES, load_config
from slipform.daemon.serve import serve


def main(arguments: list[str] | None = None) -> int:
    """Read the command line, serve, and answer the exit status."""
    parser = argparse.ArgumentParser(prog="slipform serve", description=serve.__doc__)
    parser.add_argument(
        "service", nargs="*", help=f"what to serve (default: all of {', '.join(SERVICES)})"
    )
    parser.add_argument("--config", type=Path, help="configuration file (TOML)")
    parser.add_argument("--address", default="", help="unix:/path or dns:host:port to listen on")
    parser.add_argument(
        "--idle-timeout", type=float, metavar="SECONDS", help="end after so long without a call"
    )
    parser.add_argument("--ready-fd", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--detach", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.detach:
        _detach()
    try:
        config = load_config(
            given.config or _named_config(),
            environment=os.environ,
            serves=tuple(given.service),
            address=given.address,
            idle_timeout_s=given.idle_timeout,
        )
        return serve(config, ready_fd=given.ready_fd)
    except DomainError as e:
        sys.stderr.write(f"slipform serve: {e}\n")
        return 1


def _detach() -> None:
    """Go on in a child of nobody, so that whoever started us need not wait for our end."""
    if os.fork():
        os._exit(0)


def _named_config() -> Path | None:
    named = os.environ.get("SLIPFORM_CONFIG")
    return Path(named) if named else None


if __name__ == "__main__":
    sys.exit(main())
