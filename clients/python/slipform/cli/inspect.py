"""``slipform inspect``."""

from __future__ import annotations

import json
import sys
from typing import Any

from slipform.cli.connect import connect
from slipform.cli.errors import tell
from slipform.cli.parsers import VerbParser
from slipform.core.errors import NotFound
from slipform.core.oci.docker_inspect import docker_inspect


def main(words: list[str], host: str) -> int:
    """Print what is found as one JSON array; 1 when something was not found."""
    parser = VerbParser("inspect", "Show everything that is known of images.")
    parser.add_argument("name", nargs="+", metavar="NAME|ID")
    parser.add_argument("-f", "--format", default="", help='"json", or a {{.Field}} template')
    given = parser.parse_args(words)
    found: list[dict[str, Any]] = []
    missing: list[str] = []
    with connect(host) as client:
        for name in given.name:
            try:
                found.append(docker_inspect(client.images.get(name)))
            except NotFound:
                missing.append(name)
    _print(found, given.format)
    for name in missing:
        tell(f"Error: No such object: {name}")
    return 1 if missing else 0


def _print(found: list[dict[str, Any]], form: str) -> None:
    if not form:
        sys.stdout.write(json.dumps(found, indent=4, ensure_ascii=False) + "\n")
        return
    from slipform.cli.templates import render

    for value in found:
        sys.stdout.write(render(form, value) + "\n")
