"""``slipform shutdown``."""

from __future__ import annotations

import os

from slipform.cli.connect import connect, root
from slipform.cli.errors import CommandError
from slipform.cli.parsers import VerbParser
from slipform.client.launch import answers, wait_for_end
from slipform.core.locations import Locations

_WAIT_S = 30.0


def main(words: list[str], host: str) -> int:
    """End the daemon and wait until it is gone; fine when there is none."""
    parser = VerbParser("shutdown", "End the daemon at once; running builds are cancelled.")
    parser.add_argument("--grace", type=float, default=0.0, metavar="SECONDS")
    given = parser.parse_args(words)
    if not host and not os.environ.get("SLIPFORM_HOST") and not answers(Locations(root()).socket):
        return 0
    with connect(host, start=False) as client:
        pid = client.shutdown(grace_s=given.grace)
        local = client.endpoints.default.startswith("unix:")
    if local and not wait_for_end(pid, given.grace + _WAIT_S):
        raise CommandError(f"slipform: the daemon (pid {pid}) did not end")
    return 0
