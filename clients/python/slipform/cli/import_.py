"""``slipform import``."""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

from slipform.cli.archives import archive_chunks
from slipform.cli.connect import connect
from slipform.cli.errors import CommandError
from slipform.cli.parsers import VerbParser
from slipform.core.oci.platform import Platform


def main(words: list[str], host: str) -> int:
    """Make an image of a root file system and print its id."""
    parser = VerbParser("import", "Make an image of the contents of a tarball.")
    parser.add_argument("file", metavar="FILE|-")
    parser.add_argument("reference", nargs="?", default="", metavar="REPOSITORY[:TAG]")
    parser.add_argument(
        "-c", "--change", action="append", default=[], metavar="INSTRUCTION", help="CMD, ENV, …"
    )
    parser.add_argument("-m", "--message", default="", help="comment of the history entry")
    parser.add_argument("--platform", default="", metavar="OS/ARCH")
    given = parser.parse_args(words)
    platform = Platform.parse(given.platform) if given.platform else None
    with archive_chunks(given.file) as chunks, connect(host) as client:
        image = client.images.import_rootfs(
            chunks,
            given.reference,
            changes=given.change,
            message=given.message,
            platform=platform,
            created=_epoch(),
        )
    sys.stdout.write(f"{image.id}\n")
    return 0


def _epoch() -> datetime | None:
    """The time that SOURCE_DATE_EPOCH asks for: the same tar then gives the same image."""
    text = os.environ.get("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not text.isascii() or not text.isdigit():
        raise CommandError(f'SOURCE_DATE_EPOCH is "{text}", want seconds since 1970', 125)
    return datetime.fromtimestamp(int(text), UTC)
