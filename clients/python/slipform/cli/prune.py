"""``slipform builder prune``."""

from __future__ import annotations

import sys

from slipform.cli.connect import connect
from slipform.cli.parsers import VerbParser
from slipform.cli.units import human_size


def main(words: list[str], host: str) -> int:
    """Forget the build cache and say how much space that freed."""
    parser = VerbParser("builder prune", "Remove the build cache; images stay as they are.")
    parser.add_argument("-f", "--force", action="store_true", help="do not ask")
    parser.add_argument("-a", "--all", action="store_true", help="accepted; all of it always goes")
    given = parser.parse_args(words)
    if not given.force and not _confirmed():
        return 0
    with connect(host) as client:
        freed = client.builder.prune()
    sys.stdout.write(f"Total reclaimed space: {human_size(freed)}\n")
    return 0


def _confirmed() -> bool:
    sys.stdout.write("WARNING! This will remove the build cache.\nAre you sure? [y/N] ")
    sys.stdout.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
