"""``slipform info``."""

from __future__ import annotations

import sys
from dataclasses import asdict

from slipform.cli.connect import connect
from slipform.cli.parsers import VerbParser


def main(words: list[str], host: str) -> int:
    """Print what the daemon is made of."""
    parser = VerbParser("info", "Show what the daemon is made of.")
    parser.add_argument("-f", "--format", default="", help='"json", or a {{.Field}} template')
    given = parser.parse_args(words)
    with connect(host) as client:
        info = client.info()
    if given.format:
        from slipform.cli.templates import render

        sys.stdout.write(render(given.format, asdict(info)) + "\n")
        return 0
    drivers = "".join(
        f" {kind.capitalize()} Driver: {name}\n" for kind, name in info.drivers.items()
    )
    sys.stdout.write(
        f"Server Version: {info.version}\n"
        f" Images: {info.images}\n"
        f"{drivers}"
        f" Services: {' '.join(info.services)}\n"
        f" Kernel Version: {info.kernel}\n"
        f" Architecture: {info.architecture}\n"
        f" CPUs: {info.cpus}\n"
        f" Total Memory: {info.memory / (1 << 30):.4g}GiB\n"
        f" Python Version: {info.python}\n"
        f" Slipform Root Dir: {info.root}\n"
        f" PID: {info.pid}\n"
    )
    return 0
