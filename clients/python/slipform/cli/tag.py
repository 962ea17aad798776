"""``slipform tag``."""

from __future__ import annotations

from slipform.cli.connect import connect
from slipform.cli.parsers import VerbParser


def main(words: list[str], host: str) -> int:
    """Give an image another name."""
    parser = VerbParser("tag", "Give an image another name.")
    parser.add_argument("source", metavar="SOURCE[:TAG]")
    parser.add_argument("target", metavar="TARGET[:TAG]")
    given = parser.parse_args(words)
    with connect(host) as client:
        client.images.tag(given.source, given.target)
    return 0
