"""``slipform version``."""

from __future__ import annotations

import platform
import sys

from slipform.cli.connect import connect
from slipform.cli.errors import CommandError, tell
from slipform.cli.parsers import VerbParser
from slipform.cli.versions import VERSION
from slipform.core.errors import DomainError
from slipform.core.oci.platform import host_platform


def main(words: list[str], host: str) -> int:
    """Print both versions; 1 when no daemon answers."""
    VerbParser("version", "Show the versions of client and daemon.").parse_args(words)
    sys.stdout.write(
        f"Client: Slipform\n Version:    {VERSION}\n"
        f" Python:     {platform.python_version()}\n OS/Arch:    {host_platform()}\n"
    )
    sys.stdout.flush()
    try:
        with connect(host) as client:
            info = client.info()
    except (CommandError, DomainError) as e:
        tell(str(e))
        return 1
    sys.stdout.write(
        f"\nServer: Slipform\n Version:    {info.version}\n Python:     {info.python}\n"
        f" OS/Arch:    linux/{info.architecture}\n Kernel:     {info.kernel}\n"
    )
    return 0
