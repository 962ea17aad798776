"""``slipform load``."""

from __future__ import annotations

import sys

from slipform.cli.archives import archive_chunks
from slipform.cli.connect import connect
from slipform.cli.parsers import VerbParser
from slipform.core.oci.reference import Reference


def main(words: list[str], host: str) -> int:
    """Read an archive and name what was in it, as docker does."""
    parser = VerbParser("load", "Read images from a tar archive.")
    parser.add_argument("-i", "--input", default="", metavar="FILE", help="instead of stdin")
    parser.add_argument("-q", "--quiet", action="store_true", help="accepted, as docker does")
    given = parser.parse_args(words)
    with archive_chunks(given.input) as chunks, connect(host) as client:
        for image in client.images.load(chunks):
            for name in image.references:
                sys.stdout.write(f"Loaded image: {Reference.parse(name).familiar}\n")
            if not image.references:
                sys.stdout.write(f"Loaded image ID: {image.id}\n")
    return 0
