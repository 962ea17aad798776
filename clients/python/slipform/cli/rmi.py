"""``slipform rmi``."""

from __future__ import annotations

import sys

from slipform.cli.connect import connect
from slipform.cli.errors import tell
from slipform.cli.parsers import VerbParser
from slipform.core.errors import DomainError
from slipform.core.oci.reference import Reference


def main(words: list[str], host: str) -> int:
    """Remove images; goes on after one that cannot be removed and then ends with 1."""
    parser = VerbParser("rmi", "Remove images.")
    parser.add_argument("image", nargs="+", metavar="IMAGE")
    parser.add_argument("-f", "--force", action="store_true", help="also with several names")
    given = parser.parse_args(words)
    failed = False
    with connect(host) as client:
        for name in given.image:
            try:
                removals = client.images.remove(name, force=given.force)
            except DomainError as e:
                tell(f"Error: {e}")
                failed = True
                continue
            for removal in removals:
                if removal.deleted is not None:
                    sys.stdout.write(f"Deleted: {removal.deleted}\n")
                else:
                    sys.stdout.write(f"Untagged: {Reference.parse(removal.untagged).familiar}\n")
    return 1 if failed else 0
