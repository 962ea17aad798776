"""``slipform images``."""

from __future__ import annotations

import sys
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from slipform.cli.connect import connect
from slipform.cli.parsers import VerbParser
from slipform.cli.units import human_age, human_size, table
from slipform.core.oci.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

    from slipform.core.images import Image

NONE: Final = "<none>"


def main(words: list[str], host: str) -> int:
    """List images in docker's columns, newest first."""
    parser = VerbParser("images", "List images.")
    parser.add_argument("repository", nargs="?", default="", metavar="REPOSITORY[:TAG]")
    parser.add_argument("-q", "--quiet", action="store_true", help="print only ids")
    parser.add_argument("--no-trunc", action="store_true", help="print whole ids")
    parser.add_argument("--digests", action="store_true", help="show digests")
    parser.add_argument("-a", "--all", action="store_true", help="accepted; there are no others")
    parser.add_argument("--format", default="", help='"json", or {{.Field}} of a row')
    given = parser.parse_args(words)
    with connect(host) as client:
        images = client.images.list_images()
    rows = [
        row
        for image in images
        for row in _rows(image, whole=given.no_trunc)
        if _wanted(row, given.repository)
    ]
    sys.stdout.write(_printed(rows, quiet=given.quiet, digests=given.digests, form=given.format))
    return 0


def _rows(image: Image, *, whole: bool) -> Iterator[dict[str, Any]]:
    shared = {
        "ID": str(image.id) if whole else image.id.short,
        "Digest": str(image.target.digest),
        "CreatedSince": human_age(image.created_at),
        "CreatedAt": str(image.created_at or NONE),
        "Size": human_size(image.size),
    }
    for name in image.references:
        reference = Reference.parse(name)
        yield {
            "Repository": reference.familiar_name,
            "Tag": reference.tag or NONE,
            **shared,
        }
    if not image.references:
        yield {"Repository": NONE, "Tag": NONE, **shared}


def _wanted(row: dict[str, Any], pattern: str) -> bool:
    if not pattern:
        return True
    repository, separator, tag = pattern.rpartition(":")
    if not separator or "/" in tag:
        repository, tag = pattern, "*"
    return fnmatchcase(row["Repository"], repository) and fnmatchcase(row["Tag"], tag)


def _printed(rows: list[dict[str, Any]], *, quiet: bool, digests: bool, form: str) -> str:
    if quiet:
        return "".join(f"{row_id}\n" for row_id in dict.fromkeys(row["ID"] for row in rows))
    if form and form != "table":
        from slipform.cli.templates import render

        return "".join(render(form, row) + "\n" for row in rows)
    keys = ["Repository", "Tag", *(["Digest"] if digests else []), "ID", "CreatedSince", "Size"]
    titles = {"ID": "IMAGE ID", "CreatedSince": "CREATED"}
    header = [titles.get(key, key.upper()) for key in keys]
    return table(header, [[row[key] for key in keys] for row in rows])
